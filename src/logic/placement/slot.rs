//! Slots as Redis Cluster computes them, partitions as equal ranges of slots, and the key hash.
//!
//! Source: the Redis Cluster specification, "Keys distribution model" and "Hash tags" (CRC16, the
//! XMODEM polynomial 0x1021, initial value 0).

/// How many slots there are.
pub const SLOTS: u16 = 16_384;

/// A slot, below [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// The number of partitions (the paper's Q): a power of two between 1 and [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions(u16);

impl Partitions {
    /// `None` unless `count` is a power of two up to [`SLOTS`].
    pub fn new(count: u16) -> Option<Self> {
        (count.is_power_of_two() && count <= SLOTS).then_some(Self(count))
    }

    /// How many.
    pub fn count(self) -> u16 {
        self.0
    }

    /// The partition of a slot: equal, contiguous ranges of slots.
    pub fn of(self, slot: Slot) -> u16 {
        slot.0 / (SLOTS / self.0)
    }
}

/// The slot of a key: of its hash tag when it has a non-empty one.
pub fn slot_of(key: &[u8]) -> Slot {
    Slot(crc16(hash_tag(key).unwrap_or(key)) % SLOTS)
}

/// 64 bits of murmur3 (x64, 128 bit, seed 0): the order of keys inside a slot.
pub fn key_hash(key: &[u8]) -> u64 {
    let hash = murmur3::murmur3_x64_128(&mut &key[..], 0).expect("reading a slice cannot fail");
    hash as u64
}

fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = memchr::memchr(b'{', key)?;
    let rest = &key[open + 1..];
    let close = memchr::memchr(b'}', rest)?;
    (close > 0).then(|| &rest[..close])
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

const TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), Slot(12_182));
        assert_eq!(
            slot_of(b"{user1000}.following"),
            slot_of(b"{user1000}.followers")
        );
        assert_eq!(slot_of(b"foo{}{bar}"), Slot(crc16(b"foo{}{bar}") % SLOTS));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    }

    #[test]
    fn partitions_are_equal_ranges() {
        let q = Partitions::new(256).expect("a power of two");
        assert_eq!((q.of(Slot(0)), q.of(Slot(63)), q.of(Slot(64))), (0, 0, 1));
        assert_eq!(q.of(Slot(16_383)), 255);
        assert_eq!(Partitions::new(100), None);
    }

    #[test]
    fn key_hash_is_the_published_murmur3() {
        assert_eq!(
            murmur3::murmur3_x64_128(&mut &b"hello world"[..], 0).expect("slice"),
            0xab97_467d_60eb_63b1_533f_6046_eb7f_610e
        );
    }
}
