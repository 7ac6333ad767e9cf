//! Which parts of the data a member's copy is complete of. A part is a partition's keys with so many
//! owners; of most clusters there is but one number of owners.

use std::collections::{BTreeMap, BTreeSet};

use crate::logic::codec::{DecodeError, Reader, put_bytes};
use crate::logic::placement::PartitionSet;

/// A partition's keys with so many owners.
pub type Part = (u8, u16);

/// A set of parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts(BTreeMap<u8, PartitionSet>);

impl Parts {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(PartitionSet::is_empty)
    }

    /// Whether a part is in it.
    pub fn contains(&self, (owners, partition): Part) -> bool {
        self.0
            .get(&owners)
            .is_some_and(|set| set.contains(partition))
    }

    /// Adds those of another set.
    pub fn add(&mut self, others: &Parts) {
        for (owners, set) in &others.0 {
            self.0.entry(*owners).or_default().add(set);
        }
    }

    /// Takes those of another set away.
    pub fn remove(&mut self, others: &Parts) {
        for (owners, set) in &mut self.0 {
            if let Some(others) = others.0.get(owners) {
                set.remove(others);
            }
        }
        self.0.retain(|_, set| !set.is_empty());
    }

    /// Leaves those alone that are in another set, too.
    pub fn keep(&mut self, others: &Parts) {
        let mut rest = self.clone();
        rest.remove(others);
        self.remove(&rest);
    }

    /// Leaves those alone that have one of these numbers of owners.
    pub fn keep_sizes(&mut self, sizes: &[u8]) {
        self.0.retain(|owners, _| sizes.contains(owners));
    }

    /// Its parts below a number of partitions.
    pub fn below(&self, count: u16) -> BTreeSet<Part> {
        let of_size = |(owners, set): (&u8, &PartitionSet)| {
            let owners = *owners;
            let parts = set.below(count).map(move |partition| (owners, partition));
            parts.collect::<Vec<Part>>()
        };
        self.0.iter().flat_map(of_size).collect()
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.0.len() as u8);
        for (owners, set) in &self.0 {
            out.push(*owners);
            put_bytes(out, &set.clone().into_bytes());
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = r.u8()?;
        let one = |_| Ok((r.u8()?, PartitionSet::from_bytes(r.bytes()?)));
        let parts: Result<_, DecodeError> = (0..count).map(one).collect();
        Ok(Self(parts?))
    }
}

impl FromIterator<Part> for Parts {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        let mut all = Self::default();
        for (owners, partition) in parts {
            all.0.entry(owners).or_default().insert(partition);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_was_put_in() {
        let parts: BTreeSet<Part> = [(1, 7), (3, 0), (3, 255)].into();
        let set: Parts = parts.iter().copied().collect();
        let mut raw = Vec::new();
        set.encode(&mut raw);
        let again = Parts::decode(&mut Reader(&raw)).expect("it was encoded");
        assert_eq!(again.below(256), parts);
        assert!(again.contains((1, 7)) && !again.contains((1, 0)) && !again.contains((2, 7)));
        assert_eq!(again.below(8), [(1, 7), (3, 0)].into());

        let mut some = again.clone();
        some.add(&[(3, 300), (5, 1)].into_iter().collect());
        some.remove(&again);
        assert_eq!(some.below(512), [(3, 300), (5, 1)].into());
        some.remove(&[(5, 1), (3, 300), (9, 9)].into_iter().collect());
        assert_eq!(some, Parts::default());
        assert!(some.is_empty() && !again.is_empty());

        let mut common = again.clone();
        common.keep(&[(3, 255), (1, 8), (2, 7)].into_iter().collect());
        assert_eq!(common.below(256), [(3, 255)].into());
        let mut of_three = again.clone();
        of_three.keep_sizes(&[3, 5]);
        assert_eq!(of_three.below(256), [(3, 0), (3, 255)].into());
    }
}
