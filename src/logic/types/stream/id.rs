//! The ids of a stream's entries: a moment in milliseconds, and a number among those of that moment.

use std::fmt;

/// An entry's id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Milliseconds since the epoch, where nobody has said anything else.
    pub ms: u64,
    /// Which of that millisecond.
    pub seq: u64,
}

/// The id that an entry is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The next one, of this moment or behind the last entry (`*`).
    Next,
    /// The next one of a millisecond (`ms-*`).
    Of(u64),
    /// This one.
    Exactly(Id),
}

impl Id {
    /// The least: no entry has it.
    pub const MIN: Id = Id { ms: 0, seq: 0 };
    /// The greatest.
    pub const MAX: Id = Id {
        ms: u64::MAX,
        seq: u64::MAX,
    };
    /// How long it is in the name of an element.
    pub const LEN: usize = 16;

    /// The next one; `None` behind the last.
    pub fn next(self) -> Option<Id> {
        match (self.ms.checked_add(1), self.seq.checked_add(1)) {
            (_, Some(seq)) => Some(Id { seq, ..self }),
            (Some(ms), None) => Some(Id { ms, seq: 0 }),
            (None, None) => None,
        }
    }

    /// The one before; `None` before the first.
    pub fn previous(self) -> Option<Id> {
        match (self.ms.checked_sub(1), self.seq.checked_sub(1)) {
            (_, Some(seq)) => Some(Id { seq, ..self }),
            (Some(ms), None) => Some(Id { ms, seq: u64::MAX }),
            (None, None) => None,
        }
    }

    /// In bytes that are in the order of ids.
    pub fn encode(self) -> [u8; Id::LEN] {
        let both = u128::from(self.ms) << 64 | u128::from(self.seq);
        both.to_be_bytes()
    }

    /// From such bytes.
    pub fn decode(raw: [u8; Id::LEN]) -> Id {
        let both = u128::from_be_bytes(raw);
        Id {
            ms: (both >> 64) as u64,
            seq: both as u64,
        }
    }

    /// A word as an id; where it has no number among those of its moment, this one.
    pub fn parse(word: &[u8], without: u64) -> Option<Id> {
        let text = std::str::from_utf8(word).ok()?;
        match text.split_once('-') {
            None => Some(Id {
                ms: number(text)?,
                seq: without,
            }),
            Some((ms, seq)) => Some(Id {
                ms: number(ms)?,
                seq: number(seq)?,
            }),
        }
    }
}

impl Wanted {
    /// A word of XADD.
    pub fn parse(word: &[u8]) -> Option<Wanted> {
        if word == b"*" {
            return Some(Wanted::Next);
        }
        match word.strip_suffix(b"-*") {
            Some(ms) => Some(Wanted::Of(number(std::str::from_utf8(ms).ok()?)?)),
            None => Id::parse(word, 0).map(Wanted::Exactly),
        }
    }

    /// The id behind the last one; `None` where that is not possible.
    pub fn behind(self, last: Id, now_ms: u64) -> Option<Id> {
        match self {
            Wanted::Next if now_ms > last.ms => Some(Id { ms: now_ms, seq: 0 }),
            Wanted::Next => last.next(),
            Wanted::Of(ms) if ms > last.ms => Some(Id { ms, seq: 0 }),
            Wanted::Of(ms) if ms == last.ms => {
                let seq = last.seq.checked_add(1)?;
                Some(Id { ms, seq })
            }
            Wanted::Of(_) => None,
            Wanted::Exactly(id) => Some(id).filter(|id| *id > last),
        }
    }
}

/// A number as Redis reads it there: zeros may stand before it.
fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_bytes_and_follow_each_other() {
        let id = |ms, seq| Id { ms, seq };
        let all = [id(0, 0), id(0, 1), id(0, u64::MAX), id(1, 0), Id::MAX];
        assert!(all.is_sorted() && all.map(Id::encode).is_sorted());
        assert!(all.iter().all(|id| Id::decode(id.encode()) == *id));
        assert_eq!(id(0, u64::MAX).next(), Some(id(1, 0)));
        assert_eq!(id(1, 0).previous(), Some(id(0, u64::MAX)));
        assert_eq!((Id::MIN.previous(), Id::MAX.next()), (None, None));
    }

    #[test]
    fn words_are_ids_with_or_without_a_number() {
        let parse = |word: &str| Id::parse(word.as_bytes(), 7).map(|id| (id.ms, id.seq));
        assert_eq!(parse("5-3"), Some((5, 3)));
        assert_eq!(parse("5"), Some((5, 7)));
        for wrong in [
            "",
            "-",
            "5-",
            "-3",
            "5-3-1",
            "x",
            "5-x",
            "18446744073709551616",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let wanted = |word: &str| Wanted::parse(word.as_bytes());
        assert_eq!(wanted("*"), Some(Wanted::Next));
        assert_eq!(wanted("9-*"), Some(Wanted::Of(9)));
        assert_eq!(wanted("-*"), None);
    }

    #[test]
    fn a_new_id_is_behind_the_last_one() {
        let last = Id { ms: 10, seq: 4 };
        let behind = |wanted: Wanted, now| wanted.behind(last, now).map(|id| (id.ms, id.seq));
        assert_eq!(behind(Wanted::Next, 11), Some((11, 0)));
        assert_eq!(behind(Wanted::Next, 9), Some((10, 5)));
        assert_eq!(behind(Wanted::Of(10), 0), Some((10, 5)));
        assert_eq!(behind(Wanted::Of(9), 99), None);
        assert_eq!(behind(Wanted::Exactly(last), 0), None);
        assert_eq!(Wanted::Next.behind(Id::MAX, 5), None);
    }
}
