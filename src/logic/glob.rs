//! Redis's glob patterns (KEYS, SCAN MATCH, CONFIG GET): `*`, `?`, `[a-z]`, `[^x]`, `\x`.
//!
//! Iterative with one point of return, so that no pattern takes more than `pattern x text` steps.

/// Whether `text` matches `pattern`, byte for byte.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if p < pattern.len()
            && let Some(next) = match_one(pattern, p, text[t])
        {
            p = next;
            t += 1;
            continue;
        }
        let Some((after, from)) = star else {
            return false;
        };
        p = after;
        t = from + 1;
        star = Some((after, t));
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// Matches one byte against the pattern item at `p`; the index after the item on success.
fn match_one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match pattern[p] {
        b'?' => Some(p + 1),
        b'[' => {
            let (hit, next) = match_class(pattern, p + 1, byte);
            hit.then_some(next)
        }
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

/// Matches `[...]` whose content starts at `p`; a class without its end runs to the pattern's end.
fn match_class(pattern: &[u8], mut p: usize, byte: u8) -> (bool, usize) {
    let negated = pattern.get(p) == Some(&b'^');
    if negated {
        p += 1;
    }
    let mut hit = false;
    loop {
        match pattern.get(p) {
            None => return (hit != negated, p),
            Some(b']') => return (hit != negated, p + 1),
            Some(b'\\') if p + 1 < pattern.len() => {
                hit |= pattern[p + 1] == byte;
                p += 2;
            }
            Some(&low) if pattern.get(p + 1) == Some(&b'-') && p + 2 < pattern.len() => {
                let high = pattern[p + 2];
                hit |= (low.min(high)..=low.max(high)).contains(&byte);
                p += 3;
            }
            Some(&literal) => {
                hit |= literal == byte;
                p += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    const AFTER: &[&[u8]] = &[b"", b"a", b"*"];

    /// The same by trying everything: an item of a pattern, and what may follow it.
    fn simply(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| simply(rest, &text[at..])),
            (_, []) => false,
            ([b'?', rest @ ..], [_, text @ ..]) => simply(rest, text),
            ([b'[', rest @ ..], [byte, text @ ..]) => {
                let (hit, rest) = class(rest, *byte);
                hit && simply(rest, text)
            }
            ([b'\\', literal, rest @ ..] | [literal, rest @ ..], [byte, text @ ..]) => {
                literal == byte && simply(rest, text)
            }
        }
    }

    fn class(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
        if let [b'^', rest @ ..] = pattern {
            let (hit, rest) = items(rest, byte);
            return (!hit, rest);
        }
        items(pattern, byte)
    }

    fn items(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
        let (is_hit, rest) = match pattern {
            [] => return (false, pattern),
            [b']', rest @ ..] => return (false, rest),
            [b'\\', literal, rest @ ..] => (*literal == byte, rest),
            [low, b'-', high, rest @ ..] => {
                ((*low.min(high)..=*low.max(high)).contains(&byte), rest)
            }
            [literal, rest @ ..] => (*literal == byte, rest),
        };
        let (others, rest) = items(rest, byte);
        (is_hit || others, rest)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn what_matches_is_what_trying_everything_finds(
            pattern in prop::collection::vec(prop::sample::select(&b"abcd*?[]^-\\"[..]), 0..9),
            text in prop::collection::vec(prop::sample::select(&b"abcd-]\\"[..]), 0..5),
        ) {
            prop_assert_eq!(matches(&pattern, &text), simply(&pattern, &text));
        }

        #[test]
        fn classes_match_as_trying_everything_finds(
            class in prop::collection::vec(prop::sample::select(&b"abcd]^-\\"[..]), 0..7),
            byte in prop::sample::select(&b"abcd-]^\\"[..]),
            after in prop::sample::select(AFTER),
        ) {
            let pattern = [b"[", &class[..], after].concat();
            for text in [vec![byte], vec![byte, b'a']] {
                prop_assert_eq!(matches(&pattern, &text), simply(&pattern, &text));
            }
        }
    }

    #[test]
    fn globs_match_as_redis_does() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("*abc*", "xxabxabcx", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("[a", "a", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                want,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(2_000).as_bytes()));
    }
}
