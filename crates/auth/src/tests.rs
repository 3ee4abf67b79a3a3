//! Each way a token can be wrong.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use saldo_domain::ids::TenantId;
use tonic::service::Interceptor;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn key(pem: &str, scope: Scope) -> PublicKey {
    PublicKey { name: "auth.public_keys: key.pem".into(), pem: pem.into(), scope }
}

fn pair() -> (Issuer, Verifier, String) {
    let issuer = Issuer::generate().expect("key");
    let pem = issuer.public_pem().expect("pem");
    let verifier = Verifier::new([key(&pem, Scope::people())], DAY).expect("verifier");
    (issuer, verifier, pem)
}

/// Takes the tokens of this issuer as far as a scope reaches.
fn bound(issuer: &Issuer, scope: Scope) -> Verifier {
    Verifier::new([key(&issuer.public_pem().expect("pem"), scope)], DAY).expect("verifier")
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn call(verifier: &Verifier, header: Option<&str>) -> Result<Request<()>, Status> {
    let mut request = Request::new(());
    if let Some(header) = header {
        request.metadata_mut().insert("authorization", header.parse().expect("ascii"));
    }
    verifier.clone().call(request)
}

#[test]
fn a_signed_token_names_tenant_actor_and_roles() {
    let (issuer, verifier, _) = pair();
    let token = issuer.issue("erp", "acme", &[Role::Writer], HOUR).expect("token");
    let request = call(&verifier, Some(&format!("Bearer {token}"))).expect("accepted");
    let caller = authorize(&request, &[Role::Writer]).expect("a writer");
    assert_eq!((caller.subject.as_str(), caller.tenant.as_str()), ("erp", "acme"));
    assert_eq!(reason(&authorize(&request, &[Role::Operator]).expect_err("no operator")), "ROLE_MISSING");
}

#[test]
fn a_call_without_a_token_is_refused() {
    let (_, verifier, _) = pair();
    for header in [None, Some("Bearer"), Some("Basic abc")] {
        assert_eq!(reason(&call(&verifier, header).expect_err("refused")), "TOKEN_MISSING");
    }
    let bare = Request::new(());
    assert_eq!(authorize(&bare, &[Role::Reader]).expect_err("refused").code(), Code::Unauthenticated);
}

#[test]
fn an_expired_token_is_told_apart() {
    let (issuer, verifier, _) = pair();
    let token = issuer.sign("erp", "acme", &[Role::Writer], 999_999_000, 1_000_000_000).expect("token");
    assert_eq!(reason(&verifier.verify(&token).expect_err("expired")), "TOKEN_EXPIRED");
}

#[test]
fn another_key_nonsense_and_odd_ids_are_invalid() {
    let (issuer, verifier, _) = pair();
    let (other, ..) = pair();
    let foreign = other.issue("erp", "acme", &[Role::Writer], HOUR).expect("token");
    let odd_tenant = issuer.issue("erp", "ac/me", &[Role::Writer], HOUR).expect("token");
    let no_subject = issuer.issue("", "acme", &[Role::Writer], HOUR).expect("token");
    let reserved = issuer.issue("erp", "system", &[Role::Operator], HOUR).expect("token");
    for token in [foreign.as_str(), "nonsense", "", &odd_tenant, &no_subject, &reserved] {
        assert_eq!(reason(&verifier.verify(token).expect_err("refused")), "TOKEN_INVALID");
    }
}

#[test]
fn the_public_key_is_no_shared_secret_and_none_is_no_algorithm() {
    let (_, verifier, pem) = pair();
    let confused =
        encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(pem.as_bytes())).expect("token");
    assert_eq!(reason(&verifier.verify(&confused).expect_err("refused")), "TOKEN_INVALID");
    // {"alg":"none","typ":"JWT"} and the same claims, unsigned.
    let body = confused.split('.').nth(1).expect("claims");
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
    assert_eq!(reason(&verifier.verify(&unsigned).expect_err("refused")), "TOKEN_INVALID");
}

#[test]
fn without_a_key_there_is_no_verifier() {
    assert_eq!(Verifier::new([], DAY).err(), Some(KeyError::None));
    let (_, _, pem) = pair();
    for text in ["nonsense", "", &format!("{pem}nonsense")] {
        let refused = Verifier::new([key(text, Scope::people())], DAY).err();
        assert_eq!(refused, Some(KeyError::Unusable("auth.public_keys: key.pem".into())));
    }
}

/// Signs claims that the issuer itself would never make.
fn signed(issuer: &Issuer, claims: &Claims) -> String {
    issuer.encode(claims).expect("token")
}

fn now() -> i64 {
    jsonwebtoken::get_current_timestamp() as i64
}

fn claims() -> Claims {
    Claims {
        sub: "erp".into(),
        aud: AUDIENCE.into(),
        iss: None,
        iat: Some(now()),
        exp: now() + 3600,
        nbf: None,
        tenant: "acme".into(),
        roles: vec!["writer".into()],
    }
}

#[test]
fn a_token_for_another_service_or_for_later_is_invalid() {
    let (issuer, verifier, _) = pair();
    assert!(verifier.verify(&signed(&issuer, &claims())).is_ok());
    for wrong in [Claims { aud: "other".into(), ..claims() }, Claims { nbf: Some(now() + 3000), ..claims() }] {
        assert_eq!(reason(&verifier.verify(&signed(&issuer, &wrong)).expect_err("refused")), "TOKEN_INVALID");
    }
}

#[test]
fn a_role_of_a_later_release_is_passed_over() {
    let (issuer, verifier, _) = pair();
    let both = Claims { roles: vec!["archivist".into(), "reader".into()], ..claims() };
    assert_eq!(verifier.verify(&signed(&issuer, &both)).expect("accepted").roles, [Role::Reader]);
}

#[test]
fn a_token_is_remembered_until_it_ends_and_no_longer() {
    let (issuer, verifier, _) = pair();
    let token = issuer.issue("erp", "acme", &[Role::Writer], HOUR).expect("token");
    let now = jsonwebtoken::get_current_timestamp();
    assert_eq!(verifier.remembered(&token, now), None);
    let caller = verifier.verify(&token).expect("valid");
    assert_eq!(verifier.remembered(&token, now), Some(caller));
    // Its hour, and the leeway for clocks that differ.
    assert_eq!(verifier.remembered(&token, now + 3_700), None);
    let other = format!("{}x", &token[..token.len() - 1]);
    assert_eq!(reason(&verifier.verify(&other).expect_err("another signature")), "TOKEN_INVALID");
}

#[test]
fn a_token_that_is_valid_for_too_long_or_does_not_say_for_how_long_is_refused() {
    let (issuer, verifier, _) = pair();
    assert!(verifier.verify(&issuer.issue("erp", "acme", &[Role::Writer], DAY).expect("token")).is_ok());
    let year = issuer.issue("erp", "acme", &[Role::Writer], DAY * 365).expect("token");
    // Issued long ago or said to be issued later, its life is what counts, and not what is left of it.
    let (old, later) = (Some(now() - 365 * 86_400), Some(now() + 364 * 86_400));
    let ending = |iat, exp| signed(&issuer, &Claims { iat, exp, ..claims() });
    for token in [year, ending(old, now() + 60), ending(later, now() + 365 * 86_400), ending(None, now() + 60)] {
        assert_eq!(reason(&verifier.verify(&token).expect_err("refused")), "TOKEN_INVALID");
    }
}

#[test]
fn a_key_signs_for_its_issuer_its_tenants_and_its_roles_alone() {
    let issuer = Issuer::generate().expect("key");
    let acme = vec![TenantId::new("acme").expect("an id")];
    let scope = Scope { issuer: Some("idp".into()), roles: vec![Role::Reader], tenants: Some(acme) };
    let verifier = bound(&issuer, scope);
    let theirs = Claims { iss: Some("idp".into()), roles: vec!["reader".into(), "operator".into()], ..claims() };
    assert_eq!(verifier.verify(&signed(&issuer, &theirs)).expect("theirs").roles, [Role::Reader]);
    let foreign = |change: fn(&mut Claims)| {
        let mut claims = Claims { iss: Some("idp".into()), ..claims() };
        change(&mut claims);
        reason(&verifier.verify(&signed(&issuer, &claims)).expect_err("refused"))
    };
    assert_eq!(foreign(|claims| claims.iss = None), "TOKEN_INVALID");
    assert_eq!(foreign(|claims| claims.iss = Some("another".into())), "TOKEN_INVALID");
    assert_eq!(foreign(|claims| claims.tenant = "other".into()), "TOKEN_INVALID");
}

#[test]
fn the_key_of_the_services_gives_no_persons_role_and_a_persons_key_not_theirs() {
    let issuer = Issuer::generate().expect("key");
    let all = Scope::everything().roles;
    let token = issuer.issue("dispatcher", "acme", &all, HOUR).expect("token");
    assert_eq!(bound(&issuer, Scope::services()).verify(&token).expect("taken").roles, [Role::Service]);
    assert!(!bound(&issuer, Scope::people()).verify(&token).expect("taken").roles.contains(&Role::Service));
}

#[test]
fn a_removed_key_stops_working_at_once_though_its_token_was_verified_before() {
    let (issuer, verifier, _) = pair();
    let (other, _, other_pem) = pair();
    let token = issuer.issue("erp", "acme", &[Role::Writer], HOUR).expect("token");
    assert!(verifier.verify(&token).is_ok() && verifier.clone().verify(&token).is_ok());
    let faults = verifier.replace([key(&other_pem, Scope::people()), key("nonsense", Scope::people())]);
    assert_eq!(faults, [KeyError::Unusable("auth.public_keys: key.pem".into())]);
    assert_eq!(reason(&verifier.clone().verify(&token).expect_err("its key is gone")), "TOKEN_INVALID");
    assert!(verifier.verify(&other.issue("erp", "acme", &[Role::Writer], HOUR).expect("token")).is_ok());
    assert!(verifier.replace([]).is_empty());
    assert!(verifier.verify(&other.issue("erp", "acme", &[Role::Writer], HOUR).expect("token")).is_err());
}

#[test]
fn several_keys_can_stand_in_one_file() {
    let ((one, _, first), (two, _, second)) = (pair(), pair());
    let verifier = Verifier::new([key(&format!("{first}{second}"), Scope::people())], DAY).expect("verifier");
    for issuer in [one, two] {
        assert!(verifier.verify(&issuer.issue("erp", "acme", &[Role::Reader], HOUR).expect("token")).is_ok());
    }
}

#[test]
fn a_token_with_an_extension_that_is_critical_is_refused() {
    let (issuer, verifier, _) = pair();
    let with = |crit| issuer.encode_with(Header { crit, ..Header::new(Algorithm::EdDSA) }, &claims()).expect("token");
    assert!(verifier.verify(&with(None)).is_ok());
    for crit in [vec!["exp".to_owned()], vec![]] {
        assert_eq!(reason(&verifier.verify(&with(Some(crit))).expect_err("refused")), "TOKEN_INVALID");
    }
}

#[test]
fn a_subject_reads_as_it_is_written() {
    let (issuer, verifier, _) = pair();
    for sub in ["a\u{202e}b", "a\u{2028}b", "a\u{2066}b", "a\nb"] {
        let token = signed(&issuer, &Claims { sub: sub.into(), ..claims() });
        assert_eq!(reason(&verifier.verify(&token).expect_err("refused")), "TOKEN_INVALID", "{sub:?}");
    }
}
