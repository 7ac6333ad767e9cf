//! Ranks of large collections that are asked for by place: made when somebody asks first, and followed by whoever
//! writes the key's rows.

use super::reach::{Scan, rows_between};
use crate::logic::causal::Kind;
use crate::logic::place::Position;
use crate::logic::spread::{self, Found, GENERATION_LEN, Head, Ranks};
use crate::replica::ranked::Ranked;
use crate::replica::{Key, Located, Replica, ReplicaError, stripe};
use crate::storage::Table;

impl Replica {
    /// Whether somebody has asked for places in a key's order, so that the next answer takes reading no more
    /// than so many rows.
    pub fn has_ranks(&self, key: Key<'_>, most: usize) -> bool {
        let located = self.locate(key, Position::of(key.name, self.partitions));
        self.ranks.tell_at_once(&located, most)
    }

    /// The stretch of a kind's order that is looked for: how many stand before it, and where it begins. The
    /// caller holds the key's lock.
    pub(super) fn stretch_where(
        &self,
        located: &Located<'_>,
        (head, kind): (&Head, Kind),
        find: impl Fn(&Ranks) -> Found<'_>,
    ) -> Result<(usize, Vec<u8>), ReplicaError> {
        debug_assert!(self.stripes[stripe(located.at)].is_locked(), "in order");
        let begun = || Ranked::new((head, kind), located.as_of);
        let taken = self.ranks.take(located, (head, kind));
        let mut ranked = taken.unwrap_or_else(begun);
        let (start, end) = spread::ordered(kind);
        let skipped = located.row_key.len() + GENERATION_LEN;
        let scan: Scan<'_> =
            &|from, to, limit| self.store.scan(located.shard, Table::Data, from, to, limit);
        let found = loop {
            let found = find(&ranked.ranks);
            let from = if found.from.is_empty() {
                &[start]
            } else {
                found.from
            };
            if !found.is_large() {
                break (found.before, from.to_vec());
            }
            let to = ranked
                .ranks
                .end_of(found.nth)
                .map_or(vec![end], <[u8]>::to_vec);
            let nth = found.nth;
            let key = |place: &[u8]| located.row_of(head.generation, place);
            let rows = rows_between(scan, (key(from), key(&to)));
            let mut failed = None;
            let rows = rows.map_while(|row| row.map_err(|error| failed = Some(error)).ok());
            let places = rows.map(|(mut key, _)| key.split_off(skipped));
            let is_right = ranked.ranks.sample(nth, places);
            if let Some(error) = failed {
                return Err(error.into());
            }
            // What was not followed is counted anew; what was counted anew is what there is.
            let is_new = nth == 0 && to == [end];
            if !is_right && !is_new {
                ranked = begun();
            }
        };
        self.ranks.put(located, ranked);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::logic::causal::ActorId;
    use crate::logic::edit::{Edit, Touch};
    use crate::logic::spread::Stretch;
    use crate::logic::types::list::{self, End};
    use crate::logic::types::zset::{self, Bound, Score};
    use crate::replica::Reach;
    use crate::replica::large::tests::{Steps, node};
    use crate::storage::MemoryStore;

    const KEY: Key<'static> = Key { db: 0, name: b"k" };

    fn touch(replica: &Replica, touched: Vec<Touch>) {
        let named: Vec<_> = touched.iter().map(|touch| touch.element.clone()).collect();
        let edit = Edit::touch(touched);
        let written = replica.update_some(KEY, Reach::Named(&named), |_, _| (edit, ()));
        written.expect("written");
    }

    fn score(n: u64) -> Score {
        Score::new(n as f64).expect("a number")
    }

    /// Places that a client may ask for, of so many.
    fn places(steps: &mut Steps, len: usize) -> (i64, i64) {
        let first = steps.below(len as u64 + 10) as i64;
        let last = first + steps.below(20) as i64 - 2;
        match steps.below(4) {
            0 => (first - len as i64, last - len as i64),
            1 => (first, last - len as i64),
            _ => (first, last),
        }
    }

    /// What a replica shows of a range of places, and what all it has shows of it.
    fn shows<T: Clone>(
        replica: &Replica,
        (kind, first, last): (Kind, i64, i64),
        all: impl Fn(&crate::logic::causal::Object) -> Vec<T>,
    ) -> Vec<T> {
        let object = replica.read_some(KEY, Reach::Places(kind, first, last));
        let object = object.expect("read");
        let found = all(&object);
        if object.is_whole() {
            let len = found.len();
            return found[crate::logic::types::places(first, last, len)].to_vec();
        }
        found
    }

    #[test]
    fn ranks_of_a_large_sorted_set_are_those_of_its_members() {
        let store = Arc::new(MemoryStore::new(1));
        let (replica, mut steps) = (node(&store, 1, 100, false), Steps(5));
        let mut model: BTreeSet<(Score, Vec<u8>)> = BTreeSet::new();
        let mut scores: BTreeMap<u64, Score> = BTreeMap::new();
        let name = |n: u64| format!("member-{n}").into_bytes();
        for round in 0..2 {
            for n in 0..3_000 {
                let (new, member) = (score(steps.below(400)), name(n));
                touch(&replica, vec![zset::put(&member, new)]);
                model.insert((new, member));
                scores.insert(n, new);
            }
            for step in 0..2_000_u64 {
                let (n, new) = (steps.below(3_200), score(steps.below(400)));
                let member = name(n);
                if let Some(old) = scores.remove(&n) {
                    model.remove(&(old, member.clone()));
                }
                if steps.below(3) == 0 {
                    touch(&replica, vec![zset::remove(&member)]);
                } else {
                    touch(&replica, vec![zset::put(&member, new)]);
                    scores.insert(n, new);
                    model.insert((new, member.clone()));
                }
                if step % 8 > 0 {
                    continue;
                }
                let element = crate::logic::types::element(Kind::Zset, &member);
                let rank = replica.rank(KEY, &element).expect("counted");
                let at = |n: u64| model.range(..&(scores[&n], name(n))).count();
                let expected = scores.get(&n).map(|_| (at(n), model.len()));
                assert_eq!(rank, expected, "step {step}");
                let (min, max) = (new, score(steps.below(400)));
                let stretch = Stretch::of_scores((Bound::With(min), Bound::Without(max)), 1, false);
                let counted = replica.count_in(KEY, &stretch).expect("counted");
                let within = model.iter().filter(|(s, _)| min <= *s && *s < max).count();
                assert_eq!(counted, Some(within), "step {step}");
                let (first, last) = places(&mut steps, model.len());
                let shown = shows(&replica, (Kind::Zset, first, last), |set| {
                    let members = zset::by_score(set).into_iter();
                    members.map(|(s, m)| (s, m.to_vec())).collect::<Vec<_>>()
                });
                let wanted = crate::logic::types::places(first, last, model.len());
                let expected = model.iter().skip(wanted.start).take(wanted.len());
                assert_eq!(
                    shown,
                    expected.cloned().collect::<Vec<_>>(),
                    "{first} {last}"
                );
            }
            assert!(replica.has_ranks(KEY, 4_096));
            if round == 0 {
                let deleted = replica.update(KEY, |_, _| (Edit::delete(), ()));
                deleted.expect("written");
                model.clear();
                scores.clear();
            }
        }
    }

    #[test]
    fn places_of_a_large_list_are_those_of_its_items() {
        let store = Arc::new(MemoryStore::new(1));
        let (replica, mut steps) = (node(&store, 1, 100, false), Steps(9));
        let mut model: Vec<Vec<u8>> = Vec::new();
        let items = |list: &crate::logic::causal::Object| -> Vec<Vec<u8>> {
            list::items(list).map(|(_, value)| value.to_vec()).collect()
        };
        for step in 0..4_000_u64 {
            let value = format!("item-{step}").into_bytes();
            let pushes = step < 2_000 || steps.below(2) == 0;
            if pushes {
                let end = [End::Left, End::Right][steps.below(2) as usize];
                let reach = Reach::Ends(Kind::List, 1, 1);
                let values = || std::iter::once(&value[..]);
                let pushed = replica.update_some(KEY, reach, |list, now_ms| {
                    let pushed = list::push(list, end, (ActorId(1), now_ms), values());
                    (Edit::Touch(pushed), ())
                });
                pushed.expect("written");
                match end {
                    End::Left => model.insert(0, value),
                    End::Right => model.push(value),
                }
            } else {
                let at = steps.below(model.len() as u64) as i64;
                let reach = Reach::Places(Kind::List, at, at);
                let removed = replica.update_some(KEY, reach, |list, _| {
                    let nth = if list.is_whole() { at as usize } else { 0 };
                    let (place, _) = list::items(list).nth(nth).expect("it is there");
                    (Edit::touch(vec![list::remove(place)]), ())
                });
                removed.expect("written");
                model.remove(at as usize);
            }
            if step % 8 == 0 {
                let (first, last) = places(&mut steps, model.len());
                let wanted = crate::logic::types::places(first, last, model.len());
                let shown = shows(&replica, (Kind::List, first, last), items);
                assert_eq!(shown, model[wanted].to_vec(), "step {step}: {first} {last}");
            }
        }
        assert!(replica.has_ranks(KEY, 4_096));
    }
}
