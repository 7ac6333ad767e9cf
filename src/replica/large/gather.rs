//! Reading the rows of elements.

use super::reach::{NEAR, Reach, Scan, rows_between};
use crate::logic::causal::{Element, Kind};
use crate::logic::place::Position;
use crate::logic::spread::{self, Bounds, GENERATION_LEN, Gathered, Head, Stored, Stretch};
use crate::logic::types::{self, zset};
use crate::replica::{Key, Located, Replica, ReplicaError};
use crate::storage::{Row, StoreError, Table};

impl Replica {
    pub(super) fn gather_some(
        &self,
        located: &Located<'_>,
        head: &Head,
        reach: Reach<'_>,
    ) -> Result<Gathered, ReplicaError> {
        let mut gathered = Gathered::default();
        self.gather_into(located, head, reach, &mut gathered)?;
        Ok(gathered)
    }

    fn gather_into(
        &self,
        located: &Located<'_>,
        head: &Head,
        reach: Reach<'_>,
        gathered: &mut Gathered,
    ) -> Result<(), ReplicaError> {
        match reach {
            Reach::Whole | Reach::Head => {}
            Reach::Each(all) => {
                for reach in all {
                    self.gather_into(located, head, *reach, gathered)?;
                }
                gathered.dedup();
            }
            Reach::Named(elements) => {
                let mut named: Vec<&Element> = elements.iter().collect();
                named.retain(|element| spread::has_row(element.kind));
                named.sort_unstable();
                named.dedup();
                for element in named {
                    self.gather_one(located, head.generation, element, gathered)?;
                }
            }
            Reach::Ends(kind, first, last) => {
                let rows = self.ends_of(located, head, (kind, first, last))?;
                gather_rows(located, rows, gathered)?;
            }
            Reach::Places(kind, first, last) => {
                let rows = self.rows_at(located, head, (kind, first, last))?;
                gather_rows(located, rows, gathered)?;
            }
            Reach::Stretch(stretch) => {
                let rows = self.stretch_of(located, head, stretch)?;
                gather_rows(located, rows, gathered)?;
            }
        }
        Ok(())
    }

    /// The rows at the ends of a kind's order.
    fn ends_of(
        &self,
        located: &Located<'_>,
        head: &Head,
        (kind, first, last): (Kind, usize, usize),
    ) -> Result<Vec<Row>, ReplicaError> {
        let Bounds { lowest, highest } = &head.bounds;
        let one = match (first, last) {
            (1, 0) => self.row_at(located, head, (kind, lowest))?,
            (0, 1) => self.row_at(located, head, (kind, highest))?,
            _ => None,
        };
        if let Some(row) = one {
            return Ok(vec![row]);
        }
        let (start, end) = spread::ordered(kind);
        let (from, to) = between(located, head, (&[start], &[end]));
        let mut rows = if first > 0 {
            self.store
                .scan(located.shard, Table::Data, &from, &to, first)?
        } else {
            Vec::new()
        };
        if last > 0 {
            rows.extend(self.store.scan_back(located.shard, &from, &to, last)?);
        }
        // What is at both ends is there once.
        rows.sort_unstable();
        rows.dedup();
        Ok(rows)
    }

    /// The row at a bound of a kind's order, if there is one: then it is the first, or the last.
    fn row_at(
        &self,
        located: &Located<'_>,
        head: &Head,
        (kind, bound): (Kind, &[u8]),
    ) -> Result<Option<Row>, ReplicaError> {
        if bound.first() != Some(&spread::ordered(kind).0) {
            return Ok(None);
        }
        let key = located.row_of(head.generation, bound);
        let row = self.store.load(located.shard, Table::Data, &key)?;
        Ok(row
            .filter(|row| !spread::is_bare(row))
            .map(|row| (key, row)))
    }

    /// The rows between two places of a kind's order.
    fn rows_at(
        &self,
        located: &Located<'_>,
        head: &Head,
        (kind, first, last): (Kind, i64, i64),
    ) -> Result<Vec<Row>, ReplicaError> {
        let len = head.total.there(kind) as usize;
        let wanted = types::places(first, last, len);
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let (start, end) = spread::ordered(kind);
        let (mut from, to) = between(located, head, (&[start], &[end]));
        if len - wanted.end < wanted.start.min(NEAR) {
            let most = len - wanted.start;
            let mut rows = self.store.scan_back(located.shard, &from, &to, most)?;
            rows.sort_unstable();
            rows.truncate(wanted.len());
            return Ok(rows);
        }
        let mut before = 0;
        if wanted.start > NEAR {
            let (standing, place) =
                self.stretch_where(located, (head, kind), |ranks| ranks.of_rank(wanted.start))?;
            (before, from) = (standing, from.max(located.row_of(head.generation, &place)));
        }
        let most = wanted.end - before;
        let mut rows = self
            .store
            .scan(located.shard, Table::Data, &from, &to, most)?;
        rows.drain(..rows.len().min(wanted.start - before));
        Ok(rows)
    }

    fn stretch_of(
        &self,
        located: &Located<'_>,
        head: &Head,
        stretch: &Stretch,
    ) -> Result<Vec<Row>, ReplicaError> {
        let Stretch {
            from,
            to,
            most,
            is_back,
            wraps,
        } = stretch;
        let (start, end) = between(located, head, (from, to));
        if *is_back {
            return Ok(self.store.scan_back(located.shard, &start, &end, *most)?);
        }
        let scan = |from: &[u8], to: &[u8], limit| {
            self.store.scan(located.shard, Table::Data, from, to, limit)
        };
        // What has nothing but a memory is none.
        let some = |from: &[u8], to: &[u8], most: usize| -> Result<Vec<Row>, StoreError> {
            let (mut found, mut from) = (Vec::new(), from.to_vec());
            loop {
                let wanted = most - found.len();
                let rows = scan(&from, to, wanted)?;
                let is_all = rows.len() < wanted;
                if let Some((last, _)) = rows.last() {
                    from = [last.as_slice(), &[0]].concat();
                }
                found.extend(rows.into_iter().filter(|(_, row)| !spread::is_bare(row)));
                if is_all || found.len() == most {
                    return Ok(found);
                }
            }
        };
        let mut rows = some(&start, &end, *most)?;
        if *wraps && rows.len() < *most {
            let first = located.row_of(head.generation, &from[..1]);
            rows.extend(some(&first, &start, *most - rows.len())?);
        }
        Ok(rows)
    }

    /// How many members of a sorted set stand before one, and how many there are; `None` where it is not there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn rank(
        &self,
        key: Key<'_>,
        member: &Element,
    ) -> Result<Option<(usize, usize)>, ReplicaError> {
        let located = self.locate(key, Position::of(key.name, self.partitions));
        let _order = self.lock(located.at);
        let set = self.load_some(&located, Reach::Named(std::slice::from_ref(member)))?;
        let Some(score) = zset::score(&set, &member.name) else {
            return Ok(None);
        };
        let before = if set.is_whole() {
            let members = zset::by_score(&set);
            members.partition_point(|other| *other < (score, &member.name))
        } else {
            let place = spread::order_of(score, &member.name);
            self.head_of(&located)?
                .map_or(Ok(0), |head| self.count_below(&located, &head, &place))?
        };
        Ok(Some((before, zset::len(&set))))
    }

    /// How many members of a sorted set stand in a stretch of its order; `None` where all of it has to be read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn count_in(&self, key: Key<'_>, stretch: &Stretch) -> Result<Option<usize>, ReplicaError> {
        let located = self.locate(key, Position::of(key.name, self.partitions));
        let _order = self.lock(located.at);
        if self.load_some(&located, Reach::Head)?.is_whole() {
            return Ok(None);
        }
        let Some(head) = self.head_of(&located)? else {
            return Ok(None);
        };
        let upto = self.count_below(&located, &head, &stretch.to)?;
        let before = self.count_below(&located, &head, &stretch.from)?;
        Ok(Some(upto.saturating_sub(before)))
    }

    fn head_of(&self, located: &Located<'_>) -> Result<Option<Head>, ReplicaError> {
        let raw = self
            .store
            .load(located.shard, Table::Data, &located.row_key)?;
        Ok(match raw.as_deref().map(spread::read).transpose()? {
            Some(Stored::Head(head)) => Some(*head),
            _ => None,
        })
    }

    /// How many members of a sorted set stand before a place in its order. The caller holds the key's lock.
    fn count_below(
        &self,
        located: &Located<'_>,
        head: &Head,
        place: &[u8],
    ) -> Result<usize, ReplicaError> {
        let (start, end) = spread::ordered(Kind::Zset);
        let len = head.total.there(Kind::Zset) as usize;
        match place {
            _ if *place <= [start][..] => return Ok(0),
            _ if *place >= [end][..] => return Ok(len),
            _ => {}
        }
        let (mut from, to) = between(located, head, (&[start], place));
        let mut count = 0;
        if len > NEAR {
            let (before, begins) =
                self.stretch_where(located, (head, Kind::Zset), |ranks| ranks.of_place(place))?;
            (count, from) = (before, from.max(located.row_of(head.generation, &begins)));
        }
        let scan: Scan<'_> =
            &|from, to, limit| self.store.scan(located.shard, Table::Data, from, to, limit);
        for row in rows_between(scan, (from, to)) {
            row?;
            count += 1;
        }
        Ok(count)
    }

    fn gather_one(
        &self,
        located: &Located<'_>,
        generation: u64,
        element: &Element,
        gathered: &mut Gathered,
    ) -> Result<(), ReplicaError> {
        if !located.has_room_for(element) {
            // Where there is such a one the key is one row.
            return Ok(());
        }
        let key = located.row_of(generation, &spread::place_of(element));
        if let Some(row) = self.store.load(located.shard, Table::Data, &key)? {
            gathered.take(element.clone(), &row)?;
        }
        Ok(())
    }
}

/// Takes rows of elements, or those of their order.
fn gather_rows(
    located: &Located<'_>,
    rows: Vec<Row>,
    gathered: &mut Gathered,
) -> Result<(), ReplicaError> {
    let skipped = located.row_key.len() + GENERATION_LEN;
    for (key, row) in rows {
        let place = &key[skipped..];
        let element = match spread::element_at(place)? {
            Some(element) => element,
            None => spread::member_at(place)?,
        };
        gathered.take(element, &row)?;
    }
    Ok(())
}

/// All elements, by whoever reads rows.
pub(super) fn gather_all(
    located: &Located<'_>,
    generation: u64,
    scan: Scan<'_>,
) -> Result<Gathered, ReplicaError> {
    let mut gathered = Gathered::default();
    let start = located.row_of(generation, &[]);
    // Rows in another order say the same once more.
    let end = [&start[..], &[spread::SCORES]].concat();
    let skipped = start.len();
    for row in rows_between(scan, (start, end)) {
        let (key, row) = row?;
        if let Some(element) = spread::element_at(&key[skipped..])? {
            gathered.take(element, &row)?;
        }
    }
    Ok(gathered)
}

/// The keys between two places, as far as there may be rows.
fn between(located: &Located<'_>, head: &Head, (from, to): (&[u8], &[u8])) -> (Vec<u8>, Vec<u8>) {
    let Bounds { lowest, highest } = &head.bounds;
    let key = |place: &[u8]| located.row_of(head.generation, place);
    let is_in_order = |bound: &[u8]| bound.first().is_some_and(|kind| Some(kind) == from.first());
    let from_key = if is_in_order(lowest) && from < &lowest[..] {
        key(lowest)
    } else {
        key(from)
    };
    let to_key = if is_in_order(highest) && &highest[..] < to {
        // The highest itself, too.
        [&key(highest)[..], &[0]].concat()
    } else {
        key(to)
    };
    (from_key, to_key)
}
