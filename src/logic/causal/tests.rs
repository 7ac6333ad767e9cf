//! What the laws do not say: what no object may be, and where lines are drawn.

use smallvec::{SmallVec, smallvec};

use super::{
    ActorId, Context, Contribution, Dot, Element, Kind, Object, Over, Payload, Reset, Timestamp,
    Value, Version, Versions,
};

fn dot(actor: u64, seq: u64) -> Dot {
    Dot {
        actor: ActorId(actor),
        seq,
    }
}

fn version(dot: Dot, payload: Payload) -> Version {
    Version {
        dot,
        at: Timestamp(1),
        value: Value {
            payload,
            expires_at_ms: None,
        },
    }
}

fn bytes(actor: u64, seq: u64) -> Version {
    version(dot(actor, seq), Payload::Bytes("x".into()))
}

fn count(actor: u64, seq: u64, total: i64, chain: u64) -> Version {
    version(
        dot(actor, seq),
        Payload::Count(Contribution { total, chain }),
    )
}

fn named(name: &str) -> Element {
    Element {
        kind: Kind::String,
        name: name.to_owned().into(),
    }
}

fn seen(dots: &[Dot]) -> Context {
    let mut context = Context::new();
    for dot in dots {
        context.insert(*dot);
    }
    context
}

type Cells = SmallVec<[(Element, Versions); 1]>;

fn object(cells: Cells) -> Option<Object> {
    let dots = cells.iter().flat_map(|(_, versions)| versions.iter());
    let dots: Vec<Dot> = dots.map(|version| version.dot).collect();
    Object::from_parts(seen(&dots), cells, Vec::new())
}

fn reset(actor: u64, seq: u64) -> Reset {
    Reset {
        element: Element::STRING,
        actor: ActorId(actor),
        seq,
        total: 1,
    }
}

#[test]
fn elements_dots_and_resets_ascend_and_no_cell_is_empty() {
    let one: Cells = smallvec![(named("a"), smallvec![bytes(1, 1), bytes(2, 1)])];
    assert!(object(one.clone()).is_some());
    let two: Cells = smallvec![
        (named("a"), smallvec![bytes(1, 1)]),
        (named("b"), smallvec![bytes(2, 1)])
    ];
    assert!(object(two.clone()).is_some());
    let mut wrong: Vec<Cells> = vec![two.into_iter().rev().collect()];
    wrong.push(smallvec![(named("a"), smallvec![bytes(2, 1), bytes(1, 1)])]);
    wrong.push(smallvec![(named("a"), smallvec![bytes(1, 1), bytes(1, 1)])]);
    wrong.push(smallvec![(named("a"), smallvec![])]);
    wrong.push(smallvec![
        (named("a"), smallvec![bytes(1, 1)]),
        (named("a"), smallvec![bytes(2, 1)])
    ]);
    for cells in wrong {
        assert_eq!(object(cells.clone()), None, "{cells:?}");
    }
    let context = || seen(&[dot(1, 1), dot(2, 1)]);
    assert_eq!(
        Object::from_parts(seen(&[dot(1, 1)]), one, Vec::new()),
        None
    );
    let parts = |resets| Object::from_parts(context(), Cells::new(), resets);
    assert!(parts(vec![reset(1, 1), reset(2, 1)]).is_some());
    assert_eq!(parts(vec![reset(2, 1), reset(1, 1)]), None);
    assert_eq!(parts(vec![reset(1, 1), reset(1, 2)]), None);
}

#[test]
fn an_element_holds_what_belongs_there() {
    let deadline = |over: &[Dot]| version(dot(1, 9), Payload::Deadline(Over::Dots(over.into())));
    let fits = |element: Element, version| {
        let cells: Cells = smallvec![(element, smallvec![version])];
        object(cells).is_some()
    };
    for (version, is_value) in [
        (bytes(1, 1), true),
        (count(1, 5, 3, 5), true),
        (count(1, 5, 3, 1), true),
        (count(1, 5, 3, 6), false),
        (count(1, 5, 3, 0), false),
        (version(dot(1, 1), Payload::Gone(None)), true),
        (deadline(&[]), false),
    ] {
        assert_eq!(
            fits(Element::STRING, version.clone()),
            is_value,
            "{version:?}"
        );
        let is_expiry = matches!(version.value.payload, Payload::Deadline(_));
        assert_eq!(
            fits(Element::EXPIRY, version.clone()),
            is_expiry,
            "{version:?}"
        );
    }
    assert!(fits(
        Element::EXPIRY,
        deadline(&[dot(1, 1), dot(1, 2), dot(2, 1)])
    ));
    assert!(!fits(Element::EXPIRY, deadline(&[dot(1, 2), dot(1, 1)])));
    assert!(!fits(Element::EXPIRY, deadline(&[dot(1, 1), dot(1, 1)])));
    let other = Element {
        kind: Kind::Expiry,
        name: "name".into(),
    };
    assert!(!fits(other, deadline(&[])));
}

#[test]
fn the_last_moment_still_counts_and_a_tombstone_never_ends() {
    let mut ends = bytes(1, 1);
    ends.value.expires_at_ms = Some(100);
    let one = object(smallvec![(Element::STRING, smallvec![ends.clone()])]).expect("an object");
    assert_eq!(one.ends_at_ms(), Some(100));
    assert!(!one.is_expired(100) && one.is_expired(101));
    assert!(one.lives(100) && !one.lives(101));
    let mut gone = one.clone();
    gone.reclaim();
    assert!(gone.is_tombstone() && !gone.lives(0));
    assert!(gone.has_gone() && !one.has_gone());
    assert_eq!(gone.ends_at_ms(), None);
    // Of two concurrent words the latest moment holds, and never is later than any.
    let mut later = bytes(2, 1);
    later.value.expires_at_ms = Some(200);
    let both = |other: Version| {
        object(smallvec![(Element::STRING, smallvec![ends.clone(), other])]).expect("an object")
    };
    assert_eq!(both(later).ends_at_ms(), Some(200));
    assert_eq!(both(bytes(2, 1)).ends_at_ms(), None);
}

#[test]
fn what_is_below_a_floor_goes_and_stays_seen() {
    let cells: Cells = smallvec![(named("a"), smallvec![bytes(1, 1), bytes(2, 1)])];
    let mut one = object(cells).expect("an object");
    one.sink_below(&seen(&[dot(1, 1)]));
    let left: Vec<Dot> = one.all_versions().map(|version| version.dot).collect();
    assert_eq!(left, [dot(2, 1)]);
    assert!(one.context().contains(dot(1, 1)));
    one.sink_below(&seen(&[dot(2, 1)]));
    assert!(one.cells().is_empty() && one.is_tombstone());
}

#[test]
fn retired_actors_are_forgotten_but_for_what_lives() {
    let cells: Cells = smallvec![(named("a"), smallvec![bytes(1, 1)])];
    let resets = vec![reset(2, 1), reset(3, 1)];
    let context = seen(&[dot(1, 1), dot(2, 1), dot(3, 1)]);
    let mut one = Object::from_parts(context, cells, resets).expect("an object");
    one.forget_actors(|actor| actor != ActorId(3));
    let actors: Vec<u64> = one.context().entries().iter().map(|s| s.actor.0).collect();
    assert_eq!(actors, [1, 3], "one lives, the other is not retired");
    assert_eq!(one.resets(), [reset(3, 1)]);
}

#[test]
fn resets_of_a_chain_that_goes_on_stay_and_take_something() {
    let parts = |chain| {
        let cells: Cells = smallvec![(Element::STRING, smallvec![count(1, 5, 7, chain)])];
        let resets = vec![reset(1, 3)];
        Object::from_parts(seen(&[dot(1, 3), dot(1, 5)]), cells, resets).expect("an object")
    };
    for (chain, is_live) in [(2, true), (3, true), (4, false)] {
        let mut one = parts(chain);
        assert_eq!(one.live_resets().len(), usize::from(is_live), "{chain}");
        let contribution = Contribution { total: 7, chain };
        let left = one.left_of(&Element::STRING, ActorId(1), contribution);
        assert_eq!(left, if is_live { 6 } else { 7 });
        one.forget_resets();
        assert_eq!(one.resets().len(), usize::from(is_live), "{chain}");
        one.forget_actors(|_| true);
        assert_eq!(one.resets().len(), usize::from(is_live), "{chain}");
    }
}

#[test]
fn a_write_notes_others_contributions_and_its_own_only_where_a_later_one_may_be() {
    let cells: Cells = smallvec![(
        Element::STRING,
        smallvec![count(1, 2, 7, 2), count(2, 4, 5, 4)]
    )];
    let one = object(cells).expect("an object");
    let noted = |previous| {
        let mut delta = Object::delta(ActorId(1), previous);
        delta.overwrite_all(&one);
        delta.cover(previous + 1);
        let actors = delta.finish().resets().to_vec();
        actors
            .into_iter()
            .map(|reset| reset.actor.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(noted(2), [2]);
    assert_eq!(noted(3), [1, 2], "another copy may have dot 3");
    let mut delta = Object::delta(ActorId(3), 0);
    delta.reset_seen(&one, &seen(&[dot(1, 2)]));
    let reset = Reset {
        element: Element::STRING,
        actor: ActorId(1),
        seq: 2,
        total: 7,
    };
    assert_eq!(delta.finish().resets(), [reset]);
}

#[test]
fn siblings_are_base_values_of_one_element() {
    let of = |versions: Versions| {
        let cells: Cells = smallvec![(Element::STRING, versions)];
        object(cells).expect("an object")
    };
    assert!(!of(smallvec![bytes(1, 1), count(2, 1, 1, 1)]).has_siblings());
    let two = of(smallvec![bytes(1, 1), bytes(2, 1)]);
    assert!(two.has_siblings());
    assert_eq!(two.distinct_siblings(), 1, "they have the same bytes");
    let other = version(dot(3, 1), Payload::Bytes("y".into()));
    assert_eq!(
        of(smallvec![bytes(1, 1), bytes(2, 1), other]).distinct_siblings(),
        2
    );
    assert_eq!(Object::default().distinct_siblings(), 0);
    // A contribution is added to an integer, and stands beside anything else.
    assert_eq!(
        of(smallvec![bytes(1, 1), count(2, 1, 1, 1)]).distinct_siblings(),
        2
    );
    let number = || version(dot(3, 1), Payload::Bytes("7".into()));
    assert_eq!(
        of(smallvec![count(2, 1, 1, 1), number()]).distinct_siblings(),
        1
    );
    assert_eq!(
        of(smallvec![bytes(1, 1), count(2, 1, 1, 1), number()]).distinct_siblings(),
        2
    );
}

#[test]
fn names_say_which_dot_it_is() {
    assert_eq!(format!("{:?}", dot(0xab, 7)), format!("{}", dot(0xab, 7)));
    assert!(format!("{}", dot(0xab, 7)).ends_with(":7"));
}
