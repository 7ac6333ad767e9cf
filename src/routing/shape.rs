//! What routing knows of a command: where its keys are, how it travels, what its reply reveals. Never its
//! name.

use smallvec::SmallVec;

use super::args::Args;

/// Places of a command's keys among its words.
pub type Positions = SmallVec<[u32; 4]>;

/// Where some of a command's keys are, as Redis's key specifications say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Where they begin.
    pub begin: Begin,
    /// Which of the words from there are keys.
    pub find: Find,
    /// What becomes of them.
    pub access: Access,
}

/// Where keys begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At the word of this number.
    Index(u8),
    /// Behind this word, looked for from a place on (negative: from the end, backwards).
    Keyword(&'static str, i8),
}

/// Which words from the beginning on are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Up to the last one, counted from the first (negative: from the command's end), every `step`th; of
    /// those that are left only the first `1 / limit` (STREAMS: half), where `limit` is above 1.
    Range {
        /// The last one.
        last: i8,
        /// One key in so many words.
        step: u8,
        /// The share of the words that are keys.
        limit: u8,
    },
    /// As many as a word says.
    Count {
        /// Where it says so, from the beginning on.
        at: u8,
        /// The first key, from the beginning on.
        first: u8,
        /// One key in so many words.
        step: u8,
    },
}

/// What a command does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Looks at what it holds.
    Read,
    /// Looks at what there is of it: its type, its length, whether it is there.
    ReadMeta,
    /// Changes what it holds, and shows some of it.
    ReadWrite,
    /// That, or puts something in its place: its options say.
    SetOrGet,
    /// Changes what it holds.
    Update,
    /// Adds to what it holds.
    Insert,
    /// Puts something in its place.
    Overwrite,
    /// Makes it, where it is not there.
    Create,
    /// Deletes it, and uses what was there.
    Take,
    /// Takes something out of it.
    Remove,
    /// Deletes it.
    Delete,
    /// It is no key: a channel of a shard.
    NoKey,
}

/// Behind this word are the streams that XREAD and XREADGROUP read.
pub const STREAMS: &str = "STREAMS";

/// What XREAD and XREADGROUP say before the streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Where it is said for how long they wait.
    pub block: Option<usize>,
    /// Where the streams begin.
    pub streams: Option<usize>,
}

impl Reading {
    /// Of a command with these words. A group, or a consumer, may be called as an option is.
    pub fn of(args: Args<'_>) -> Self {
        let (mut reading, mut nth) = (Self::default(), 1);
        let there = |at: usize| Some(at).filter(|at| *at < args.len());
        while nth < args.len() {
            match () {
                () if args.is(nth, STREAMS) => {
                    reading.streams = there(nth + 1);
                    return reading;
                }
                () if args.is(nth, "GROUP") => nth += 3,
                () if args.is(nth, "COUNT") => nth += 2,
                () if args.is(nth, "BLOCK") => {
                    reading.block = there(nth + 1);
                    nth += 2;
                }
                () => nth += 1,
            }
        }
        reading
    }
}

impl KeySpec {
    /// One key.
    pub const fn one(at: u8, access: Access) -> Self {
        Self::range(at, 0, 1, access)
    }

    /// Keys from a word on.
    pub const fn range(at: u8, last: i8, step: u8, access: Access) -> Self {
        assert!(step > 0, "keys follow each other");
        Self {
            begin: Begin::Index(at),
            find: Find::Range {
                last,
                step,
                limit: 0,
            },
            access,
        }
    }

    fn beginning(&self, args: Args<'_>) -> Option<usize> {
        match self.begin {
            Begin::Index(at) => Some(usize::from(at)),
            Begin::Keyword(STREAMS, _) => Reading::of(args).streams,
            Begin::Keyword(word, from) if from >= 0 => {
                let mut places = from as usize..args.len();
                places.find(|at| args.is(*at, word)).map(|at| at + 1)
            }
            Begin::Keyword(word, from) => {
                let last = args.len().checked_sub(usize::from(from.unsigned_abs()))?;
                let mut places = (1..=last).rev();
                places.find(|at| args.is(*at, word)).map(|at| at + 1)
            }
        }
    }

    /// Adds the positions of its keys among the words.
    pub fn find(&self, args: Args<'_>, out: &mut Positions) {
        let Some(begin) = self.beginning(args).filter(|at| *at < args.len()) else {
            return;
        };
        let (first, end, step) = match self.find {
            Find::Range { last, step, limit } => {
                let end = if last < 0 {
                    (args.len() + 1).saturating_sub(usize::from(last.unsigned_abs()))
                } else {
                    begin + 1 + last as usize
                };
                let share = end.saturating_sub(begin) / usize::from(limit.max(1));
                (begin, begin + share, step)
            }
            Find::Count { at, first, step } => {
                let count = args.integer(begin + usize::from(at)).unwrap_or(0);
                let count = usize::try_from(count).unwrap_or(0).min(args.len());
                let first = begin + usize::from(first);
                (first, first + count * usize::from(step), step)
            }
        };
        let places = (first..end.min(args.len())).step_by(usize::from(step).max(1));
        out.extend(places.map(|at| at as u32));
    }
}

/// How a command comes to where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travels {
    /// Not at all: it is this node's own business.
    Stays,
    /// To the coordinator of its first key, whichever nodes coordinate the others.
    ToFirst,
    /// To the coordinator of all its keys; refused where there are several.
    Together,
    /// Taken apart by coordinator; the replies come together again.
    Apart(Merge),
    /// It runs other commands: to the coordinator of all its keys where that is one, and from there or from here
    /// to those of the keys that they name.
    Script,
    /// To every member: it is about the whole key space.
    Everywhere,
    /// Refused in a cluster.
    Nowhere,
}

/// How replies of a command that was taken apart become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Numbers are added up.
    Sum,
    /// All are OK.
    Ok,
    /// Elements are put in the order of their keys.
    Elements,
}

/// What a write leaves and its reply reveals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// Something that depends on what was there; or the reply does.
    What,
    /// What the words say, and a reply that reveals nothing: the write is *blind*, and may be repeated.
    Said,
    /// That, unless one of these options is given from a place on.
    SaidUnless(&'static [&'static str], u8),
}

/// Where a command names another database, in which it looks for its last key, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// Nowhere.
    No,
    /// At this word.
    At(u8),
    /// Behind this option, from a place on.
    Option(&'static str, u8),
}

/// How long a command waits where there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// So many seconds, as the word at a place (negative: from the end) says.
    Word(i8),
    /// As its option BLOCK says, in milliseconds; without it not at all.
    Block,
}

/// A command as routing sees it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its keys.
    pub keys: &'static [KeySpec],
    /// Whether it may look at keys.
    pub reads: bool,
    /// Whether it may change keys.
    pub writes: bool,
    /// Whether it may take space on the disk.
    pub grows: bool,
    /// How it comes to where it runs.
    pub travels: Travels,
    /// What a write leaves, and its reply reveals.
    pub leaves: Leaves,
    /// Another database that it names.
    pub elsewhere: Elsewhere,
    /// How long it waits where there is nothing; a reply of nil says that there was.
    pub waits: Option<Waits>,
}

impl Shape {
    /// Where the keys are in `args`.
    pub fn positions(&self, args: Args<'_>) -> Positions {
        let mut found = Positions::new();
        for keys in self.keys {
            keys.find(args, &mut found);
        }
        found
    }

    /// The keys of which it uses more than that they are there.
    pub fn used<'k>(&self, args: Args<'k>) -> Vec<&'k [u8]> {
        self.keys_with(args, |access| access != Access::ReadMeta)
    }

    /// The keys for which it waits: of which it takes something, or at which it looks.
    pub fn awaited<'k>(&self, args: Args<'k>) -> Vec<&'k [u8]> {
        match self.waits {
            Some(Waits::Block) => {
                let places = self.positions(args);
                places.iter().map(|at| args.at(*at as usize)).collect()
            }
            _ => self.taken(args),
        }
    }

    /// The keys of which it takes something.
    pub fn taken<'k>(&self, args: Args<'k>) -> Vec<&'k [u8]> {
        self.keys_with(args, |access| access == Access::Take)
    }

    fn keys_with<'k>(&self, args: Args<'k>, wanted: fn(Access) -> bool) -> Vec<&'k [u8]> {
        let mut found = Positions::new();
        for keys in self.keys.iter().filter(|keys| wanted(keys.access)) {
            keys.find(args, &mut found);
        }
        found.iter().map(|at| args.at(*at as usize)).collect()
    }

    /// Whether its keys are not all where a client finds them by their first, last and step.
    pub fn has_movable_keys(&self) -> bool {
        let moves = |keys: &KeySpec| {
            matches!(keys.begin, Begin::Keyword(..)) || matches!(keys.find, Find::Count { .. })
        };
        self.keys.iter().any(moves)
    }

    /// Whether it is about keys that it names, and runs where they are.
    pub fn is_on_keys(&self) -> bool {
        use Travels::{Apart, Script, ToFirst, Together};
        matches!(self.travels, ToFirst | Together | Apart(_) | Script)
    }

    /// Whether it runs other commands.
    pub fn is_script(&self) -> bool {
        self.travels == Travels::Script
    }

    /// Whether it changes whole databases.
    pub fn is_for_all(&self) -> bool {
        self.writes && self.keys.is_empty()
    }

    /// Whether it never has more than one key.
    pub fn is_on_one_key(&self) -> bool {
        let one = Find::Range {
            last: 0,
            step: 1,
            limit: 0,
        };
        matches!(self.keys, [KeySpec { begin: Begin::Index(_), find, .. }] if *find == one)
    }

    /// Whether it does nothing but look at one key.
    pub fn reads_one_key(&self) -> bool {
        let is_first = matches!(self.keys, [keys] if keys.begin == Begin::Index(1));
        is_first && self.reads && !self.writes && self.is_on_one_key() && self.is_on_keys()
    }

    /// Words that go with each key.
    pub fn step(&self) -> usize {
        match self.keys {
            [
                KeySpec {
                    find: Find::Range { step, .. } | Find::Count { step, .. },
                    ..
                },
            ] => usize::from(*step),
            _ => 1,
        }
    }

    /// Whether neither what a write leaves nor its reply depends on what was there before.
    pub fn is_blind(&self, args: Args<'_>) -> bool {
        match self.leaves {
            Leaves::What => false,
            Leaves::Said => true,
            Leaves::SaidUnless(options, from) => {
                let depends = |at: usize| options.iter().any(|option| args.is(at, option));
                !(usize::from(from)..args.len()).any(depends)
            }
        }
    }

    /// The other database that it names.
    pub fn other_database(&self, args: Args<'_>) -> Option<u8> {
        match self.elsewhere {
            Elsewhere::No => None,
            Elsewhere::At(at) => args.database(usize::from(at)).ok(),
            Elsewhere::Option(option, from) => {
                let at = (usize::from(from)..args.len()).find(|at| args.is(*at, option))?;
                args.database(at + 1).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::OwnedArgs;
    use super::*;
    use Access::{Overwrite, Read};

    const READS: Shape = Shape {
        keys: &[],
        reads: true,
        writes: false,
        grows: false,
        travels: Travels::ToFirst,
        leaves: Leaves::What,
        elsewhere: Elsewhere::No,
        waits: None,
    };

    fn found(keys: &'static [KeySpec], words: &str) -> String {
        let mut owned = OwnedArgs::default();
        words
            .split(' ')
            .for_each(|word| owned.push(word.as_bytes()));
        let shape = Shape { keys, ..READS };
        let args = owned.as_args();
        let places = shape.positions(args);
        places.iter().map(|at| args.text(*at as usize)).collect()
    }

    const ALL: &[KeySpec] = &[KeySpec::range(1, -1, 1, Read)];
    const PAIRS: &[KeySpec] = &[KeySpec::range(1, -1, 2, Overwrite)];
    const TWO: &[KeySpec] = &[KeySpec::range(1, 1, 1, Read)];
    const ALL_BUT_LAST: &[KeySpec] = &[KeySpec::range(1, -2, 1, Read)];
    const UNION: &[KeySpec] = &[
        KeySpec::one(1, Overwrite),
        KeySpec {
            begin: Begin::Index(2),
            find: Find::Count {
                at: 0,
                first: 1,
                step: 1,
            },
            access: Read,
        },
    ];
    const OF_STREAMS: &[KeySpec] = &[KeySpec {
        begin: Begin::Keyword(STREAMS, 1),
        find: Find::Range {
            last: -1,
            step: 1,
            limit: 2,
        },
        access: Read,
    }];
    const STORE: &[KeySpec] = &[
        KeySpec::one(1, Read),
        KeySpec {
            begin: Begin::Keyword("STORE", -2),
            find: Find::Range {
                last: 0,
                step: 1,
                limit: 0,
            },
            access: Overwrite,
        },
    ];

    #[test]
    fn keys_are_found_wherever_redis_puts_them() {
        assert_eq!(found(ALL, "MGET a b c"), "abc");
        assert_eq!(found(PAIRS, "MSET a 1 b 2"), "ab");
        assert_eq!(found(PAIRS, "MSET a 1 b"), "ab");
        assert_eq!(found(TWO, "RENAME a b x"), "ab");
        assert_eq!(found(TWO, "RENAME a"), "a");
        assert_eq!(found(ALL_BUT_LAST, "BLPOP a b 0"), "ab");
        assert_eq!(found(&[], "PING a"), "");
        assert_eq!(found(UNION, "ZUNIONSTORE d 2 a b WEIGHTS 1 2"), "dab");
        assert_eq!(found(UNION, "ZUNIONSTORE d 9 a b"), "dab");
        assert_eq!(found(UNION, "ZUNIONSTORE d x a b"), "d");
        assert_eq!(found(UNION, "ZUNIONSTORE d -1 a b"), "d");
        assert_eq!(found(OF_STREAMS, "XREAD COUNT 2 streams a b 0-0 1-1"), "ab");
        assert_eq!(found(OF_STREAMS, "XREAD COUNT 2"), "");
        let group = "XREADGROUP COUNT 1 GROUP g STREAMS STREAMS a >";
        assert_eq!(found(OF_STREAMS, group), "a");
        assert_eq!(found(STORE, "SORT a BY x STORE d"), "ad");
        assert_eq!(found(STORE, "SORT a BY x STORE"), "a");
    }
}
