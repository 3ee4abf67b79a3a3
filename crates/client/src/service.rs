//! A service as a client of the command service. It works for every tenant, but a token names one tenant.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use saldo_api::v1::command_service_client::CommandServiceClient;
use saldo_auth::{Issuer, Role};
use tonic::{Request, service::interceptor::InterceptedService, transport::Channel};

use crate::{Authorized, Bearer, ClientError};

/// How long a token is valid, in real time. A token is renewed at half of its life, so that no call carries a token about to end.
const LIFETIME: Duration = Duration::from_secs(3600);
/// The most tokens kept. Beyond that all are signed again, which costs some tens of microseconds each.
const MAX_KEPT: usize = 10_000;
/// The longest one call may take. Longer than the command service's own limit, so that its answer comes first.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Clients of the command service for any tenant. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct ServiceClients {
    /// One for each instance; any instance can be called.
    channels: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
    tokens: Arc<Tokens>,
}

impl ServiceClients {
    /// Calls the instances behind `channels` in turn, as `subject` ("scheduler", "dispatcher") in the role `service`, with
    /// tokens signed by `issuer`.
    pub fn new(channels: impl Into<Arc<[Channel]>>, issuer: Arc<Issuer>, subject: impl Into<String>) -> Self {
        let tokens = Tokens { issuer, subject: subject.into(), kept: Mutex::default() };
        Self { channels: channels.into(), next: Arc::default(), tokens: Arc::new(tokens) }
    }

    /// The command service on behalf of one tenant. Get a new client for every call: its token is fresh, and a call that one
    /// instance did not answer goes to the next instance.
    pub fn commands(&self, tenant: &str) -> Result<CommandServiceClient<Authorized>, ClientError> {
        let bearer = self.tokens.of(tenant, Instant::now())?;
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let channel = self.channels.iter().cycle().nth(turn % self.channels.len().max(1));
        let channel = channel.ok_or(ClientError::NoInstance)?.clone();
        Ok(CommandServiceClient::new(InterceptedService::new(channel, bearer)))
    }
}

/// A request with a time limit. On a dead line it fails with DEADLINE_EXCEEDED or CANCELLED, both transient.
pub fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

struct Tokens {
    issuer: Arc<Issuer>,
    subject: String,
    kept: Mutex<HashMap<String, (Bearer, Instant)>>,
}

impl Tokens {
    fn of(&self, tenant: &str, now: Instant) -> Result<Bearer, ClientError> {
        // A panic under the lock leaves the map whole, so a poisoned lock is used all the same.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bearer, made)) = kept.get(tenant)
            && now.duration_since(*made) < LIFETIME / 2
        {
            return Ok(bearer.clone());
        }
        let bearer = Bearer::new(&self.issuer.issue(&self.subject, tenant, &[Role::Service], LIFETIME)?)?;
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(tenant.to_owned(), (bearer.clone(), now));
        Ok(bearer)
    }
}

#[cfg(test)]
mod tests {
    use saldo_auth::{PublicKey, Scope, Verifier};
    use tonic::service::Interceptor;

    use super::*;

    fn token(bearer: &Bearer) -> String {
        let request = bearer.clone().call(Request::new(())).expect("call");
        let value = request.metadata().get("authorization").expect("header").to_str().expect("ascii");
        value.trim_start_matches("Bearer ").to_owned()
    }

    fn tokens() -> (Tokens, Verifier) {
        let issuer = Arc::new(Issuer::generate().expect("key"));
        let (name, pem) = ("service.pub.pem".to_owned(), issuer.public_pem().expect("pem"));
        let key = PublicKey { name, pem, scope: Scope::services() };
        let verifier = Verifier::new([key], LIFETIME).expect("verifier");
        (Tokens { issuer, subject: "scheduler".into(), kept: Mutex::default() }, verifier)
    }

    #[test]
    fn each_tenant_gets_a_token_of_its_own_in_the_role_service() {
        let (tokens, verifier) = tokens();
        let now = Instant::now();
        for tenant in ["acme", "other"] {
            let caller = verifier.verify(&token(&tokens.of(tenant, now).expect("token"))).expect("valid");
            assert_eq!((caller.subject.as_str(), caller.tenant.as_str()), ("scheduler", tenant));
            assert_eq!(caller.roles, [Role::Service]);
        }
    }

    #[test]
    fn a_token_is_kept_for_half_its_life() {
        let (tokens, _) = tokens();
        let now = Instant::now();
        let made = |at| {
            tokens.of("acme", at).expect("token");
            tokens.kept.lock().expect("lock")["acme"].1
        };
        assert_eq!(made(now), now);
        assert_eq!(made(now + LIFETIME / 2 - Duration::from_secs(1)), now);
        assert_eq!(made(now + LIFETIME / 2), now + LIFETIME / 2);
    }

    #[test]
    fn a_token_is_in_nobodys_debug_output() {
        let (tokens, _) = tokens();
        let bearer = tokens.of("acme", Instant::now()).expect("token");
        let request = bearer.clone().call(Request::new(())).expect("call");
        assert!(!format!("{request:?}").contains(&token(&bearer)));
    }
}
