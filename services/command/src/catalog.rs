//! CatalogService over gRPC: publishing policies, switching sending, previewing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use saldo_api::v1::{self, catalog_service_server::CatalogService};
use saldo_auth::{Caller, Role, authorize};
use saldo_catalog::{CHAIN, Catalog, Fault, Published, Source, TenantCatalog, sources::POLICY, sources::template_name};
use saldo_clock::Clock;
use saldo_domain::{
    Context, Rules,
    dunning::preview::preview,
    ids::{AccountId, AccountKey, TenantId},
};
use saldo_facts::{
    CatalogEvent, Commit, REQUEST_INSTANT_RULE, instant_from_request, listed_to_api, notice_to_api, timestamp_to_api,
};
use saldo_keyring::Keyring;
use saldo_log::{
    AppendError, Log, NewRecord,
    acceptor::Head,
    frame::{self, Kind, MAX_COMMIT_BYTES, first_parent},
    genesis::Identity,
};
use saldo_telemetry::span::Trace;
use tonic::{Request, Response, Status};

use crate::{edge::is_request_id, failure::Failure, pipeline::Commands, violations::Violation};

/// Who publishes.
const PUBLISHERS: &[Role] = &[Role::Operator];
/// Who may see what is in force.
const VIEWERS: &[Role] = &[Role::Operator, Role::Reader, Role::Auditor, Role::Service];
/// Times a change is decided again after losing the chain to another writer.
const MAX_RACES: u32 = 16;
/// The longest a change waits until it is read back.
const PATIENCE: Duration = Duration::from_secs(15);
/// Faults named in one answer: they travel in its trailers, which HTTP/2 peers bound.
const MAX_FAULTS: usize = 30;
/// Contacts of a preview at most: two years of the closest policy.
const MAX_PREVIEW: usize = 500;

/// The service, over the catalog's log and the accounts' workers.
#[derive(Clone)]
pub struct CatalogGrpc {
    log: Arc<dyn Log>,
    identity: Identity,
    catalog: Catalog,
    commands: Commands,
    keyring: Keyring,
    clock: Clock,
}

/// A change to publish.
struct Wish {
    request_id: String,
    method: &'static str,
    fingerprint: [u8; 32],
    command: Vec<u8>,
    events: Vec<CatalogEvent>,
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
        Self { log, identity, catalog, commands, keyring, clock }
    }

    /// Appends the change on top of the tenant's chain and answers when it was read back; once, however often it is asked.
    async fn publish(&self, caller: &Caller, wish: Wish) -> Result<v1::CatalogResponse, Failure> {
        let key = format!("{}/{CHAIN}", caller.tenant);
        let mut appended = false;
        for _ in 0..MAX_RACES {
            let end = self.log.end(0).await.map_err(|_| Failure::LogUnknown)?;
            let read = self.catalog.wait_for(|state| state.next >= end);
            let read = tokio::time::timeout(PATIENCE, read).await;
            if !read.map_err(|_| if appended { Failure::TimedOut } else { Failure::LogUnknown })? {
                return Err(Failure::Stopped);
            }
            let state = self.catalog.state();
            let in_force = state.tenant(&caller.tenant);
            if let Some((fingerprint, version)) = in_force.answers.get(&wish.request_id) {
                if *fingerprint != wish.fingerprint {
                    return Err(Failure::RequestIdReused);
                }
                let sending = in_force.rules.sending;
                return Ok(v1::CatalogResponse { version: *version, sending, replayed: !appended });
            }
            let head = state.head(&caller.tenant);
            let head = head.unwrap_or_else(|| Head { hash: first_parent(&self.identity.log_id, &key), version: 0 });
            let now = self.commands.now()?;
            let version = head.version + 1;
            let commit = Commit {
                request_id: wish.request_id.clone(),
                method: wish.method.to_owned(),
                fingerprint: wish.fingerprint,
                command: wish.command.clone(),
                sealed: Vec::new(),
                actor: caller.subject.clone(),
                actor_roles: caller.roles.iter().map(|role| role.to_string()).collect(),
                recorded_at: in_force.recorded_at().map_or(now, |last| last.max(now)),
                catalog_version: version,
                next_wakeup: None,
                refusal: None,
                events: wish.events.clone(),
            };
            let value = frame::encode(Kind::Commit, &caller.tenant, CHAIN, version, head.hash, &commit.encode());
            if value.len() > MAX_COMMIT_BYTES {
                let rule = format!("the commit would have {} bytes; at most {MAX_COMMIT_BYTES} are kept", value.len());
                return Err(Failure::Invalid(vec![Violation { field: "files".into(), rule }]));
            }
            let append = Trace::current().begin("append");
            let (key, trace) = (Bytes::from(key.clone()), append.traceparent());
            let record = NewRecord { partition: 0, key, value: value.into(), trace };
            match self.log.append(vec![record]).await {
                Ok(()) => appended = true,
                Err(AppendError::Unknown(_)) => return Err(Failure::LogUnknown),
                Err(error) => return Err(Failure::LogRefused(error.to_string())),
            }
        }
        Err(Failure::RacesLost)
    }

    async fn wish(
        &self,
        caller: &Caller,
        request_id: &str,
        method: &'static str,
        body: &[u8],
        events: Vec<CatalogEvent>,
    ) -> Result<Wish, Failure> {
        let keys = self.keyring.tenant(&caller.tenant).await.map_err(|error| {
            tracing::error!(%error, "the key store failed");
            Failure::KeyStore
        })?;
        Ok(Wish {
            request_id: request_id.to_owned(),
            method,
            fingerprint: keys.fingerprint.hmac(&[method.as_bytes(), &[0], body]),
            // What it says stands in its events, whole.
            command: Vec::new(),
            events,
        })
    }
}

fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Failure {
    Failure::Invalid(vec![Violation { field: field.into(), rule: rule.into() }])
}

fn check_caller(caller: &Caller, request_id: &str) -> Result<(), Failure> {
    TenantId::new(&caller.tenant).map_err(|rule| invalid("tenant", rule.to_string()))?;
    if is_request_id(request_id) { Ok(()) } else { Err(invalid("request_id", crate::edge::REQUEST_ID_RULE)) }
}

fn sources(files: &[v1::PolicyFile]) -> Vec<Source> {
    files.iter().map(|file| Source { name: file.name.clone(), text: file.source.clone() }).collect()
}

/// Reads a policy that must be without fault.
fn sound(sources: &[Source]) -> Result<Published, Failure> {
    let (published, faults) = Published::read(sources);
    match published {
        Some(published) if faults.is_empty() => Ok(published),
        _ => {
            let violation = |Fault { file, field, rule }: Fault| Violation { field: format!("{file}: {field}"), rule };
            Err(Failure::Invalid(faults.into_iter().take(MAX_FAULTS).map(violation).collect()))
        }
    }
}

fn events(sources: Vec<Source>) -> Vec<CatalogEvent> {
    let mut events: Vec<CatalogEvent> = sources
        .into_iter()
        .filter_map(|Source { name, text }| {
            if name == POLICY {
                return Some(CatalogEvent::PolicyPublished { source: text });
            }
            let (template, language) = template_name(&name)?;
            let (name, language) = (template.to_owned(), language.to_owned());
            Some(CatalogEvent::TemplatePublished { name, language, source: text })
        })
        .collect();
    events.sort_by_key(|event| !matches!(event, CatalogEvent::PolicyPublished { .. }));
    events
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
            let TenantCatalog { version, rules, .. } = state.tenant(&caller.tenant).as_ref();
            let answer = v1::CatalogResponse { version: *version, sending: rules.sending, replayed: false };
            return Ok(Response::new(answer));
        }
        let id = std::mem::take(&mut request.request_id);
        let wish = self.wish(&caller, &id, "PublishPolicy", &request.encode_to_vec(), events(files)).await?;
        Ok(Response::new(self.publish(&caller, wish).await?))
    }

    async fn set_sending(
        &self,
        request: Request<v1::SetSendingRequest>,
    ) -> Result<Response<v1::CatalogResponse>, Status> {
        let caller = authorize(&request, PUBLISHERS)?;
        let mut request = request.into_inner();
        check_caller(&caller, &request.request_id)?;
        let id = std::mem::take(&mut request.request_id);
        let events = vec![CatalogEvent::SendingSet { on: request.on }];
        let wish = self.wish(&caller, &id, "SetSending", &request.encode_to_vec(), events).await?;
        Ok(Response::new(self.publish(&caller, wish).await?))
    }

    async fn get_catalog(
        &self,
        request: Request<v1::GetCatalogRequest>,
    ) -> Result<Response<v1::GetCatalogResponse>, Status> {
        let caller = authorize(&request, VIEWERS)?;
        let state = self.catalog.state();
        let in_force = state.tenant(&caller.tenant);
        let file = |source: &Source| v1::PolicyFile { name: source.name.clone(), source: source.text.clone() };
        let changes = in_force.changes.iter().map(|change| v1::CatalogChange {
            version: change.version,
            recorded_at: Some(timestamp_to_api(change.recorded_at)),
            actor: change.actor.clone(),
            summary: change.summary.clone(),
        });
        Ok(Response::new(v1::GetCatalogResponse {
            version: in_force.version,
            sending: in_force.rules.sending,
            files: in_force.files.iter().map(file).collect(),
            changes: changes.collect(),
        }))
    }

    async fn preview_contacts(
        &self,
        request: Request<v1::PreviewContactsRequest>,
    ) -> Result<Response<v1::PreviewContactsResponse>, Status> {
        let caller = authorize(&request, VIEWERS)?;
        let request = request.into_inner();
        let tenant = TenantId::new(&caller.tenant).map_err(|rule| invalid("tenant", rule.to_string()))?;
        let account = AccountId::new(&request.account_id).map_err(|rule| invalid("account_id", rule.to_string()))?;
        let state = self.catalog.state();
        let in_force = state.tenant(&caller.tenant);
        let (rules, policy_version) = if request.draft.is_empty() {
            (Rules { sending: true, ..in_force.rules.as_ref().clone() }, in_force.version)
        } else {
            let draft = sound(&sources(&request.draft))?;
            (Rules { languages: draft.languages(), policy: Some(draft.policy), sending: true }, 0)
        };
        let Some(policy) = &rules.policy else {
            return Err(invalid("draft", "is required while no policy is published (`saldo policy publish`)").into());
        };
        let now = match request.from {
            Some(from) => instant_from_request(from),
            None => Some(self.clock.now()),
        };
        let now = now.ok_or_else(|| invalid("from", REQUEST_INSTANT_RULE))?;
        let most = match request.most {
            0 => 100,
            most => usize::try_from(most)
                .ok()
                .filter(|most| *most <= MAX_PREVIEW)
                .ok_or_else(|| invalid("most", format!("must be 1 to {MAX_PREVIEW}, or 0 for 100")))?,
        };
        let stored = self.commands.look(&AccountKey::new(tenant, account).to_string()).await?;
        if let Some(why) = stored.parked {
            return Err(Failure::Parked(why).into());
        }
        let Some(profile) = &stored.account.party.profile else { return Err(Failure::AccountUnknown.into()) };
        let zone = policy.contact.zone(&profile.time_zone).to_owned();
        let account = stored.account.clone();
        // Hundreds of contacts about thousands of items take a while.
        let planned = tokio::task::spawn_blocking(move || {
            let context = Context { now, rules: &rules, zones: saldo_catalog::zone };
            preview(&account, &context, most)
        })
        .await
        .map_err(|_| Failure::Stopped)?;
        let contacts = planned.iter().map(|planned| v1::PlannedContact {
            at: Some(timestamp_to_api(planned.at)),
            saying: Some(notice_to_api(&planned.notice)),
            language: planned.language.clone(),
            withheld: planned.withheld.map(|reason| reason.name().to_owned()).unwrap_or_default(),
            items: planned.items.iter().map(listed_to_api).collect(),
        });
        Ok(Response::new(v1::PreviewContactsResponse {
            contacts: contacts.collect(),
            time_zone: zone,
            policy_version,
            sending: in_force.rules.sending,
        }))
    }
}
