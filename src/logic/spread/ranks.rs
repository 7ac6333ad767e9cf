//! How many elements stand where in an order, coarsely: so that the rank of one of a million, and what has a rank,
//! are found by reading some hundred rows.
//!
//! It is kept in memory only, and follows what comes and goes. Each stretch of the order has a count; one that has
//! grown is sampled anew when somebody looks at it.

/// A sample is taken of so many rows.
pub const SAMPLED: usize = 128;

/// Counts of the stretches of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// Ascending; the first begins before everything.
    stretches: Vec<Counted>,
    /// None has more.
    largest: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted {
    /// No place of it is lower.
    from: Box<[u8]>,
    count: usize,
}

/// A stretch of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'r> {
    /// Which.
    pub nth: usize,
    /// How many stand before it.
    pub before: usize,
    /// Where it begins; empty for the first, that begins before everything.
    pub from: &'r [u8],
    /// How many stand in it.
    pub count: usize,
}

impl Found<'_> {
    /// Whether it has grown so much that it should be sampled anew.
    pub fn is_large(&self) -> bool {
        self.count > 2 * SAMPLED
    }
}

/// Something that was not there has gone: the counts are not those of this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong;

impl Ranks {
    /// Of an order of which nothing is known but how many there are.
    pub fn new(count: usize) -> Self {
        let from = Box::default();
        Self {
            stretches: vec![Counted { from, count }],
            largest: count,
        }
    }

    /// How many stretches there are.
    pub fn stretches(&self) -> usize {
        self.stretches.len()
    }

    /// How many places a stretch has at most.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// How many places there are.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.count).sum()
    }

    /// The stretch in which a place stands, or would.
    pub fn of_place(&self, place: &[u8]) -> Found<'_> {
        let nth = self.nth(place);
        let before = self.stretches[..nth].iter().map(|stretch| stretch.count);
        self.found(nth, before.sum())
    }

    /// The stretch in which the place of a rank stands: the last, where there are not so many.
    pub fn of_rank(&self, rank: usize) -> Found<'_> {
        let (mut before, last) = (0, self.stretches.len() - 1);
        for (nth, stretch) in self.stretches[..last].iter().enumerate() {
            if rank < before + stretch.count {
                return self.found(nth, before);
            }
            before += stretch.count;
        }
        self.found(last, before)
    }

    /// Where a stretch ends: where the next one begins, if there is one.
    pub fn end_of(&self, nth: usize) -> Option<&[u8]> {
        self.stretches.get(nth + 1).map(|next| &next.from[..])
    }

    /// A place comes.
    pub fn add(&mut self, place: &[u8]) {
        let nth = self.nth(place);
        self.stretches[nth].count += 1;
        self.largest = self.largest.max(self.stretches[nth].count);
    }

    /// A place goes.
    ///
    /// # Errors
    /// When it cannot have been there.
    pub fn remove(&mut self, place: &[u8]) -> Result<(), Wrong> {
        let nth = self.nth(place);
        let stretch = &mut self.stretches[nth];
        stretch.count = stretch.count.checked_sub(1).ok_or(Wrong)?;
        if stretch.count == 0 && nth > 0 {
            self.stretches.remove(nth);
        }
        Ok(())
    }

    /// Puts smaller ones in the place of a stretch: `places` are all that stand in it, in their order. Whether they are
    /// as many as were counted.
    pub fn sample(&mut self, nth: usize, places: impl IntoIterator<Item: AsRef<[u8]>>) -> bool {
        let counted = self.stretches[nth].count;
        let mut smaller = vec![Counted {
            from: std::mem::take(&mut self.stretches[nth].from),
            count: 0,
        }];
        for place in places {
            let last = smaller.len() - 1;
            if smaller[last].count < SAMPLED {
                smaller[last].count += 1;
            } else {
                let from = place.as_ref().into();
                smaller.push(Counted { from, count: 1 });
            }
        }
        let found: usize = smaller.iter().map(|stretch| stretch.count).sum();
        self.stretches.splice(nth..=nth, smaller);
        let counts = self.stretches.iter().map(|stretch| stretch.count);
        self.largest = counts.max().unwrap_or(0);
        found == counted
    }

    fn nth(&self, place: &[u8]) -> usize {
        // Of those behind the first so many begin before it, or there.
        self.stretches[1..].partition_point(|stretch| &stretch.from[..] <= place)
    }

    fn found(&self, nth: usize, before: usize) -> Found<'_> {
        let Counted { from, count } = &self.stretches[nth];
        Found {
            nth,
            before,
            from,
            count: *count,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn place(n: u32) -> [u8; 4] {
        n.to_be_bytes()
    }

    /// What stands in a stretch.
    fn within<'s>(
        ranks: &Ranks,
        all: &'s BTreeSet<[u8; 4]>,
        nth: usize,
    ) -> impl Iterator<Item = &'s [u8; 4]> {
        let from = ranks.stretches[nth].from.to_vec();
        let to = ranks.end_of(nth).map(<[u8]>::to_vec);
        all.iter().filter(move |at| {
            let is_before = to.as_ref().is_none_or(|to| at[..] < to[..]);
            at[..] >= from[..] && is_before
        })
    }

    proptest! {
        #[test]
        fn counts_are_those_of_what_came_and_went(
            begun in prop::collection::btree_set(0..5_000u32, 0..2_000),
            steps in prop::collection::vec((0..5_000u32, any::<bool>()), 0..600),
            asked in 0..5_000u32,
        ) {
            let mut all: BTreeSet<[u8; 4]> = begun.into_iter().map(place).collect();
            let mut ranks = Ranks::new(all.len());
            ranks.sample(0, &all);
            for (step, (at, comes)) in steps.into_iter().enumerate() {
                let at = place(at);
                if comes && all.insert(at) {
                    ranks.add(&at);
                } else if !comes && all.remove(&at) {
                    prop_assert_eq!(ranks.remove(&at), Ok(()));
                }
                let found = ranks.of_place(&at);
                if found.is_large() || step % 50 == 0 {
                    let nth = found.nth;
                    let places: Vec<[u8; 4]> = within(&ranks, &all, nth).copied().collect();
                    prop_assert_eq!(places.len(), found.count);
                    prop_assert!(ranks.sample(nth, &places));
                }
            }
            prop_assert_eq!(ranks.count(), all.len());
            let largest = ranks.stretches.iter().map(|stretch| stretch.count).max();
            prop_assert!(Some(ranks.largest()) >= largest);
            let at = place(asked);
            let found = ranks.of_place(&at);
            let before = within(&ranks, &all, found.nth).filter(|other| **other < at).count();
            prop_assert_eq!(found.before + before, all.range(..at).count());
            let found = ranks.of_rank(asked as usize);
            let nth = within(&ranks, &all, found.nth).nth(asked as usize - found.before);
            prop_assert_eq!(nth, all.iter().nth(asked as usize));
        }
    }

    #[test]
    fn what_was_not_there_cannot_go() {
        let mut ranks = Ranks::new(1);
        assert_eq!(ranks.remove(b"a"), Ok(()));
        assert_eq!(ranks.remove(b"a"), Err(Wrong));
    }

    #[test]
    fn a_large_order_has_small_stretches() {
        let places: Vec<[u8; 4]> = (0..10_000).map(place).collect();
        let mut ranks = Ranks::new(places.len());
        assert!(ranks.of_rank(0).is_large());
        ranks.sample(0, &places);
        assert_eq!(
            (ranks.stretches(), ranks.count()),
            (10_000_usize.div_ceil(SAMPLED), 10_000)
        );
        let found = ranks.of_place(&place(5_000));
        assert!(!found.is_large() && found.before <= 5_000 && 5_000 < found.before + found.count);
        assert_eq!(ranks.of_rank(5_000), found);
    }
}
