//! Randomness of the operating system.

/// Randomness from the operating system.
pub fn random_u64() -> u64 {
    let mut raw = [0; 8];
    getrandom::fill(&mut raw).expect("the operating system has randomness");
    u64::from_le_bytes(raw)
}
