//! Bounded reading and writing of bytes: varints, zigzag, lengths checked against what is there.
//!
//! Nothing here allocates by a declared length before the bytes have been seen.

use thiserror::Error;

/// Why bytes could not be decoded. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The input ends early or a length points beyond it.
    #[error("the record is truncated")]
    Truncated,
    /// A value that no encoder writes.
    #[error("the record is malformed")]
    Malformed,
    /// The checksum does not match.
    #[error("the record's checksum does not match")]
    Checksum,
    /// Written by a newer program.
    #[error("the record has version {0}, newer than this program knows")]
    Version(u8),
}

/// Reads from the front of a slice.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(first)
    }

    /// Exactly `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.0.len() {
            return Err(DecodeError::Truncated);
        }
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(head)
    }

    /// Eight bytes, little endian.
    pub fn u64_le(&mut self) -> Result<u64, DecodeError> {
        let mut raw = [0; 8];
        raw.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(raw))
    }

    /// An unsigned LEB128 of at most ten bytes, in its shortest form.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let canonical = byte != 0 || shift == 0;
                return if canonical {
                    Ok(value)
                } else {
                    Err(DecodeError::Malformed)
                };
            }
        }
        Err(DecodeError::Malformed)
    }

    /// A count of things of which each takes at least `each` bytes of what is left.
    pub fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint()?).map_err(|_| DecodeError::Malformed)?;
        if count > self.0.len() / each.max(1) {
            return Err(DecodeError::Truncated);
        }
        Ok(count)
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// A signed varint.
    pub fn zigzag(&mut self) -> Result<i64, DecodeError> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }
}

/// Appends an unsigned LEB128.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed varint.
pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_their_shortest_form_and_read_in_no_other() {
        for (value, len) in [
            (0, 1),
            (0x7f, 1),
            (0x80, 2),
            (0x3fff, 2),
            (0x4000, 3),
            (1 << 62, 9),
            (1 << 63, 10),
            (u64::MAX, 10),
        ] {
            let mut raw = Vec::new();
            put_varint(&mut raw, value);
            assert_eq!(raw.len(), len, "{value}");
            let mut r = Reader(&raw);
            assert_eq!((r.varint(), r.0.len()), (Ok(value), 0));
            assert!(Reader(&raw[..len - 1]).varint().is_err());
        }
        for value in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN] {
            let mut raw = Vec::new();
            put_zigzag(&mut raw, value);
            assert_eq!(Reader(&raw).zigzag(), Ok(value));
        }
        let too_long = [[0xff; 9].as_slice(), &[0x02]].concat();
        let endless = [0x80; 11];
        for wrong in [&[0x80, 0x00][..], &too_long, &endless] {
            assert_eq!(Reader(wrong).varint(), Err(DecodeError::Malformed));
        }
    }

    #[test]
    fn lengths_are_held_against_what_is_there() {
        let mut raw = Vec::new();
        put_bytes(&mut raw, b"four");
        let mut r = Reader(&raw);
        assert_eq!((r.bytes(), r.0.len()), (Ok(&b"four"[..]), 0));
        assert_eq!(Reader(&raw[..4]).bytes(), Err(DecodeError::Truncated));
        for (each, fits) in [(0, true), (1, true), (2, true), (3, false)] {
            assert_eq!(Reader(&[2, 0, 0, 0, 0]).count(each).is_ok(), fits, "{each}");
        }
        assert_eq!(Reader(&[1, 2]).take(3), Err(DecodeError::Truncated));
        assert_eq!(Reader(&[1, 2]).take(2), Ok(&[1, 2][..]));
        assert_eq!(Reader(&[1, 0, 0, 0, 0, 0, 0, 1]).u64_le(), Ok(1 | 1 << 56));
    }
}
