//! Which events of keys are published: `notify-keyspace-events`.

/// Classes of events, as Redis's letters name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(pub u32);

/// A letter and its bit; those of `A` come first, in the order in which they are shown.
const LETTERS: [(char, u32); 11] = [
    ('g', 1),
    ('$', 1 << 1),
    ('l', 1 << 2),
    ('s', 1 << 3),
    ('h', 1 << 4),
    ('z', 1 << 5),
    ('x', 1 << 6),
    ('e', 1 << 7),
    ('t', 1 << 8),
    ('d', 1 << 9),
    ('n', 1 << 10),
];
const ALL: u32 = (1 << 10) - 1;
const OTHERS: [(char, u32); 3] = [('K', 1 << 11), ('E', 1 << 12), ('m', 1 << 13)];

impl Events {
    /// Of any type: DEL, EXPIRE, RENAME.
    pub const GENERIC: Events = Events(1);
    /// Of strings.
    pub const STRING: Events = Events(1 << 1);
    /// Of lists.
    pub const LIST: Events = Events(1 << 2);
    /// Of sets.
    pub const SET: Events = Events(1 << 3);
    /// Of hashes.
    pub const HASH: Events = Events(1 << 4);
    /// Of sorted sets.
    pub const SORTED_SET: Events = Events(1 << 5);
    /// Of keys that end.
    pub const EXPIRED: Events = Events(1 << 6);
    /// Of keys that are evicted.
    pub const EVICTED: Events = Events(1 << 7);
    /// Of streams.
    pub const STREAM: Events = Events(1 << 8);
    /// On channels that are named by keys.
    pub const BY_KEY: Events = Events(1 << 11);
    /// On channels that are named by events.
    pub const BY_EVENT: Events = Events(1 << 12);

    /// Whether one of some classes is meant.
    pub fn has(self, some: Events) -> bool {
        self.0 & some.0 != 0
    }

    /// Whether anything is published.
    pub fn are_published(self) -> bool {
        self.has(Events(Self::BY_KEY.0 | Self::BY_EVENT.0))
    }

    /// Redis's letters.
    pub fn parse(text: &str) -> Option<Self> {
        let letter = |letter: char| {
            if letter == 'A' {
                return Some(ALL);
            }
            let mut letters = LETTERS.iter().chain(&OTHERS);
            letters.find(|(of, _)| *of == letter).map(|(_, bit)| *bit)
        };
        text.chars().try_fold(Events(0), |events, next| {
            Some(Events(events.0 | letter(next)?))
        })
    }

    /// The letters, as CONFIG GET shows them.
    pub fn text(self) -> String {
        let of = |letters: &[(char, u32)]| {
            let set = letters.iter().filter(|(_, bit)| self.0 & bit != 0);
            set.map(|(letter, _)| *letter).collect::<String>()
        };
        let classes = if self.0 & ALL == ALL {
            "A".to_owned()
        } else {
            of(&LETTERS)
        };
        classes + &of(&OTHERS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_shown_as_redis_shows_them() {
        let shown = |text: &str| Events::parse(text).map(Events::text);
        for (text, expected) in [
            ("KEA", "AKE"),
            ("Kx", "xK"),
            ("EgxE", "gxE"),
            ("KEg$lshzxetdmn", "AKEm"),
            ("gE$", "g$E"),
            ("", ""),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(shown("KEQ"), None);
    }
}
