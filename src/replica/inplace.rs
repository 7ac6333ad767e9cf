//! Keys that hold one value of one write are read and written where their rows lie; nothing is allocated.
//! Whatever is not as simple is left to objects and edits.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::rows::end_ops;
use super::space::{PlainStep, Space};
use super::{Delta, Key, Replica, ReplicaError, Uncommitted, Written};
use crate::base::clock;
use crate::logic::causal::{ActorId, Context, Contribution, Dot};
use crate::logic::digest;
use crate::logic::place::{self, Position, RowKey};
use crate::logic::plain::{self, Holds, Plain};
use crate::logic::record::{ROW, WIRE};

impl Replica {
    /// Shows a key that holds one value, or nothing; with the write that is not committed yet, if it is one's.
    /// `None`: a closer look is needed, or `see` wants one.
    pub fn look<R>(
        &self,
        key: Key<'_>,
        see: impl FnOnce(Option<&Plain<'_>>) -> Option<R>,
    ) -> Option<(R, Option<Uncommitted>)> {
        let at = Position::of(key.name, self.partitions);
        let shard = self.shard_of(at.partition);
        let space = self.spaces.of(at.partition, key.db);
        let row_key = place::row_key(at, key.db, key.name);
        let (mut see, mut seen) = (Some(see), None);
        let ticket = self.store.look(shard, &row_key, &mut |row| {
            if let Ok(row) = as_shown(row, space)
                && let Some(see) = see.take()
            {
                seen = see(row.as_ref());
            }
        })?;
        let uncommitted = (ticket > 0).then_some(Uncommitted { shard, ticket });
        Some((seen?, uncommitted))
    }

    /// What others compare of this node's copy of a key that holds one value, or nothing. `None`: a closer look is
    /// needed.
    pub fn sight(&self, key: Key<'_>) -> Option<Sight> {
        let at = Position::of(key.name, self.partitions);
        let (sight, _) = self.look(key, |row| {
            let Some(row) = row else {
                return Some(Sight::default());
            };
            let seen = row.context()?;
            let is_all = !self.forgets_some_of(key, at.partition, &seen, row.dot.actor);
            is_all.then(|| Sight {
                known: digest::of_known_plain(&seen, row.dot),
                lives: digest::of_plain(key.name, row.dot),
                dot: Some(row.dot),
            })
        })?;
        Some(sight)
    }

    /// Writes bytes over everything seen of a key, if nothing else need know of it. `None`: nothing was done.
    pub fn put_plain(
        &self,
        key: Key<'_>,
        bytes: &[u8],
        expires_at_ms: Option<u64>,
    ) -> Result<Option<Written>, ReplicaError> {
        if self.shared {
            return self.put_shared(key, bytes, expires_at_ms);
        }
        let changed = self.change_plain(key, |_, _| Some(((), Holds::Bytes(bytes), expires_at_ms)));
        Ok(changed?.map(|((), written)| written))
    }

    /// Adds to a counter that nothing else was added to; with what it is then. `None`: nothing was done.
    pub fn count_plain(
        &self,
        key: Key<'_>,
        amount: i64,
    ) -> Result<Option<(i64, Written)>, ReplicaError> {
        self.change_plain(key, |row, seq| {
            let before = match row {
                None => Contribution {
                    total: 0,
                    chain: seq,
                },
                Some(Plain {
                    holds: Holds::Count(before),
                    dot,
                    expires_at_ms: None,
                    ..
                }) if dot.actor == self.actor => *before,
                Some(_) => return None,
            };
            let total = before.total.checked_add(amount)?;
            Some((total, Holds::Count(Contribution { total, ..before }), None))
        })
    }

    /// Changes a key where its row lies: to what `change` makes of it and of the number of the write. On a lone
    /// node.
    fn change_plain<'v, R>(
        &self,
        key: Key<'_>,
        change: impl Fn(Option<&Plain<'_>>, u64) -> Option<(R, Holds<'v>, Option<u64>)>,
    ) -> Result<Option<(R, Written)>, ReplicaError> {
        if self.shared {
            return Ok(None);
        }
        let place = self.place(key);
        let now_ms = clock::now_ms();
        let mut result = None;
        let written = self.step_plain(&place, |old, row| {
            let dot = self.next_dot();
            let (of, holds, ends) = change(old, dot.seq)?;
            plain::write(row, old, (dot, self.tick(now_ms)), holds, ends);
            result = Some(of);
            Some((dot, ends))
        })?;
        Ok(result.zip(written))
    }

    /// [`Self::put_plain`] where others hold the key too: they are sent what has changed.
    fn put_shared(
        &self,
        key: Key<'_>,
        bytes: &[u8],
        ends: Option<u64>,
    ) -> Result<Option<Written>, ReplicaError> {
        let place = self.place(key);
        let as_of = self.store.progress(place.shard).failures();
        self.note_failures(place.shard, as_of);
        let now_ms = clock::now_ms();
        let mut heard = None;
        let written = self.step_plain(&place, |old, row| {
            // Of a counter it has to be noted what was overwritten; and others may have what is not stored here.
            let is_counter = old.is_some_and(|old| matches!(old.holds, Holds::Count(_)));
            if is_counter || self.store.progress(place.shard).failures() != as_of {
                return None;
            }
            let mut seen = old.map_or_else(|| Some(Context::new()), Plain::context)?;
            if self.forgets_some_of(key, place.at.partition, &seen, self.actor) {
                return None;
            }
            let dot = self.next_dot();
            let previous = self.previous(place.at.partition, seen.last(self.actor), dot.seq);
            let mut of_write = Context::of_dots(old.map(|old| old.dot));
            of_write.insert_interval(self.actor, previous, dot.seq);
            seen.join(&of_write);
            let (stamp, holds) = ((dot, self.tick(now_ms)), Holds::Bytes(bytes));
            let mut delta = Vec::with_capacity(64 + bytes.len());
            plain::write_with(&mut delta, (WIRE, &of_write), stamp, holds, ends);
            plain::write_with(row, (ROW, &seen), stamp, holds, ends);
            heard = Some((delta, dot));
            Some((dot, ends))
        })?;
        let Some((mut written, (delta, dot))) = written.zip(heard) else {
            return Ok(None);
        };
        written.delta = Some(Box::new(Delta {
            db: key.db,
            name: Bytes::copy_from_slice(key.name),
            object: delta.into(),
            dot: Some(dot),
            last: dot,
            grows: true,
            touched: None,
        }));
        Ok(Some(written))
    }

    /// [`Self::join`] of a delta as it was sent: a value over the one that is here, or over nothing. `None`: nothing
    /// was done.
    ///
    /// # Errors
    /// Those of [`Self::join`].
    pub fn join_plain(&self, key: Key<'_>, delta: &[u8]) -> Result<Option<Written>, ReplicaError> {
        let Some(delta) = plain::read_as(WIRE, delta) else {
            return Ok(None);
        };
        let Some(of_write) = delta.context() else {
            return Ok(None);
        };
        if of_write.last(self.actor) > self.last_seq() {
            return Err(ReplicaError::Impossible);
        }
        let place = self.place(key);
        self.note_actors(&of_write);
        self.observe(delta.at);
        self.step_plain(&place, |old, row| {
            let by_all = self.seen.of(self.tree_of(key.name), place.at.partition);
            let space = self.spaces.of(place.at.partition, key.db);
            if by_all.contains(delta.dot) || space.covers(delta.dot) {
                return None;
            }
            let mut seen = Context::new();
            if let Some(old) = old {
                let is_alike = matches!(
                    (old.holds, delta.holds),
                    (Holds::Bytes(_), Holds::Bytes(_)) | (Holds::Count(_), Holds::Count(_))
                );
                seen = old
                    .context()
                    .filter(|_| is_alike && of_write.contains(old.dot))?;
                if seen.contains(delta.dot) {
                    return None;
                }
            }
            seen.join(&of_write);
            if self.forgets_some_of(key, place.at.partition, &seen, delta.dot.actor) {
                return None;
            }
            let stamp = (delta.dot, delta.at);
            plain::write_with(row, (ROW, &seen), stamp, delta.holds, delta.expires_at_ms);
            Some((delta.dot, delta.expires_at_ms))
        })
    }

    /// Whether an object that has seen this, and is written by an actor, is to forget some of it ([`Self::fold`]).
    fn forgets_some_of(
        &self,
        key: Key<'_>,
        partition: u16,
        seen: &Context,
        writer: ActorId,
    ) -> bool {
        if seen.actor_ids().all(|actor| actor == writer) {
            return false;
        }
        let by_all = self.seen.of(self.tree_of(key.name), partition);
        let mut actors = seen.actor_ids().chain([writer]);
        actors.any(|actor| by_all.last(actor) == u64::MAX)
    }

    fn next_dot(&self) -> Dot {
        Dot {
            actor: self.actor,
            seq: self.seq.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    fn place<'k>(&self, key: Key<'k>) -> Place<'k> {
        let at = Position::of(key.name, self.partitions);
        Place {
            key,
            at,
            shard: self.shard_of(at.partition),
            row_key: place::row_key(at, key.db, key.name),
            epoch: self.spaces.of(at.partition, key.db).epoch(),
        }
    }

    /// Has a key that holds one value, or nothing, hold another one: `write` appends its row, and says whose it is and
    /// when it ends. `None`: nothing was done.
    fn step_plain(
        &self,
        place: &Place<'_>,
        mut write: impl FnMut(Option<&Plain<'_>>, &mut Vec<u8>) -> Option<(Dot, Option<u64>)>,
    ) -> Result<Option<Written>, ReplicaError> {
        let Place {
            key,
            at,
            shard,
            row_key,
            epoch,
        } = place;
        let space = self.spaces.of(at.partition, key.db);
        let _order = self.lock(*at);
        let _followed = self.counting.follow();
        let mut changed = None;
        let ticket = self.store.change(*shard, row_key, &mut |row, changing| {
            let Ok(old) = as_shown(row, space) else {
                return false;
            };
            let Some(new) = write(old.as_ref(), &mut changing.row) else {
                return false;
            };
            let old = old.map(|old| (old.dot, old.expires_at_ms));
            let ended = old.and_then(|(_, ends)| ends);
            changing.more.extend(end_ops(row_key, ended, new.1));
            changed = Some((old, new));
            true
        })?;
        let (Some(ticket), Some((old, new))) = (ticket, changed) else {
            return Ok(None);
        };
        space.count_plain(&PlainStep {
            old,
            new,
            epoch: *epoch,
            spot: self.spot(key.name, *at, row_key),
        });
        self.absences.end(*key);
        self.arrivals.tell(*key);
        Ok(Some(Written {
            shard: *shard,
            ticket,
            delta: None,
        }))
    }
}

/// What others compare of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The digest of all that is known, as [`Replica::digest`] says it.
    pub known: u64,
    /// The digest of what lives, at the key's name.
    pub lives: u64,
    /// The dot of that.
    pub dot: Option<Dot>,
}

/// Where a key's row is.
struct Place<'k> {
    key: Key<'k>,
    at: Position,
    shard: usize,
    row_key: RowKey,
    /// The space's flushes before the row was looked at.
    epoch: u64,
}

/// A closer look is needed.
struct NotPlain;

/// What a row shows, where that is plain: nothing, or one value that no flush has covered.
fn as_shown<'r>(row: Option<&'r [u8]>, space: &Space) -> Result<Option<Plain<'r>>, NotPlain> {
    let Some(row) = row else { return Ok(None) };
    let row = plain::read(row).ok_or(NotPlain)?;
    if space.covers(row.dot) {
        return Err(NotPlain);
    }
    Ok(Some(row))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::logic::causal::{Element, Object};
    use crate::logic::edit::Edit;
    use crate::logic::placement::Partitions;
    use crate::logic::types::string::{self, Shown};
    use crate::replica::{Join, Options};
    use crate::storage::{MemoryStore, Store};

    const FAR: u64 = 1 << 50;

    fn start() -> (Arc<MemoryStore>, Replica) {
        let store = Arc::new(MemoryStore::new(1));
        let partitions = Partitions::new(64).expect("a power of two");
        let port = Arc::clone(&store) as Arc<dyn Store>;
        let started = Replica::start(port, Options::alone(partitions));
        (store, started.expect("starts").0)
    }

    /// What a key shows: by way of its row, where that is plain, and by way of its object.
    fn shows(replica: &Replica, key: Key<'_>) -> (Option<String>, Option<u64>) {
        let object = replica.read(key).expect("read");
        let by_object = string::shown(&object, clock::now_ms());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let ends = by_object.as_ref().and_then(|shown| shown.expires_at_ms);
        let by_object = by_object.map(|shown| text(&shown.bytes));
        let by_row = replica.look(key, |row| {
            Some(row.map(|row| match row.holds {
                Holds::Bytes(bytes) => text(bytes),
                Holds::Count(counted) => counted.total.to_string(),
            }))
        });
        if let Some((by_row, uncommitted)) = by_row {
            assert_eq!((&by_row, uncommitted), (&by_object, None));
        }
        (by_object, ends)
    }

    fn count_by_object(replica: &Replica, key: Key<'_>, amount: i64) {
        let counted = replica.update(key, |object, now_ms| {
            let shown = string::shown(object, now_ms);
            let value = shown.as_ref().map_or(Some(0), Shown::integer);
            let adds = value.is_some_and(|value| value.checked_add(amount).is_some());
            (
                if adds {
                    string::count(amount)
                } else {
                    Edit::Keep
                },
                (),
            )
        });
        counted.expect("written");
    }

    #[test]
    fn what_is_written_in_place_is_what_is_written_by_way_of_objects() {
        let (fast_store, fast) = start();
        let (slow_store, slow) = start();
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut in_place = 0;
        for step in 0..3_000 {
            let name = format!("key:{}", random(12)).into_bytes();
            let key = Key {
                db: random(2) as u8,
                name: &name,
            };
            match random(40) {
                0..15 => {
                    let text = step.to_string();
                    let ends = [None, None, Some(FAR), Some(FAR + step)][random(4) as usize];
                    let put = string::put(text.clone().into(), ends);
                    slow.update(key, |_, _| (put.clone(), ())).expect("written");
                    let put_plain = fast.put_plain(key, text.as_bytes(), ends);
                    match put_plain.expect("taken") {
                        Some(_) => in_place += 1,
                        None => drop(fast.update(key, |_, _| (put, ())).expect("written")),
                    }
                }
                15..30 => {
                    let amount = random(100) as i64 - 30;
                    count_by_object(&slow, key, amount);
                    match fast.count_plain(key, amount).expect("taken") {
                        Some((sum, _)) => {
                            in_place += 1;
                            assert_eq!(shows(&fast, key).0, Some(sum.to_string()));
                        }
                        None => count_by_object(&fast, key, amount),
                    }
                }
                30..36 => {
                    for replica in [&fast, &slow] {
                        let deleted = replica.update(key, |_, _| (Edit::delete(), ()));
                        deleted.expect("written");
                    }
                }
                36..39 => {
                    for replica in [&fast, &slow] {
                        let retimed = replica.update(key, |object, now_ms| {
                            let is_there = string::shown(object, now_ms).is_some();
                            let to = Some(FAR - step);
                            (
                                if is_there {
                                    Edit::Retime(to)
                                } else {
                                    Edit::Keep
                                },
                                (),
                            )
                        });
                        retimed.expect("written");
                    }
                }
                _ => {
                    for replica in [&fast, &slow] {
                        replica.flush(Some(key.db)).expect("flushed");
                    }
                }
            }
            assert_eq!(shows(&fast, key), shows(&slow, key), "step {step}");
            let counts = |replica: &Replica| {
                (0..2)
                    .map(|db| (replica.spaces.live(db), replica.spaces.expiring(db)))
                    .collect::<Vec<_>>()
            };
            assert_eq!(counts(&fast), counts(&slow), "step {step}");
        }
        assert!(in_place > 500, "{in_place}");
        // The same keys end, by the index.
        let ends = |store: &MemoryStore| -> Vec<u64> {
            let rows = store.scan(0, crate::storage::Table::Expiry, &[], &[0xff; 8], 999);
            let rows = rows.expect("scan").into_iter();
            rows.map(|(key, _)| place::expiry_time_ms(&key)).collect()
        };
        assert!(!ends(&fast_store).is_empty());
        assert_eq!(ends(&fast_store), ends(&slow_store));
    }

    fn shared(actor: u64) -> Replica {
        let options = Options {
            actor: ActorId(actor),
            shared: true,
            ..Options::alone(Partitions::new(4).expect("a power of two"))
        };
        let store = Arc::new(MemoryStore::new(1)) as Arc<dyn Store>;
        Replica::start(store, options).expect("starts").0
    }

    /// The object and what was sent.
    fn known(replica: &Replica, key: Key<'_>) -> (Object, Vec<(i64, u64)>) {
        let object = (*replica.read(key).expect("read")).clone();
        let partitions = 0..4;
        let roots = partitions.map(|partition| {
            let spaces = replica.spaces.of_partition(partition).iter();
            (
                spaces.map(Space::live).sum(),
                replica.spaces.root(0, partition, 0),
            )
        });
        (object, roots.collect())
    }

    #[test]
    fn keys_that_others_hold_too_are_the_same_by_rows_and_by_objects() {
        let (fast, slow) = (shared(1), shared(1));
        let others = [shared(2), shared(3)];
        let mut seed = 99_u64;
        let mut random = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (mut put_in_place, mut joined_in_place, mut seen_in_place) = (0, 0, 0);
        let mut late: Vec<(Vec<u8>, Delta)> = Vec::new();
        for step in 0..4_000 {
            let name = format!("key:{}", random(12)).into_bytes();
            let key = Key { db: 0, name: &name };
            let text = step.to_string();
            let ends = [None, None, Some(FAR), Some(FAR + step)][random(4) as usize];
            match random(20) {
                0..8 => {
                    let put = string::put(text.clone().into(), ends);
                    let by_object = slow.update(key, |_, _| (put.clone(), ()));
                    let by_object = by_object.expect("written").1.and_then(|w| w.delta);
                    let by_row = fast.put_plain(key, text.as_bytes(), ends).expect("taken");
                    let by_row = if let Some(written) = by_row {
                        put_in_place += 1;
                        written.delta
                    } else {
                        let written = fast.update(key, |_, _| (put, ()));
                        written.expect("written").1.and_then(|w| w.delta)
                    };
                    let (by_row, by_object) = (by_row.expect("shared"), by_object.expect("shared"));
                    // The two clocks run by themselves.
                    let sent = by_object.decode().expect("a delta");
                    assert_eq!(sent.context(), by_row.decode().expect("a delta").context());
                    let other = &others[random(2) as usize];
                    other.join(key, sent, &Join::default()).expect("joined");
                }
                8..10 => {
                    for replica in [&fast, &slow] {
                        let deleted = replica.update(key, |_, _| (Edit::delete(), ()));
                        deleted.expect("written");
                    }
                }
                nth => {
                    let other = &others[random(2) as usize];
                    let edit = match nth {
                        // Resets stay for long.
                        10..12 if name.ends_with(b":0") => Edit::Count(Element::STRING, 3),
                        12 => Edit::delete(),
                        _ => string::put(text.into(), ends),
                    };
                    if random(4) > 0 {
                        let known = (*slow.read(key).expect("read")).clone();
                        other.join(key, known, &Join::default()).expect("joined");
                    }
                    let written = other.update(key, |_, _| (edit, ())).expect("written");
                    let delta = written.1.and_then(|written| written.delta);
                    late.extend(delta.map(|delta| (name.clone(), *delta)));
                }
            }
            // Some come late, in another order, or twice.
            while late.len() > (random(6) / 4) as usize {
                let nth = random(late.len() as u64) as usize;
                let (name, delta) = match random(8) {
                    0 => late[nth].clone(),
                    _ => late.swap_remove(nth),
                };
                let key = Key { db: 0, name: &name };
                let object = delta.decode().expect("a delta");
                slow.join(key, object.clone(), &Join::default())
                    .expect("joined");
                match fast.join_plain(key, &delta.object).expect("taken") {
                    Some(_) => joined_in_place += 1,
                    None => drop(fast.join(key, object, &Join::default()).expect("joined")),
                }
            }
            let (by_row, by_object) = (known(&fast, key), known(&slow, key));
            assert_eq!(by_row.0.context(), by_object.0.context(), "step {step}");
            let dots = |object: &Object| object.all_versions().map(|v| v.dot).collect::<Vec<_>>();
            assert_eq!(dots(&by_row.0), dots(&by_object.0), "step {step}");
            assert_eq!(by_row.1, by_object.1, "step {step}");
            if let Some(sight) = fast.sight(key) {
                seen_in_place += 1;
                let lives = digest::of_living(key.name, &by_row.0);
                assert_eq!(
                    (sight.known, sight.lives),
                    (fast.digest(key, &by_row.0), lives)
                );
                let dot = by_row.0.all_versions().map(|version| version.dot).next();
                assert_eq!(sight.dot, dot);
            }
            if dots(&by_row.0).len() < 2 {
                assert_eq!(shows(&fast, key).0, shows(&slow, key).0, "step {step}");
            }
            if step == 3_000 {
                // One of the others is gone, and all of it was seen.
                let mut seen = Context::new();
                seen.insert_interval(ActorId(3), 0, u64::MAX);
                for replica in [&fast, &slow] {
                    replica
                        .saw(replica.sizes[0], &[0, 1, 2, 3], &seen)
                        .expect("seen");
                }
            }
        }
        assert!(put_in_place > 300, "{put_in_place}");
        assert!(joined_in_place > 300, "{joined_in_place}");
        assert!(seen_in_place > 1_000, "{seen_in_place}");
    }
}
