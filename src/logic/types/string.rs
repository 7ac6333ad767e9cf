//! Strings and counters: what an object shows to GET, and the edits of SET, INCR, RENAME, RESOLVE.
//!
//! A counter is the newest base value plus one contribution per actor.

use bytes::Bytes;

use super::cell::{self, Sibling};
use crate::logic::causal::{Element, Object, Payload, Value, Version};
use crate::logic::edit::Edit;
use crate::logic::integer;

/// What a reader is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The value.
    pub bytes: Bytes,
    /// When it ends, in milliseconds since the epoch.
    pub expires_at_ms: Option<u64>,
}

/// Bytes over everything seen.
pub fn put(bytes: Bytes, expires_at_ms: Option<u64>) -> Edit {
    let payload = Payload::Bytes(bytes);
    Edit::put(
        Element::STRING,
        Value {
            payload,
            expires_at_ms,
        },
    )
}

/// Adds to the number that the key holds.
pub fn count(amount: i64) -> Edit {
    Edit::Count(Element::STRING, amount)
}

impl Shown {
    /// The value as Redis's integer, if it is one.
    pub fn integer(&self) -> Option<i64> {
        integer::parse(&self.bytes)
    }
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
pub fn siblings(object: &Object, now_ms: u64) -> Vec<Sibling> {
    let expires_at_ms = object.ends_at_ms();
    if expires_at_ms.is_some_and(|at| at < now_ms) {
        return Vec::new();
    }
    cell::siblings(
        object,
        &Element::STRING,
        object.versions(&Element::STRING),
        expires_at_ms,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::{ActorId, Timestamp};
    use crate::logic::edit::Stamp;

    fn put(text: &str) -> Edit {
        Edit::put(Element::STRING, value(text))
    }

    fn value(text: &str) -> Value {
        let payload = Payload::Bytes(Bytes::copy_from_slice(text.as_bytes()));
        Value {
            payload,
            expires_at_ms: None,
        }
    }

    fn write(object: &mut Object, actor: u64, seq: u64, edit: &Edit) {
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
        let delta = edit.delta(object, stamp);
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
        write(&mut a, 1, 2, &count(5));
        write(&mut b, 2, 1, &count(7));
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
            &Edit::over(seen, Element::STRING, Some(value("z"))),
        );
        assert_eq!(siblings(&a, 1_000).len(), 2);
        let seen = a.context().clone();
        write(&mut a, 1, 4, &Edit::over(seen, Element::STRING, None));
        assert!(a.is_tombstone());
    }

    #[test]
    fn a_repeated_write_leaves_what_came_after_its_first_run() {
        let mut object = Object::default();
        write(&mut object, 1, 1, &put("before"));
        let since = Timestamp::from_ms(2);
        let first = put("it").as_of(&object, since);
        assert_eq!(first, Some(put("it")), "what is older is overwritten");
        write(&mut object, 1, 3, &put("it"));
        let repeated = put("it")
            .as_of(&object, since)
            .expect("nothing was deleted");
        let mut alone = object.clone();
        write(&mut alone, 2, 4, &repeated);
        assert_eq!(
            (show(&alone).as_str(), siblings(&alone, 0).len()),
            ("it", 1)
        );
        // Somebody has overwritten its first run.
        write(&mut object, 1, 5, &put("later"));
        let repeated = put("it")
            .as_of(&object, since)
            .expect("nothing was deleted");
        write(&mut object, 2, 6, &repeated);
        let both: Vec<Bytes> = siblings(&object, 0).into_iter().map(|s| s.bytes).collect();
        assert_eq!(both, ["later", "it"], "what came later is shown");
        write(&mut object, 1, 7, &Edit::delete());
        assert_eq!(put("it").as_of(&object, since), None);
        let nothing = Object::default();
        assert_eq!(put("it").as_of(&nothing, since), Some(put("it")));
    }
}
