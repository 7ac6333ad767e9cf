//! A set of partitions, as nodes name them to each other: bit `p` of byte `p / 8`.

/// A set of partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionSet(Vec<u8>);

impl PartitionSet {
    /// From its bytes; what they do not reach is not in it.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Adds one.
    pub fn insert(&mut self, partition: u16) {
        let byte = usize::from(partition / 8);
        if self.0.len() <= byte {
            self.0.resize(byte + 1, 0);
        }
        self.0[byte] |= 1 << (partition % 8);
    }

    /// Whether one is in it.
    pub fn contains(&self, partition: u16) -> bool {
        let byte = self.0.get(usize::from(partition / 8));
        byte.copied().unwrap_or(0) >> (partition % 8) & 1 == 1
    }

    /// Adds those of another set.
    pub fn add(&mut self, others: &PartitionSet) {
        self.0.resize(self.0.len().max(others.0.len()), 0);
        for (byte, others) in self.0.iter_mut().zip(&others.0) {
            *byte |= others;
        }
    }

    /// Takes those of another set away.
    pub fn remove(&mut self, others: &PartitionSet) {
        for (byte, others) in self.0.iter_mut().zip(&others.0) {
            *byte &= !others;
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// Its members below a number, ascending.
    pub fn below(&self, count: u16) -> impl Iterator<Item = u16> {
        (0..count).filter(|partition| self.contains(*partition))
    }
}

impl FromIterator<u16> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = u16>>(partitions: I) -> Self {
        let mut set = Self::default();
        for partition in partitions {
            set.insert(partition);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_beyond_its_bytes() {
        let set: PartitionSet = [0, 7, 8, 300].into_iter().collect();
        let again = PartitionSet::from_bytes(&set.clone().into_bytes());
        assert_eq!(again, set);
        assert_eq!(again.below(16_384).collect::<Vec<u16>>(), [0, 7, 8, 300]);
        assert_eq!(again.below(8).collect::<Vec<u16>>(), [0, 7]);
        assert!(!PartitionSet::from_bytes(&[]).contains(3));
    }
}
