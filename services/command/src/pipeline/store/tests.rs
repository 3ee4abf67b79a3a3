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
    assert!(resumed(&path, [8; 16]).is_none(), "the log is another one");
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
