//! The laws of the dotted map, as properties over random histories of several actors.

use bytes::Bytes;
use proptest::prelude::*;
use ringwood::logic::causal::{
    ActorId, Context, Dot, Element, Kind, Object, Payload, Timestamp, Value,
};
use ringwood::logic::codec::Reader;
use ringwood::logic::row;

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
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..REPLICAS;
    let step = prop_oneof![
        4 => (replica.clone(), 0u8..3, any::<u8>(), prop::option::of(any::<u64>()))
            .prop_map(|(at, element, value, expires)| Step::Write { at, element, value, expires }),
        1 => replica.clone().prop_map(|at| Step::Delete { at }),
        4 => (any::<prop::sample::Index>(), replica.clone())
            .prop_map(|(delta, to)| Step::Deliver { delta, to }),
        1 => (replica.clone(), replica).prop_map(|(from, to)| Step::Sync { from, to }),
    ];
    prop::collection::vec(step, 0..40)
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
                    Payload::Count(i64::from(*value) - 90)
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
    fn join_is_commutative_associative_idempotent(steps in steps()) {
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
        let value = |n| Value { payload: Payload::Count(n), expires_at_ms: None };
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
    fn rows_round_trip_and_reject_every_truncation(steps in steps()) {
        let world = World::run(&steps);
        for object in world.replicas.iter().chain(&world.deltas) {
            let bytes = row::encode(object);
            let back = row::decode(&bytes);
            prop_assert_eq!(back.as_ref(), Ok(object));
            for len in 0..bytes.len() {
                prop_assert!(row::decode(&bytes[..len]).is_err());
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error(steps in steps(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let world = World::run(&steps);
        let mut bytes = row::encode(&world.replicas[0]);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(row::decode(&bytes).is_err());
    }

    #[test]
    fn hostile_rows_never_panic_and_decode_only_to_what_encodes_to_them(
        mut body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Some(first) = body.first_mut() {
            *first = 1;
        }
        let sum = crc32fast::hash(&body);
        body.extend_from_slice(&sum.to_le_bytes());
        if let Ok(object) = row::decode(&body) {
            prop_assert_eq!(row::encode(&object), body);
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
        row::put_context(&mut bytes, &all);
        prop_assert_eq!(row::read_context(&mut Reader(&bytes)), Ok(all));
    }
}
