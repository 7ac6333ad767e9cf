//! What concurrent edits of collections come to: random histories of several replicas, whose deltas arrive in
//! any order, more than once, or not at all.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ringwood::logic::causal::{ActorId, Dot, Kind, Object, Timestamp};
use ringwood::logic::edit::{Edit, Stamp};
use ringwood::logic::types::list::{self, End};
use ringwood::logic::types::zset::{self, Score};
use ringwood::logic::types::{self, hash, set, string};
use ringwood::logic::{digest, record};

/// Before every end that is written here.
const NOW_MS: u64 = 1_000;

#[derive(Clone, Debug)]
enum Op {
    HashPut(u8, u8),
    HashRemove(u8),
    HashCount(u8, i8),
    SetAdd(u8),
    SetRemove(u8),
    Score(u8, i8),
    ScoreAdd(u8, i8),
    ZsetRemove(u8),
    Push(bool, u8),
    Pop(bool),
    Insert(u8),
    Overwrite(u8),
    Text(u8),
    Delete,
    Expire(Option<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    Edit(usize, Op),
    Deliver(prop::sample::Index, usize),
    Sync(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0u8..3;
    prop_oneof![
        (name.clone(), any::<u8>()).prop_map(|(f, v)| Op::HashPut(f, v)),
        name.clone().prop_map(Op::HashRemove),
        (name.clone(), any::<i8>()).prop_map(|(f, n)| Op::HashCount(f, n)),
        name.clone().prop_map(Op::SetAdd),
        name.clone().prop_map(Op::SetRemove),
        (name.clone(), any::<i8>()).prop_map(|(m, s)| Op::Score(m, s)),
        (name.clone(), any::<i8>()).prop_map(|(m, s)| Op::ScoreAdd(m, s)),
        name.clone().prop_map(Op::ZsetRemove),
        (any::<bool>(), 1u8..4).prop_map(|(end, n)| Op::Push(end, n)),
        any::<bool>().prop_map(Op::Pop),
        any::<u8>().prop_map(Op::Insert),
        any::<u8>().prop_map(Op::Overwrite),
        any::<u8>().prop_map(Op::Text),
        Just(Op::Delete),
        prop::option::of(any::<u8>()).prop_map(Op::Expire),
    ]
}

fn history() -> impl Strategy<Value = (usize, Vec<Step>)> {
    (2usize..=5).prop_flat_map(|replicas| {
        let at = 0..replicas;
        let step = prop_oneof![
            5 => (at.clone(), op()).prop_map(|(at, op)| Step::Edit(at, op)),
            3 => (any::<prop::sample::Index>(), at.clone()).prop_map(|(d, to)| Step::Deliver(d, to)),
            1 => (at.clone(), at).prop_map(|(from, to)| Step::Sync(from, to)),
        ];
        (Just(replicas), prop::collection::vec(step, 1..60))
    })
}

#[derive(Default)]
struct World {
    replicas: Vec<Object>,
    deltas: Vec<Object>,
    written: u64,
    pushed: u64,
}

impl World {
    fn run(replicas: usize, steps: &[Step]) -> Self {
        let mut world = World {
            replicas: vec![Object::default(); replicas],
            ..World::default()
        };
        for step in steps {
            match step {
                Step::Edit(at, op) => world.edit(*at, op),
                Step::Deliver(nth, to) if !world.deltas.is_empty() => {
                    let delta = nth.get(&world.deltas).clone();
                    world.replicas[*to].join(delta);
                }
                Step::Deliver(..) => {}
                Step::Sync(from, to) => {
                    let state = world.replicas[*from].clone();
                    world.replicas[*to].join(state);
                }
            }
        }
        world
    }

    fn edit(&mut self, at: usize, op: &Op) {
        let actor = ActorId(at as u64 + 1);
        let object = self.replicas[at].clone();
        let edit = self.edit_of(&object, actor, op);
        if edit.dots() == 0 {
            return;
        }
        // Sequences skip, as they do when an actor writes other keys in between.
        let first_seq = self.written + 2;
        self.written = first_seq + edit.dots();
        let stamp = Stamp {
            actor,
            previous: object.context().last(actor),
            first_seq,
            at: Timestamp::from_ms(self.written),
            now_ms: NOW_MS,
        };
        let delta = edit.delta(&object, stamp);
        // What a replica does to its own copy is the join with what it sends.
        self.replicas[at] = object.joined(delta.clone());
        self.deltas.push(delta);
    }

    fn edit_of(&mut self, object: &Object, actor: ActorId, op: &Op) -> Edit {
        let name = |n: &u8| vec![b'a' + n];
        match op {
            Op::HashPut(f, v) => Edit::touch(vec![hash::put(&name(f), &[*v])]),
            Op::HashRemove(f) => Edit::touch(vec![hash::remove(&name(f))]),
            Op::HashCount(f, n) => hash::count(&name(f), i64::from(*n)),
            Op::SetAdd(m) => Edit::touch(vec![set::add(&name(m))]),
            Op::SetRemove(m) => Edit::touch(vec![set::remove(&name(m))]),
            Op::Score(m, s) => {
                let score = Score::new(f64::from(*s)).expect("a number");
                Edit::touch(vec![zset::put(&name(m), score)])
            }
            Op::ScoreAdd(m, s) => {
                let added = zset::add(object, &name(m), f64::from(*s));
                added.expect("a number").0
            }
            Op::ZsetRemove(m) => Edit::touch(vec![zset::remove(&name(m))]),
            Op::Push(left, count) => {
                let end = if *left { End::Left } else { End::Right };
                let values: Vec<Vec<u8>> = (0..*count).map(|_| self.next_value(actor)).collect();
                let values = values.iter().map(Vec::as_slice);
                Edit::touch(list::push(object, end, (actor, NOW_MS), values))
            }
            Op::Pop(left) => {
                let mut items = list::items(object);
                let item = if *left {
                    items.next()
                } else {
                    items.next_back()
                };
                let removed = item.map(|(place, _)| list::remove(place));
                Edit::touch(removed.into_iter().collect())
            }
            Op::Insert(at) => {
                let places: Vec<_> = list::items(object)
                    .map(|(place, _)| place.clone())
                    .collect();
                let Some(last) = places.len().checked_sub(2) else {
                    return Edit::Keep;
                };
                let at = usize::from(*at) % (last + 1);
                let value = self.next_value(actor);
                Edit::touch(vec![list::insert(
                    &places[at],
                    &places[at + 1],
                    actor,
                    &value,
                )])
            }
            Op::Overwrite(at) => {
                let places: Vec<_> = list::items(object)
                    .map(|(place, _)| place.clone())
                    .collect();
                let place = places.get(usize::from(*at) % places.len().max(1));
                let put = place.map(|place| list::put(place, b"overwritten"));
                Edit::touch(put.into_iter().collect())
            }
            Op::Text(text) => string::put(vec![*text].into(), None),
            Op::Delete => Edit::delete(),
            Op::Expire(at) => Edit::Retime(at.map(|at| NOW_MS + 1 + u64::from(at))),
        }
    }

    fn next_value(&mut self, actor: ActorId) -> Vec<u8> {
        self.pushed += 1;
        format!("{}-{:04}", actor.0, self.pushed).into_bytes()
    }
}

/// All that a reader can see of a key.
#[derive(Debug, PartialEq)]
struct Seen {
    kind: Option<Kind>,
    text: Option<string::Shown>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    members: Vec<Vec<u8>>,
    scores: Vec<(Vec<u8>, f64)>,
    items: Vec<Vec<u8>>,
    lens: [usize; 4],
    ends_at_ms: Option<u64>,
}

fn seen(object: &Object) -> Seen {
    Seen {
        kind: types::kind(object, NOW_MS),
        text: string::shown(object, NOW_MS),
        fields: hash::fields(object)
            .map(|(f, v)| (f.to_vec(), v.to_vec()))
            .collect(),
        members: set::members(object).map(|m| m.to_vec()).collect(),
        scores: zset::by_score(object)
            .iter()
            .map(|(s, m)| (m.to_vec(), s.get()))
            .collect(),
        items: list::items(object).map(|(_, v)| v.to_vec()).collect(),
        lens: [Kind::Hash, Kind::Set, Kind::Zset, Kind::List].map(|kind| types::len(object, kind)),
        ends_at_ms: object.ends_at_ms(),
    }
}

fn joined(objects: impl Iterator<Item = Object>) -> Object {
    objects.fold(Object::default(), |mut all, one| {
        all.join(one);
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn replicas_converge_whatever_arrives_when((replicas, steps) in history()) {
        let world = World::run(replicas, &steps);
        let there = joined(world.replicas.iter().cloned());
        let back = joined(world.replicas.iter().rev().cloned());
        let by_deltas = joined(world.deltas.iter().rev().chain(&world.deltas).cloned());
        for other in [&back, &by_deltas] {
            prop_assert_eq!(other, &there);
            prop_assert_eq!(seen(other), seen(&there));
            prop_assert_eq!(digest::of_known(other), digest::of_known(&there));
        }
        prop_assert_eq!(there.joined(there.clone()), there.clone());
        let seen = seen(&there);
        prop_assert_eq!(seen.fields.len(), seen.lens[0]);
        prop_assert_eq!(seen.members.len(), seen.lens[1]);
        prop_assert_eq!(seen.scores.len(), seen.lens[2]);
        prop_assert_eq!(seen.items.len(), seen.lens[3]);
        prop_assert!(types::is_possible(&there));
    }

    #[test]
    fn rows_of_collections_round_trip((replicas, steps) in history(), at in any::<prop::sample::Index>()) {
        let world = World::run(replicas, &steps);
        for object in world.replicas.iter().chain(&world.deltas) {
            let mut row = record::ROW.encode(object);
            let read = record::ROW.decode(&row);
            prop_assert_eq!(read.as_ref(), Ok(object));
            let at = at.index(row.len());
            row[at] ^= 1;
            prop_assert!(record::ROW.decode(&row).is_err());
        }
    }

    #[test]
    fn a_value_is_there_unless_a_write_that_saw_it_took_it_away((replicas, steps) in history()) {
        let world = World::run(replicas, &steps);
        let all = joined(world.replicas.iter().cloned());
        let alive: BTreeSet<Dot> = all.all_versions().map(|version| version.dot).collect();
        for (nth, delta) in world.deltas.iter().enumerate() {
            for version in delta.all_versions() {
                let others = world.deltas.iter().enumerate().filter(|(other, _)| *other != nth);
                let covers = |(_, other): (usize, &Object)| {
                    let holds = other.all_versions().any(|v| v.dot == version.dot);
                    other.context().contains(version.dot) && !holds
                };
                let is_covered = others.clone().any(covers);
                prop_assert_eq!(alive.contains(&version.dot), !is_covered);
            }
        }
    }

    #[test]
    fn each_push_stays_together_and_in_its_order((replicas, steps) in history()) {
        let pushes_alone = |step: &&Step| {
            !matches!(step, Step::Edit(_, op) if !matches!(op, Op::Push(..)))
        };
        let steps: Vec<Step> = steps.iter().filter(pushes_alone).cloned().collect();
        let world = World::run(replicas, &steps);
        let all = joined(world.replicas.iter().cloned());
        let items: Vec<Vec<u8>> = list::items(&all).map(|(_, v)| v.to_vec()).collect();
        for delta in &world.deltas {
            let pushed: Vec<Vec<u8>> = list::items(delta).map(|(_, v)| v.to_vec()).collect();
            let at = items.iter().position(|item| Some(item) == pushed.first());
            let at = at.expect("it is there");
            prop_assert_eq!(&items[at..at + pushed.len()], &pushed[..]);
        }
    }

    #[test]
    fn increments_are_summed_each_once(
        steps in prop::collection::vec((0usize..3, -5i64..5, any::<bool>()), 1..40),
    ) {
        let mut world = World { replicas: vec![Object::default(); 3], ..World::default() };
        let mut sum = 0;
        for (at, amount, in_hash) in steps {
            let amount = amount as i8;
            sum += i64::from(amount);
            world.edit(at, &Op::HashCount(0, amount));
            world.edit(at, &Op::ScoreAdd(0, amount));
            if in_hash {
                let state = world.replicas[at].clone();
                world.replicas[(at + 1) % 3].join(state);
            }
        }
        let all = joined(world.deltas.iter().cloned());
        let field = hash::get(&all, b"a").expect("it was counted");
        prop_assert_eq!(String::from_utf8_lossy(&field), sum.to_string());
        let score = zset::score(&all, b"a").expect("it was counted");
        prop_assert_eq!(score.get() as i64, sum);
    }
}

#[test]
fn places_between_others_stay_short_and_in_order() {
    let actor = ActorId(7);
    let mut object = Object::default();
    let mut written = 0;
    let mut apply = |object: &mut Object, edit: Edit| {
        let stamp = Stamp {
            actor,
            previous: object.context().last(actor),
            first_seq: written + 1,
            at: Timestamp::from_ms(written + 1),
            now_ms: NOW_MS,
        };
        written += edit.dots();
        let delta = edit.delta(object, stamp);
        *object = object.joined(delta);
    };
    let ends = [&b"first"[..], b"last"].into_iter();
    let pushed = list::push(&object, End::Right, (actor, NOW_MS), ends);
    apply(&mut object, Edit::touch(pushed));
    let mut wanted = vec![b"first".to_vec(), b"last".to_vec()];
    for n in 0..600_usize {
        // Behind the first, before the last, behind the one before, and anywhere.
        let at = match n / 150 {
            0 => 0,
            1 => wanted.len() - 2,
            2 => n % 150,
            _ => n * 7_919 % (wanted.len() - 1),
        };
        let places: Vec<_> = list::items(&object)
            .map(|(place, _)| place.clone())
            .collect();
        let value = format!("{n}").into_bytes();
        let put = list::insert(&places[at], &places[at + 1], actor, &value);
        apply(&mut object, Edit::touch(vec![put]));
        wanted.insert(at + 1, value);
    }
    let items: Vec<Vec<u8>> = list::items(&object).map(|(_, v)| v.to_vec()).collect();
    assert_eq!(items, wanted);
    let longest = list::items(&object).map(|(place, _)| place.len()).max();
    assert!(longest < Some(300), "{longest:?}");
}
