//! One suite for every adapter of the port.

use std::path::Path;

use super::{
    AppendFsync, DEFAULT_CACHED_FILES, DiskOptions, DiskStore, MemoryStore, Op, Store, StoreError,
    Table, Write,
};

fn put(table: Table, key: &str, value: &str) -> Op {
    Op {
        table,
        key: key.into(),
        value: Some(value.into()),
    }
}

fn remove(table: Table, key: &str) -> Op {
    Op {
        table,
        key: key.into(),
        value: None,
    }
}

fn load(store: &dyn Store, key: &str) -> Option<String> {
    let row = store.load(0, Table::Data, key.as_bytes()).expect("load");
    row.map(|raw| String::from_utf8(raw).expect("text"))
}

fn options(dir: &Path) -> DiskOptions {
    DiskOptions {
        dir: dir.to_path_buf(),
        partitions: 256,
        cache_bytes: 1 << 20,
        appendfsync: AppendFsync::EverySec,
        write_buffer_bytes: 4 << 20,
        block_cache_bytes: 4 << 20,
        min_free_bytes: 0,
        accept_damage: false,
        cached_files: DEFAULT_CACHED_FILES,
    }
}

fn open(dir: &Path) -> Result<DiskStore, StoreError> {
    DiskStore::open(options(dir))
}

fn every_adapter(check: impl Fn(&dyn Store)) {
    check(&MemoryStore::new(2));
    let dir = tempfile::tempdir().expect("a folder");
    check(&open(dir.path()).expect("open"));
}

fn submit(store: &dyn Store, ops: Vec<Op>) {
    let ticket = store.submit(0, Write::of(ops)).expect("taken");
    store.progress(0).block_until_committed(ticket);
    assert_eq!(store.progress(0).fate(ticket), Ok(()));
}

#[test]
fn a_row_is_looked_at_and_changed_where_it_lies() {
    every_adapter(|store| {
        let look = |key: &str| {
            let mut seen = None;
            let pending = store.look(0, key.as_bytes(), &mut |row| {
                seen = Some(row.map(|raw| String::from_utf8(raw.to_vec()).expect("text")));
            });
            (pending, seen)
        };
        let change = |key: &str, to: Option<&str>, more: Vec<Op>| {
            let mut was = None;
            let ticket = store.change(0, key.as_bytes(), &mut |row, changing| {
                was = Some(row.map(<[u8]>::to_vec));
                changing
                    .row
                    .extend_from_slice(to.unwrap_or("not this").as_bytes());
                changing.more.extend(more.clone());
                to.is_some()
            });
            let ticket = ticket.expect("taken");
            if let Some(ticket) = ticket {
                store.kick(0);
                store.progress(0).block_until_committed(ticket);
            }
            (ticket.is_some(), was)
        };
        // What neither memory nor a table has is at hand where the table is known.
        if let (Some(pending), seen) = look("a") {
            assert_eq!((pending, seen), (0, Some(None)));
        }
        submit(store, vec![put(Table::Data, "a", "1")]);
        assert_eq!(look("a"), (Some(0), Some(Some("1".into()))));
        let longer = "longer".repeat(100);
        for (before, after) in [("1", "2"), ("2", longer.as_str()), (&longer, "")] {
            let expiry = vec![
                put(Table::Expiry, after, "x"),
                remove(Table::Expiry, before),
            ];
            let (changed, was) = change("a", Some(after), expiry);
            assert_eq!((changed, was), (true, Some(Some(before.into()))));
            assert_eq!(load(store, "a").as_deref(), Some(after));
            assert_eq!(look("a"), (Some(0), Some(Some(after.into()))));
            for (key, there) in [(before, false), (after, true)] {
                let found = store.load(0, Table::Expiry, key.as_bytes()).expect("load");
                assert_eq!(found.is_some(), there);
            }
        }
        assert_eq!(change("a", None, vec![]), (false, Some(Some(vec![]))));
        assert_eq!(load(store, "a").as_deref(), Some(""));
        submit(store, vec![remove(Table::Data, "a")]);
        assert_eq!(look("a"), (Some(0), Some(None)));
        assert_eq!(change("a", Some("back"), vec![]), (true, Some(None)));
        assert_eq!(load(store, "a").as_deref(), Some("back"));
    });
}

#[test]
fn a_committed_row_is_read_until_it_is_removed() {
    every_adapter(|store| {
        submit(
            store,
            vec![put(Table::Data, "a", "1"), put(Table::Data, "b", "2")],
        );
        assert_eq!(load(store, "a").as_deref(), Some("1"));
        submit(
            store,
            vec![put(Table::Data, "a", "3"), remove(Table::Data, "b")],
        );
        assert_eq!(
            (load(store, "a").as_deref(), load(store, "b")),
            (Some("3"), None)
        );
        assert_eq!(store.load(0, Table::Meta, b"a").expect("load"), None);
    });
}

#[test]
fn tickets_ascend_and_later_writes_win() {
    every_adapter(|store| {
        let mut last = 0;
        for n in 0..100 {
            let row = vec![put(Table::Data, "k", &n.to_string())];
            let ticket = store.submit(0, Write::of(row));
            let ticket = ticket.expect("taken");
            assert!(ticket >= last);
            last = ticket;
        }
        store.progress(0).block_until_committed(last);
        assert_eq!(load(store, "k").as_deref(), Some("99"));
    });
}

#[test]
fn scans_are_ordered_bounded_and_half_open() {
    every_adapter(|store| {
        submit(
            store,
            ["d", "b", "a", "c"]
                .map(|k| put(Table::Data, k, k))
                .to_vec(),
        );
        let scan = |from: &str, to: &str, limit| -> Vec<String> {
            let rows = store.scan(0, Table::Data, from.as_bytes(), to.as_bytes(), limit);
            let keys = rows.expect("scan").into_iter().map(|(k, _)| k);
            keys.map(|k| String::from_utf8(k).expect("text")).collect()
        };
        assert_eq!(scan("a", "d", 10), ["a", "b", "c"]);
        assert_eq!(scan("b", "z", 2), ["b", "c"]);
        assert!(scan("z", "a", 10).is_empty());
    });
}

#[test]
fn elements_of_a_key_are_read_from_its_end_on() {
    every_adapter(|store| {
        let element = |n: u8| [&[0; 13][..], &[0, 1, b'k', n]].concat();
        let op = |n: u8| Op {
            table: Table::Data,
            key: element(n),
            value: Some(vec![n]),
        };
        submit(store, (1..6).map(op).collect());
        let back = |from, to, limit| -> Vec<u8> {
            let rows = store.scan_back(0, &element(from), &element(to), limit);
            rows.expect("scan").into_iter().map(|(_, v)| v[0]).collect()
        };
        assert_eq!(back(0, 9, 10), [5, 4, 3, 2, 1]);
        assert_eq!(back(2, 5, 2), [4, 3]);
        assert!(back(5, 2, 10).is_empty());
    });
}

#[test]
fn a_reopened_store_has_everything_and_knows_a_clean_stop() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path()).expect("open");
    submit(&store, vec![put(Table::Data, "a", "1")]);
    store.close();
    let late = Write::of(vec![put(Table::Data, "b", "1")]);
    assert!(store.submit(0, late).is_err());
    drop(store);
    let store = open(dir.path()).expect("reopen");
    assert!(store.was_clean());
    assert_eq!(load(&store, "a").as_deref(), Some("1"));
}

#[test]
fn two_processes_cannot_share_a_directory() {
    let dir = tempfile::tempdir().expect("a folder");
    let _store = open(dir.path()).expect("open");
    assert!(matches!(open(dir.path()), Err(StoreError::InUse(_))));
}

/// Writes rows, stops, spoils the files, and opens again.
fn reopen_after(spoil: impl Fn(&Path), options_of: impl Fn(&Path) -> DiskOptions) -> Reopened {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path()).expect("open");
    for n in 0..2_000 {
        submit(
            &store,
            vec![put(Table::Data, &format!("key{n}"), &"x".repeat(100))],
        );
    }
    store.sync().expect("sync");
    let copy = tempfile::tempdir().expect("a folder");
    copy_dir(dir.path(), copy.path());
    drop(store);
    spoil(copy.path());
    let result = DiskStore::open(options_of(copy.path()));
    Reopened { _dir: copy, result }
}

struct Reopened {
    _dir: tempfile::TempDir,
    result: Result<DiskStore, StoreError>,
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("mkdir");
    for entry in std::fs::read_dir(from).expect("readdir") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else if let Err(error) = std::fs::copy(entry.path(), target) {
            // What an open store drops in that moment a crash would not leave either.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}

fn first_segment(dir: &Path) -> std::path::PathBuf {
    dir.join("journal").join("00000001.log")
}

fn zero_journal_page(dir: &Path) {
    use std::os::unix::fs::FileExt;
    let journal = first_segment(dir);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(journal)
        .expect("journal");
    file.write_all_at(&[0; 4096], 16 << 10).expect("write");
}

#[test]
fn a_copy_of_a_running_store_opens_with_everything_synced() {
    let store = reopen_after(|_| {}, options).result.expect("open");
    assert!(!store.was_clean());
    assert_eq!(load(&store, "key1999").map(|v| v.len()), Some(100));
}

#[test]
fn a_zeroed_journal_page_refuses_to_start_and_names_the_file() {
    let error = reopen_after(zero_journal_page, options)
        .result
        .err()
        .expect("refused");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(".log"), "{error}");
}

#[test]
fn a_lost_folder_or_file_refuses_to_start() {
    for name in ["tables", "journal", "store.mark", "ringwood.store"] {
        let lose = |dir: &Path| {
            let path = dir.join(name);
            let lost = if path.is_dir() {
                std::fs::remove_dir_all(path)
            } else {
                std::fs::remove_file(path)
            };
            lost.expect("removed");
        };
        let result = reopen_after(lose, options).result;
        assert!(matches!(result, Err(StoreError::Damaged { .. })), "{name}");
    }
}

#[test]
fn a_zeroed_pointer_file_refuses_to_start() {
    let zero = |dir: &Path| {
        let mut zeroed = 0;
        let mut folders = vec![dir.join("tables")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("readdir") {
                let path = entry.expect("entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().is_some_and(|n| n == "current") {
                    let len = std::fs::metadata(&path).expect("metadata").len();
                    std::fs::write(&path, vec![0; len as usize]).expect("write");
                    zeroed += 1;
                }
            }
        }
        assert!(zeroed > 0, "the engine has no pointer file any more");
    };
    assert!(matches!(
        reopen_after(zero, options).result,
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn a_flipped_bit_in_a_file_of_ours_is_refused_or_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path()).expect("open");
    for n in 0..200 {
        submit(&store, vec![put(Table::Data, &format!("key{n}"), "value")]);
    }
    store.sync().expect("sync");
    drop(store);
    let files = ["ringwood.store", "store.mark", "store.tail"];
    for path in files.map(|file| dir.path().join(file)) {
        let bits = std::fs::read(&path).expect("read").len() * 8;
        for bit in (0..bits).step_by(11) {
            // Opening the store writes new marks.
            let whole = std::fs::read(&path).expect("read");
            let mut spoilt = whole.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, spoilt).expect("written");
            match open(dir.path()) {
                Err(StoreError::Damaged { .. }) => std::fs::write(&path, whole).expect("written"),
                Err(other) => panic!("{}, bit {bit}: {other}", path.display()),
                Ok(store) => {
                    let there = (0..200).all(|n| load(&store, &format!("key{n}")).is_some());
                    assert!(there, "{}, bit {bit}", path.display());
                }
            }
        }
    }
}

#[test]
fn a_first_start_that_was_interrupted_can_be_repeated() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(open(dir.path()).expect("made"));
    let made = std::fs::read_to_string(dir.path().join("ringwood.store")).expect("read");
    for file in ["store.mark", "store.tail", "ringwood.store"] {
        std::fs::remove_file(dir.path().join(file)).expect("removed");
    }
    let making = made.replace("state made", "state making");
    let body = &making[..making.find("check").expect("a checksum")];
    let sum = crc32fast::hash(body.as_bytes());
    let making = format!("{body}check {sum:08x}\n");
    std::fs::write(dir.path().join("ringwood.store"), making).expect("written");
    // What a start leaves that ends between two files of the engine.
    let tables = dir.path().join("tables");
    let journal = std::fs::read_dir(&tables).expect("a folder").flatten();
    let keep = journal
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "jnl"));
    let journal = std::fs::read(keep.expect("a journal")).expect("read");
    std::fs::remove_dir_all(&tables).expect("removed");
    std::fs::remove_dir_all(dir.path().join("journal")).expect("removed");
    std::fs::create_dir(&tables).expect("made");
    std::fs::write(tables.join("0.jnl"), journal).expect("written");
    let store = open(dir.path()).expect("made anew");
    submit(&store, vec![put(Table::Data, "a", "1")]);
    assert_eq!(load(&store, "a").as_deref(), Some("1"));
}

#[test]
fn zeros_anywhere_in_a_journal_are_damage_and_no_panic() {
    for at in ((16 << 10)..(16 << 10) + 120).step_by(7) {
        let zero = |dir: &Path| {
            use std::os::unix::fs::FileExt;
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(first_segment(dir));
            let file = file.expect("a journal");
            file.write_all_at(&[0; 4096], at).expect("written");
        };
        let error = reopen_after(zero, options).result.err();
        assert!(matches!(error, Some(StoreError::Damaged { .. })), "{at}");
    }
}

#[test]
fn damage_can_be_accepted_by_the_operator() {
    let accept = |dir: &Path| DiskOptions {
        accept_damage: true,
        ..options(dir)
    };
    let store = reopen_after(zero_journal_page, accept)
        .result
        .expect("open");
    assert!(store.is_damaged());
    submit(&store, vec![put(Table::Data, "after", "1")]);
    assert_eq!(load(&store, "after").as_deref(), Some("1"));
}
