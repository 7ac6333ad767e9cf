//! Integers as Redis writes and takes them.

use bytes::Bytes;

/// Parses what Redis takes for an integer: canonical decimal, no sign but `-`, no leading zeros.
pub fn parse(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let canonical = match digits {
        [b'0'] => digits.len() == bytes.len(),
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// An integer in Redis's form.
pub fn to_bytes(value: i64) -> Bytes {
    Bytes::copy_from_slice(itoa::Buffer::new().format(value).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_only_canonical_ones() {
        for good in [0, 1, -1, 10, -909, i64::MAX, i64::MIN] {
            assert_eq!(parse(&to_bytes(good)), Some(good));
        }
        for bad in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "-01",
            " 1",
            "1 ",
            "9223372036854775808",
            "-9223372036854775809",
            "10000000000000000000",
            "1a",
            "a",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
