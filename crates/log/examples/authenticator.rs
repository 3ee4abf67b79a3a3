//! What an authenticator of records costs: `cargo run --release -p saldo-log --example authenticator`.
//!
//! HMAC-SHA-256 over the digest that the hash chain computes anyway, as the log has it, beside Ed25519 over the same digest.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use ed25519_dalek::{Signer, SigningKey, Verifier};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Few enough that some tries run undisturbed on a busy machine.
const ROUNDS: u32 = 50;
const TRIES: u32 = 400;

fn main() {
    let mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&[3; 64].into());
    let key = SigningKey::from_bytes(&[3; 32]);
    let public = key.verifying_key();
    println!("ns for a record of           400 B    700 B    4 kB");
    row("SHA-256, as the chain needs", |value| {
        black_box(Sha256::digest(value));
    });
    row("with HMAC made or checked", |value| {
        let before = Sha256::new_with_prefix(value);
        let tag = mac.clone().chain_update(before.clone().finalize()).finalize().into_bytes();
        black_box(before.chain_update(tag).finalize());
    });
    row("with Ed25519 made", |value| {
        black_box(key.sign(&Sha256::digest(value)));
    });
    let signatures = SIZES.map(|size| key.sign(&Sha256::digest(vec![7; size])));
    row("with Ed25519 checked", |value| {
        let signed = SIZES.iter().position(|size| *size == value.len()).and_then(|at| signatures.get(at));
        black_box(signed.map(|signed| public.verify(&Sha256::digest(value), signed)));
    });
}

const SIZES: [usize; 3] = [400, 700, 4_000];

fn row(name: &str, work: impl Fn(&[u8])) {
    let cost = |size: usize| {
        let value = vec![7; size];
        let once = || {
            let begun = Instant::now();
            (0..ROUNDS).for_each(|_| work(black_box(&value)));
            begun.elapsed() / ROUNDS
        };
        // The machine is noisy: the best one counts.
        (0..TRIES).map(|_| once()).min().unwrap_or(Duration::ZERO).as_nanos()
    };
    let [small, usual, large] = SIZES.map(cost);
    println!("{name:<28} {small:>6} {usual:>8} {large:>7}");
}
