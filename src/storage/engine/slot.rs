//! A row in memory, in one allocation, and what is known of it.

use super::keys::{bits, spread};

/// What a slot takes beside its row: itself, its share of empty ones, and of the allocator's rounding.
pub(super) const SLOT_BYTES: usize = 56;

/// A row, or the knowledge that there is none.
pub(super) struct Slot {
    row: Box<[u8]>,
    pub(super) batch: u64,
    /// Of the key: all that a hash has.
    pub(super) bits: u32,
    key_len: u16,
    /// There is no row: it was removed, or never was.
    pub(super) is_dead: bool,
    /// It was asked for since it was last looked at.
    pub(super) is_hot: bool,
    /// It is among those to be flushed.
    pub(super) is_listed: bool,
}

impl Slot {
    pub(super) fn hash(&self) -> u64 {
        spread(self.bits)
    }

    pub(super) fn is(&self, hash: u64, key: &[u8]) -> bool {
        self.bits == bits(hash) && self.key() == key
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.row[..usize::from(self.key_len)]
    }

    pub(super) fn value(&self) -> Option<&[u8]> {
        (!self.is_dead).then(|| &self.row[usize::from(self.key_len)..])
    }

    pub(super) fn bytes(&self) -> usize {
        self.row.len() + SLOT_BYTES
    }

    pub(super) fn new((hash, key): (u64, &[u8]), value: Option<&[u8]>, batch: u64) -> Self {
        Self {
            row: row_of(key, value),
            batch,
            bits: bits(hash),
            key_len: u16::try_from(key.len()).expect("keys of rows are bounded"),
            is_dead: value.is_none(),
            is_hot: false,
            is_listed: false,
        }
    }

    pub(super) fn taken(&self) -> Taken {
        Taken {
            row: self.row.clone(),
            key_len: self.key_len,
            is_dead: self.is_dead,
        }
    }

    pub(super) fn set(&mut self, value: Option<&[u8]>) {
        let key_len = usize::from(self.key_len);
        let new = value.unwrap_or_default();
        if self.row.len() == key_len + new.len() {
            self.row[key_len..].copy_from_slice(new);
        } else {
            self.row = row_of(&self.row[..key_len], value);
        }
        self.is_dead = value.is_none();
    }
}

fn row_of(key: &[u8], value: Option<&[u8]>) -> Box<[u8]> {
    let value = value.unwrap_or_default();
    let mut row = Vec::with_capacity(key.len() + value.len());
    row.extend_from_slice(key);
    row.extend_from_slice(value);
    row.into_boxed_slice()
}

/// A row that is to be flushed.
pub(super) struct Taken {
    row: Box<[u8]>,
    key_len: u16,
    is_dead: bool,
}

impl Taken {
    pub(super) fn key(&self) -> &[u8] {
        &self.row[..usize::from(self.key_len)]
    }

    /// `None`: it was removed.
    pub(super) fn value(&self) -> Option<&[u8]> {
        (!self.is_dead).then(|| &self.row[usize::from(self.key_len)..])
    }
}
