//! Which of several concurrent values is preferred, by the beginning of a key's name.

/// How siblings are shown as one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// The newest.
    #[default]
    Newest,
    /// Not at all: an error.
    Error,
    /// The greatest, as numbers where both are, else byte by byte.
    Max,
    /// The least.
    Min,
    /// JSON arrays and objects together; anything else as the newest.
    Union,
}

/// The policies of all keys.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    default: OnConflict,
    /// The longest prefixes first.
    by_prefix: Vec<(Vec<u8>, OnConflict)>,
}

impl OnConflict {
    /// From its name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "newest" => Self::Newest,
            "error" => Self::Error,
            "max" => Self::Max,
            "min" => Self::Min,
            "union" => Self::Union,
            _ => return None,
        })
    }

    /// Whether a value is shown rather than a newer one.
    pub fn prefers(self, older: &[u8], newer: &[u8]) -> bool {
        match self {
            Self::Newest | Self::Error | Self::Union => false,
            Self::Max => compare(older, newer).is_gt(),
            Self::Min => compare(older, newer).is_lt(),
        }
    }
}

impl Policies {
    /// A policy for all keys, and others for those that begin with a prefix.
    pub fn new(default: OnConflict, mut by_prefix: Vec<(Vec<u8>, OnConflict)>) -> Self {
        by_prefix.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self { default, by_prefix }
    }

    /// The policy of a key.
    pub fn of(&self, key: &[u8]) -> OnConflict {
        let own = self.by_prefix.iter().find(|(p, _)| key.starts_with(p));
        own.map_or(self.default, |(_, policy)| *policy)
    }

    /// Whether any key has this one.
    pub fn has(&self, policy: OnConflict) -> bool {
        self.default == policy || self.by_prefix.iter().any(|(_, own)| *own == policy)
    }
}

fn compare(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let number = |bytes| std::str::from_utf8(bytes).ok()?.parse::<f64>().ok();
    match (number(a), number(b)) {
        (Some(x), Some(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        _ => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_names_and_the_longest_prefix_decides() {
        use OnConflict::{Error, Max, Min, Newest, Union};
        for (name, policy) in [
            ("newest", Newest),
            ("error", Error),
            ("max", Max),
            ("min", Min),
            ("union", Union),
        ] {
            assert_eq!(OnConflict::named(name), Some(policy));
        }
        assert_eq!(OnConflict::named("other"), None);
        let of = |prefix: &[u8], policy| (prefix.to_vec(), policy);
        let policies = Policies::new(Error, vec![of(b"a", Max), of(b"ab", Min)]);
        let keys: [&[u8]; 4] = [b"abc", b"ac", b"a", b"b"];
        assert_eq!(keys.map(|key| policies.of(key)), [Min, Max, Max, Error]);
        for (policy, is_had) in [(Error, true), (Max, true), (Min, true), (Union, false)] {
            assert_eq!(policies.has(policy), is_had);
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_everything_else_as_bytes() {
        let prefers = |policy: OnConflict, older: &str, newer: &str| {
            policy.prefers(older.as_bytes(), newer.as_bytes())
        };
        for (low, high) in [
            ("9", "10"),
            ("-1", "0"),
            ("1.5", "1e3"),
            ("a", "b"),
            ("1", "a"),
        ] {
            assert!(prefers(OnConflict::Max, high, low) && !prefers(OnConflict::Max, low, high));
            assert!(prefers(OnConflict::Min, low, high) && !prefers(OnConflict::Min, high, low));
        }
        assert!(!prefers(OnConflict::Max, "7", "7") && !prefers(OnConflict::Min, "7", "7"));
        assert!(!prefers(OnConflict::Newest, "2", "1"));
    }
}
