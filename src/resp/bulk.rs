//! Looking into a reply that this node has made itself.

/// The bulk string that a reply begins with, and what follows it.
pub fn first_bulk(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = reply.strip_prefix(b"$")?;
    let end = memchr::memchr(b'\n', text)?;
    let len = std::str::from_utf8(text[..end].strip_suffix(b"\r")?).ok()?;
    let start = end + 1;
    let (bulk, rest) = text.get(start..)?.split_at_checked(len.parse().ok()?)?;
    Some((bulk, rest.strip_prefix(b"\r\n")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_string_is_found_with_what_follows() {
        let found = first_bulk(b"$3\r\na\r\n\r\n$1\r\nb\r\n");
        assert_eq!(found, Some((&b"a\r\n"[..], &b"$1\r\nb\r\n"[..])));
        for none in [
            &b""[..],
            b"$-1\r\n",
            b"+OK\r\n",
            b"$3\r\nab\r\n",
            b"$x\r\n",
            b"$1\r\na",
        ] {
            assert_eq!(first_bulk(none), None, "{none:?}");
        }
    }
}
