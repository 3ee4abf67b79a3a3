//! CommandService over gRPC.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use saldo_api::v1::{
    self,
    command_service_server::{CommandService, CommandServiceServer},
};
use saldo_auth::{Caller, Role, authorize};
use saldo_domain::ids::TenantId;
use saldo_gate::{Gate, Held, Limits};
use saldo_keyring::Keyring;
use saldo_telemetry::{Counted, span::Trace};
use tokio::sync::watch;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{
    answer::Place,
    contact::{self, ContactAnswer},
    counted::Replayed,
    edge::{self, Count, UnderKey},
    failure::Failure,
    report::Report,
    router::{Commands, NewAsk},
    skew::Standing,
    violations::Violation,
    worker::Draft,
};

/// Who may record facts.
const WRITERS: &[Role] = &[Role::Writer, Role::Service];
/// Who may send.
const SENDERS: &[Role] = &[Role::Service];
/// Who decides what a machine may not.
const OPERATORS: &[Role] = &[Role::Operator];
/// Who may let time pass.
const TIMEKEEPERS: &[Role] = &[Role::Operator, Role::Service];

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
    pub fn into_service(self, max_request: usize, limits: Limits) -> Counted<Gate<CommandServiceServer<Self>>, Report> {
        let report = self.commands.report().clone();
        let service = CommandServiceServer::new(self).max_decoding_message_size(max_request);
        Counted::new(Gate::new(service, limits), saldo_api::method, report)
    }

    /// See [`Commands::clock`].
    pub fn clock(&self) -> watch::Receiver<Standing> {
        self.commands.clock()
    }

    async fn answer<R: edge::Request>(
        &self,
        request: Request<R>,
        allowed: &[Role],
    ) -> Result<Response<v1::CommandResponse>, Status> {
        let caller = authorize(&request, allowed)?;
        let waiting = Waiting {
            deadline: self.commands.deadline(client_waits(request.metadata())),
            held: request.extensions().get::<Arc<Held>>().cloned(),
        };
        let request = request.into_inner();
        let ask = self.prepare(&caller, &request, waiting).await?;
        let (key, partition) = (ask.key.clone(), self.commands.partition_of(&ask.key));
        let started = Instant::now();
        let given = self.commands.ask(ask).await;
        tracing::debug!(
            tenant = caller.tenant,
            account = request.account_id(),
            method = R::METHOD,
            actor = caller.subject,
            partition,
            version = given.as_ref().ok().map(|given| given.answer.version),
            failure = given.as_ref().err().map(ToString::to_string),
            micros = started.elapsed().as_micros() as u64,
            "command answered"
        );
        let given = given?;
        let snapshot = match &given.answer.contact {
            // To the holder of the claim that won, and to nobody else.
            Some(ContactAnswer::Started(started)) if started.claim.0 == request.claim() => {
                Some(contact::snapshot(&self.keyring, &key, started).await.map_err(key_store)?)
            }
            _ => None,
        };
        let place = Place { log_id: self.commands.identity().log_id, partition, replayed: given.replayed };
        let mut response = Response::new(given.answer.into_response(request.account_id(), place)?);
        if let Some(answer) = &mut response.get_mut().contact {
            answer.snapshot = snapshot;
        }
        if given.replayed {
            response.extensions_mut().insert(Replayed);
        }
        Ok(response)
    }

    /// Checks the whole request before a key is made or anything waits.
    async fn prepare<R: edge::Request>(
        &self,
        caller: &Caller,
        request: &R,
        Waiting { deadline, held }: Waiting,
    ) -> Result<NewAsk, Failure> {
        let trace = Trace::current();
        let _span = trace.begin("check and seal");
        let tenant = TenantId::new(&caller.tenant)
            .map_err(|rule| Failure::Invalid(vec![Violation { field: "tenant".into(), rule: rule.to_string() }]))?;
        let personal_values = edge::check(request)?;
        let key = edge::account_key(&tenant, request)?;
        let tenant_keys = self.keyring.tenant(key.tenant.as_str()).await.map_err(key_store)?;
        let (command, sealed) = if personal_values == 0 {
            (edge::command(request, &mut Count::default())?, Vec::new())
        } else {
            let subject = self.keyring.subject(key.tenant.as_str(), key.account.as_str()).await.map_err(key_store)?;
            let mut seal = UnderKey::new(&key, &subject, &tenant_keys);
            let command = edge::command(request, &mut seal)?;
            match seal.failed {
                None => (command, seal.sealed),
                Some(error) => return Err(key_store(error)),
            }
        };
        let body = edge::fingerprint_body(request);
        Ok(NewAsk {
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
            held,
        })
    }
}

/// How long a request may wait, and what it takes up meanwhile.
struct Waiting {
    deadline: Instant,
    held: Option<Arc<Held>>,
}

/// How long the client waits, by its `grpc-timeout`: at most eight digits and a unit. One that is malformed says nothing.
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

fn key_store(error: saldo_keyring::KeyringError) -> Failure {
    tracing::error!(%error, "the key store failed");
    Failure::KeyStore
}

#[tonic::async_trait]
impl CommandService for CommandGrpc {
    async fn open_account(
        &self,
        request: Request<v1::OpenAccountRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, WRITERS).await
    }

    async fn amend_account(
        &self,
        request: Request<v1::AmendAccountRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, WRITERS).await
    }

    async fn issue_invoice(
        &self,
        request: Request<v1::IssueInvoiceRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, WRITERS).await
    }

    async fn credit_invoice(
        &self,
        request: Request<v1::CreditInvoiceRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, WRITERS).await
    }

    async fn void_invoice(
        &self,
        request: Request<v1::VoidInvoiceRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, WRITERS).await
    }

    async fn record_payment(
        &self,
        request: Request<v1::RecordPaymentRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, WRITERS).await
    }

    async fn allocate_payment(
        &self,
        request: Request<v1::AllocatePaymentRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, WRITERS).await
    }

    async fn reverse_payment(
        &self,
        request: Request<v1::ReversePaymentRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, WRITERS).await
    }

    async fn advance_time(
        &self,
        request: Request<v1::AdvanceTimeRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, TIMEKEEPERS).await
    }

    async fn start_contact_attempt(
        &self,
        request: Request<v1::StartContactAttemptRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, SENDERS).await
    }

    async fn record_contact_outcome(
        &self,
        request: Request<v1::RecordContactOutcomeRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, SENDERS).await
    }

    async fn retry_contact(
        &self,
        request: Request<v1::RetryContactRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, OPERATORS).await
    }

    async fn drop_contact(
        &self,
        request: Request<v1::DropContactRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        self.answer(request, OPERATORS).await
    }
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
