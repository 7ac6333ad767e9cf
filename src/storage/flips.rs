//! One flipped bit in a data directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::disk::{DEFAULT_CACHED_FILES, DiskOptions, DiskStore};
use super::{AppendFsync, Op, Row, Store, StoreError, Table, Write};

/// Bits that are flipped of each file; `RINGWOOD_FLIPS=n` flips more.
const FLIPS: usize = 6;

const TABLES: [Table; 3] = [Table::Data, Table::Expiry, Table::Meta];

fn options(dir: &Path) -> DiskOptions {
    DiskOptions {
        dir: dir.to_path_buf(),
        partitions: 256,
        cache_bytes: 1 << 20,
        appendfsync: AppendFsync::EverySec,
        write_buffer_bytes: 1 << 20,
        block_cache_bytes: 4 << 20,
        min_free_bytes: 0,
        accept_damage: false,
        cached_files: DEFAULT_CACHED_FILES,
    }
}

/// Everything but what a start writes itself.
fn rows(store: &dyn Store) -> Result<Vec<Row>, StoreError> {
    let mut all = Vec::new();
    for table in TABLES {
        let rows = store.scan(0, table, b"", &[0xff; 40], usize::MAX)?;
        all.extend(rows.into_iter().filter(|(key, _)| key != b"batch"));
    }
    Ok(all)
}

fn fill(store: &dyn Store, rows: std::ops::Range<u32>, value_len: usize) {
    for n in rows {
        let row = |table, value: Vec<u8>| Op {
            table,
            key: format!("key-{n:06}").into_bytes(),
            value: Some(value),
        };
        let value: Vec<u8> = (0..value_len as u32)
            .map(|at| (at.wrapping_mul(n + 7) >> 3) as u8)
            .collect();
        let mut ops = vec![row(Table::Data, value), row(Table::Expiry, Vec::new())];
        ops.extend((n % 10 == 0).then(|| row(Table::Meta, vec![n as u8; 20])));
        let ticket = store.submit(0, Write::of(ops)).expect("taken");
        store.progress(0).block_until_committed(ticket);
    }
}

/// The used part of a file: journals have zeros behind it.
fn used(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let mut raw = fs::read(path)?;
    let len = raw.len() as u64;
    raw.truncate(
        raw.iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1),
    );
    Ok((raw, len))
}

/// Copies a folder. An engine that runs may remove a file meanwhile: then once more, until nothing has
/// come or gone.
fn copy(from: &Path, to: &Path) {
    for _ in 0..100 {
        let before = files(from);
        let copied = try_copy(from, to);
        if copied.is_ok() && files(from) == before {
            return;
        }
        fs::remove_dir_all(to).expect("removed");
    }
    panic!("the files of {} change all the time", from.display());
}

fn try_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            try_copy(&entry.path(), &target)?;
        } else {
            let (raw, len) = used(&entry.path())?;
            fs::write(&target, raw)?;
            File::options().write(true).open(&target)?.set_len(len)?;
        }
    }
    Ok(())
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn flip(path: &Path, at: usize, bit: usize) {
    let file = File::options().read(true).write(true).open(path);
    let file = file.expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).expect("read");
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, at as u64).expect("flipped");
}

/// Whether rows are silently missing, or others than there were.
fn deceives(dir: &Path, expected: &[Row]) -> bool {
    let opened = catch_unwind(|| DiskStore::open(options(dir)));
    let Ok(opened) = opened else { return true };
    let Ok(store) = opened else { return false };
    let found = catch_unwind(AssertUnwindSafe(|| rows(&store)));
    store.close();
    !matches!(found, Ok(Err(_))) && !found.is_ok_and(|found| found.is_ok_and(|f| f == expected))
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_changes_nothing() {
    let flips = std::env::var("RINGWOOD_FLIPS").ok();
    let flips = flips.and_then(|n| n.parse().ok()).unwrap_or(FLIPS);
    for stops in [true, false] {
        let dir = tempfile::tempdir().expect("a folder");
        let (was, left) = (dir.path().join("was"), dir.path().join("left"));
        let store = DiskStore::open(options(&was)).expect("open");
        fill(&store, 0..300, 600);
        store.compact().expect("flushed");
        store.close();
        drop(store);
        // Some is in tables, the rest in a journal.
        let store = DiskStore::open(options(&was)).expect("open");
        fill(&store, 300..500, 600);
        let expected = rows(&store).expect("rows");
        if stops {
            store.close();
        }
        copy(&was, &left);
        let mut deceived: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        for path in files(&left) {
            let name = path.strip_prefix(&left).expect("inside").to_path_buf();
            let (raw, _) = used(&path).expect("read");
            let step = (raw.len() / flips).max(1);
            for (nth, at) in (0..raw.len()).step_by(step).enumerate() {
                let work = dir.path().join("work");
                let _ = fs::remove_dir_all(&work);
                copy(&left, &work);
                // Not always at the same distance from the start of what repeats.
                let at = (at + nth * 7) % raw.len();
                flip(&work.join(&name), at, nth);
                if deceives(&work, &expected) {
                    deceived.entry(name.clone()).or_default().push(at);
                }
            }
        }
        assert!(deceived.is_empty(), "{deceived:?}");
    }
}

#[test]
fn a_file_that_is_missing_is_noticed_before_the_engine_removes_more() {
    let dir = tempfile::tempdir().expect("a folder");
    let (was, work) = (dir.path().join("was"), dir.path().join("work"));
    let store = DiskStore::open(options(&was)).expect("open");
    fill(&store, 0..60, 600);
    store.compact().expect("flushed");
    fill(&store, 60..100, 600);
    let expected = rows(&store).expect("rows");
    store.close();
    drop(store);
    for path in files(&was) {
        let name = path.strip_prefix(&was).expect("inside");
        let is_needed = name.ends_with("current") || name.ends_with("00000001.log");
        let _ = fs::remove_dir_all(&work);
        copy(&was, &work);
        fs::remove_file(work.join(name)).expect("removed");
        assert!(!deceives(&work, &expected), "{}", name.display());
        if is_needed {
            let error = DiskStore::open(options(&work)).err();
            assert!(
                matches!(error, Some(StoreError::Damaged { .. })),
                "{}",
                name.display()
            );
        }
    }
    for nth in 0..7 {
        let _ = fs::remove_dir_all(&work);
        copy(&was, &work);
        let keyspace = work.join("tables").join("keyspaces").join(nth.to_string());
        fs::remove_dir_all(keyspace).expect("removed");
        assert!(!deceives(&work, &expected), "{nth}");
    }
}

#[test]
fn what_was_accepted_once_is_not_found_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (was, work) = (dir.path().join("was"), dir.path().join("work"));
    let store = DiskStore::open(options(&was)).expect("open");
    fill(&store, 0..100, 600);
    copy(&was, &work);
    store.close();
    let journal = work.join("journal").join("00000001.log");
    let (raw, _) = used(&journal).expect("read");
    let key = raw.windows(10).position(|some| some == b"key-000050");
    flip(&journal, key.expect("it is there"), 3);
    assert!(DiskStore::open(options(&work)).is_err());
    let accepted = DiskOptions {
        accept_damage: true,
        ..options(&work)
    };
    let store = DiskStore::open(accepted).expect("open");
    assert!(store.is_damaged());
    store.forget_damage();
    fill(&store, 200..210, 600);
    store.close();
    drop(store);
    let store = DiskStore::open(options(&work)).expect("open");
    assert!(!store.is_damaged());
}
