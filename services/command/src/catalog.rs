//! CatalogService over gRPC: publishing policies and settings, switching sending, showing what is in force, previewing.
//!
//! - [`request`] turns requests into changes and names every fault.
//! - [`preview`] works out what would be sent.

mod heavy;
mod preview;
mod request;

use std::sync::Arc;

use saldo_api::{
    ApiRequest,
    v1::{self, catalog_service_server::CatalogService},
};
use saldo_auth::{Caller, Declared, Role, authorize};
use saldo_catalog::{
    Catalog, Source,
    publish::{Publication, PublishError, Publisher},
};
use saldo_clock::Clock;
use saldo_domain::Rules;
use saldo_facts::{CatalogEvent, SendingSet, SettingsPublished, timestamp_to_api};
use saldo_gate::Admission;
use saldo_keyring::Keyring;
use saldo_log::{Log, genesis::Identity};
use saldo_telemetry::span::Trace;
use tonic::{Request, Response, Status};

use self::{
    heavy::{Heavy, Place},
    request::{check_caller, policy_events, settings, settings_to_api, sound, sources},
};
use crate::{failure::Failure, pipeline::Commands, violations::Violation};

/// The roles that may publish.
const PUBLISHERS: &[Role] = &[Role::Operator];
/// The roles that may see the rules in force.
const VIEWERS: &[Role] = &[Role::Reader, Role::Auditor, Role::Operator];

/// The declaration of an rpc of the catalog, implemented for its request. The service serves every rpc of catalog.proto
/// through it, so a missing declaration does not compile.
#[diagnostic::on_unimplemented(
    message = "the catalog rpc of `{Self}` is not declared",
    note = "implement `CatalogRpc` for it in services/command/src/catalog.rs"
)]
trait CatalogRpc: ApiRequest {
    /// The roles that may call it; one of them is enough.
    const ROLES: &'static [Role];

    /// The roles that may call it with this request.
    fn roles(&self) -> &'static [Role] {
        Self::ROLES
    }

    /// Answers a caller that has one of the roles.
    fn answer(
        self,
        service: &CatalogGrpc,
        caller: Caller,
        place: Place,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}

macro_rules! declared {
    ($($function:ident $request:ident;)*) => {
        &[$(Declared::of::<v1::$request>(<v1::$request as CatalogRpc>::ROLES, &[])),*]
    };
}

/// Every rpc of the catalog, in the order of catalog.proto.
pub const RPCS: &[Declared] = saldo_api::catalog_rpcs!(declared);

/// The service, over the catalog's log and the accounts' workers.
#[derive(Clone)]
pub struct CatalogGrpc {
    publisher: Publisher,
    catalog: Catalog,
    commands: Commands,
    keyring: Keyring,
    clock: Clock,
    heavy: Heavy,
}

impl CatalogGrpc {
    /// Serves the catalog in `log`, which `catalog` follows.
    pub fn new(
        log: Arc<dyn Log>,
        identity: Identity,
        catalog: Catalog,
        commands: Commands,
        keyring: Keyring,
        clock: Clock,
    ) -> Self {
        let publisher = Publisher::new(log, identity, catalog.clone());
        Self { publisher, catalog, commands, keyring, clock, heavy: Heavy::default() }
    }

    /// Publishes what a request asks for: once, however often it is asked. `request` is without its request id.
    async fn publish<R: CatalogRpc>(
        &self,
        caller: Caller,
        request_id: String,
        request: &R,
        events: Vec<CatalogEvent>,
    ) -> Result<v1::CatalogResponse, Failure> {
        self.keyring.check().map_err(|_| Failure::KeyStore)?;
        let keys = self.keyring.tenant(&caller.tenant).await.map_err(|error| {
            tracing::error!(%error, "the key store failed");
            Failure::KeyStore
        })?;
        let publication = Publication {
            request_id,
            method: R::METHOD,
            fingerprint: keys.fingerprint.hmac(&[R::METHOD.as_bytes(), &[0], &request.encode_to_vec()]),
            actor: caller.subject,
            actor_roles: caller.roles.iter().map(|role| role.to_string()).collect(),
            tenant: caller.tenant.clone(),
            events,
        };
        let append = Trace::current().begin("append");
        let published = self.publisher.publish(publication, || self.commands.now(), append.traceparent()).await?;
        let in_force = self.catalog.state().in_force(&caller.tenant).tenant;
        Ok(response(published.version, &in_force.rules, published.replayed))
    }
}

fn response(version: u64, rules: &Rules, replayed: bool) -> v1::CatalogResponse {
    v1::CatalogResponse { version, sending: is_on(rules), replayed, silence: silence(rules) }
}

fn is_on(rules: &Rules) -> bool {
    rules.sending && !rules.held
}

/// Why nothing is sent, by its stable name; empty where sending is on.
fn silence(rules: &Rules) -> String {
    rules.speaking().err().map_or_else(String::new, |why| why.name().to_owned())
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::FormatNotRaised(why) => Failure::FormatNotRaised(why),
            PublishError::RequestIdReused => Failure::RequestIdReused,
            PublishError::TooLarge(_) => {
                Failure::Invalid(vec![Violation { field: "files".into(), rule: error.to_string() }])
            }
            PublishError::RacesLost => Failure::RacesLost,
            PublishError::Refused(why) => Failure::LogRefused(why),
            PublishError::OutOfReach => Failure::LogUnknown,
            PublishError::TimedOut => Failure::TimedOut,
            PublishError::Stopped => Failure::Stopped,
        }
    }
}

macro_rules! serve_every_rpc {
    ($($function:ident $request:ident;)*) => {
        #[tonic::async_trait]
        impl CatalogService for CatalogGrpc {
            $(async fn $function(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<<v1::$request as ApiRequest>::Answer>, Status> {
                let caller = authorize(&request, request.get_ref().roles())?;
                let place = request.extensions().get::<Arc<Admission>>().cloned();
                Ok(Response::new(request.into_inner().answer(self, caller, place).await?))
            })*
        }
    };
}

saldo_api::catalog_rpcs!(serve_every_rpc);

impl CatalogRpc for v1::PublishPolicyRequest {
    const ROLES: &'static [Role] = PUBLISHERS;

    async fn answer(
        mut self,
        service: &CatalogGrpc,
        caller: Caller,
        place: Place,
    ) -> Result<v1::CatalogResponse, Failure> {
        check_caller(&caller, &self.request_id)?;
        let files = sources(&self.files);
        let tried = files.clone();
        service.heavy.run(&caller.tenant, place, move |goes_on| sound(&tried, goes_on).map(drop)).await??;
        if self.validate_only {
            let in_force = service.catalog.state().in_force(&caller.tenant).tenant;
            return Ok(response(in_force.version, &in_force.rules, false));
        }
        let id = std::mem::take(&mut self.request_id);
        service.publish(caller, id, &self, policy_events(files)).await
    }
}

impl CatalogRpc for v1::SetSendingRequest {
    const ROLES: &'static [Role] = PUBLISHERS;

    async fn answer(mut self, service: &CatalogGrpc, caller: Caller, _: Place) -> Result<v1::CatalogResponse, Failure> {
        check_caller(&caller, &self.request_id)?;
        let id = std::mem::take(&mut self.request_id);
        let events = vec![SendingSet { on: self.on }.into()];
        service.publish(caller, id, &self, events).await
    }
}

impl CatalogRpc for v1::PublishSettingsRequest {
    const ROLES: &'static [Role] = PUBLISHERS;

    async fn answer(mut self, service: &CatalogGrpc, caller: Caller, _: Place) -> Result<v1::CatalogResponse, Failure> {
        check_caller(&caller, &self.request_id)?;
        let events = vec![SettingsPublished(settings(self.settings.as_ref())?).into()];
        let id = std::mem::take(&mut self.request_id);
        service.publish(caller, id, &self, events).await
    }
}

impl CatalogRpc for v1::GetCatalogRequest {
    const ROLES: &'static [Role] = VIEWERS;

    async fn answer(self, service: &CatalogGrpc, caller: Caller, _: Place) -> Result<v1::GetCatalogResponse, Failure> {
        let in_force = service.catalog.state().in_force(&caller.tenant);
        let (tenant, system) = (&in_force.tenant, &in_force.system);
        let file = |source: &Source| v1::PolicyFile { name: source.name.clone(), source: source.text.clone() };
        let changes = tenant.changes.iter().map(|change| v1::CatalogChange {
            version: change.version,
            recorded_at: Some(timestamp_to_api(change.recorded_at)),
            actor: change.actor.clone(),
            summary: change.summary.clone(),
        });
        Ok(v1::GetCatalogResponse {
            version: tenant.version,
            sending: is_on(&tenant.rules),
            files: tenant.files.iter().map(file).collect(),
            changes: changes.collect(),
            settings: Some(settings_to_api(&tenant.settings)),
            system_version: system.version,
            format: system.format.number(),
            parked: in_force.parked().unwrap_or_default().to_owned(),
            silence: silence(&tenant.rules),
        })
    }
}

impl CatalogRpc for v1::PreviewContactsRequest {
    const ROLES: &'static [Role] = VIEWERS;

    /// A draft holds templates, which are programs of the caller's.
    fn roles(&self) -> &'static [Role] {
        if self.draft.is_empty() { Self::ROLES } else { PUBLISHERS }
    }

    async fn answer(
        self,
        service: &CatalogGrpc,
        caller: Caller,
        place: Place,
    ) -> Result<v1::PreviewContactsResponse, Failure> {
        service.preview(&caller, self, place).await
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_rpc_is_documented_as_it_is_declared() {
        assert_eq!(saldo_auth::contradictions(super::RPCS), Vec::<String>::new());
    }
}
