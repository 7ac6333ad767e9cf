//! Groups of a stream, whose entries come late and from two sides; what is written is read.

use bytes::Bytes;

use super::values::State;
use super::{Added, Consumer, Group, Id, Pending};
use crate::logic::causal::ActorId;
use crate::logic::codec::Reader;

const fn id(ms: u64) -> Id {
    Id { ms, seq: 0 }
}

fn added(first: u64, last: u64) -> Added {
    Added {
        first: id(first),
        last: id(last),
        ..Added::default()
    }
}

fn same<S: State + PartialEq + std::fmt::Debug>(state: &S) {
    let raw = state.encode();
    let mut r = Reader(&raw);
    assert_eq!(S::decode(&mut r).as_ref(), Ok(state));
    assert!(r.0.is_empty());
}

#[test]
fn what_is_written_is_read() {
    same(&added(1, 5));
    same(&Pending {
        delivered_ms: 5,
        times: 2,
        consumer: Bytes::from_static(b"c"),
    });
    same(&Consumer { seen_ms: 1 << 40 });
    let mut group = Group::behind(id(3), None, 99);
    group.advance(
        &[(ActorId(7), added(1, 9)), (ActorId(9), added(1, 4))],
        id(5),
        &[],
    );
    same(&group);
}

#[test]
fn entries_that_come_late_with_lower_ids_are_not_passed_over() {
    let (a, b) = (ActorId(1), ActorId(2));
    let mut group = Group::behind(Id::MIN, Some(0), 1);
    group.advance(&[(a, added(10, 100))], id(100), &[]);
    assert_eq!(group.next_behind(&[(a, added(10, 100))]), None);
    // B could not be heard, and has added at 50.
    let both = [(a, added(10, 100)), (b, added(50, 60))];
    let behind = group.next_behind(&both);
    assert!(behind.is_some_and(|at| at >= id(49) && at < id(50)));
    group.advance(&both, id(60), &[]);
    assert_eq!(group.next_behind(&both), None);
    assert_eq!(group.last(), id(100));
    // A goes on.
    let more = [(a, added(10, 120)), (b, added(50, 60))];
    assert_eq!(group.next_behind(&more), Some(id(100)));
}

#[test]
fn of_two_entries_with_one_id_the_second_is_left_until_it_is_delivered() {
    let both = [(ActorId(1), added(5, 5)), (ActorId(2), added(5, 5))];
    let mut group = Group::behind(Id::MIN, None, 1);
    group.advance(&both, id(5), &[ActorId(2)]);
    assert_eq!(group.position(ActorId(1)), id(5));
    assert!(
        group
            .next_behind(&both)
            .is_some_and(|behind| behind < id(5))
    );
    group.advance(&both, id(5), &[]);
    assert_eq!(group.next_behind(&both), None);
}

#[test]
fn a_group_at_the_end_gets_what_others_add_with_lower_ids() {
    let known = [(ActorId(1), added(5, 100))];
    let group = Group::behind_all(&known, None, 1);
    assert_eq!((group.last(), group.next_behind(&known)), (id(100), None));
    let both = [known[0], (ActorId(2), added(50, 60))];
    assert!(group.next_behind(&both).is_some());
}

#[test]
fn two_sides_that_went_on_have_got_what_either_has_got_unless_one_has_set_it_anew() {
    let (a, b) = (ActorId(1), ActorId(2));
    let mut left = Group::behind(id(5), Some(1), 1);
    let mut right = left.clone();
    left.advance(&[(a, added(6, 20))], id(20), &[]);
    right.advance(&[(a, added(6, 10)), (b, added(7, 30))], id(30), &[]);
    let both = left.clone().with(right.clone());
    assert_eq!(both, right.clone().with(left.clone()));
    assert_eq!(both.positions, [(a, id(20)), (b, id(30))]);
    let again = Group::behind(Id::MIN, None, 2);
    assert_eq!(both.with(again.clone()), again);
    assert_eq!(again.clone().with(left), again);
}
