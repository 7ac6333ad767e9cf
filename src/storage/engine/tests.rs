//! The engine over tables in memory, with files that fail when they are told to.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::memory::MemoryTables;
use super::*;
use crate::storage::Row;
use crate::storage::{Frozen, WriteFailed};

const SEGMENT: u64 = 8 << 10;

/// Files that fail as they are told, and remember what was synced.
#[derive(Default)]
struct Faults {
    write_fails: AtomicBool,
    sync_fails: AtomicBool,
    /// By file, what is on the disk, and what was written since: where, and what.
    synced: Mutex<HashMap<u64, Vec<u8>>>,
    unsynced: Mutex<HashMap<u64, Vec<(u64, Vec<u8>)>>>,
}

impl Faults {
    fn note(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut unsynced = self.unsynced.lock();
        let unsynced = unsynced.entry(file.metadata()?.ino()).or_default();
        unsynced.push((at, bytes.to_vec()));
        file.write_all_at(bytes, at)
    }
}

impl Files for Faults {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.write_fails.load(Ordering::Relaxed) {
            // A part of it is written.
            self.note(file, &bytes[..bytes.len() / 2], at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.note(file, bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let about = file.metadata()?;
        let unsynced = self.unsynced.lock().remove(&about.ino());
        if self.sync_fails.load(Ordering::Relaxed) {
            // What was to be written is taken for written, as Linux does.
            return Err(io::Error::other("told to fail"));
        }
        let mut synced = self.synced.lock();
        let image = synced.entry(about.ino()).or_default();
        image.resize(about.len() as usize, 0);
        for (at, bytes) in unsynced.into_iter().flatten() {
            let end = at as usize + bytes.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[at as usize..end].copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }
}

struct Place {
    dir: tempfile::TempDir,
    tables: Arc<MemoryTables>,
    files: Arc<Faults>,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
            tables: Arc::default(),
            files: Arc::default(),
        }
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn try_open(&self, cache_bytes: u64) -> Result<Arc<Engine>, StoreError> {
        let options = EngineOptions {
            store: 1,
            partitions: 4,
            write_buffer_bytes: 64 << 10,
            cache_bytes,
            segment_bytes: SEGMENT,
            journal_bytes: 1 << 30,
        };
        let (marks, marked) = Marks::open(self.dir.path(), "store").expect("marks");
        let flushed = self.tables.get(Table::Meta, FLUSHED_ROW)?;
        let flushed = flushed.map_or(0, |raw| u64::from_le_bytes(raw.try_into().expect("8")));
        let must_be = marked.synced.max(marked.written);
        let judge = |found: &Found| match &found.damage {
            None if found.last >= must_be => Ok(1),
            what => Err(StoreError::Engine(format!(
                "{what:?}, {} of {must_be}",
                found.last
            ))),
        };
        let engine = Engine::open(
            &self.journal(),
            Arc::clone(&self.files) as Arc<dyn Files>,
            Arc::clone(&self.tables) as Arc<dyn Tables>,
            options,
            (
                Arc::new(marks),
                Before {
                    flushed,
                    synced: marked.synced,
                },
            ),
            judge,
        )?;
        engine.sync()?;
        Ok(Arc::new(engine))
    }

    fn open(&self) -> Arc<Engine> {
        self.try_open(1 << 20).expect("open")
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.journal()).expect("a journal");
        let mut all: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
        all.sort();
        all
    }

    /// What was not synced is gone.
    fn cut_power(&self) {
        let synced = self.files.synced.lock();
        for path in self.segments() {
            let about = path.metadata().expect("a file");
            let zeros = vec![0; about.len() as usize];
            let kept = synced.get(&about.ino()).unwrap_or(&zeros);
            std::fs::write(&path, kept).expect("written");
        }
        std::fs::remove_file(self.dir.path().join("store.tail")).ok();
    }
}

fn op(table: Table, key: &[u8], value: Option<&[u8]>) -> Op {
    Op {
        table,
        key: key.to_vec(),
        value: value.map(<[u8]>::to_vec),
    }
}

/// A key of data, in some place.
fn key(n: u32) -> Vec<u8> {
    let slot = (n.wrapping_mul(2_654_435_761) >> 18) as u16 % 16_384;
    let mut key = (slot / 4_096).to_be_bytes().to_vec();
    key.extend_from_slice(&slot.to_be_bytes());
    key.extend_from_slice(format!("key-{n:06}").as_bytes());
    key
}

fn put(engine: &Engine, n: u32, value: &[u8]) -> Ticket {
    let write = Write::of(vec![op(Table::Data, &key(n), Some(value))]);
    engine.put(&write).expect("taken")
}

/// Puts some keys, a batch each, with the next segment ready all the time.
fn fill(engine: &Engine, range: std::ops::Range<u32>) {
    for n in range {
        engine.prepare_next().expect("made");
        put(engine, n, &[b'v'; 40]);
        engine.kick();
    }
}

fn get(engine: &Engine, n: u32) -> Option<Vec<u8>> {
    engine.get(Table::Data, &key(n)).expect("read")
}

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn all(engine: &Engine) -> Model {
    let scan = |table| {
        engine
            .scan(table, (&[], &[0xff]), usize::MAX)
            .expect("scan")
    };
    collect(scan)
}

fn collect(scan: impl Fn(Table) -> Vec<Row>) -> Model {
    let mut all = Model::new();
    for table in Table::ALL {
        let rows = scan(table).into_iter();
        let rows = rows.filter(|(key, _)| key != FLUSHED_ROW);
        all.extend(rows.map(|(key, value)| ((table, key), value)));
    }
    all
}

#[test]
fn what_was_put_is_there_after_a_start_flushed_or_not() {
    let place = Place::new();
    let engine = place.open();
    for n in 0..500 {
        put(&engine, n, b"first");
    }
    engine.kick();
    engine.flush().expect("flushed");
    for n in 250..750 {
        put(&engine, n, b"second");
    }
    let gone = op(Table::Data, &key(3), None);
    let note = op(Table::Meta, b"note", Some(b"text"));
    engine.put(&Write::of(vec![gone, note])).expect("taken");
    engine.kick();
    // Not written: the end of the process takes it.
    put(&engine, 1_000, b"lost");
    drop(engine);
    for _ in 0..3 {
        let engine = place.open();
        assert_eq!(get(&engine, 0).as_deref(), Some(&b"first"[..]));
        assert_eq!(get(&engine, 3), None);
        assert_eq!(get(&engine, 300).as_deref(), Some(&b"second"[..]));
        assert_eq!(get(&engine, 1_000), None);
        let note = engine.get(Table::Meta, b"note").expect("read");
        assert_eq!(note.as_deref(), Some(&b"text"[..]));
        assert_eq!(all(&engine).len(), 750);
        drop(engine);
    }
    let engine = place.open();
    engine.flush().expect("flushed");
    assert_eq!((engine.dirty_bytes(), all(&engine).len()), (0, 750));
}

/// A few of each table, so that they meet.
fn any_op(random: &mut impl FnMut(u64) -> u64) -> Op {
    let table = Table::ALL[random(6) as usize];
    let n = random(60) as u32;
    let mut key = if table == Table::Data {
        key(n)
    } else {
        format!("row-{n:03}").into_bytes()
    };
    if table == Table::Data && random(3) == 0 {
        // An element's: some of them under one key.
        key = [&key[..13], &[0, 1, b'k'], &[random(9) as u8]].concat();
    }
    let value = vec![b'v'; random(40) as usize];
    op(table, &key, (random(4) > 0).then_some(&value))
}

/// Elements of one key are read from either end of a range.
fn check_elements(engine: &Engine, model: &Model, random: &mut impl FnMut(u64) -> u64) {
    let key = [&key(random(60) as u32)[..13], &[0, 1, b'k']].concat();
    let (from, to) = (random(9) as u8, random(10) as u8);
    let limit = 1 + random(4) as usize;
    let (from, to) = ([&key[..], &[from]].concat(), [&key[..], &[to]].concat());
    let is_in = |key: &&Vec<u8>| from <= **key && **key < to;
    let of_data = model.iter().filter(|((table, _), _)| *table == Table::Data);
    let found: Vec<Row> = of_data
        .filter(|((_, key), _)| is_in(&key))
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect();
    let forth = engine.scan(Table::Data, (&from, &to), limit);
    assert_eq!(forth.expect("scan"), found[..limit.min(found.len())]);
    let back = engine.scan_back((&from, &to), limit).expect("scan");
    let expected: Vec<Row> = found.into_iter().rev().take(limit).collect();
    assert_eq!(back, expected);
}

#[test]
fn an_engine_does_what_an_ordered_map_does_through_flushes_faults_and_starts() {
    for seed in 0..60u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % below
        };
        let place = Place::new();
        // Some engines keep next to nothing in memory.
        let cache_bytes = if seed % 2 == 0 { 1 << 20 } else { 0 };
        let mut engine = place.try_open(cache_bytes).expect("open");
        let mut model = Model::new();
        let mut views: Vec<(view::View, Model)> = Vec::new();
        for _ in 0..400 {
            match random(20) {
                0 => {
                    place.tables.fails.store(random(3) == 0, Ordering::Relaxed);
                    let _ = engine.flush();
                    place.tables.fails.store(false, Ordering::Relaxed);
                }
                1 => {
                    let view = engine.view().expect("a view");
                    views.push((view, model.clone()));
                }
                2 if !views.is_empty() => {
                    views.swap_remove(random(views.len() as u64) as usize);
                }
                3 => {
                    engine.kick();
                    views.clear();
                    drop(engine);
                    engine = place.try_open(cache_bytes).expect("open");
                }
                4 => {
                    engine.evict();
                }
                5 if random(4) == 0 => {
                    engine.learn(|| false).expect("learnt");
                }
                _ => {
                    let ops: Vec<Op> = (0..=random(4)).map(|_| any_op(&mut random)).collect();
                    engine.put(&Write::of(ops.clone())).expect("taken");
                    for Op { table, key, value } in ops {
                        match value {
                            Some(value) => model.insert((table, key), value),
                            None => model.remove(&(table, key)),
                        };
                    }
                }
            }
            let probe = any_op(&mut random);
            let found = engine.get(probe.table, &probe.key).expect("read");
            assert_eq!(
                found.as_ref(),
                model.get(&(probe.table, probe.key)),
                "{seed}"
            );
            check_elements(&engine, &model, &mut random);
            if random(5) == 0 {
                assert_eq!(all(&engine), model, "{seed}");
                let from = any_op(&mut random);
                let limit = random(9) as usize;
                let rows = engine.scan(from.table, (&from.key, &[0xff]), limit);
                let expected = model.range((from.table, from.key)..);
                let expected = expected.filter(|((table, _), _)| *table == from.table);
                let expected = expected.map(|((_, key), value)| (key.clone(), value.clone()));
                let rows: Vec<Row> = rows.expect("scan").into_iter().collect();
                let rows: Vec<Row> = rows.into_iter().filter(|(k, _)| k != FLUSHED_ROW).collect();
                let expected: Vec<Row> = expected.take(rows.len()).collect();
                assert_eq!(rows, expected, "{seed}");
                for (view, then) in &views {
                    let scan = |table| view.scan(table, &[], &[0xff], usize::MAX).expect("scan");
                    assert_eq!(&collect(scan), then, "{seed}");
                }
            }
        }
        views.clear();
        engine.kick();
        engine.flush().expect("flushed");
        assert_eq!(engine.dirty_bytes(), 0, "{seed}");
        assert_eq!(all(&engine), model, "{seed}");
    }
}

#[test]
fn a_journal_that_ends_anywhere_has_whole_batches_and_all_before() {
    let place = Place::new();
    let engine = place.open();
    let mut states = vec![Model::new()];
    for n in 0..20u8 {
        engine.gather();
        for at in 0..3 {
            put(&engine, at, &[n]);
            engine.kick();
        }
        let note = op(Table::Meta, b"note", Some(&[n]));
        engine.put(&Write::of(vec![note])).expect("taken");
        engine.gathered();
        states.push(all(&engine));
    }
    drop(engine);
    std::fs::remove_file(place.dir.path().join("store.tail")).expect("it is there");
    let segment = place.segments().pop().expect("one");
    let raw = std::fs::read(&segment).expect("read");
    let used = raw.iter().rposition(|byte| *byte != 0).expect("some") + 1;
    let mut found = Vec::new();
    for end in 64..=used {
        let mut cut = raw.clone();
        cut[end..].fill(0);
        std::fs::write(&segment, cut).expect("written");
        let engine = place.open();
        let now = all(&engine);
        drop(engine);
        // The segment that was begun is not to be in the way of the next cut.
        for other in place.segments().iter().filter(|path| **path != segment) {
            std::fs::remove_file(other).expect("removed");
        }
        std::fs::remove_file(place.dir.path().join("store.mark")).ok();
        std::fs::remove_file(place.dir.path().join("store.tail")).ok();
        let state = states.iter().position(|state| *state == now);
        found.push(state.expect("a state that was there"));
    }
    assert!(found.is_sorted() && found.first() == Some(&0) && found.last() == Some(&20));
}

#[test]
fn a_write_that_fails_is_in_doubt_then_there_and_reads_go_on() {
    let place = Place::new();
    let engine = place.open();
    put(&engine, 1, b"before");
    engine.kick();
    place.files.write_fails.store(true, Ordering::Relaxed);
    let ticket = put(&engine, 2, b"in doubt");
    engine.kick();
    assert!(engine.progress.committed() < ticket && engine.refuses());
    let refused = engine.put(&Write::of(vec![op(Table::Data, &key(3), Some(b"no"))]));
    assert_eq!(refused, Err(Refused::DiskFull));
    assert_eq!(get(&engine, 1).as_deref(), Some(&b"before"[..]));
    assert_eq!(get(&engine, 2).as_deref(), Some(&b"in doubt"[..]));
    engine.doubt();
    engine.progress.block_until_committed(ticket);
    assert_eq!(engine.progress.fate(ticket), Err(WriteFailed::Unknown));
    assert!(
        engine.flush().is_err(),
        "the tables are not ahead of the journal"
    );
    place.files.write_fails.store(false, Ordering::Relaxed);
    engine.kick();
    assert_eq!(engine.progress.fate(ticket), Ok(()));
    assert!(!engine.refuses());
    put(&engine, 3, b"after");
    engine.kick();
    drop(engine);
    let engine = place.open();
    assert_eq!(get(&engine, 2).as_deref(), Some(&b"in doubt"[..]));
    assert_eq!(get(&engine, 3).as_deref(), Some(&b"after"[..]));
}

#[test]
fn a_sync_that_failed_is_not_believed_until_the_tables_have_everything() {
    let place = Place::new();
    let engine = place.open();
    put(&engine, 1, b"one");
    engine.kick();
    engine.sync().expect("synced");
    let ticket = put(&engine, 2, b"two");
    engine.kick();
    place.files.sync_fails.store(true, Ordering::Relaxed);
    assert!(engine.sync().is_err() && engine.refuses());
    place.files.sync_fails.store(false, Ordering::Relaxed);
    // The next sync would succeed, and say nothing of what was lost.
    assert!(engine.sync().is_err() && engine.progress.synced() < ticket);
    let refused = engine.put(&Write::of(vec![op(Table::Data, &key(3), Some(b"no"))]));
    assert_eq!(refused, Err(Refused::Unsynced));
    assert_eq!(get(&engine, 2).as_deref(), Some(&b"two"[..]));
    engine.flush().expect("flushed");
    assert!(!engine.refuses() && engine.progress.synced() >= ticket);
    put(&engine, 3, b"three");
    engine.kick();
    engine.sync().expect("synced");
    drop(engine);
    place.cut_power();
    let engine = place.open();
    for (n, value) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(get(&engine, n).as_deref(), Some(value.as_bytes()));
    }
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_nothing_else() {
    for always in [false, true] {
        let place = Place::new();
        let engine = place.open();
        engine.sync_first(always);
        let committer = {
            let engine = Arc::clone(&engine);
            std::thread::spawn(move || while engine.commit_next() {})
        };
        let mut acknowledged = 0;
        for n in 0..300 {
            let ticket = put(&engine, n, b"value");
            engine.kick();
            engine.progress.block_until_committed(ticket);
            if always || n == 150 {
                acknowledged = n;
            }
            if n == 150 {
                engine.sync().expect("synced");
            }
            if n == 75 {
                engine.flush().expect("flushed");
            }
        }
        place.cut_power();
        let synced = place.files.synced.lock().clone();
        engine.close().expect("closed");
        committer.join().expect("ended");
        drop(engine);
        *place.files.synced.lock() = synced;
        place.cut_power();
        let engine = place.open();
        let kept = (0..300).filter(|n| get(&engine, *n).is_some()).count();
        assert!(
            kept > acknowledged as usize && (always || kept < 300),
            "{kept}"
        );
    }
}

#[test]
fn a_power_cut_that_takes_the_end_of_one_segment_and_leaves_the_next_is_no_damage() {
    let place = Place::new();
    let engine = place.open();
    fill(&engine, 0..20);
    engine.sync().expect("synced");
    fill(&engine, 20..120);
    drop(engine);
    let segments = place.segments();
    let first = File::options()
        .write(true)
        .open(&segments[0])
        .expect("open");
    first
        .write_all_at(&[0; 2_000], SEGMENT - 4_000)
        .expect("taken");
    std::fs::remove_file(place.dir.path().join("store.tail")).expect("it is there");
    let kept = |engine: &Engine| (0..500).take_while(|n| get(engine, *n).is_some()).count();
    let engine = place.open();
    let left = kept(&engine);
    assert!((20..100).contains(&left), "{left}");
    assert!((left as u32..500).all(|n| get(&engine, n).is_none()));
    // What comes is numbered as what was left behind the end.
    engine.prepare_next().expect("made");
    fill(&engine, left as u32..left as u32 + 30);
    drop(engine);
    let engine = place.open();
    assert_eq!(kept(&engine), left + 30);
    assert_eq!(all(&engine).len(), left + 30);
}

#[test]
fn what_a_sync_has_failed_for_is_on_the_disk_after_a_kill_a_start_and_a_power_cut() {
    let place = Place::new();
    let engine = place.open();
    fill(&engine, 0..150);
    engine.sync().expect("synced");
    fill(&engine, 150..300);
    place.files.sync_fails.store(true, Ordering::Relaxed);
    assert!(engine.sync().is_err());
    // The process is killed before the tables have it.
    drop(engine);
    place.files.sync_fails.store(false, Ordering::Relaxed);
    let engine = place.open();
    assert_eq!(all(&engine).len(), 300);
    engine.sync().expect("believed");
    drop(engine);
    place.cut_power();
    assert_eq!(all(&place.open()).len(), 300);
}

/// A segment of which a power cut has taken some bytes, and another that goes on before them; the process
/// dies before the first is let go. `synced` batches of 80 were on the disk.
fn go_on_after_a_hole(hole: u64, synced: u32, name: &str) {
    let place = Place::new();
    let engine = place.open();
    let fill = |engine: &Engine, range: std::ops::Range<u32>, value: &[u8]| {
        for n in range {
            put(engine, n, value);
            engine.kick();
        }
    };
    fill(&engine, 0..synced, b"old");
    if synced > 0 {
        engine.sync().expect("synced");
    }
    fill(&engine, synced..80, b"old");
    drop(engine);
    let [first] = &place.segments()[..] else {
        panic!("one segment is enough");
    };
    let file = File::options().write(true).open(first).expect("open");
    file.write_all_at(&[0; 60], hole).expect("a hole");
    let torn = std::fs::read(first).expect("read");
    std::fs::remove_file(place.dir.path().join("store.tail")).expect("it is there");
    let engine = place.open();
    let left = (0..80).take_while(|n| get(&engine, *n).is_some()).count() as u32;
    assert!((synced..60).contains(&left), "{left}");
    // Other batches of the numbers that the torn ones had, and they are in the tables.
    fill(&engine, 60..70, b"new");
    engine.flush().expect("flushed");
    fill(&engine, 65..67, b"newer");
    let before = all(&engine);
    drop(engine);
    // As if the process had died before the torn segment was let go.
    std::fs::remove_file(first).ok();
    std::fs::write(first.with_file_name(name), torn).expect("written");
    for _ in 0..3 {
        assert_eq!(all(&place.open()), before, "{hole} {name}");
    }
}

#[test]
fn what_a_power_cut_left_behind_a_hole_is_not_replayed_over_what_came_since() {
    for name in [
        "00000001.log",
        "00000009.log",
        "00000077.log",
        "00000500.log",
    ] {
        go_on_after_a_hole(2_600, 20, name);
        // The first batch: both segments begin with it.
        go_on_after_a_hole(70, 0, name);
    }
}

#[test]
fn a_segment_that_is_missing_cut_or_zeroed_is_noticed() {
    let spoils: [(&str, fn(&Path)); 4] = [
        ("missing", |path| {
            std::fs::remove_file(path).expect("removed");
        }),
        ("cut", |path| {
            let file = File::options().write(true).open(path).expect("open");
            file.set_len(1_000).expect("cut");
        }),
        ("zeroed", |path| {
            let file = File::options().write(true).open(path).expect("open");
            file.write_all_at(&[0; 4_096], 1_024).expect("zeroed");
        }),
        ("emptied", |path| std::fs::write(path, []).expect("emptied")),
    ];
    for (what, spoil) in spoils {
        for nth in 0..3 {
            let place = Place::new();
            let engine = place.open();
            for n in 0..400 {
                engine.prepare_next().expect("made");
                put(&engine, n, &[b'v'; 40]);
                engine.kick();
            }
            drop(engine);
            let segments: Vec<PathBuf> = place.segments();
            assert!(segments.len() > 3, "{segments:?}");
            spoil(&segments[nth]);
            assert!(place.try_open(0).is_err(), "{what} {nth}");
            assert!(place.try_open(0).is_err(), "{what} {nth}, once more");
        }
    }
}

#[test]
fn segments_are_used_again_and_their_rests_are_never_replayed() {
    let place = Place::new();
    let engine = place.open();
    let mut made = 0;
    for round in 0..30u32 {
        for n in 0..100 {
            engine.prepare_next().expect("made");
            put(&engine, n, &round.to_le_bytes());
            engine.kick();
        }
        engine.flush().expect("flushed");
        made = made.max(place.segments().len());
    }
    assert!(made < 8, "they pile up");
    drop(engine);
    let engine = place.open();
    for n in 0..100 {
        assert_eq!(get(&engine, n), Some(29u32.to_le_bytes().to_vec()));
    }
}

#[test]
fn a_failed_ingestion_leaves_everything_to_the_next() {
    let place = Place::new();
    let engine = place.open();
    for n in 0..100 {
        put(&engine, n, b"value");
    }
    engine
        .put(&Write::of(vec![op(Table::Hint, b"h", Some(b"1"))]))
        .expect("taken");
    engine.kick();
    let dirty = engine.dirty_bytes();
    place.tables.fails.store(true, Ordering::Relaxed);
    assert!(engine.flush().is_err());
    assert_eq!(engine.dirty_bytes(), dirty);
    assert_eq!(all(&engine).len(), 101);
    place.tables.fails.store(false, Ordering::Relaxed);
    engine.flush().expect("flushed");
    assert_eq!((engine.dirty_bytes(), all(&engine).len()), (0, 101));
}

#[test]
fn memory_holds_as_many_bytes_as_it_may() {
    const MOST: u64 = 256 << 10;
    let place = Place::new();
    let engine = place.try_open(MOST - (64 << 10)).expect("open");
    for n in 0..5_000 {
        put(&engine, n, &[b'x'; 500]);
        engine.kick();
        if n % 50 == 0 {
            engine.flush().expect("flushed");
            engine.evict();
            engine.evict();
            assert!(engine.held_bytes() <= MOST, "after {n}");
        }
    }
    assert!(engine.held_bytes() > MOST / 2);
    for n in 0..5_000 {
        assert!(get(&engine, n).is_some());
        assert!(engine.held_bytes() < MOST + (64 << 10), "after reading {n}");
    }
}

#[test]
fn many_threads_write_read_and_flush_at_once() {
    let place = Place::new();
    let engine = place.open();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let engine = &engine;
            scope.spawn(move || {
                for n in 0..2_000 {
                    let ticket = put(engine, thread * 10_000 + n % 200, &n.to_le_bytes());
                    let note = op(Table::Expiry, &key(n % 50), (n % 2 == 0).then_some(b"x"));
                    engine.put(&Write::of(vec![note])).expect("taken");
                    engine.kick();
                    engine.progress.block_until_committed(ticket);
                    let found = get(engine, thread * 10_000 + n % 200);
                    assert_eq!(found, Some(n.to_le_bytes().to_vec()));
                }
            });
        }
        let engine = &engine;
        scope.spawn(move || {
            for _ in 0..20 {
                engine.flush().expect("flushed");
                let view = engine.view().expect("a view");
                let rows = view.scan(Table::Data, &[], &[0xff], usize::MAX);
                let again = view.scan(Table::Data, &[], &[0xff], usize::MAX);
                assert_eq!(rows.expect("scan"), again.expect("scan"));
            }
        });
    });
    engine.flush().expect("flushed");
    assert_eq!(
        engine
            .scan(Table::Data, (&[], &[0xff]), usize::MAX)
            .expect("scan")
            .len(),
        800
    );
    assert_eq!(engine.dirty_bytes(), 0);
}

#[test]
fn an_element_that_went_while_an_earlier_view_is_open_is_in_no_later_one() {
    let place = Place::new();
    let engine = Arc::new(place.open());
    engine.learn(|| false).expect("learnt");
    let element = [&key(1)[..13], &[0, 1, b'k'], &[7]].concat();
    let put = |value: Option<&[u8]>| {
        let ops = vec![op(Table::Data, &element, value)];
        engine.put(&Write::of(ops)).expect("taken");
        engine.kick();
    };
    put(Some(b"value"));
    let earlier = engine.view().expect("a view");
    put(None);
    let later = engine.view().expect("a view");
    let rows = |view: &view::View| view.scan(Table::Data, &[], &[0xff], 9).expect("scan").len();
    assert_eq!((rows(&earlier), rows(&later)), (1, 0));
}
