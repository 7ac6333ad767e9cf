//! The laws of the dotted map, as properties over random histories of several actors.

use bytes::Bytes;
use proptest::prelude::*;
use ringwood::logic::causal::{
    ActorId, Context, Contribution, Dot, Element, Kind, Object, Payload, Timestamp, Value, Version,
    Versions,
};
use ringwood::logic::codec::Reader;
use ringwood::logic::edit::{Edit, Stamp};
use ringwood::logic::integer;
use ringwood::logic::record;
use ringwood::logic::types::string;

const REPLICAS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Write {
        at: usize,
        element: u8,
        value: u8,
        expires: Option<u64>,
    },
    Delete {
        at: usize,
    },
    Deliver {
        delta: prop::sample::Index,
        to: usize,
    },
    Sync {
        from: usize,
        to: usize,
    },
    Reclaim {
        at: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let replica = 0..REPLICAS;
    prop_oneof![
        4 => (replica.clone(), 0u8..3, any::<u8>(), prop::option::of(any::<u64>()))
            .prop_map(|(at, element, value, expires)| Step::Write { at, element, value, expires }),
        1 => replica.clone().prop_map(|at| Step::Delete { at }),
        4 => (any::<prop::sample::Index>(), replica.clone())
            .prop_map(|(delta, to)| Step::Deliver { delta, to }),
        1 => (replica.clone(), replica).prop_map(|(from, to)| Step::Sync { from, to }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..40)
}

/// Histories in which replicas also reclaim what has ended.
fn steps_and_reclaims() -> impl Strategy<Value = Vec<Step>> {
    let reclaim = (0..REPLICAS).prop_map(|at| Step::Reclaim { at });
    prop::collection::vec(prop_oneof![9 => step(), 1 => reclaim], 0..40)
}

#[derive(Default)]
struct World {
    replicas: Vec<Object>,
    deltas: Vec<Object>,
    next_seq: u64,
}

impl World {
    fn run(steps: &[Step]) -> Self {
        let mut world = Self {
            replicas: vec![Object::default(); REPLICAS],
            next_seq: 1,
            ..Self::default()
        };
        for step in steps {
            world.step(step);
        }
        world
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write {
                at,
                element,
                value,
                expires,
            } => {
                let element = Element {
                    kind: Kind::String,
                    name: Bytes::from(vec![*element; usize::from(*element)]),
                };
                let payload = if value % 3 == 0 {
                    Payload::Count(Contribution {
                        total: i64::from(*value) - 90,
                        chain: 1 + u64::from(*value) % self.next_seq,
                    })
                } else {
                    Payload::Bytes(Bytes::from(vec![*value; usize::from(*value % 7)]))
                };
                self.write(
                    *at,
                    Some((
                        element,
                        Value {
                            payload,
                            expires_at_ms: *expires,
                        },
                    )),
                );
            }
            Step::Delete { at } => self.write(*at, None),
            Step::Deliver { delta, to } if !self.deltas.is_empty() => {
                let delta = delta.get(&self.deltas).clone();
                self.replicas[*to].join(delta);
            }
            Step::Deliver { .. } => {}
            Step::Sync { from, to } => {
                let state = self.replicas[*from].clone();
                self.replicas[*to].join(state);
            }
            Step::Reclaim { at } => self.replicas[*at].reclaim(),
        }
    }

    /// Sequences skip, as they do when an actor writes other keys in between.
    fn write(&mut self, at: usize, put: Option<(Element, Value)>) {
        let actor = ActorId(at as u64 + 1);
        let object = &self.replicas[at];
        let mut delta = Object::delta(actor, object.context().last(actor));
        for (element, versions) in object.cells() {
            if put.as_ref().is_none_or(|(e, _)| e == element) {
                versions.iter().for_each(|v| delta.overwrite(v.dot));
            }
        }
        self.next_seq += 2;
        match put {
            Some((element, value)) => {
                let time = Timestamp::from_ms(self.next_seq);
                delta.put(self.next_seq, time, &element, value);
            }
            None => delta.cover(self.next_seq),
        }
        let delta = delta.finish();
        self.replicas[at] = self.replicas[at].joined(delta.clone());
        self.deltas.push(delta);
    }
}

fn joined(a: &Object, b: &Object) -> Object {
    let mut out = a.clone();
    out.join(b.clone());
    assert_eq!(out, a.joined(b.clone()), "both forms of join agree");
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn join_is_commutative_associative_idempotent(steps in steps_and_reclaims()) {
        let world = World::run(&steps);
        let (a, b, c) = (&world.replicas[0], &world.replicas[1], &world.replicas[2]);
        prop_assert_eq!(joined(a, b), joined(b, a));
        prop_assert_eq!(joined(&joined(a, b), c), joined(a, &joined(b, c)));
        prop_assert_eq!(&joined(a, a), a);
        for delta in &world.deltas {
            prop_assert_eq!(joined(a, delta), joined(delta, a));
            prop_assert_eq!(joined(&joined(a, delta), b), joined(a, &joined(delta, b)));
        }
    }

    #[test]
    fn deltas_in_any_order_with_repeats_equal_joined_states(
        steps in steps(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let world = World::run(&steps);
        let state = world.replicas.iter().fold(Object::default(), |all, r| joined(&all, r));
        let mut by_deltas = Object::default();
        if !world.deltas.is_empty() {
            for pick in &order {
                by_deltas.join(pick.get(&world.deltas).clone());
            }
        }
        for delta in world.deltas.iter().rev() {
            by_deltas.join(delta.clone());
        }
        prop_assert_eq!(by_deltas, state);
    }

    #[test]
    fn a_replica_that_missed_nothing_holds_a_plain_vector(steps in steps()) {
        let world = World::run(&steps);
        let state = world.deltas.iter().fold(Object::default(), |all, d| joined(&all, d));
        for replica in 0..REPLICAS {
            let actor = ActorId(replica as u64 + 1);
            let last = state.context().last(actor);
            for seq in 1..=last {
                let dot = Dot { actor, seq };
                prop_assert!(state.context().contains(dot), "gap at {dot}");
            }
        }
    }

    #[test]
    fn an_observed_write_is_replaced_and_an_unobserved_one_survives(steps in steps()) {
        let mut world = World::run(&steps);
        let value = |n| {
            let payload = Payload::Count(Contribution { total: n, chain: 1 });
            Value { payload, expires_at_ms: None }
        };
        world.write(1, Some((Element::STRING, value(111))));
        let unseen = world.replicas[1].versions(&Element::STRING)[0].dot;
        let seen: Vec<Dot> =
            world.replicas[0].versions(&Element::STRING).iter().map(|v| v.dot).collect();
        world.write(0, Some((Element::STRING, value(222))));
        let both = joined(&world.replicas[0], &world.replicas[1]);
        let dots: Vec<Dot> = both.versions(&Element::STRING).iter().map(|v| v.dot).collect();
        prop_assert!(dots.contains(&unseen));
        prop_assert!(seen.iter().all(|dot| !dots.contains(dot)));
    }

    #[test]
    fn rows_round_trip_and_reject_every_truncation(steps in steps_and_reclaims()) {
        let world = World::run(&steps);
        for object in world.replicas.iter().chain(&world.deltas) {
            let bytes = record::ROW.encode(object);
            let back = record::ROW.decode(&bytes);
            prop_assert_eq!(back.as_ref(), Ok(object));
            for len in 0..bytes.len() {
                prop_assert!(record::ROW.decode(&bytes[..len]).is_err());
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error(steps in steps_and_reclaims(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let world = World::run(&steps);
        let mut bytes = record::ROW.encode(&world.replicas[0]);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(record::ROW.decode(&bytes).is_err());
    }

    #[test]
    fn hostile_rows_never_panic_and_decode_only_to_what_encodes_to_them(
        mut body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Some(first) = body.first_mut() {
            *first = 1 + *first % 2;
        }
        let sum = crc32fast::hash(&body);
        body.extend_from_slice(&sum.to_le_bytes());
        if let Ok(object) = record::ROW.decode(&body) {
            prop_assert_eq!(record::ROW.encode(&object), body);
        }
    }

    #[test]
    fn contexts_behave_like_sets_of_dots(
        inserts in prop::collection::vec((0u64..2, 0u64..20, 1u64..5), 0..30),
        split in any::<prop::sample::Index>(),
    ) {
        let split = split.index(inserts.len() + 1);
        let build = |part: &[(u64, u64, u64)]| {
            let mut context = Context::new();
            for &(actor, after, len) in part {
                context.insert_interval(ActorId(actor), after, after + len);
            }
            context
        };
        let (left, right, all) = (build(&inserts[..split]), build(&inserts[split..]), build(&inserts));
        let mut both = left.clone();
        both.join(&right);
        prop_assert_eq!(&both, &all);
        prop_assert!(all.covers(&left) && all.covers(&right));
        for actor in 0..2 {
            for seq in 1..30 {
                let want = inserts.iter().any(|&(a, after, len)| {
                    a == actor && after < seq && seq <= after + len
                });
                prop_assert_eq!(all.contains(Dot { actor: ActorId(actor), seq }), want);
            }
        }
        let mut bytes = Vec::new();
        record::put_context(&mut bytes, &all);
        prop_assert_eq!(record::read_context(&mut Reader(&bytes)), Ok(all));
    }
}

/// A counter and its expiry as several coordinators change it, each by its own copy.
mod counters {
    use std::collections::BTreeSet;

    use super::*;

    const NOW: u64 = 1_000;

    #[derive(Clone, Debug)]
    enum Step {
        Incr {
            at: usize,
            by: i64,
        },
        Del {
            at: usize,
        },
        Set {
            at: usize,
            to: i64,
        },
        Expire {
            at: usize,
            when: Option<u64>,
        },
        Deliver {
            delta: prop::sample::Index,
            to: usize,
        },
        Sync {
            from: usize,
            to: usize,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let replica = 0..REPLICAS;
        let step = prop_oneof![
            4 => (replica.clone(), -3i64..9).prop_map(|(at, by)| Step::Incr { at, by }),
            1 => replica.clone().prop_map(|at| Step::Del { at }),
            1 => (replica.clone(), 0i64..50).prop_map(|(at, to)| Step::Set { at, to }),
            1 => (replica.clone(), prop::option::of(NOW + 1..NOW + 99))
                .prop_map(|(at, when)| Step::Expire { at, when }),
            3 => (any::<prop::sample::Index>(), replica.clone())
                .prop_map(|(delta, to)| Step::Deliver { delta, to }),
            1 => (replica.clone(), replica).prop_map(|(from, to)| Step::Sync { from, to }),
        ];
        prop::collection::vec(step, 0..40)
    }

    /// What a copy ought to show: the increments that no DEL or SET has seen, which it knows.
    #[derive(Clone, Debug, Default)]
    struct Model {
        /// Every write that it has heard of.
        heard: BTreeSet<usize>,
        /// Writes that were overwritten by one that it has heard of.
        gone: BTreeSet<usize>,
    }

    impl Model {
        fn hear(&mut self, other: &Model) {
            self.heard.extend(&other.heard);
            self.gone.extend(&other.gone);
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Write {
        Incr(i64),
        Base(i64),
        Del,
    }

    struct World {
        replicas: Vec<(Object, Model)>,
        /// What a delta brings: since an increment says all that its actor has added, its model is
        /// what the actor knew of its own.
        deltas: Vec<(Object, Model)>,
        writes: Vec<(usize, Write)>,
        next_seq: u64,
    }

    impl World {
        fn run(steps: &[Step]) -> Self {
            let mut world = Self {
                replicas: vec![Default::default(); REPLICAS],
                deltas: Vec::new(),
                writes: Vec::new(),
                next_seq: 1,
            };
            for step in steps {
                match step {
                    Step::Incr { at, by } => {
                        world.write(*at, Some(Write::Incr(*by)), &string::count(*by));
                    }
                    Step::Del { at } => world.write(*at, Some(Write::Del), &Edit::delete()),
                    Step::Set { at, to } => {
                        let value = Value {
                            payload: Payload::Bytes(to.to_string().into()),
                            expires_at_ms: None,
                        };
                        world.write(
                            *at,
                            Some(Write::Base(*to)),
                            &Edit::put(Element::STRING, value),
                        );
                    }
                    Step::Expire { at, when } => {
                        if string::shown(&world.replicas[*at].0, NOW).is_some() {
                            world.write(*at, None, &Edit::Retime(*when));
                        }
                    }
                    Step::Deliver { delta, to } if !world.deltas.is_empty() => {
                        let (delta, model) = delta.get(&world.deltas).clone();
                        world.replicas[*to].0.join(delta);
                        world.replicas[*to].1.hear(&model);
                    }
                    Step::Deliver { .. } => {}
                    Step::Sync { from, to } => {
                        let (object, model) = world.replicas[*from].clone();
                        world.replicas[*to].0.join(object);
                        world.replicas[*to].1.hear(&model);
                    }
                }
            }
            world
        }

        fn write(&mut self, at: usize, write: Option<Write>, edit: &Edit) {
            let actor = ActorId(at as u64 + 1);
            let (object, model) = &mut self.replicas[at];
            self.next_seq += 2;
            let stamp = Stamp {
                actor,
                previous: object.context().last(actor),
                first_seq: self.next_seq,
                at: Timestamp(self.next_seq),
                now_ms: NOW,
            };
            let delta = edit.delta(object, stamp);
            *object = object.joined(delta.clone());
            let mut said = Model::default();
            if let Some(write) = write {
                let id = self.writes.len();
                self.writes.push((at, write));
                model.heard.insert(id);
                said.heard.insert(id);
                if matches!(write, Write::Incr(_)) {
                    let mine = |id: &&usize| {
                        let (by, write) = self.writes[**id];
                        by == at && matches!(write, Write::Incr(_))
                    };
                    said.heard.extend(model.heard.iter().filter(mine));
                } else {
                    said.gone
                        .extend(model.heard.iter().filter(|heard| **heard != id));
                    model.gone.extend(&said.gone);
                }
            }
            self.deltas.push((delta, said));
        }

        fn all(&self) -> (Object, Model) {
            let mut all: (Object, Model) = Default::default();
            for (object, model) in &self.deltas {
                all.0.join(object.clone());
                all.1.hear(model);
            }
            all
        }

        /// The sum of the increments that are left, and the bases that are.
        fn expected(&self, model: &Model) -> (i64, Vec<i64>) {
            let left = model.heard.difference(&model.gone);
            let left: Vec<Write> = left.map(|id| self.writes[*id].1).collect();
            let increments = left.iter().filter_map(|write| match write {
                Write::Incr(by) => Some(*by),
                _ => None,
            });
            let bases = left.iter().filter_map(|write| match write {
                Write::Base(to) => Some(*to),
                _ => None,
            });
            (increments.sum(), bases.collect())
        }
    }

    fn integers(object: &Object) -> BTreeSet<i64> {
        let siblings = string::siblings(object, NOW).into_iter();
        siblings
            .map(|s| integer::parse(&s.bytes).expect("an integer"))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_increment_counts_once_and_a_delete_or_set_takes_what_it_had_seen(steps in steps()) {
            let world = World::run(&steps);
            let all = world.all();
            let states = world.replicas.iter().fold(Object::default(), |all, r| joined(&all, &r.0));
            prop_assert_eq!(&states, &all.0, "states and deltas come to the same");
            let (sum, bases) = world.expected(&all.1);
            let shown = integers(&all.0);
            let expected: BTreeSet<i64> = bases.iter().map(|base| base + sum).collect();
            if bases.is_empty() {
                let only: Vec<i64> = shown.into_iter().collect();
                // Increments of nothing in all may leave no value, or a zero.
                prop_assert!(only == [sum] || (only.is_empty() && sum == 0), "{only:?} for {sum}");
            } else {
                prop_assert_eq!(shown, expected);
            }
        }

        #[test]
        fn an_expiry_makes_no_sibling_and_brings_nothing_back(steps in steps()) {
            let with = World::run(&steps);
            let without = |step: &&Step| !matches!(step, Step::Expire { .. } | Step::Deliver { .. });
            let syncs: Vec<Step> = steps.iter().filter(|s| !matches!(s, Step::Deliver { .. })).cloned().collect();
            let with_syncs = World::run(&syncs);
            let plain: Vec<Step> = steps.iter().filter(without).cloned().collect();
            let plain = World::run(&plain);
            prop_assert_eq!(integers(&with_syncs.all().0), integers(&plain.all().0));
            for (object, _) in &with.replicas {
                let row = record::ROW.encode(object);
                prop_assert_eq!(&record::ROW.decode(&row).expect("own row"), object);
            }
        }

        #[test]
        fn of_concurrent_expiries_the_later_holds_and_never_over_all(
            first in prop::option::of(NOW + 1..NOW + 99),
            second in prop::option::of(NOW + 1..NOW + 99),
        ) {
            let mut world = World::run(&[Step::Set { at: 0, to: 1 }, Step::Sync { from: 0, to: 1 }]);
            world.write(0, None, &Edit::Retime(first));
            world.write(1, None, &Edit::Retime(second));
            let both = world.all().0;
            prop_assert_eq!(string::siblings(&both, NOW).len(), 1);
            let expected = first.and_then(|a| second.map(|b| a.max(b)));
            prop_assert_eq!(both.ends_at_ms(), expected);
        }
    }

    #[test]
    fn a_set_beside_an_expire_shows_the_new_value_alone_and_for_as_long_as_it_says() {
        let mut world = World::run(&[Step::Set { at: 0, to: 1 }, Step::Sync { from: 0, to: 1 }]);
        world.write(0, None, &Edit::Retime(Some(NOW + 5)));
        let value = Value {
            payload: Payload::Bytes("2".into()),
            expires_at_ms: None,
        };
        world.write(1, Some(Write::Base(2)), &Edit::put(Element::STRING, value));
        let both = world.all().0;
        assert_eq!(integers(&both), BTreeSet::from([2]));
        assert_eq!(both.ends_at_ms(), None);
    }

    #[test]
    fn increments_beside_an_expire_end_with_the_key_and_begin_again_from_nothing() {
        let mut world = World::run(&[Step::Incr { at: 0, by: 3 }, Step::Sync { from: 0, to: 1 }]);
        world.write(1, None, &Edit::Retime(Some(NOW - 1)));
        world.write(0, None, &string::count(1));
        let both = world.all().0;
        assert!(both.is_expired(NOW) && string::shown(&both, NOW).is_none());
        // A third that knows it has ended, and one that did not: the old total is gone from both.
        world.replicas[2].0 = both;
        world.write(2, None, &string::count(10));
        world.write(0, None, &string::count(1));
        assert_eq!(integers(&world.all().0), BTreeSet::from([11]));
    }

    #[test]
    fn a_total_that_has_no_room_left_begins_a_chain_of_its_own() {
        let mut world = World::run(&[Step::Set { at: 0, to: 1 }]);
        for by in [-i64::MAX, -i64::MAX, i64::MAX] {
            world.write(0, None, &string::count(by));
        }
        assert_eq!(integers(&world.all().0), BTreeSet::from([1 - i64::MAX]));
    }
}

#[test]
fn joining_what_is_large_takes_no_longer_than_reading_it() {
    const MANY: u64 = 200_000;
    let intervals = |first: u64| {
        let mut context = Context::new();
        for n in 0..MANY {
            context.insert_interval(ActorId(1), first + 4 * n, first + 4 * n + 1);
        }
        context
    };
    let (even, odd) = (intervals(0), intervals(2));
    let mut both = even.clone();
    both.join(&odd);
    assert!(both.covers(&even) && both.covers(&odd) && !even.covers(&odd));
    let siblings = |first: u64| {
        let (mut context, mut versions) = (Context::new(), Versions::new());
        for n in 0..20_000 {
            let actor = ActorId(first + 2 * n);
            context.insert_interval(actor, 0, 1);
            let payload = Payload::Bytes(n.to_string().into());
            versions.push(Version {
                dot: Dot { actor, seq: 1 },
                at: Timestamp(n),
                value: Value {
                    payload,
                    expires_at_ms: None,
                },
            });
        }
        let cells = std::iter::once((Element::STRING, versions)).collect();
        Object::from_parts(context, cells, Vec::new()).expect("it holds")
    };
    let (a, b) = (siblings(1), siblings(2));
    let all = joined(&a, &b);
    assert_eq!(all.all_versions().count(), 40_000);
    assert_eq!(string::siblings(&all, 0).len(), 20_000);
}
