//! Comparing two owners' trees: roots, the walk down, and the keys below the leaves that differ.
//!
//! Either side may be this node or another, so that one node can also compare two others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Convergence, ExchangeError, WITHIN};
use crate::base::blocking::off_worker;
use crate::logic::causal::Dot;
use crate::logic::merkle::{Leaves, Node, Sums, Walk};
use crate::logic::place::{self, MAX_KEY_LEN, Position};
use crate::logic::placement::{NodeId, PartitionSet};
use crate::peer::encode;
use crate::peer::message::{ExchangeRequest, NEWEST, Request, Response, WireKey, WireListed};
use crate::replica::{ALL_DATABASES, Key, Listed, Page};

/// Nodes whose sums are asked for at a time.
const NODES: usize = 256;
/// Keys of a page.
const PAGE: usize = 1_024;

/// One of two owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This node.
    Here,
    /// Another.
    There(NodeId),
}

/// What an owner holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The digest of its object.
    pub digest: u64,
    /// The dots of its versions.
    pub dots: SmallVec<[Dot; 1]>,
}

/// A key of which two owners hold different objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its row.
    pub row_key: Vec<u8>,
    /// The first owner's.
    pub ours: Option<Held>,
    /// The second owner's.
    pub theirs: Option<Held>,
}

/// A partition of which two owners' trees differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of keys with so many owners.
    pub owners: u8,
    /// Which.
    pub partition: u16,
    /// The leaves that differ.
    pub leaves: Vec<Leaves>,
    /// Whether nearly everything differs.
    pub is_bulk: bool,
}

impl Difference {
    /// The database and the key.
    pub fn key(&self) -> Option<WireKey> {
        let (_, db, name) = place::parse(&self.row_key)?;
        let name = Bytes::copy_from_slice(name);
        Some(WireKey { db, name })
    }
}

/// Two owners' keys below some leaves, side by side.
pub(super) struct Comparison<'a> {
    convergence: &'a Convergence,
    sides: [Pages; 2],
    place: Place,
    leaves: VecDeque<Leaves>,
    begun: bool,
    /// Rows that one of them could not read.
    pub(super) damaged: u64,
}

/// What is compared, and as of when.
#[derive(Clone, Copy, Debug)]
struct Place {
    owners: u8,
    partition: u16,
    as_of_ms: u64,
}

struct Pages {
    side: Side,
    buffer: VecDeque<(Vec<u8>, Held)>,
    /// Where its next page begins; `None` after the last.
    next: Option<Vec<u8>>,
}

impl Convergence {
    pub(super) async fn call(
        &self,
        to: NodeId,
        request: impl Into<Request>,
    ) -> Result<Response, ExchangeError> {
        let request = request.into();
        let is_tree = matches!(
            request,
            Request::Exchange(
                ExchangeRequest::Roots { .. }
                    | ExchangeRequest::Sums { .. }
                    | ExchangeRequest::List { .. }
            )
        );
        let body = encode(request);
        let asked = body.len();
        let response = self.cluster.peers().call(to, body, WITHIN).await;
        let response = response.inspect_err(|error| self.cluster.failed(to, *error))?;
        if is_tree {
            let mut answer = Vec::new();
            response.encode(NEWEST, &mut answer);
            let bytes = (asked + answer.len()) as u64;
            self.counters.tree_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        match response {
            Response::Outdated(members) => {
                self.cluster.learn_from(to, members);
                Err(ExchangeError::Outdated)
            }
            Response::Refused(reason) => Err(ExchangeError::Refused(reason)),
            response => Ok(response),
        }
    }

    /// The roots of some partitions, and as of when.
    pub(super) async fn roots(
        &self,
        side: Side,
        owners: u8,
        partitions: &[u16],
        (as_of_ms, mends): (u64, bool),
    ) -> Result<(u64, Vec<u64>), ExchangeError> {
        let Side::There(node) = side else {
            let as_of_ms = as_of_ms.max(self.as_of_ms());
            let roots = self.own_roots(owners, partitions, as_of_ms).await?;
            return Ok((as_of_ms, roots));
        };
        let asked: PartitionSet = partitions.iter().copied().collect();
        let request = ExchangeRequest::Roots {
            as_of_ms,
            owners,
            rules: self.cluster.trees_fingerprint(),
            partitions: asked.into_bytes().into(),
            mends,
            view: self.cluster.changes(),
        };
        match self.call(node, request).await? {
            Response::Roots { as_of_ms, roots } if roots.len() == partitions.len() => {
                Ok((as_of_ms, roots))
            }
            _ => Err(ExchangeError::Unexpected),
        }
    }

    async fn sums(
        &self,
        side: Side,
        owners: u8,
        nodes: &[(u16, Node)],
    ) -> Result<Vec<Sums>, ExchangeError> {
        let Side::There(node) = side else {
            let sums = nodes.iter();
            let sums = sums.map(|(partition, node)| self.replica.sums(owners, *partition, *node));
            return Ok(sums.collect());
        };
        let request = ExchangeRequest::Sums {
            owners,
            nodes: nodes.to_vec(),
        };
        match self.call(node, request).await? {
            Response::Sums(sums) if sums.len() == nodes.len() => Ok(sums),
            _ => Err(ExchangeError::Unexpected),
        }
    }

    async fn list(
        &self,
        side: Side,
        place: &Place,
        leaves: &Leaves,
        from: &[u8],
    ) -> Result<Page, ExchangeError> {
        let Place {
            owners,
            partition,
            as_of_ms,
        } = *place;
        let Side::There(node) = side else {
            let (replica, leaves) = (Arc::clone(&self.replica), leaves.clone());
            let from = from.to_vec();
            let limit = self.governor.items(PAGE);
            replica.settled().await;
            let list = move || replica.list(owners, partition, &leaves, (&from, limit), as_of_ms);
            return Ok(off_worker(list).await?);
        };
        let request = ExchangeRequest::List {
            owners,
            partition,
            leaves: leaves.clone(),
            from: Bytes::copy_from_slice(from),
            limit: self.governor.items(PAGE) as u64,
            as_of_ms,
        };
        match self.call(node, request).await? {
            Response::Listing {
                keys,
                next,
                damaged,
            } if keys.iter().all(|listed| checked(&listed.key).is_some()) => Ok(Page {
                keys: keys.into_iter().map(listed).collect(),
                next: (!next.is_empty()).then(|| next.to_vec()),
                damaged,
            }),
            _ => Err(ExchangeError::Unexpected),
        }
    }

    /// Of some partitions those whose trees differ, and where.
    pub(super) async fn walk(
        &self,
        [ours, theirs]: [Side; 2],
        owners: u8,
        differing: &[(u16, u64, u64)],
    ) -> Result<Vec<Found>, ExchangeError> {
        let shape = self.replica.shape();
        let mut walks: Vec<(u16, Walk)> = differing
            .iter()
            .map(|&(partition, ours, theirs)| (partition, Walk::new(shape, ours, theirs)))
            .collect();
        loop {
            // As many nodes as fit, of as many walks as are under way.
            let mut nodes: Vec<(u16, Node)> = Vec::new();
            let mut taken = vec![0; walks.len()];
            for (nth, (partition, walk)) in walks.iter().enumerate() {
                let wanted = walk.wanted(NODES - nodes.len());
                taken[nth] = wanted.len();
                nodes.extend(wanted.iter().map(|node| (*partition, *node)));
            }
            if nodes.is_empty() {
                break;
            }
            let theirs = self.sums(theirs, owners, &nodes).await?;
            let ours = self.sums(ours, owners, &nodes).await?;
            let mut from = 0;
            for (nth, (_, walk)) in walks.iter_mut().enumerate() {
                let to = from + taken[nth];
                walk.compare(&ours[from..to], &theirs[from..to]);
                from = to;
            }
        }
        let found = |(partition, walk): (u16, Walk)| {
            let leaves = walk.finish();
            let count: u32 = leaves.iter().map(|range| range.end - range.start).sum();
            Found {
                owners,
                partition,
                leaves,
                is_bulk: count as usize > shape.leaves() / 4,
            }
        };
        Ok(walks.into_iter().map(found).collect())
    }

    pub(super) fn comparison(
        &self,
        [ours, theirs]: [Side; 2],
        found: &Found,
        as_of_ms: u64,
    ) -> Comparison<'_> {
        let pages = |side| Pages {
            side,
            buffer: VecDeque::new(),
            next: None,
        };
        Comparison {
            convergence: self,
            sides: [pages(ours), pages(theirs)],
            place: Place {
                owners: found.owners,
                partition: found.partition,
                as_of_ms,
            },
            leaves: found.leaves.iter().cloned().collect(),
            begun: false,
            damaged: 0,
        }
    }
}

impl Comparison<'_> {
    /// The next differences, at most about `limit`; none at the end.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Vec<Difference>, ExchangeError> {
        let mut found = Vec::new();
        while found.len() < limit {
            if !self.fill().await? {
                break;
            }
            self.merge(&mut found);
        }
        Ok(found)
    }

    /// Has both sides hold the next keys; `false` at the end of all leaves.
    async fn fill(&mut self) -> Result<bool, ExchangeError> {
        loop {
            for nth in 0..2 {
                let pages = &self.sides[nth];
                if let (true, Some(from), Some(leaves)) = (
                    pages.buffer.is_empty(),
                    pages.next.clone(),
                    self.leaves.front().cloned(),
                ) {
                    let side = pages.side;
                    let page = self.convergence.list(side, &self.place, &leaves, &from);
                    let page = page.await?;
                    self.damaged += page.damaged;
                    self.check(&leaves, &from, &page)?;
                    let pages = &mut self.sides[nth];
                    pages.next = page.next;
                    pages.buffer.extend(
                        page.keys
                            .into_iter()
                            .map(|key| self.convergence.placed(key)),
                    );
                }
            }
            if self.sides.iter().any(|pages| !pages.buffer.is_empty()) {
                return Ok(true);
            }
            if self.sides.iter().all(|pages| pages.next.is_none()) {
                // Before the first leaves nothing is popped.
                if self.begun {
                    self.leaves.pop_front();
                }
                self.begun = true;
                if self.leaves.is_empty() {
                    return Ok(false);
                }
                self.sides
                    .iter_mut()
                    .for_each(|pages| pages.next = Some(Vec::new()));
            }
        }
    }

    /// Pages go on, and their keys ascend below the leaves that were asked for.
    fn check(&self, leaves: &Leaves, from: &[u8], page: &Page) -> Result<(), ExchangeError> {
        let replica = &self.convergence.replica;
        let mut last = from.to_vec();
        for key in &page.keys {
            let at = Position::of(&key.name, replica.partitions());
            let row_key = place::row_key(at, key.db, &key.name).into_vec();
            let leaf = replica.shape().leaf(at.slot.0, at.hash) as u32;
            if at.partition != self.place.partition || !leaves.contains(&leaf) || row_key < last {
                return Err(ExchangeError::Unexpected);
            }
            last = [row_key.as_slice(), &[0]].concat();
        }
        match &page.next {
            Some(next) if page.keys.is_empty() || *next < last => Err(ExchangeError::Unexpected),
            _ => Ok(()),
        }
    }

    /// Takes what both sides are known to hold, in the order of rows.
    fn merge(&mut self, found: &mut Vec<Difference>) {
        loop {
            let [ours, theirs] = &mut self.sides;
            // A side whose buffer is empty may have more to come.
            let waits = |pages: &Pages| pages.buffer.is_empty() && pages.next.is_some();
            if waits(ours) || waits(theirs) {
                return;
            }
            let (a, b) = (ours.buffer.front(), theirs.buffer.front());
            let order = match (a, b) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let a = if order.is_le() {
                ours.buffer.pop_front()
            } else {
                None
            };
            let b = if order.is_ge() {
                theirs.buffer.pop_front()
            } else {
                None
            };
            let row_key = a
                .as_ref()
                .or(b.as_ref())
                .map(|(row_key, _)| row_key.clone());
            let (ours, theirs) = (a.map(|(_, held)| held), b.map(|(_, held)| held));
            let digest = |held: &Option<Held>| held.as_ref().map(|held| held.digest);
            if digest(&ours) != digest(&theirs) {
                found.push(Difference {
                    row_key: row_key.unwrap_or_default(),
                    ours,
                    theirs,
                });
            }
        }
    }
}

impl Convergence {
    fn placed(&self, key: Listed) -> (Vec<u8>, Held) {
        let at = Position::of(&key.name, self.replica.partitions());
        let row_key = place::row_key(at, key.db, &key.name).into_vec();
        let Listed { digest, dots, .. } = key;
        (row_key, Held { digest, dots })
    }
}

fn listed(WireListed { key, digest, dots }: WireListed) -> Listed {
    Listed {
        db: key.db,
        name: key.name.to_vec(),
        digest,
        dots: dots.into(),
    }
}

/// A key that another node names, if there can be such a key.
pub(super) fn checked(key: &WireKey) -> Option<Key<'_>> {
    let possible = key.db < ALL_DATABASES && key.name.len() <= MAX_KEY_LEN;
    possible.then_some(Key {
        db: key.db,
        name: &key.name,
    })
}
