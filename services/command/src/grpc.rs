//! CommandService over gRPC: every rpc of command.proto, served by its declaration ([`Rpc`]).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use saldo_api::v1::{
    self,
    command_service_server::{CommandService, CommandServiceServer},
};
use saldo_auth::{Caller, authorize};
use saldo_domain::ids::{AccountKey, TenantId};
use saldo_gate::{Admission, Gate, Limits};
use saldo_keyring::{Keyring, KeyringError, SubjectKey};
use saldo_telemetry::{Counted, span::Trace};
use tokio::sync::watch;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    answer::{ReminderAnswer, snapshot},
    counted::Replayed,
    edge::{self, NothingSealed, Rpc, UnderKey},
    failure::Failure,
    metrics::CommandMetrics,
    pipeline::{Commands, Draft, NewCommand},
    skew::ClockState,
    violations::Violation,
};

/// The service, over running workers.
#[derive(Clone)]
pub struct CommandGrpc {
    commands: Commands,
    keyring: Keyring,
}

impl CommandGrpc {
    /// Serves these workers; personal values are sealed under this keyring.
    pub fn new(commands: Commands, keyring: Keyring) -> Self {
        Self { commands, keyring }
    }

    /// The service to be served, of requests of at most so many bytes, behind its gate.
    pub fn into_service(
        self,
        max_request: usize,
        limits: Limits,
    ) -> Counted<Gate<CommandServiceServer<Self>>, CommandMetrics> {
        let metrics = self.commands.metrics().clone();
        let service = CommandServiceServer::new(self).max_decoding_message_size(max_request);
        Counted::new(Gate::new(service, limits), saldo_api::method, metrics)
    }

    /// See [`Commands::clock`].
    pub fn clock(&self) -> watch::Receiver<ClockState> {
        self.commands.clock()
    }

    /// Serves one rpc: checks the caller's roles and the request, has the command decided, and answers.
    async fn serve<R: Rpc>(&self, request: Request<R>) -> Result<Response<v1::CommandResponse>, Status> {
        let caller = authorize(&request, R::ROLES)?;
        let waiting = Waiting {
            deadline: self.commands.deadline(client_waits(request.metadata())),
            admission: request.extensions().get::<Arc<Admission>>().cloned(),
        };
        let request = request.into_inner();
        let command = self.prepare(&caller, &request, waiting).await?;
        let (key, partition) = (command.key.clone(), self.commands.partition_of(&command.key));
        let started = Instant::now();
        let reply = self.commands.submit(command).await;
        tracing::debug!(
            tenant = caller.tenant,
            account = request.account_id(),
            method = R::METHOD,
            actor = caller.subject,
            partition,
            version = reply.as_ref().ok().map(|reply| reply.answer.version),
            failure = reply.as_ref().err().map(ToString::to_string),
            micros = started.elapsed().as_micros() as u64,
            "command answered"
        );
        let reply = reply?;
        if let Some(refused) = &reply.answer.refused {
            // An answer that is given again may be of a release that knew other reasons.
            let declared = reply.replayed || R::REFUSALS.contains(&refused.reason.as_str());
            debug_assert!(declared, "{} is refused with {}, which is not declared", R::METHOD, refused.reason);
        }
        let snapshot = match &reply.answer.reminder {
            // To the holder of the claim that won, and to nobody else.
            Some(ReminderAnswer::Started(started)) if started.claim.0 == request.claim() => {
                Some(snapshot(&self.keyring, &key, started).await.map_err(key_store)?)
            }
            _ => None,
        };
        let log_id = self.commands.identity().log_id;
        let response = reply.answer.into_response(request.account_id(), log_id, partition, reply.replayed)?;
        let mut response = Response::new(response);
        if let Some(answer) = &mut response.get_mut().contact {
            answer.snapshot = snapshot;
        }
        if reply.replayed {
            response.extensions_mut().insert(Replayed);
        }
        Ok(response)
    }

    /// Checks the whole request before a key is made or anything waits.
    async fn prepare<R: Rpc>(
        &self,
        caller: &Caller,
        request: &R,
        Waiting { deadline, admission }: Waiting,
    ) -> Result<NewCommand, Failure> {
        let trace = Trace::current();
        let _span = trace.begin("check and seal");
        let tenant = TenantId::new(&caller.tenant)
            .map_err(|rule| Failure::Invalid(vec![Violation { field: "tenant".into(), rule: rule.to_string() }]))?;
        let personal_values = edge::check(request)?;
        let key = edge::account_key(&tenant, request)?;
        let tenant_keys = self.keyring.tenant(key.tenant.as_str()).await.map_err(key_store)?;
        let (command, sealed) = if personal_values == 0 {
            (edge::command(request, &mut NothingSealed(&tenant_keys))?, Vec::new())
        } else {
            let subject = self.subject_key::<R>(&key, deadline).await?;
            let mut seal = UnderKey::new(&key, &subject, &tenant_keys);
            let command = edge::command(request, &mut seal)?;
            match seal.failed {
                None => (command, seal.sealed),
                Some(error) => return Err(key_store(error)),
            }
        };
        let body = edge::fingerprint_body(request);
        Ok(NewCommand {
            key: key.to_string().into(),
            tenant: key.tenant.to_string(),
            account: key.account.to_string(),
            draft: Draft {
                request_id: request.request_id().to_owned(),
                method: R::METHOD,
                fingerprint: tenant_keys.fingerprint.hmac(&[R::METHOD.as_bytes(), &[0], &body]),
                command: edge::stored_body(request),
                sealed,
                actor: caller.subject.clone(),
                actor_roles: caller.roles.iter().map(|role| role.to_string()).collect(),
            },
            command,
            trace,
            deadline,
            admission,
        })
    }
}

impl CommandGrpc {
    /// The key that an account's personal values are sealed under. It is made for an account that exists or is being opened,
    /// and for no other: an account id may be mistyped.
    async fn subject_key<R: Rpc>(&self, key: &AccountKey, deadline: Instant) -> Result<SubjectKey, Failure> {
        let (tenant, account) = (key.tenant.as_str(), key.account.as_str());
        if let Some(known) = self.keyring.known_subject(tenant, account) {
            return Ok(known);
        }
        // While nothing can be decided, nothing is asked of the log.
        self.commands.now()?;
        if !R::OPENS_ACCOUNT && !self.commands.has_history(&key.to_string(), deadline).await? {
            return Err(Failure::AccountUnknown);
        }
        self.keyring.subject(tenant, account).await.map_err(key_store)
    }
}

macro_rules! serve_every_rpc {
    ($($function:ident $request:ident;)*) => {
        #[tonic::async_trait]
        impl CommandService for CommandGrpc {
            $(async fn $function(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::CommandResponse>, Status> {
                self.serve(request).await
            })*
        }
    };
}

saldo_api::command_rpcs!(serve_every_rpc);

/// How long a request may wait, and its admission to the process.
struct Waiting {
    deadline: Instant,
    admission: Option<Arc<Admission>>,
}

/// How long the client waits, by its `grpc-timeout`: at most eight digits and a unit. A malformed header is passed over.
fn client_waits(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

fn key_store(error: KeyringError) -> Failure {
    tracing::error!(%error, "the key store failed");
    Failure::KeyStore
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_patience_is_read_from_its_header() {
        for (text, waits) in [
            ("2S", Some(Duration::from_secs(2))),
            ("1500m", Some(Duration::from_millis(1_500))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("20000000u", Some(Duration::from_secs(20))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("5", None),
            ("-5S", None),
            ("5 S", None),
        ] {
            let mut request = Request::new(());
            request.metadata_mut().insert("grpc-timeout", text.parse().expect("ascii"));
            assert_eq!(client_waits(request.metadata()), waits, "{text:?}");
        }
        assert_eq!(client_waits(Request::new(()).metadata()), None);
        let mut request = Request::new(());
        request.set_timeout(Duration::from_secs(20));
        assert_eq!(client_waits(request.metadata()), Some(Duration::from_secs(20)));
    }
}
