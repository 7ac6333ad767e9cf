//! How much of a key is read, and how its rows lie.

use crate::logic::causal::{Element, Kind};
use crate::logic::spread::{self, Bounds, Head, SAMPLED, Stretch};
use crate::logic::types;
use crate::storage::{Row, StoreError};

/// How much of a key is read, of elements of collections: what is small is read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// Everything.
    Whole,
    /// None: how many there are is known all the same.
    Head,
    /// Some.
    Named(&'a [Element]),
    /// So many of a kind from each end, in their order.
    Ends(Kind, usize, usize),
    /// Those of a kind between two places in its order, both included, negative from the end: exactly those, or all.
    Places(Kind, i64, i64),
    /// Some in an order.
    Stretch(&'a Stretch),
    /// All that several reach.
    Each(&'a [Reach<'a>]),
}

/// What is so near to an end is counted from there.
pub(super) const NEAR: usize = 2 * SAMPLED;

impl Reach<'_> {
    /// Whether others have to be counted to find its places, where that was not done before: those near an end are
    /// counted from there.
    pub fn counts(self) -> bool {
        let (first, last) = match self {
            Reach::Places(_, first, last) => (first, last),
            Reach::Each(all) => return all.iter().any(|reach| reach.counts()),
            _ => return false,
        };
        let near = 0..NEAR as i64;
        // What is at -1 from the one end is at 0 from the other.
        !near.contains(&first) && !near.contains(&!last)
    }

    /// Whether it is everything.
    pub(super) fn is_whole(self) -> bool {
        match self {
            Reach::Whole => true,
            Reach::Each(all) => all.iter().any(|reach| reach.is_whole()),
            _ => false,
        }
    }

    /// Whether it is about an order.
    pub(super) fn is_ordered(self) -> bool {
        match self {
            Reach::Whole | Reach::Head | Reach::Named(_) => false,
            Reach::Ends(..) | Reach::Places(..) | Reach::Stretch(_) => true,
            Reach::Each(all) => all.iter().any(|reach| reach.is_ordered()),
        }
    }

    /// Of which ends of an order it reaches all that is there.
    pub(super) fn ends(self, head: &Head) -> (bool, bool) {
        match self {
            Reach::Ends(_, first, last) => (first > 0, last > 0),
            Reach::Places(kind, first, last) => {
                let len = head.total.there(kind) as usize;
                let wanted = types::places(first, last, len);
                (wanted.start == 0, wanted.end == len)
            }
            Reach::Stretch(stretch) if stretch.from.first() == head.bounds.lowest.first() => (
                !stretch.is_back && stretch.from <= head.bounds.lowest,
                stretch.is_back && stretch.to > head.bounds.highest,
            ),
            Reach::Each(all) => {
                // What is taken out between the ends says nothing of them.
                let mut about = all.iter().filter(|reach| reach.is_about(head));
                let ends = all.iter().map(|reach| reach.ends(head));
                let all = ends.fold((false, false), |a, b| (a.0 || b.0, a.1 || b.1));
                let are_ends = about.all(|reach| reach.ends(head) != (false, false));
                if are_ends { all } else { (false, false) }
            }
            Reach::Whole | Reach::Head | Reach::Named(_) | Reach::Stretch(_) => (false, false),
        }
    }

    /// Whether it reaches anything of the order that a head has the bounds of.
    fn is_about(self, head: &Head) -> bool {
        let of_bounds = head.bounds.lowest.first();
        let is_it = |kind: Kind| of_bounds == Some(&spread::ordered(kind).0);
        match self {
            Reach::Head => false,
            Reach::Whole => true,
            Reach::Named(named) => named.iter().any(|element| is_it(element.kind)),
            Reach::Ends(kind, first, last) => is_it(kind) && first + last > 0,
            Reach::Places(kind, ..) => is_it(kind),
            Reach::Stretch(stretch) => stretch.from.first() == of_bounds,
            Reach::Each(all) => all.iter().any(|reach| reach.is_about(head)),
        }
    }

    /// Whether few rows are read, and nothing but rows.
    pub(super) fn is_quick(self) -> bool {
        match self {
            Reach::Whole => false,
            Reach::Head => true,
            Reach::Named(named) => named.len() <= NEAR,
            Reach::Stretch(stretch) => stretch.most <= NEAR,
            Reach::Each(all) => all.iter().all(|reach| reach.is_quick()),
            Reach::Ends(_, first, last) => first.max(last) <= NEAR,
            Reach::Places(_, first, last) => {
                let near = 0..NEAR as i64;
                near.contains(&first) && near.contains(&last)
                    || near.contains(&!first) && near.contains(&!last)
            }
        }
    }
}

/// How a key's rows lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::replica) enum Lies {
    /// There is one, or none.
    #[default]
    InOne,
    /// A head and elements.
    InMany {
        /// Of this generation.
        generation: u64,
        bounds: Bounds,
        /// Of which ends all that was there is at hand.
        ends: (bool, bool),
    },
    /// Rows of a generation that say nothing any more, or not what they said.
    Stale(u64),
}

/// Reads rows of data in their order.
pub(in crate::replica) type Scan<'s> =
    &'s dyn Fn(&[u8], &[u8], usize) -> Result<Vec<Row>, StoreError>;

/// Rows read at a time.
const PAGE: usize = 1_024;

/// All rows from one key up to another, page by page.
pub(super) fn rows_between(
    scan: Scan<'_>,
    (from, to): (Vec<u8>, Vec<u8>),
) -> impl Iterator<Item = Result<Row, StoreError>> + '_ {
    let mut next = Some(from);
    let pages = std::iter::from_fn(move || {
        let from = next.take()?;
        let page = scan(&from, &to, PAGE);
        let rows = page.as_ref().ok().filter(|rows| rows.len() == PAGE);
        let last = rows.and_then(|rows| rows.last());
        next = last.map(|(last, _)| [last.as_slice(), &[0]].concat());
        Some(page)
    });
    pages.flat_map(|page| {
        let (rows, error) = match page {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(Err(error))),
        };
        rows.into_iter().map(Ok).chain(error)
    })
}
