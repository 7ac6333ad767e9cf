//! Strings and counters: what an object shows to GET, and the deltas of SET, INCR, EXPIRE, DEL.
//!
//! A counter is the newest base value plus one contribution per actor. A write overwrites the dots
//! that its coordinator sees and no others; of others' contributions it notes what they were, since
//! they may be growing at this moment. When a key ends is a fact of its own beside the values: EXPIRE
//! writes no value. Showing never discards.

use bytes::Bytes;

use crate::logic::causal::{
    ActorId, Context, Contribution, DeltaBuilder, Dot, Element, Object, Payload, Timestamp, Value,
    Version,
};

/// What a reader is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The value.
    pub bytes: Bytes,
    /// When it ends, in milliseconds since the epoch.
    pub expires_at_ms: Option<u64>,
}

/// One of the values that a key holds at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The value.
    pub bytes: Bytes,
    /// When it was written.
    pub at: Timestamp,
    /// Who wrote it.
    pub actor: ActorId,
    /// When it ends, in milliseconds since the epoch.
    pub expires_at_ms: Option<u64>,
}

/// What a write changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// One value over everything seen.
    Put(Value),
    /// Adds to this actor's contribution; everything else stays.
    Count(i64),
    /// Another expiry of everything seen.
    Retime(Option<u64>),
    /// Several values over everything seen (RENAME, COPY, RESTORE keep siblings).
    PutAll(Vec<Value>),
    /// No value over everything seen.
    Delete,
    /// A value over exactly what a context covers, as of when it was tried first.
    Late {
        /// What the writer had seen.
        seen: Context,
        /// The value.
        value: Value,
        /// When it was tried.
        at: Timestamp,
    },
    /// At most one value over exactly what a context covers (RESOLVE).
    Resolve {
        /// What the writer had seen.
        seen: Context,
        /// The settled value.
        value: Option<Value>,
    },
}

impl Change {
    /// Bytes over everything seen.
    pub fn put(bytes: Bytes, expires_at_ms: Option<u64>) -> Self {
        Change::Put(Value {
            payload: Payload::Bytes(bytes),
            expires_at_ms,
        })
    }
}

impl Shown {
    /// The value as Redis's integer, if it is one.
    pub fn integer(&self) -> Option<i64> {
        parse_i64(&self.bytes)
    }
}

/// The one live value of an object that holds nothing else: nearly every string's case. `None`
/// says no more than that [`shown`] must look closer.
pub fn plain(object: &Object, now_ms: u64) -> Option<&[u8]> {
    let [(_, versions)] = object.cells() else {
        return None;
    };
    match versions.as_slice() {
        [
            Version {
                value:
                    Value {
                        payload: Payload::Bytes(bytes),
                        expires_at_ms,
                    },
                ..
            },
        ] if expires_at_ms.is_none_or(|at| at >= now_ms) => Some(bytes),
        _ => None,
    }
}

/// Whether the key reads as present.
pub fn is_shown(object: &Object, now_ms: u64) -> bool {
    shown(object, now_ms).is_some()
}

/// What the object shows at `now_ms`, or `None` when the key reads as absent.
pub fn shown(object: &Object, now_ms: u64) -> Option<Shown> {
    if let [
        Version {
            value:
                Value {
                    payload: Payload::Bytes(bytes),
                    ..
                },
            ..
        },
    ] = object.versions(&Element::STRING)
    {
        let expires_at_ms = object.ends_at_ms();
        let live = expires_at_ms.is_none_or(|at| at >= now_ms);
        return live.then(|| Shown {
            bytes: bytes.clone(),
            expires_at_ms,
        });
    }
    siblings(object, now_ms).into_iter().next().map(|s| Shown {
        bytes: s.bytes,
        expires_at_ms: s.expires_at_ms,
    })
}

/// The values that live at `now_ms`, newest first; equal ones count as one.
///
/// Contributions are added to every base that is an integer; without such a base their sum is a
/// value of its own, so that no increment is ever hidden.
pub fn siblings(object: &Object, now_ms: u64) -> Vec<Sibling> {
    let expires_at_ms = object.ends_at_ms();
    if expires_at_ms.is_some_and(|at| at < now_ms) {
        return Vec::new();
    }
    let total = sum_of_contributions(object);
    let mut out: Vec<(Sibling, u64)> = Vec::new();
    let mut counted = false;
    for version in object.versions(&Element::STRING) {
        let Payload::Bytes(bytes) = &version.value.payload else {
            continue;
        };
        let mut sibling = sibling(version, bytes.clone(), expires_at_ms);
        if let (Some((sum, newest)), Some(base)) = (total, parse_i64(bytes)) {
            counted = true;
            sibling.bytes = clamped(sum.saturating_add(i128::from(base)));
            if sibling.at < newest.at {
                (sibling.at, sibling.actor) = (newest.at, newest.dot.actor);
            }
        }
        out.push((sibling, version.dot.seq));
    }
    if let Some((sum, newest)) = total
        && !counted
    {
        let sibling = sibling(newest, clamped(sum), expires_at_ms);
        out.push((sibling, newest.dot.seq));
    }
    out.sort_by_key(|(s, seq)| std::cmp::Reverse((s.at, s.actor, *seq)));
    let mut met = std::collections::HashSet::with_capacity(out.len());
    out.into_iter()
        .map(|(sibling, _)| sibling)
        .filter(|sibling| met.insert(sibling.bytes.clone()))
        .collect()
}

/// What all contributions add, and the newest of them.
fn sum_of_contributions(object: &Object) -> Option<(i128, &Version)> {
    let mut total: Option<(i128, &Version)> = None;
    for version in object.versions(&Element::STRING) {
        if let Payload::Count(contribution) = version.value.payload {
            let left = object.left_of(version.dot.actor, contribution);
            let (sum, newest) = total.unwrap_or((0, version));
            let newest = if newest.at < version.at {
                version
            } else {
                newest
            };
            total = Some((sum.saturating_add(left), newest));
        }
    }
    total
}

/// A write that may have run before, when it was sent first: what somebody has written since then stays
/// beside it, and is newer. Its own first run is what has its value. `None` where it may have been
/// deleted since: nothing tells when.
pub fn as_of(object: &Object, change: Change, since: Timestamp) -> Option<Change> {
    let Change::Put(value) = change else {
        return Some(change);
    };
    if object.is_tombstone() && !object.is_unknown() {
        return None;
    }
    let is_seen = |v: &&Version| v.at <= since || v.value.payload == value.payload;
    if object.all_versions().all(|v| is_seen(&v)) {
        return Some(Change::Put(value));
    }
    let mut seen = Context::new();
    for version in object.all_versions().filter(is_seen) {
        seen.insert(version.dot);
    }
    let at = since;
    Some(Change::Late { seen, value, at })
}

/// How many dots `change` needs.
pub fn dots_needed(change: &Change) -> u64 {
    match change {
        Change::Keep => 0,
        Change::Put(_)
        | Change::Count(_)
        | Change::Delete
        | Change::Resolve { .. }
        | Change::Late { .. }
        | Change::Retime(_) => 1,
        Change::PutAll(values) => values.len().max(1) as u64,
    }
}

/// The event's stamp: which actor writes, which dots it uses, and when.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The writer.
    pub actor: ActorId,
    /// The writer's last dot on this key, or 0.
    pub previous: u64,
    /// The first of the dots reserved with [`dots_needed`].
    pub first_seq: u64,
    /// The event's time.
    pub at: Timestamp,
    /// Wall clock, for expiry.
    pub now_ms: u64,
}

/// The delta that `change` makes on `object`.
pub fn delta(object: &Object, change: &Change, stamp: Stamp) -> Object {
    let mut delta = Object::delta(stamp.actor, stamp.previous);
    let seq = stamp.first_seq;
    let put = |delta: &mut DeltaBuilder, seq, value: Value| {
        delta.put(seq, stamp.at, &Element::STRING, value);
    };
    match change {
        Change::Keep => {}
        Change::Put(value) => {
            delta.overwrite_all(object);
            put(&mut delta, seq, value.clone());
        }
        Change::PutAll(values) => {
            delta.overwrite_all(object);
            for (seq, value) in (seq..).zip(values) {
                put(&mut delta, seq, value.clone());
            }
        }
        Change::Delete => {
            delta.overwrite_all(object);
            delta.cover(seq);
        }
        Change::Retime(expires_at_ms) => {
            for version in object.versions(&Element::EXPIRY) {
                delta.overwrite(version.dot);
            }
            let value = Value {
                payload: Payload::Deadline(bases(object)),
                expires_at_ms: *expires_at_ms,
            };
            delta.put(seq, stamp.at, &Element::EXPIRY, value);
        }
        Change::Count(amount) => {
            let payload = Payload::Count(count(&mut delta, object, *amount, stamp));
            let value = Value {
                payload,
                expires_at_ms: None,
            };
            put(&mut delta, seq, value);
        }
        Change::Late { seen, value, at } => {
            delta.observe(seen);
            delta.reset_seen(object, seen);
            delta.put(seq, *at, &Element::STRING, value.clone());
        }
        Change::Resolve { seen, value } => {
            // Also what this copy has not heard of: the writer has.
            delta.observe(seen);
            delta.reset_seen(object, seen);
            match value {
                Some(value) => put(&mut delta, seq, value.clone()),
                None => delta.cover(seq),
            }
        }
    }
    delta.finish()
}

/// The actor's contribution from now on: its chain goes on while it lives and has room.
fn count(delta: &mut DeltaBuilder, object: &Object, amount: i64, stamp: Stamp) -> Contribution {
    let first = Contribution {
        total: amount,
        chain: stamp.first_seq,
    };
    if object.is_expired(stamp.now_ms) || object.is_tombstone() {
        delta.overwrite_all(object);
        return first;
    }
    // A copy that is gone may have gone further: then this one's contribution is not all of it.
    if stamp.previous > object.context().last(stamp.actor) {
        return first;
    }
    let mine = object.versions(&Element::STRING).iter().rev();
    let mut mine = mine.filter_map(|version| match version.value.payload {
        Payload::Count(contribution) if version.dot.actor == stamp.actor => {
            Some((version.dot, contribution))
        }
        _ => None,
    });
    let Some((dot, mine)) = mine.next() else {
        return first;
    };
    let Some(total) = mine.total.checked_add(amount) else {
        return first;
    };
    delta.overwrite(dot);
    Contribution { total, ..mine }
}

fn bases(object: &Object) -> Box<[Dot]> {
    let is_base = |version: &&Version| match version.value.payload {
        // What is gone here may live elsewhere.
        Payload::Bytes(_) | Payload::Gone(_) => true,
        Payload::Count(_) => version.value.expires_at_ms.is_some(),
        Payload::Deadline(_) => false,
    };
    let mut dots: Vec<Dot> = object.values().filter(is_base).map(|v| v.dot).collect();
    dots.sort_unstable();
    dots.into()
}

/// The live versions as values, for writing them under another key.
pub fn values(object: &Object, now_ms: u64) -> Vec<Value> {
    siblings(object, now_ms)
        .into_iter()
        .map(|s| Value {
            payload: Payload::Bytes(s.bytes),
            expires_at_ms: s.expires_at_ms,
        })
        .rev()
        .collect()
}

/// Parses what Redis takes for an integer: canonical decimal, no sign but `-`, no leading zeros.
pub fn parse_i64(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let canonical = match digits {
        [b'0'] => digits.len() == bytes.len(),
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// What a sum shows: Redis's integers end at 64 bits.
fn clamped(sum: i128) -> Bytes {
    integer_bytes(sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
}

/// An integer in Redis's form.
pub fn integer_bytes(value: i64) -> Bytes {
    Bytes::copy_from_slice(itoa::Buffer::new().format(value).as_bytes())
}

fn sibling(version: &Version, bytes: Bytes, expires_at_ms: Option<u64>) -> Sibling {
    Sibling {
        bytes,
        at: version.at,
        actor: version.dot.actor,
        expires_at_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &str) -> Change {
        Change::Put(value(text))
    }

    fn value(text: &str) -> Value {
        let payload = Payload::Bytes(Bytes::copy_from_slice(text.as_bytes()));
        Value {
            payload,
            expires_at_ms: None,
        }
    }

    fn write(object: &mut Object, actor: u64, seq: u64, change: &Change) {
        let actor = ActorId(actor);
        let previous = object.context().last(actor);
        let at = Timestamp::from_ms(seq);
        let stamp = Stamp {
            actor,
            previous,
            first_seq: seq,
            at,
            now_ms: 1_000,
        };
        let delta = delta(object, change, stamp);
        *object = object.joined(delta);
    }

    fn show(object: &Object) -> String {
        let shown = shown(object, 1_000).expect("a value");
        String::from_utf8(shown.bytes.to_vec()).expect("text")
    }

    #[test]
    fn increments_of_two_actors_add_up_and_a_later_set_replaces_both() {
        let mut base = Object::default();
        write(&mut base, 1, 1, &put("10"));
        let (mut a, mut b) = (base.clone(), base);
        write(&mut a, 1, 2, &Change::Count(5));
        write(&mut b, 2, 1, &Change::Count(7));
        a.join(b);
        assert_eq!(show(&a), "22");
        write(&mut a, 1, 3, &put("1"));
        assert_eq!((show(&a).as_str(), siblings(&a, 1_000).len()), ("1", 1));
    }

    #[test]
    fn concurrent_sets_are_siblings_and_equal_ones_count_as_one() {
        let (mut a, mut b) = (Object::default(), Object::default());
        write(&mut a, 1, 1, &put("x"));
        write(&mut b, 2, 2, &put("y"));
        a.join(b);
        assert_eq!(siblings(&a, 1_000).len(), 2);
        assert_eq!(show(&a), "y");
        let mut c = Object::default();
        write(&mut c, 3, 3, &put("y"));
        a.join(c);
        assert_eq!(siblings(&a, 1_000).len(), 2);
    }

    #[test]
    fn resolve_overwrites_exactly_what_was_seen() {
        let mut a = Object::default();
        write(&mut a, 1, 1, &put("x"));
        let seen = a.context().clone();
        write(&mut a, 1, 2, &put("y"));
        write(
            &mut a,
            1,
            3,
            &Change::Resolve {
                seen,
                value: Some(value("z")),
            },
        );
        assert_eq!(siblings(&a, 1_000).len(), 2);
        let seen = a.context().clone();
        write(&mut a, 1, 4, &Change::Resolve { seen, value: None });
        assert!(a.is_tombstone());
    }

    #[test]
    fn a_repeated_write_leaves_what_came_after_its_first_run() {
        let mut object = Object::default();
        write(&mut object, 1, 1, &put("before"));
        let since = Timestamp::from_ms(2);
        write(&mut object, 1, 3, &put("it"));
        let repeated = as_of(&object, put("it"), since).expect("nothing was deleted");
        let mut alone = object.clone();
        write(&mut alone, 2, 4, &repeated);
        assert_eq!(
            (show(&alone).as_str(), siblings(&alone, 0).len()),
            ("it", 1)
        );
        // Somebody has overwritten its first run.
        write(&mut object, 1, 5, &put("later"));
        let repeated = as_of(&object, put("it"), since).expect("nothing was deleted");
        write(&mut object, 2, 6, &repeated);
        let both: Vec<Bytes> = siblings(&object, 0).into_iter().map(|s| s.bytes).collect();
        assert_eq!(both, ["later", "it"], "what came later is shown");
        write(&mut object, 1, 7, &Change::Delete);
        assert_eq!(as_of(&object, put("it"), since), None);
        let nothing = Object::default();
        assert_eq!(as_of(&nothing, put("it"), since), Some(put("it")));
    }

    #[test]
    fn integers_are_only_canonical_ones() {
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        for bad in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            " 1",
            "1 ",
            "9223372036854775808",
            "1a",
        ] {
            assert_eq!(parse_i64(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
