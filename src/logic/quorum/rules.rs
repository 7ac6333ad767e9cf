//! How many copies a key has and how many of them count, by the beginning of its name.

/// How keys begin that belong to the nodes: of these every two quorums meet, whatever is said of other keys.
pub const OWN_KEYS: &[u8] = b"\0ringwood\0";

/// What holds for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Owners (N).
    pub n: u8,
    /// Replies that a read waits for (R).
    pub r: u8,
    /// Acknowledgements that a write waits for (W).
    pub w: u8,
    /// Whether only owners count: no fallback takes the place of one that does not answer.
    pub strict: bool,
}

impl Rule {
    /// Whether the numbers make sense: the reason when they do not.
    pub fn check(&self) -> Result<(), String> {
        let Self { n, r, w, .. } = *self;
        for (name, count) in [("read-quorum", r), ("write-quorum", w)] {
            if !(1..=n).contains(&count) {
                return Err(format!(
                    "{name} is {count}, which must be between 1 and replicas-per-key, which is {n}"
                ));
            }
        }
        Ok(())
    }
}

/// The rules of all keys.
#[derive(Clone, Debug)]
pub struct Rules {
    default: Rule,
    /// The longest prefixes first.
    by_prefix: Vec<(Vec<u8>, Rule)>,
}

impl Rules {
    /// A rule for all keys, and others for those that begin with a prefix.
    pub fn new(default: Rule, mut by_prefix: Vec<(Vec<u8>, Rule)>) -> Self {
        by_prefix.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self { default, by_prefix }
    }

    /// The rule of keys without one of their own.
    pub fn default(&self) -> Rule {
        self.default
    }

    /// Every number of owners that some key has, ascending.
    pub fn sizes(&self) -> Vec<u8> {
        let rules = self.by_prefix.iter().map(|(_, rule)| rule);
        let mut sizes: Vec<u8> = rules.chain([&self.default]).map(|rule| rule.n).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// The least number of acknowledgements that keys with so many owners ask for.
    pub fn least_w(&self, n: u8) -> u8 {
        let rules = self.by_prefix.iter().map(|(_, rule)| rule);
        let of_size = rules.chain([&self.default]).filter(|rule| rule.n == n);
        of_size
            .map(|rule| rule.w)
            .chain(self.own_of(n))
            .min()
            .unwrap_or(1)
    }

    /// The least number of replies that reads of keys with so many owners wait for.
    pub fn least_r(&self, n: u8) -> u8 {
        let rules = self.by_prefix.iter().map(|(_, rule)| rule);
        let of_size = rules.chain([&self.default]).filter(|rule| rule.n == n);
        of_size
            .map(|rule| rule.r)
            .chain(self.own_of(n))
            .min()
            .unwrap_or(1)
    }

    /// The quorums of keys of the nodes' own, where these have so many owners.
    fn own_of(&self, n: u8) -> Option<u8> {
        (n == self.default.n).then_some(n / 2 + 1)
    }

    /// The prefixes with the numbers of owners of their keys; the default's is empty.
    pub fn sizes_by_prefix(&self) -> impl Iterator<Item = (&[u8], u8)> {
        let prefixes = self.by_prefix.iter();
        let prefixes = prefixes.map(|(prefix, rule)| (prefix.as_slice(), rule.n));
        prefixes.chain([(&[][..], self.default.n)])
    }

    /// The rule of the longest prefix that a key has.
    pub fn of(&self, key: &[u8]) -> Rule {
        if key.starts_with(OWN_KEYS) {
            let n = self.default.n;
            let majority = n / 2 + 1;
            return Rule {
                n,
                r: majority,
                w: majority,
                strict: true,
            };
        }
        let own = self.by_prefix.iter().find(|(p, _)| key.starts_with(p));
        own.map_or(self.default, |(_, rule)| *rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(n: u8, r: u8, w: u8) -> Rule {
        Rule {
            n,
            r,
            w,
            strict: false,
        }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let prefixes = vec![
            (b"cart:".to_vec(), rule(3, 1, 1)),
            (b"cart:vip:".to_vec(), rule(3, 3, 3)),
        ];
        let rules = Rules::new(rule(3, 2, 2), prefixes);
        assert_eq!(rules.of(b"cart:7"), rule(3, 1, 1));
        assert_eq!(rules.of(b"cart:vip:7"), rule(3, 3, 3));
        assert_eq!(rules.of(b"car"), rule(3, 2, 2));
    }

    #[test]
    fn quorums_of_what_belongs_to_the_nodes_meet_whatever_others_do() {
        let rules = Rules::new(rule(3, 1, 1), vec![(Vec::new(), rule(3, 1, 1))]);
        let own = rules.of(&[OWN_KEYS, b"scripts"].concat());
        assert!(own.strict && own.r + own.w > own.n);
        assert_eq!(own.n, 3);
    }

    #[test]
    fn a_quorum_is_at_most_all_owners() {
        assert!(rule(3, 3, 1).check().is_ok());
        assert!(rule(2, 3, 1).check().is_err());
        assert!(rule(3, 1, 0).check().is_err());
    }
}
