//! Sealing, erasing, racing and crashing.

use super::*;

const PLACE: SealContext<'_> =
    SealContext { record_key: "acme/D-1", event_type: "account.opened", field: "display_name" };

#[tokio::test]
async fn a_sealed_value_opens_at_its_place_and_nowhere_else() {
    let dir = tempfile::tempdir().expect("dir");
    let keyring = Keyring::open(dir.path()).expect("open");
    let key = keyring.subject("acme", "D-1").await.expect("key");
    let envelope = key.seal(&PLACE, "Ana Gil").expect("sealed");
    assert_eq!(keyring.unseal(&PLACE, &envelope).await.expect("opens"), Some("Ana Gil".to_owned()));
    let elsewhere = SealContext { field: "reason", ..PLACE };
    assert!(matches!(keyring.unseal(&elsewhere, &envelope).await, Err(UnsealError::Tampered(_))));
    let mut changed = envelope.clone();
    changed.ciphertext[0] ^= 1;
    assert!(matches!(keyring.unseal(&PLACE, &changed).await, Err(UnsealError::Tampered(_))));
}

#[tokio::test]
async fn a_missing_key_reads_as_erased() {
    let (here, there) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let key = Keyring::open(here.path()).expect("open").subject("acme", "D-1").await.expect("key");
    let envelope = key.seal(&PLACE, "Ana Gil").expect("sealed");
    let elsewhere = Keyring::open(there.path()).expect("open");
    assert_eq!(elsewhere.unseal(&PLACE, &envelope).await.expect("no key"), None);
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_not_erasure() {
    let (here, there) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let key = Keyring::open(here.path()).expect("open").subject("acme", "D-1").await.expect("key");
    let envelope = key.seal(&PLACE, "Ana Gil").expect("sealed");
    let keyring = Keyring::open(there.path()).expect("open");
    keyring.subject("acme", "D-2").await.expect("key");
    // Another process's entry, under a master key that is not here.
    let foreign = std::fs::read(here.path().join("keyring")).expect("file");
    let path = there.path().join("keyring");
    std::fs::write(&path, [std::fs::read(&path).expect("file"), foreign].concat()).expect("appended");
    assert!(matches!(keyring.unseal(&PLACE, &envelope).await, Err(UnsealError::Store(_))));
}

#[tokio::test]
async fn two_processes_racing_for_a_subject_get_one_key() {
    let dir = tempfile::tempdir().expect("dir");
    let (one, two) = (Keyring::open(dir.path()).expect("open"), Keyring::open(dir.path()).expect("open"));
    for n in 0..50 {
        let account = format!("D-{n}");
        let (a, b) = tokio::join!(one.subject("acme", &account), two.subject("acme", &account));
        assert_eq!(a.expect("key").id, b.expect("key").id);
    }
    let fingerprint = |keys: &TenantKeys| keys.fingerprint.hmac(&[b"x"]);
    let (a, b) = (one.tenant("acme").await.expect("keys"), two.tenant("acme").await.expect("keys"));
    assert_eq!(fingerprint(&a), fingerprint(&b));
}

#[tokio::test]
async fn keys_survive_a_restart_and_a_torn_end() {
    let dir = tempfile::tempdir().expect("dir");
    let before = Keyring::open(dir.path()).expect("open").subject("acme", "D-1").await.expect("key").id;
    let path = dir.path().join("keyring");
    let whole = std::fs::read(&path).expect("file");
    std::fs::write(&path, [&whole[..], &whole[..whole.len() / 3]].concat()).expect("torn");
    let keyring = Keyring::open(dir.path()).expect("open");
    assert_eq!(keyring.subject("acme", "D-1").await.expect("key").id, before);
    keyring.subject("acme", "D-2").await.expect("key");
    let again = Keyring::open(dir.path()).expect("open");
    assert_eq!(again.subject("acme", "D-1").await.expect("key").id, before);
}

#[tokio::test]
async fn another_master_key_is_said_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("dir");
    Keyring::open(dir.path()).expect("open").subject("acme", "D-1").await.expect("key");
    std::fs::write(dir.path().join("master.key"), [1; 32]).expect("other");
    assert!(matches!(Keyring::open(dir.path()), Err(KeyringError::Locked { .. })));
}

#[tokio::test]
async fn damage_in_the_middle_is_said_and_no_key_behind_it_is_lost() {
    let dir = tempfile::tempdir().expect("dir");
    let keyring = Keyring::open(dir.path()).expect("open");
    for account in ["D-1", "D-2", "D-3"] {
        keyring.subject("acme", account).await.expect("key");
    }
    drop(keyring);
    let path = dir.path().join("keyring");
    let mut bytes = std::fs::read(&path).expect("file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).expect("damaged");
    assert!(matches!(Keyring::open(dir.path()), Err(KeyringError::Damaged { .. })));
    assert_eq!(std::fs::read(&path).expect("file"), bytes);
}
