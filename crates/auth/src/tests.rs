//! Each way a token can be wrong.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use tonic::service::Interceptor;

use super::*;

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn pair() -> (Issuer, Verifier, String) {
    let issuer = Issuer::generate().expect("key");
    let pem = issuer.public_pem().expect("pem");
    let verifier = Verifier::new([pem.as_str()]).expect("verifier");
    (issuer, verifier, pem)
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
    let token = issuer.sign("erp", "acme", &[Role::Writer], 1_000_000_000).expect("token");
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
    assert_eq!(Verifier::new([]).err(), Some(KeyError::None));
    assert_eq!(Verifier::new(["nonsense"]).err(), Some(KeyError::Unusable(1)));
}

/// Signs claims that the issuer itself would never make.
fn signed(issuer: &Issuer, claims: &Claims) -> String {
    issuer.encode(claims).expect("token")
}

fn claims() -> Claims {
    Claims {
        sub: "erp".into(),
        aud: AUDIENCE.into(),
        exp: 9_999_999_999,
        nbf: None,
        tenant: "acme".into(),
        roles: vec!["writer".into()],
    }
}

#[test]
fn a_token_for_another_service_or_for_later_is_invalid() {
    let (issuer, verifier, _) = pair();
    assert!(verifier.verify(&signed(&issuer, &claims())).is_ok());
    for wrong in [Claims { aud: "other".into(), ..claims() }, Claims { nbf: Some(9_999_999_000), ..claims() }] {
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
