//! Texts that come from outside: a consistency token has one form that reads back, and no bearer token that no
//! configured key has signed stands for anybody.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use saldo_auth::{PublicKey, Scope, Verifier};
use saldo_facts::ConsistencyToken;
use tonic::{Request, metadata::MetadataValue, service::Interceptor};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let key = PublicKey { name: "key".into(), pem: key.into(), scope: Scope::everything() };
    Verifier::new([key], std::time::Duration::from_secs(3600)).expect("a key")
});

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(token) = text.parse::<ConsistencyToken>() {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        assert!(VERIFIER.verify(text).is_err());
    }
    if let Ok(header) = MetadataValue::try_from(data) {
        let mut request = Request::new(());
        request.metadata_mut().insert("authorization", header);
        assert!(VERIFIER.clone().call(request).is_err());
    }
});
