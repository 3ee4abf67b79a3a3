//! CatalogService over gRPC: publishing policies and settings, switching sending, showing what is in force, previewing.
//!
//! - [`request`] turns requests into changes and names every fault.
//! - [`preview`] works out what would be sent.

mod preview;
mod request;

use std::sync::Arc;

use prost::Message;
use saldo_api::v1::{self, catalog_service_server::CatalogService};
use saldo_auth::{Caller, Role, authorize};
use saldo_catalog::{
    Catalog, Source,
    publish::{Publication, PublishError, Publisher},
};
use saldo_clock::Clock;
use saldo_facts::{CatalogEvent, SendingSet, SettingsPublished, timestamp_to_api};
use saldo_keyring::Keyring;
use saldo_log::{Log, genesis::Identity};
use saldo_telemetry::span::Trace;
use tonic::{Request, Response, Status};

use self::request::{check_caller, policy_events, settings, settings_to_api, sound, sources};
use crate::{failure::Failure, pipeline::Commands, violations::Violation};

/// Who publishes.
const PUBLISHERS: &[Role] = &[Role::Operator];
/// Who may see what is in force.
const VIEWERS: &[Role] = &[Role::Operator, Role::Reader, Role::Auditor, Role::Service];

/// The service, over the catalog's log and the accounts' workers.
#[derive(Clone)]
pub struct CatalogGrpc {
    publisher: Publisher,
    catalog: Catalog,
    commands: Commands,
    keyring: Keyring,
    clock: Clock,
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
        Self { publisher, catalog, commands, keyring, clock }
    }

    /// Publishes what a request asks for: once, however often it is asked. `request` is without its request id.
    async fn publish(
        &self,
        caller: Caller,
        request_id: String,
        method: &'static str,
        request: &impl Message,
        events: Vec<CatalogEvent>,
    ) -> Result<Response<v1::CatalogResponse>, Status> {
        self.keyring.check().map_err(|_| Failure::KeyStore)?;
        let keys = self.keyring.tenant(&caller.tenant).await.map_err(|error| {
            tracing::error!(%error, "the key store failed");
            Failure::KeyStore
        })?;
        let publication = Publication {
            request_id,
            method,
            fingerprint: keys.fingerprint.hmac(&[method.as_bytes(), &[0], &request.encode_to_vec()]),
            actor: caller.subject,
            actor_roles: caller.roles.iter().map(|role| role.to_string()).collect(),
            tenant: caller.tenant.clone(),
            events,
        };
        let append = Trace::current().begin("append");
        let published = self.publisher.publish(publication, || self.commands.now(), append.traceparent()).await?;
        let sending = self.catalog.state().in_force(&caller.tenant).tenant.rules.sending;
        let answer = v1::CatalogResponse { version: published.version, sending, replayed: published.replayed };
        Ok(Response::new(answer))
    }
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

#[tonic::async_trait]
impl CatalogService for CatalogGrpc {
    async fn publish_policy(
        &self,
        request: Request<v1::PublishPolicyRequest>,
    ) -> Result<Response<v1::CatalogResponse>, Status> {
        let caller = authorize(&request, PUBLISHERS)?;
        let mut request = request.into_inner();
        check_caller(&caller, &request.request_id)?;
        let files = sources(&request.files);
        sound(&files)?;
        if request.validate_only {
            let state = self.catalog.state();
            let in_force = state.tenant(&caller.tenant);
            let (version, sending) = (in_force.version, in_force.rules.sending);
            return Ok(Response::new(v1::CatalogResponse { version, sending, replayed: false }));
        }
        let id = std::mem::take(&mut request.request_id);
        self.publish(caller, id, "PublishPolicy", &request, policy_events(files)).await
    }

    async fn set_sending(
        &self,
        request: Request<v1::SetSendingRequest>,
    ) -> Result<Response<v1::CatalogResponse>, Status> {
        let caller = authorize(&request, PUBLISHERS)?;
        let mut request = request.into_inner();
        check_caller(&caller, &request.request_id)?;
        let id = std::mem::take(&mut request.request_id);
        let events = vec![SendingSet { on: request.on }.into()];
        self.publish(caller, id, "SetSending", &request, events).await
    }

    async fn publish_settings(
        &self,
        request: Request<v1::PublishSettingsRequest>,
    ) -> Result<Response<v1::CatalogResponse>, Status> {
        let caller = authorize(&request, PUBLISHERS)?;
        let mut request = request.into_inner();
        check_caller(&caller, &request.request_id)?;
        let events = vec![SettingsPublished(settings(request.settings.as_ref())?).into()];
        let id = std::mem::take(&mut request.request_id);
        self.publish(caller, id, "PublishSettings", &request, events).await
    }

    async fn get_catalog(
        &self,
        request: Request<v1::GetCatalogRequest>,
    ) -> Result<Response<v1::GetCatalogResponse>, Status> {
        let caller = authorize(&request, VIEWERS)?;
        let in_force = self.catalog.state().in_force(&caller.tenant);
        let (tenant, system) = (&in_force.tenant, &in_force.system);
        let file = |source: &Source| v1::PolicyFile { name: source.name.clone(), source: source.text.clone() };
        let changes = tenant.changes.iter().map(|change| v1::CatalogChange {
            version: change.version,
            recorded_at: Some(timestamp_to_api(change.recorded_at)),
            actor: change.actor.clone(),
            summary: change.summary.clone(),
        });
        Ok(Response::new(v1::GetCatalogResponse {
            version: tenant.version,
            sending: tenant.rules.sending,
            files: tenant.files.iter().map(file).collect(),
            changes: changes.collect(),
            settings: Some(settings_to_api(&tenant.settings)),
            system_version: system.version,
            format: system.format.number(),
            parked: in_force.parked().unwrap_or_default().to_owned(),
        }))
    }

    async fn preview_contacts(
        &self,
        request: Request<v1::PreviewContactsRequest>,
    ) -> Result<Response<v1::PreviewContactsResponse>, Status> {
        let caller = authorize(&request, VIEWERS)?;
        self.preview(&caller, request.into_inner()).await.map(Response::new).map_err(Status::from)
    }
}
