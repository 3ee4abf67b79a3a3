//! Sealing, erasing, racing and crashing.

use std::{path::Path, time::Duration};

use super::*;

const LOG: [u8; 16] = [7; 16];

fn open(dir: &Path) -> Result<Keyring, KeyringError> {
    Keyring::open(dir, LOG, WhereMissing::Create)
}

fn mark(next: u64) -> Mark {
    Mark { next, last_hash: [next as u8; 32] }
}

const PLACE: SealContext<'_> =
    SealContext { record_key: "acme/D-1", event_type: "account.opened", field: "display_name" };

#[tokio::test]
async fn a_sealed_value_opens_at_its_place_and_nowhere_else() {
    let dir = tempfile::tempdir().expect("dir");
    let keyring = open(dir.path()).expect("open");
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
    let key = open(here.path()).expect("open").subject("acme", "D-1").await.expect("key");
    let envelope = key.seal(&PLACE, "Ana Gil").expect("sealed");
    let elsewhere = open(there.path()).expect("open");
    assert_eq!(elsewhere.unseal(&PLACE, &envelope).await.expect("no key"), None);
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_not_erasure() {
    let (here, there) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let key = open(here.path()).expect("open").subject("acme", "D-1").await.expect("key");
    let envelope = key.seal(&PLACE, "Ana Gil").expect("sealed");
    let keyring = open(there.path()).expect("open");
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
    let (one, two) = (open(dir.path()).expect("open"), open(dir.path()).expect("open"));
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
    let before = open(dir.path()).expect("open").subject("acme", "D-1").await.expect("key").id;
    let path = dir.path().join("keyring");
    let whole = std::fs::read(&path).expect("file");
    std::fs::write(&path, [&whole[..], &whole[..whole.len() / 3]].concat()).expect("torn");
    let keyring = open(dir.path()).expect("open");
    assert_eq!(keyring.subject("acme", "D-1").await.expect("key").id, before);
    keyring.subject("acme", "D-2").await.expect("key");
    let again = open(dir.path()).expect("open");
    assert_eq!(again.subject("acme", "D-1").await.expect("key").id, before);
}

#[tokio::test]
async fn another_master_key_is_said_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("dir");
    open(dir.path()).expect("open").subject("acme", "D-1").await.expect("key");
    std::fs::write(dir.path().join("master.key"), [1; 32]).expect("other");
    assert!(matches!(open(dir.path()), Err(KeyringError::Locked { .. })));
}

#[tokio::test]
async fn damage_in_the_middle_is_said_and_no_key_behind_it_is_lost() {
    let dir = tempfile::tempdir().expect("dir");
    let keyring = open(dir.path()).expect("open");
    for account in ["D-1", "D-2", "D-3"] {
        keyring.subject("acme", account).await.expect("key");
    }
    drop(keyring);
    let path = dir.path().join("keyring");
    let mut bytes = std::fs::read(&path).expect("file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).expect("damaged");
    assert!(matches!(open(dir.path()), Err(KeyringError::Damaged { .. })));
    assert_eq!(std::fs::read(&path).expect("file"), bytes);
}

#[tokio::test]
async fn o1_a_missing_master_key_is_never_made_anew() {
    let dir = tempfile::tempdir().expect("dir");
    open(dir.path()).expect("open").subject("acme", "D-1").await.expect("key");
    let (master, aside) = (dir.path().join("master.key"), dir.path().join("aside"));
    std::fs::rename(&master, &aside).expect("moved");
    let refused = open(dir.path()).err().expect("refused");
    assert!(matches!(&refused, KeyringError::NoMasterKey { .. }), "{refused}");
    assert!(refused.to_string().contains("master.key"), "{refused}");
    assert!(!master.exists());
    std::fs::rename(&aside, &master).expect("put back");
    assert!(open(dir.path()).expect("open").known_subject("acme", "D-1").is_some());
}

#[tokio::test]
async fn o1_another_logs_store_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path()).expect("open").binding().expect("bound");
    assert_eq!(store.log_id, LOG);
    let other = Keyring::open(dir.path(), [8; 16], WhereMissing::Create);
    assert!(matches!(other, Err(KeyringError::OtherLog { .. })));
    assert_eq!(open(dir.path()).expect("open").binding(), Some(store));
}

#[tokio::test]
async fn o1_a_store_that_is_not_there_is_not_made_where_keys_are_elsewhere() {
    let dir = tempfile::tempdir().expect("dir");
    let folder = dir.path().join("keyring");
    for _ in 0..2 {
        let refused = Keyring::open(&folder, LOG, WhereMissing::Refuse);
        assert!(matches!(refused, Err(KeyringError::Missing { .. })));
        assert!(!folder.join("master.key").exists());
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("keyring"), b"").expect("emptied");
    }
}

#[tokio::test]
async fn o1_a_store_of_an_earlier_release_is_bound_once() {
    let dir = tempfile::tempdir().expect("dir");
    open(dir.path()).expect("open").subject("acme", "D-1").await.expect("key");
    let path = dir.path().join("keyring");
    let bytes = std::fs::read(&path).expect("file");
    std::fs::write(&path, &bytes[42..]).expect("as it was before there were bindings");
    let keyring = open(dir.path()).expect("open");
    assert_eq!(keyring.binding(), None);
    keyring.bind().await.expect("bound");
    let bound = keyring.binding().expect("bound");
    keyring.bind().await.expect("bound already");
    let again = open(dir.path()).expect("open");
    assert_eq!(again.binding(), Some(bound));
    assert!(again.known_subject("acme", "D-1").is_some());
}

#[tokio::test]
async fn o1_a_store_that_vanishes_is_noticed_before_the_next_key() {
    type Harm = fn(&Path);
    let harms: [Harm; 4] = [
        |dir| std::fs::remove_dir_all(dir).expect("removed"),
        |dir| std::fs::rename(dir, dir.with_extension("aside")).expect("moved"),
        |dir| std::fs::write(dir.join("keyring"), b"").expect("emptied"),
        |dir| std::fs::remove_file(dir.join("master.key")).expect("removed"),
    ];
    for harm in harms {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("keys");
        let keyring = open(&folder).expect("open");
        keyring.subject("acme", "D-1").await.expect("key");
        keyring.check().expect("as it was opened");
        harm(&folder);
        assert!(matches!(keyring.check(), Err(KeyringError::Vanished { .. })));
        assert!(matches!(keyring.subject("acme", "D-2").await, Err(KeyringError::Vanished { .. })));
        assert!(keyring.known_subject("acme", "D-2").is_none());
    }
}

#[tokio::test]
async fn a_store_that_is_put_back_serves_again() {
    let dir = tempfile::tempdir().expect("dir");
    let folder = dir.path().join("keys");
    let keyring = open(&folder).expect("open");
    std::fs::rename(&folder, dir.path().join("aside")).expect("moved");
    assert!(keyring.tenant("acme").await.is_err());
    std::fs::rename(dir.path().join("aside"), &folder).expect("put back");
    keyring.tenant("acme").await.expect("keys");
}

#[tokio::test]
async fn o1_the_note_says_how_far_the_log_had_come_and_never_goes_back_by_itself() {
    let dir = tempfile::tempdir().expect("dir");
    let keyring = open(dir.path()).expect("open");
    assert_eq!(keyring.reached().expect("readable"), None);
    keyring.note_reached(vec![mark(5), mark(1)]).await.expect("noted");
    keyring.note_reached(vec![mark(3), mark(2)]).await.expect("noted");
    let marks = |keyring: &Keyring| keyring.reached().expect("readable").expect("a note").marks;
    assert_eq!(marks(&keyring), [mark(5), mark(2)]);
    assert_eq!(marks(&open(dir.path()).expect("open")), [mark(5), mark(2)]);
    keyring.accept_reached(vec![mark(3), mark(2)]).await.expect("noted");
    assert_eq!(marks(&keyring), [mark(3), mark(2)]);
}

#[tokio::test]
async fn o1_a_note_that_is_newer_than_the_keys_proves_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("keyring");
    let backup = {
        open(dir.path()).expect("open").subject("acme", "D-1").await.expect("key");
        std::fs::read(&path).expect("file")
    };
    let keyring = open(dir.path()).expect("open");
    let lost = keyring.subject("acme", "D-2").await.expect("key").id;
    keyring.note_reached(vec![mark(9)]).await.expect("noted");
    assert!(keyring.proves(&keyring.reached().expect("readable").expect("a note")) && keyring.has_key(&lost));
    drop(keyring);
    std::fs::write(&path, backup).expect("restored");
    let keyring = open(dir.path()).expect("open");
    assert!(!keyring.proves(&keyring.reached().expect("readable").expect("a note")) && !keyring.has_key(&lost));
}

#[tokio::test]
async fn a_damaged_note_says_nothing_and_is_replaced() {
    let dir = tempfile::tempdir().expect("dir");
    let keyring = open(dir.path()).expect("open");
    keyring.note_reached(vec![mark(9)]).await.expect("noted");
    for bytes in [&b""[..], b"SKR1", &[0xff; 96]] {
        std::fs::write(dir.path().join(reached::FILE), bytes).expect("damaged");
        assert_eq!(keyring.reached().expect("readable"), None);
    }
    keyring.note_reached(vec![mark(4)]).await.expect("noted");
    assert_eq!(keyring.reached().expect("readable").expect("a note").marks, [mark(4)]);
}

#[tokio::test]
async fn o1_seals_without_a_key_are_counted_once_nobody_else_has_made_it() {
    let (here, there) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (one, two) = (open(here.path()).expect("open"), open(here.path()).expect("open"));
    let elsewhere = open(there.path()).expect("open");
    let ids =
        [one.subject("acme", "D-1").await.expect("key").id, elsewhere.subject("acme", "D-2").await.expect("key").id];
    let mut absent = Absent::default();
    for id in ids.iter().chain(&ids) {
        absent.note(&two, id);
    }
    assert_eq!(absent.count(&two).await.expect("counted"), WithoutKey { values: 2, keys: 1 });
}

#[test]
fn o1_a_store_that_grows_while_it_is_looked_at_has_not_vanished() {
    let dir = tempfile::tempdir().expect("dir");
    let keyring = open(dir.path()).expect("open");
    let grown = std::sync::atomic::AtomicBool::new(false);
    // More threads than processors, so that many are interrupted while they look.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !grown.load(std::sync::atomic::Ordering::Relaxed) {
                    keyring.check().expect("as it was opened, and longer");
                }
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            for number in 0..1_000 {
                keyring.subject("acme", &format!("D-{number}")).await.expect("key");
            }
        });
        grown.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[tokio::test]
async fn a_store_knows_whether_another_process_has_it_open() {
    let dir = tempfile::tempdir().expect("dir");
    let (one, two) = (open(dir.path()).expect("open"), open(dir.path()).expect("open"));
    assert!(!one.is_alone().expect("asked"));
    drop(two.clone());
    assert!(!one.is_alone().expect("asked"), "a clone is not the last one");
    drop(two);
    // The thread that writes closes the files, some time after.
    let alone = async {
        while !one.is_alone().expect("asked") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), alone).await.expect("alone once the other one is closed");
}
