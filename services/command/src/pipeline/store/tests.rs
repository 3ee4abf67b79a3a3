use saldo_domain::party::{Party, Profile};

use super::*;

const POSITION: Position = Position { next: 8, last_hash: [1; 32] };
const HEAD: Head = Head { hash: [2; 32], version: 5 };

fn saved(path: &Path) -> Store {
    let mut store = Store::open(path, [7; 16]).expect("opened");
    let mut stored = StoredAccount { parked: Some("why".into()), ..Default::default() };
    stored.account.party = Party { profile: Some(profile()) };
    store.save(POSITION, |writer| writer.write("acme/D-1", HEAD, &mut stored)).expect("saved");
    store
}

fn profile() -> Profile {
    Profile {
        display_name: saldo_domain::sealed::Sealed(vec![1]),
        kind: saldo_domain::party::DebtorKind::Business,
        language: "es".into(),
        time_zone: "Europe/Madrid".into(),
        country: "ES".into(),
        contact_points: Vec::new(),
    }
}

/// Writes a row behind the store's back.
fn tamper(path: &Path, table: TableDefinition<'_, &str, &[u8]>, key: &str) {
    let database = Database::create(path).expect("opened");
    let transaction = database.begin_write().expect("begun");
    transaction.open_table(table).expect("a table").insert(key, &[0xff; 3][..]).expect("written");
    transaction.commit().expect("committed");
}

fn resumed(path: &Path, log_id: [u8; 16]) -> Option<Resumed> {
    Store::open(path, log_id).expect("opened").resume().expect("readable")
}

#[test]
fn a_start_reads_heads_and_no_state() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store");
    drop(saved(&path));
    tamper(&path, parts::TABLES[0], "acme/D-1");
    let Resumed { position, heads, parked } = resumed(&path, [7; 16]).expect("a save");
    assert_eq!((position, heads), (POSITION, vec![("acme/D-1".into(), HEAD)]));
    assert_eq!(parked, ["acme/D-1".into()]);
    let store = Store::open(&path, [7; 16]).expect("opened");
    assert!(matches!(store.account("acme/D-1"), Err(StoreError::Shape(_))), "the state is no state any more");
}

#[test]
fn a_store_of_another_release_or_log_is_emptied() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store");
    for (part, _) in VERSIONS {
        drop(saved(&path));
        assert!(resumed(&path, [7; 16]).is_some());
        tamper(&path, META, part);
        assert!(resumed(&path, [7; 16]).is_none(), "{part} is of another release");
    }
    drop(saved(&path));
    assert_eq!(Store::open(&path, [8; 16]).expect("opened").emptied(), Some("of another log"));
    assert!(resumed(&path, [8; 16]).is_none());
    let parts: Vec<&str> = VERSIONS.iter().map(|(part, _)| *part).collect();
    assert_eq!(parts, ["agreement", "answers", "documents", "dunning", "ledger", "party"]);
}

#[test]
fn a_part_is_written_only_when_it_has_changed() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = saved(&dir.path().join("store"));
    let rows = |store: &Store| store.saved.parts.each_ref().map(|part| part.iter().expect("rows").count());
    assert_eq!(rows(&store), [1, 0, 0, 0], "a part at its default has no row");
    let stored = store.account("acme/D-1").expect("readable");
    assert_eq!(stored.account.party.profile, Some(profile()));
    assert_eq!(Digests::of(&parts::encode(&stored.account).expect("written")), stored.saved);
}

#[test]
fn o8_a_damaged_store_is_set_aside_and_begun_anew() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("garbage", |path| std::fs::write(path, [0xa5; 40_000]).expect("written")),
        ("cut to a few bytes", |path| resize(path, 100)),
        ("cut in half", |path| resize(path, std::fs::metadata(path).expect("a file").len() / 2)),
        ("a text", |path| std::fs::write(path, "no store at all").expect("written")),
        // The first byte of each of the two commit slots is the version of the file's format (redb's design.md).
        ("another version", |path| {
            overwrite(path, 64, &[0x7f]);
            overwrite(path, 192, &[0x7f]);
        }),
        ("zeros behind its header", |path| {
            let length = std::fs::metadata(path).expect("a file").len();
            overwrite(path, 4_096, &vec![0; length as usize - 4_096]);
        }),
    ];
    for (damage, harm) in damages {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("partition-0.redb");
        drop(saved(&path));
        harm(&path);
        let opened = damage::open(&path, || {
            let store = Store::open(&path, [7; 16])?;
            store.resume().map(|resumed| (store, resumed))
        });
        let (mut store, resumed) = opened.unwrap_or_else(|why| panic!("{damage}: {why}"));
        assert!(resumed.is_none(), "{damage}: nothing is left of it");
        assert!(path.with_extension("damaged").exists(), "{damage}: it is kept for who wants to know");
        store.save(POSITION, |_| Ok(())).expect("saved");
        drop(store);
        assert!(self::resumed(&path, [7; 16]).is_some(), "{damage}: the new one serves");
    }
}

#[test]
fn o8_a_panic_over_a_store_is_an_error_like_any_other() {
    let broken = damage::guarded(|| -> Result<(), StoreError> { panic!("a page that is none") });
    assert!(matches!(broken, Err(StoreError::Damaged(why)) if why == "a page that is none"));
}

#[test]
fn o8_a_store_that_another_instance_uses_is_no_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("partition-0.redb");
    let _used = saved(&path);
    let refused = damage::open(&path, || Store::open(&path, [7; 16])).err().expect("in use");
    assert!(matches!(refused, StoreError::Database(_)), "{refused}");
    assert!(path.exists());
}

#[test]
fn o8_a_store_that_cannot_be_written_is_no_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("partition-0.redb");
    std::fs::create_dir(&path).expect("a folder in its place");
    let refused = damage::open(&path, || Store::open(&path, [7; 16])).err().expect("no file");
    assert!(matches!(refused, StoreError::Database(_)), "{refused}");
    assert!(path.exists());
}

fn resize(path: &Path, length: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
    file.set_len(length).expect("cut");
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
    file.write_all_at(bytes, at).expect("written");
}
