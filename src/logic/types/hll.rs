//! `HyperLogLog`: 16,384 registers in a string, as Redis keeps them; concurrent ones come together by the greatest of
//! each register.
//!
//! Redis's own format: `HYLL | encoding u8 | 3 unused | cached count u64 le | registers`. Dense: six bits a register,
//! the lowest first. Sparse: runs `00xxxxxx` (zeros), `01xxxxxx xxxxxxxx` (many zeros), `1vvvvvxx` (a value up to 32).

const REGISTERS: usize = 1 << 14;
const HEADER_LEN: usize = 16;
/// How they all begin.
pub(super) const MAGIC: &[u8] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const DENSE_LEN: usize = HEADER_LEN + REGISTERS * 6 / 8;
/// Redis's `hll-sparse-max-bytes`.
const SPARSE_MAX: usize = 3_000;
/// The highest register of a sparse run.
const SPARSE_VALUE: u8 = 32;
/// Bits of a hash that a register counts.
const COUNTED: usize = 64 - 14;
const SEED: u64 = 0xadc8_3b19;

/// The registers.
#[derive(Clone, PartialEq, Eq)]
pub struct Registers(Box<[u8]>);

/// Why some bytes are no registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOne {
    /// They were never any.
    Other,
    /// They begin like some.
    Corrupt,
}

impl Default for Registers {
    fn default() -> Self {
        Self(vec![0; REGISTERS].into())
    }
}

impl Registers {
    /// From a string.
    pub fn decode(raw: &[u8]) -> Result<Self, NotOne> {
        if raw.len() < HEADER_LEN || !raw.starts_with(MAGIC) || raw[4] > SPARSE {
            return Err(NotOne::Other);
        }
        let body = &raw[HEADER_LEN..];
        let mut registers = Self::default();
        if raw[4] == DENSE {
            if raw.len() != DENSE_LEN {
                return Err(NotOne::Other);
            }
            for (at, register) in registers.0.iter_mut().enumerate() {
                let bit = at * 6;
                let low = u16::from(body[bit / 8]);
                let high = u16::from(body.get(bit / 8 + 1).copied().unwrap_or(0));
                *register = ((high << 8 | low) >> (bit % 8)) as u8 & 0x3f;
            }
            return Ok(registers);
        }
        let (mut at, mut rest) = (0, body);
        while let Some((first, behind)) = rest.split_first() {
            rest = behind;
            let (value, run) = match first >> 6 {
                0 => (0, usize::from(first & 0x3f) + 1),
                1 => {
                    let (second, behind) = rest.split_first().ok_or(NotOne::Corrupt)?;
                    rest = behind;
                    (
                        0,
                        (usize::from(first & 0x3f) << 8 | usize::from(*second)) + 1,
                    )
                }
                _ => ((first >> 2 & 0x1f) + 1, usize::from(first & 3) + 1),
            };
            let run = registers.0.get_mut(at..at + run).ok_or(NotOne::Corrupt)?;
            run.fill(value);
            at += run.len();
        }
        if at == REGISTERS {
            Ok(registers)
        } else {
            Err(NotOne::Corrupt)
        }
    }

    /// As a string, whose cached count is not valid.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[SPARSE, 0, 0, 0]);
        out.extend_from_slice(&(1_u64 << 63).to_le_bytes());
        if self.put_sparse(&mut out) && out.len() <= HEADER_LEN + SPARSE_MAX {
            return out;
        }
        out.truncate(HEADER_LEN);
        out[4] = DENSE;
        out.resize(DENSE_LEN, 0);
        let body = &mut out[HEADER_LEN..];
        for (at, register) in self.0.iter().enumerate() {
            let (byte, shift) = (at * 6 / 8, at * 6 % 8);
            let bits = u16::from(*register) << shift;
            body[byte] |= bits as u8;
            if shift > 2 {
                body[byte + 1] |= (bits >> 8) as u8;
            }
        }
        out
    }

    /// Appends runs, where all values can be in some.
    fn put_sparse(&self, out: &mut Vec<u8>) -> bool {
        let mut rest = &self.0[..];
        while let Some(&value) = rest.first() {
            if value > SPARSE_VALUE {
                return false;
            }
            let same = rest.iter().take_while(|other| **other == value).count();
            rest = &rest[same..];
            let mut left = same;
            while left > 0 {
                let run = match value {
                    0 => left,
                    _ => left.min(4),
                };
                match value {
                    0 if run > 64 => {
                        let raw = (run - 1) as u16;
                        out.extend_from_slice(&(0x4000 | raw).to_be_bytes());
                    }
                    0 => out.push((run - 1) as u8),
                    value => out.push(0x80 | (value - 1) << 2 | (run - 1) as u8),
                }
                left -= run;
            }
        }
        true
    }

    /// Counts an element; whether that changed something.
    pub fn add(&mut self, element: &[u8]) -> bool {
        let hash = murmur64a(element, SEED);
        let at = hash as usize % REGISTERS;
        let rest = hash >> 14 | 1 << COUNTED;
        let zeros = rest.trailing_zeros() as u8 + 1;
        let is_more = self.0[at] < zeros;
        self.0[at] = self.0[at].max(zeros);
        is_more
    }

    /// Takes in what others have counted.
    pub fn join(&mut self, other: &Registers) {
        for (ours, theirs) in self.0.iter_mut().zip(&other.0) {
            *ours = (*ours).max(*theirs);
        }
    }

    /// How many different elements were counted, about (Ertl 2017, "New cardinality estimation algorithms", as
    /// Redis does it).
    pub fn count(&self) -> u64 {
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let m = REGISTERS as f64;
        let mut of_value = [0_u32; 64];
        for register in &self.0 {
            of_value[usize::from(*register)] += 1;
        }
        let mut z = m * tau((m - f64::from(of_value[COUNTED + 1])) / m);
        for value in (1..=COUNTED).rev() {
            z = (z + f64::from(of_value[value])) * 0.5;
        }
        z += m * sigma(f64::from(of_value[0]) / m);
        (ALPHA * m * m / z).round() as u64
    }
}

#[expect(clippy::float_cmp, reason = "it ends where nothing changes any more")]
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

#[expect(clippy::float_cmp, reason = "it ends where nothing changes any more")]
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// `MurmurHash2`, 64 bits, the variant for 64-bit machines (Austin Appleby; public domain).
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (eights, tail) = bytes.as_chunks::<8>();
    for eight in eights {
        let mut k = u64::from_le_bytes(*eight).wrapping_mul(M);
        k = (k ^ k >> 47).wrapping_mul(M);
        hash = (hash ^ k).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut padded = [0; 8];
        padded[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(padded)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_read_again_in_either_form_and_counts_come_close() {
        let mut registers = Registers::default();
        let mut last_len = 0;
        for n in 0..20_000_u32 {
            registers.add(&n.to_le_bytes());
            if n % 997 == 0 || n < 50 {
                let raw = registers.encode();
                assert!(Registers::decode(&raw) == Ok(registers.clone()), "{n}");
                assert!(raw.len() >= last_len);
                last_len = raw.len();
                let (count, true_count) = (registers.count() as f64, f64::from(n + 1));
                assert!(
                    (count - true_count).abs() <= true_count * 0.04,
                    "{n}: {count}"
                );
            }
        }
        assert_eq!(last_len, DENSE_LEN);
        assert_eq!(Registers::default().count(), 0);
        assert!(!registers.add(&7_u32.to_le_bytes()));
    }

    #[test]
    fn bytes_that_are_none_are_told_from_corrupt_ones() {
        let one = Registers::default().encode();
        for wrong in [&b""[..], b"HYLL", b"text that is long enough to be one"] {
            assert!(Registers::decode(wrong) == Err(NotOne::Other));
        }
        for corrupt in [&one[..one.len() - 1], &[&one[..], &[0]].concat()] {
            assert!(Registers::decode(corrupt) == Err(NotOne::Corrupt));
        }
    }
}
