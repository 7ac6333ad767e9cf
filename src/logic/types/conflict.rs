//! What a reader is shown of a key with siblings, by the beginning of its name. Showing never
//! discards: SIBLINGS lists them all, and RESOLVE settles.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value as Json;
use smallvec::smallvec;

use super::cell::Sibling;
use super::{hll, string};
use crate::logic::causal::{Context, Element, Object, Payload, Value, Version};
use crate::logic::policy::OnConflict;

/// An object as a policy shows it: with its siblings as one value, where there are several.
pub fn view(object: &Object, policy: OnConflict, now_ms: u64) -> Cow<'_, Object> {
    if matches!(policy, OnConflict::Newest | OnConflict::Error)
        || object.versions(&Element::STRING).len() < 2
        || object.has_several_kinds()
    {
        return Cow::Borrowed(object);
    }
    let siblings = string::siblings(object, now_ms);
    if siblings
        .iter()
        .any(|sibling| sibling.bytes.starts_with(hll::MAGIC))
    {
        // They come together by themselves.
        return Cow::Borrowed(object);
    }
    let Some(value) = merged(&siblings, policy) else {
        return Cow::Borrowed(object);
    };
    let strings = object.versions(&Element::STRING).iter();
    let newest = strings.max_by_key(|version| (version.at, version.dot));
    let viewed = newest.and_then(|newest| {
        let mut context = Context::new();
        context.join(object.context());
        let version = Version {
            value,
            ..newest.clone()
        };
        Object::from_parts(
            context,
            smallvec![(Element::STRING, smallvec![version])],
            Vec::new(),
        )
    });
    viewed.map_or(Cow::Borrowed(object), Cow::Owned)
}

/// One value for several; `None` where there are not several, or none to be made of them.
pub fn merged(newest_first: &[Sibling], policy: OnConflict) -> Option<Value> {
    let [newest, _, ..] = newest_first else {
        return None;
    };
    let value = |bytes: Bytes, expires_at_ms| Value {
        payload: Payload::Bytes(bytes),
        expires_at_ms,
    };
    if policy == OnConflict::Union {
        let union = union(newest_first)?;
        return Some(value(union, newest.expires_at_ms));
    }
    let best = newest_first.iter().skip(1).fold(newest, |best, other| {
        if policy.prefers(&other.bytes, &best.bytes) {
            other
        } else {
            best
        }
    });
    Some(value(best.bytes.clone(), best.expires_at_ms))
}

/// The union of arrays or of objects, oldest first, so that the newest has the last word.
fn union(newest_first: &[Sibling]) -> Option<Bytes> {
    let parsed = newest_first.iter().rev();
    let mut parsed = parsed.map(|sibling| serde_json::from_slice::<Json>(&sibling.bytes).ok());
    let mut all = parsed.next()??;
    for newer in parsed {
        all = unite(all, newer?)?;
    }
    serde_json::to_vec(&all).ok().map(Bytes::from)
}

fn unite(older: Json, newer: Json) -> Option<Json> {
    match (older, newer) {
        (Json::Array(mut all), Json::Array(newer)) => {
            let new = newer.into_iter().filter(|item| !all.contains(item));
            let new: Vec<Json> = new.collect();
            all.extend(new);
            Some(Json::Array(all))
        }
        (Json::Object(mut all), Json::Object(newer)) => {
            for (name, value) in newer {
                let value = match all.remove(&name) {
                    Some(older) => unite(older, value.clone()).unwrap_or(value),
                    None => value,
                };
                all.insert(name, value);
            }
            Some(Json::Object(all))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::{ActorId, Timestamp};

    fn shown(values: &[&str], policy: OnConflict) -> Option<String> {
        let sibling = |(nth, bytes): (usize, &&str)| Sibling {
            bytes: Bytes::copy_from_slice(bytes.as_bytes()),
            at: Timestamp(100 - nth as u64),
            actor: ActorId(1),
            expires_at_ms: None,
        };
        let siblings: Vec<Sibling> = values.iter().enumerate().map(sibling).collect();
        let value = merged(&siblings, policy)?;
        match value.payload {
            Payload::Bytes(bytes) => String::from_utf8(bytes.to_vec()).ok(),
            Payload::Count(_) | Payload::Deadline(_) | Payload::Gone(_) => None,
        }
    }

    #[test]
    fn each_policy_makes_one_value_of_several() {
        let values = &["9", "10", "-3"];
        assert_eq!(shown(values, OnConflict::Newest).as_deref(), Some("9"));
        assert_eq!(shown(values, OnConflict::Max).as_deref(), Some("10"));
        assert_eq!(shown(values, OnConflict::Min).as_deref(), Some("-3"));
        assert_eq!(shown(&["b", "a"], OnConflict::Max).as_deref(), Some("b"));
        let carts = &[r#"["milk","tea"]"#, r#"["bread","milk"]"#];
        let union = shown(carts, OnConflict::Union);
        assert_eq!(union.as_deref(), Some(r#"["bread","milk","tea"]"#));
        let objects = &[r#"{"a":2,"n":{"x":1}}"#, r#"{"a":1,"n":{"y":2},"z":0}"#];
        let union = shown(objects, OnConflict::Union);
        let want = r#"{"a":2,"n":{"x":1,"y":2},"z":0}"#;
        assert_eq!(union.as_deref(), Some(want));
        assert_eq!(shown(&["no json", "[1]"], OnConflict::Union), None);
        assert_eq!(shown(&["alone"], OnConflict::Max), None);
    }
}
