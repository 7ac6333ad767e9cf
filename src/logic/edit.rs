//! Edits: what one write changes of a key, in the words of the dotted map, and the delta that it makes.
//!
//! A type (`logic/types`) turns what a client wants into an edit; everything below applies edits and
//! knows no type. A write overwrites the dots that its coordinator sees and no others; of others'
//! contributions it notes what they were, since they may be growing at this moment. When a key ends is
//! a fact of its own beside the values: an edit of it writes no value.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::causal::{
    ActorId, Context, Contribution, DeltaBuilder, Dot, Element, Kind, Object, Over, Payload,
    Timestamp, Value, Version,
};

/// What a write changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing.
    Keep,
    /// These values, none of them for a deletion, over everything seen.
    Replace(Puts),
    /// Each of some elements, which are named once; all others stay.
    Touch(Vec<Touch>),
    /// Adds to this actor's contribution to an element; everything else stays.
    Count(Element, i64),
    /// Another expiry of everything seen.
    Retime(Option<u64>),
    /// These values over exactly what a context covers.
    Over {
        /// What the writer had seen.
        seen: Context,
        /// The values, none of them for a deletion.
        puts: Puts,
        /// When it was tried first, if that was before now.
        at: Option<Timestamp>,
    },
}

/// One value of one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The element.
    pub element: Element,
    /// The value.
    pub value: Value,
}

/// Values of elements; several of one element are siblings.
pub type Puts = SmallVec<[Put; 1]>;

/// What a write changes of one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The element.
    pub element: Element,
    /// Its value over those that are seen; `None` removes it.
    pub value: Option<Value>,
}

/// The event's stamp: which actor writes, which dots it uses, and when.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The writer.
    pub actor: ActorId,
    /// The writer's last dot on this key, or 0.
    pub previous: u64,
    /// The first of the dots reserved with [`Edit::dots`].
    pub first_seq: u64,
    /// The event's time.
    pub at: Timestamp,
    /// Wall clock, for expiry.
    pub now_ms: u64,
}

impl Edit {
    /// One value over everything seen.
    pub fn put(element: Element, value: Value) -> Self {
        Edit::Replace(smallvec![Put { element, value }])
    }

    /// No value over everything seen.
    pub fn delete() -> Self {
        Edit::Replace(Puts::new())
    }

    /// At most one value of an element over exactly what a context covers (RESOLVE).
    pub fn over(seen: Context, element: Element, value: Option<Value>) -> Self {
        let put = |value| Put { element, value };
        Edit::Over {
            seen,
            puts: value.map(put).into_iter().collect(),
            at: None,
        }
    }

    /// Elements that change, if any.
    pub fn touch(touched: Vec<Touch>) -> Self {
        if touched.is_empty() {
            Edit::Keep
        } else {
            Edit::Touch(touched)
        }
    }

    /// How many dots it needs.
    pub fn dots(&self) -> u64 {
        match self {
            Edit::Keep => 0,
            Edit::Count(..) | Edit::Retime(_) => 1,
            Edit::Replace(puts) | Edit::Over { puts, .. } => puts.len().max(1) as u64,
            Edit::Touch(touched) => touched.len() as u64,
        }
    }

    /// Whether it changes an object in a way for which all elements must be at hand, and they are not.
    pub fn needs_all_of(&self, object: &Object, now_ms: u64) -> bool {
        let Some(rest) = object.rest() else {
            return false;
        };
        // A write that overwrites contributions notes what they were.
        let is_counted = rest.is_counted();
        match self {
            Edit::Keep | Edit::Retime(None) => false,
            // Those that are later than the end have to be named.
            Edit::Retime(Some(end_ms)) => rest.latest.ms() > *end_ms,
            Edit::Replace(_) => is_counted,
            Edit::Touch(_) | Edit::Count(..) => is_counted && object.is_expired(now_ms),
            Edit::Over { .. } => true,
        }
    }

    /// The elements that it changes or removes, where it is about no others.
    pub fn touched(&self, object: &Object, now_ms: u64) -> Option<Vec<Element>> {
        if object.is_expired(now_ms) || object.is_tombstone() {
            return None;
        }
        match self {
            Edit::Touch(touched) => Some(touched.iter().map(|t| t.element.clone()).collect()),
            Edit::Count(element, _) => Some(vec![element.clone()]),
            Edit::Retime(_) => Some(Vec::new()),
            Edit::Keep | Edit::Replace(_) | Edit::Over { .. } => None,
        }
    }

    /// The delta that it makes on an object.
    pub fn delta(&self, object: &Object, stamp: Stamp) -> Object {
        let mut delta = Object::delta(stamp.actor, stamp.previous);
        match self {
            Edit::Keep => {}
            Edit::Replace(puts) => {
                delta.overwrite_all(object);
                put_all(&mut delta, puts, stamp, stamp.at);
            }
            Edit::Touch(touched) => {
                if object.is_expired(stamp.now_ms) || object.is_tombstone() {
                    delta.overwrite_all(object);
                }
                forget_what_was_outlived(&mut delta, object, stamp);
                let at = within(stamp.at, known_end(object, stamp.now_ms));
                let mut touched: SmallVec<[&Touch; 2]> = touched.iter().collect();
                touched.sort_by(|a, b| a.element.cmp(&b.element));
                if leaves_nothing(object, &touched) {
                    // The key goes, and when it was to end.
                    delta.overwrite_element(object, &Element::EXPIRY);
                }
                for (seq, Touch { element, value }) in (stamp.first_seq..).zip(touched) {
                    delta.overwrite_element(object, element);
                    match value {
                        Some(value) => delta.put(seq, at, element, value.clone()),
                        None => delta.cover(seq),
                    }
                }
            }
            Edit::Count(element, amount) => {
                forget_what_was_outlived(&mut delta, object, stamp);
                let value = Value {
                    payload: Payload::Count(count(&mut delta, object, element, *amount, stamp)),
                    expires_at_ms: None,
                };
                let at = match element.kind {
                    Kind::String => stamp.at,
                    _ => within(stamp.at, known_end(object, stamp.now_ms)),
                };
                delta.put(stamp.first_seq, at, element, value);
            }
            Edit::Retime(expires_at_ms) => {
                for version in object.versions(&Element::EXPIRY) {
                    delta.overwrite(version.dot);
                }
                let value = Value {
                    payload: Payload::Deadline(bases(object)),
                    expires_at_ms: *expires_at_ms,
                };
                delta.put(stamp.first_seq, stamp.at, &Element::EXPIRY, value);
            }
            Edit::Over { seen, puts, at } => {
                // Also what this copy has not heard of: the writer has.
                delta.observe(seen);
                delta.reset_seen(object, seen);
                forget_what_was_outlived(&mut delta, object, stamp);
                let mut at = at.unwrap_or(stamp.at);
                if puts.iter().any(|put| put.element.kind != Kind::String) {
                    at = within(at, known_end(object, stamp.now_ms));
                }
                put_all(&mut delta, puts, stamp, at);
            }
        }
        delta.finish()
    }

    /// The edit of a write that may have run before, when it was sent first: what somebody has written
    /// since then stays beside it, and is newer. Its own first run is what has its value. `None` where
    /// it may have been deleted since: nothing tells when.
    pub fn as_of(self, object: &Object, since: Timestamp) -> Option<Self> {
        let Edit::Replace(puts) = self else {
            return Some(self);
        };
        if puts.is_empty() {
            return Some(Edit::Replace(puts));
        }
        if object.is_tombstone() && !object.is_unknown() {
            return None;
        }
        let is_own = |v: &Version| puts.iter().any(|put| put.value.payload == v.value.payload);
        let is_seen = |v: &&Version| v.at <= since || is_own(v);
        if object.all_versions().all(|v| is_seen(&v)) {
            return Some(Edit::Replace(puts));
        }
        let mut seen = Context::new();
        for version in object.all_versions().filter(is_seen) {
            seen.insert(version.dot);
        }
        let at = Some(since);
        Some(Edit::Over { seen, puts, at })
    }
}

impl Touch {
    /// Bytes over those of an element that are seen.
    pub fn put(element: Element, bytes: Bytes) -> Self {
        let value = Value {
            payload: Payload::Bytes(bytes),
            expires_at_ms: None,
        };
        Self {
            element,
            value: Some(value),
        }
    }

    /// An element goes.
    pub fn remove(element: Element) -> Self {
        Self {
            element,
            value: None,
        }
    }
}

/// What is left when elements are put in the place of all that is there.
pub fn puts(touched: impl IntoIterator<Item = Touch>) -> Puts {
    let put = |Touch { element, value }| {
        let value = value?;
        Some(Put { element, value })
    };
    touched.into_iter().filter_map(put).collect()
}

/// Whether some elements, in their order, go, and there are no others.
fn leaves_nothing(object: &Object, touched: &[&Touch]) -> bool {
    let goes = |element: &Element| {
        let at = touched.binary_search_by(|touch| touch.element.cmp(element));
        at.is_ok_and(|at| touched[at].value.is_none())
    };
    let mut cells = object.cells().iter().map(|(element, _)| element);
    object.rest().is_none_or(|rest| rest.elements() == 0)
        && touched.iter().all(|touch| touch.value.is_none())
        && cells.all(|element| *element == Element::EXPIRY || goes(element))
}

/// An end that is over, and that a later element has outlived, goes for good: else it would hold again when
/// that element goes.
fn forget_what_was_outlived(delta: &mut DeltaBuilder, object: &Object, stamp: Stamp) {
    let ends = object.versions(&Element::EXPIRY);
    let is_over = |end: &Version| end.value.expires_at_ms.is_some_and(|at| at < stamp.now_ms);
    if !ends.is_empty() && ends.iter().all(is_over) && object.ends_at_ms().is_none() {
        delta.overwrite_element(object, &Element::EXPIRY);
    }
}

/// When a key ends, as far as a writer knows who finds it alive.
fn known_end(object: &Object, now_ms: u64) -> Option<u64> {
    object.ends_at_ms().filter(|end| *end >= now_ms)
}

/// The time of an element's write by somebody who knows when the key ends: not later than that, however far
/// others' clocks are ahead. What is later has not heard of the end.
fn within(at: Timestamp, end_ms: Option<u64>) -> Timestamp {
    end_ms.map_or(at, |end_ms| at.min(Timestamp::from_ms(end_ms)))
}

fn put_all(delta: &mut DeltaBuilder, puts: &Puts, stamp: Stamp, at: Timestamp) {
    if puts.is_empty() {
        delta.cover(stamp.first_seq);
    }
    let end = puts.iter().find(|put| put.element == Element::EXPIRY);
    let at = within(at, end.and_then(|put| put.value.expires_at_ms));
    let seqs = stamp.first_seq..;
    seqs.clone().zip(puts).for_each(|(seq, _)| delta.cover(seq));
    // Their dots are in the order in which they were named; elements are put at the end of those before.
    let mut placed: SmallVec<[(u64, &Put); 1]> = seqs.zip(puts).collect();
    placed.sort_by(|(_, a), (_, b)| a.element.cmp(&b.element));
    for (seq, Put { element, value }) in placed {
        delta.place(seq, at, element, value.clone());
    }
}

/// The actor's contribution from now on: its chain goes on while it lives and has room.
fn count(
    delta: &mut DeltaBuilder,
    object: &Object,
    element: &Element,
    amount: i64,
    stamp: Stamp,
) -> Contribution {
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
    let mine = object.versions(element).iter().rev();
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

/// The values that say when the key ends, and are heard no more once it is said anew.
fn bases(object: &Object) -> Over {
    if !object.is_whole() {
        return Over::Seen(Box::new(object.context().clone()));
    }
    let is_base = |element: &Element, version: &Version| match version.value.payload {
        // What is gone here may live elsewhere.
        Payload::Bytes(_) | Payload::Gone(_) => true,
        // Increments of strings say nothing.
        Payload::Count(_) => element.kind != Kind::String || version.value.expires_at_ms.is_some(),
        Payload::Deadline(_) => false,
    };
    let mut dots: Vec<Dot> = Vec::new();
    for (element, versions) in object.cells() {
        let bases = versions.iter().filter(|v| is_base(element, v));
        dots.extend(bases.map(|version| version.dot));
    }
    dots.sort_unstable();
    Over::Dots(dots.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Element {
        Element {
            kind: Kind::String,
            name: name.to_owned().into(),
        }
    }

    fn value(text: &str) -> Value {
        Value {
            payload: Payload::Bytes(text.to_owned().into()),
            expires_at_ms: None,
        }
    }

    fn touch(pairs: &[(&str, Option<&str>)]) -> Edit {
        let touch = |(name, to): &(&str, Option<&str>)| Touch {
            element: named(name),
            value: to.map(value),
        };
        Edit::Touch(pairs.iter().map(touch).collect())
    }

    fn apply(object: &Object, actor: u64, edit: &Edit) -> Object {
        let actor = ActorId(actor);
        let previous = object.context().last(actor);
        let stamp = Stamp {
            actor,
            previous,
            first_seq: previous + 1,
            at: Timestamp::from_ms(previous + 1),
            now_ms: 1_000,
        };
        object.joined(edit.delta(object, stamp))
    }

    fn held(object: &Object) -> Vec<(String, Vec<String>)> {
        let text = |version: &Version| match &version.value.payload {
            Payload::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        };
        let cells = object.cells().iter();
        cells
            .map(|(element, versions)| {
                let name = String::from_utf8_lossy(&element.name).into_owned();
                (name, versions.iter().map(text).collect())
            })
            .collect()
    }

    #[test]
    fn what_is_touched_changes_and_what_is_added_beside_a_removal_stays() {
        let base = apply(
            &Object::default(),
            1,
            &touch(&[("a", Some("1")), ("b", Some("2"))]),
        );
        assert_eq!(base.context().last(ActorId(1)), 2);
        let here = apply(&base, 1, &touch(&[("a", None), ("c", Some("3"))]));
        let there = apply(&base, 2, &touch(&[("a", Some("9")), ("d", Some("4"))]));
        let one = |name: &str, text: &str| (name.to_owned(), vec![text.to_owned()]);
        assert_eq!(held(&here), [one("b", "2"), one("c", "3")]);
        // The removal covers what it saw, and the value that was written beside it is not that.
        let all = [one("a", "9"), one("b", "2"), one("c", "3"), one("d", "4")];
        assert_eq!(held(&here.joined(there.clone())), all);
        assert_eq!(held(&there.joined(here)), all);
    }

    #[test]
    fn an_edit_needs_a_dot_for_each_value_and_one_for_none() {
        assert_eq!(Edit::Keep.dots(), 0);
        assert_eq!((Edit::delete().dots(), Edit::Retime(None).dots()), (1, 1));
        assert_eq!(Edit::Count(Element::STRING, 5).dots(), 1);
        assert_eq!(touch(&[("a", None), ("b", Some("2"))]).dots(), 2);
        let put = |text| Put {
            element: Element::STRING,
            value: value(text),
        };
        let puts: Puts = ["1", "2", "3"].map(put).into_iter().collect();
        assert_eq!(Edit::Replace(puts.clone()).dots(), 3);
        let over = |puts| Edit::Over {
            seen: Context::new(),
            puts,
            at: None,
        };
        assert_eq!((over(puts).dots(), over(Puts::new()).dots()), (3, 1));
    }

    #[test]
    fn what_is_touched_beside_a_counter_takes_what_it_saw_of_it_and_nothing_of_what_has_ended() {
        let two = apply(&Object::default(), 2, &Edit::Count(named("n"), 5));
        let two = apply(&two, 2, &touch(&[("other", Some("1"))]));
        let here = apply(&two, 1, &touch(&[("n", None)]));
        // Beside it the actor goes on to count.
        let there = apply(&two, 2, &Edit::Count(named("n"), 2));
        let both = here.joined(there);
        let [(_, versions), _] = both.cells() else {
            panic!("{both:?}");
        };
        let Payload::Count(contribution) = versions[0].value.payload else {
            panic!("{versions:?}");
        };
        assert_eq!(both.left_of(&named("n"), ActorId(2), contribution), 2);
        let mut ends = Object::delta(ActorId(3), 0);
        let mut value = value("old");
        value.expires_at_ms = Some(999);
        ends.put(1, Timestamp(1), &named("ended"), value);
        let after = apply(&ends.finish(), 1, &touch(&[("a", Some("1"))]));
        assert_eq!(held(&after), [("a".to_owned(), vec!["1".to_owned()])]);
    }

    #[test]
    fn two_values_of_one_element_are_siblings_and_of_two_elements_are_not() {
        let base = Object::default();
        let here = apply(&base, 1, &touch(&[("a", Some("1"))]));
        let there = apply(&base, 2, &touch(&[("b", Some("2"))]));
        assert!(!here.joined(there.clone()).has_siblings());
        let beside = apply(&base, 3, &touch(&[("a", Some("3"))]));
        assert!(here.joined(there).joined(beside).has_siblings());
    }

    fn field(name: &str) -> Element {
        Element {
            kind: Kind::Hash,
            name: name.to_owned().into(),
        }
    }

    fn set_field(object: &Object, actor: u64, at_ms: u64, name: &str) -> Object {
        let edit = Edit::Touch(vec![Touch {
            element: field(name),
            value: Some(value("1")),
        }]);
        edit_at(object, actor, at_ms, &edit)
    }

    fn edit_at(object: &Object, actor: u64, at_ms: u64, edit: &Edit) -> Object {
        let actor = ActorId(actor);
        let previous = object.context().last(actor);
        let stamp = Stamp {
            actor,
            previous,
            first_seq: previous + 1,
            at: Timestamp::from_ms(at_ms),
            now_ms: at_ms,
        };
        object.joined(edit.delta(object, stamp))
    }

    #[test]
    fn an_end_takes_what_had_heard_of_it_and_what_was_written_before_it_and_nothing_written_later()
    {
        let base = set_field(&Object::default(), 1, 1_000, "a");
        let ends = edit_at(&base, 1, 1_001, &Edit::Retime(Some(2_000)));
        assert_eq!(ends.ends_at_ms(), Some(2_000));
        let knows = set_field(&ends, 1, 1_500, "b");
        assert_eq!(
            knows.ends_at_ms(),
            Some(2_000),
            "a field has no end of its own"
        );
        // Cut off from that, before the end and after it.
        let before = set_field(&base, 2, 1_500, "c");
        assert!(knows.joined(before).is_expired(2_001));
        let after = set_field(&base, 2, 3_000, "c");
        for both in [knows.joined(after.clone()), after.joined(knows.clone())] {
            assert_eq!(both.ends_at_ms(), None);
            assert_eq!(both.cells_of(Kind::Hash).len(), 3);
        }
        // What has gone on goes on, also when what was written later goes.
        let both = knows.joined(set_field(&base, 2, 3_000, "c"));
        let remove = |name: &str| {
            Edit::Touch(vec![Touch {
                element: field(name),
                value: None,
            }])
        };
        let left = edit_at(&both, 1, 3_100, &remove("c"));
        assert_eq!(
            (left.ends_at_ms(), left.cells_of(Kind::Hash).len()),
            (None, 2)
        );
        // Whoever has heard of it begins anew.
        let again = set_field(&ends, 1, 3_000, "d");
        assert_eq!(again.cells_of(Kind::Hash).len(), 1);
        assert_eq!(again.ends_at_ms(), None);
    }

    #[test]
    fn whoever_knows_the_end_writes_nothing_that_outlives_it_though_a_clock_is_ahead() {
        let base = set_field(&Object::default(), 1, 1_000, "a");
        let ends = edit_at(&base, 1, 1_001, &Edit::Retime(Some(2_000)));
        let stamp = |object: &Object| Stamp {
            actor: ActorId(1),
            previous: object.context().last(ActorId(1)),
            first_seq: object.context().last(ActorId(1)) + 1,
            // Others' times are far ahead of the clock here.
            at: Timestamp::from_ms(60_000),
            now_ms: 1_500,
        };
        let put = Put {
            element: field("b"),
            value: value("1"),
        };
        let touch = Edit::Touch(vec![Touch {
            element: field("b"),
            value: Some(value("1")),
        }]);
        let over = Edit::over(Context::new(), field("b"), Some(value("1")));
        for edit in [touch, over, Edit::Count(field("b"), 1)] {
            let after = ends.joined(edit.delta(&ends, stamp(&ends)));
            assert_eq!(after.ends_at_ms(), Some(2_000), "{edit:?}");
        }
        let expiry = Put {
            element: Element::EXPIRY,
            value: Value {
                payload: Payload::Deadline(Over::default()),
                expires_at_ms: Some(2_000),
            },
        };
        let renamed = Edit::Replace([put, expiry].into_iter().collect());
        let empty = Object::default();
        let renamed = empty.joined(renamed.delta(&empty, stamp(&empty)));
        assert_eq!(renamed.ends_at_ms(), Some(2_000));
    }

    #[test]
    fn the_last_element_takes_the_end_of_its_key_along() {
        let one = set_field(&Object::default(), 1, 1_000, "a");
        let ends = edit_at(&one, 1, 1_001, &Edit::Retime(Some(9_000)));
        let beside = set_field(&ends, 2, 1_002, "b");
        let remove = Edit::Touch(vec![Touch {
            element: field("a"),
            value: None,
        }]);
        let gone = edit_at(&ends, 1, 1_003, &remove);
        assert!(gone.is_tombstone() && gone.cells().is_empty());
        // What was added beside it knew of the end, which went.
        assert_eq!(gone.joined(beside.clone()).ends_at_ms(), None);
        assert_eq!(
            edit_at(&beside, 1, 1_003, &remove).ends_at_ms(),
            Some(9_000)
        );
    }

    #[test]
    fn the_end_of_a_string_is_no_end_of_the_hash_beside_it() {
        let mut text = value("text");
        text.expires_at_ms = Some(2_000);
        let string = edit_at(
            &Object::default(),
            1,
            1_000,
            &Edit::put(Element::STRING, text),
        );
        assert_eq!(string.ends_at_ms(), Some(2_000));
        let hash = set_field(&Object::default(), 2, 1_001, "a");
        assert_eq!(string.joined(hash).ends_at_ms(), None);
    }
}
