//! What a row of the table says of its command, as data: dispatch, routing, COMMAND, MONITOR, the documents
//! and the tests read it. Nothing asks for a command's name.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::routing::Call;
use crate::routing::args::Args;
use crate::routing::shape::{
    Access, Begin, Elsewhere, Find, KeySpec, Leaves, Merge, Shape, Travels,
};

/// Properties of a command, with Redis's names where COMMAND shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// May change keys.
    pub const WRITE: Flags = Flags(1);
    /// Reads keys.
    pub const READ: Flags = Flags(1 << 1);
    /// Constant or logarithmic time.
    pub const FAST: Flags = Flags(1 << 2);
    /// Redis refuses it without memory.
    pub const DENYOOM: Flags = Flags(1 << 3);
    /// For the operator.
    pub const ADMIN: Flags = Flags(1 << 4);
    /// Not in scripts.
    pub const NOSCRIPT: Flags = Flags(1 << 5);
    /// Possible before the data is loaded.
    pub const LOADING: Flags = Flags(1 << 6);
    /// Possible on a stale replica.
    pub const STALE: Flags = Flags(1 << 7);
    /// Possible before AUTH.
    pub const NO_AUTH: Flags = Flags(1 << 8);
    /// Not inside MULTI.
    pub const NO_MULTI: Flags = Flags(1 << 9);
    /// Not shown to MONITOR.
    pub const NO_MONITOR: Flags = Flags(1 << 10);
    /// Waits where there is nothing: its reply is nil then.
    pub const BLOCKING: Flags = Flags(1 << 14);
    /// Runs what MULTI has queued. Ours, not shown.
    pub const RUNS_QUEUE: Flags = Flags(1 << 11);
    /// Runs at once inside MULTI. Ours, not shown.
    pub const IN_TRANSACTION: Flags = Flags(1 << 12);
    /// It may do with fewer keys than it could name.
    pub const NO_MANDATORY_KEYS: Flags = Flags(1 << 15);
    /// Possible while a script has run for too long.
    pub const ALLOW_BUSY: Flags = Flags(1 << 16);
    /// Runs in a client's subscribed mode. Ours, not shown.
    pub const WHILE_SUBSCRIBED: Flags = Flags(1 << 17);
    /// Sends a message. Ours, not shown.
    pub const PUBLISHES: Flags = Flags(1 << 19);
    /// About channels.
    pub const PUBSUB: Flags = Flags(1 << 18);
    /// Not in Redis. Ours, not shown.
    pub const OWN: Flags = Flags(1 << 13);

    /// The names that COMMAND shows.
    pub const NAMES: [(Flags, &'static str); 15] = [
        (Flags::WRITE, "write"),
        (Flags::READ, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::BLOCKING, "blocking"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::NO_MONITOR, "skip_monitor"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::PUBSUB, "pubsub"),
        (Flags::ALLOW_BUSY, "allow_busy"),
        (Flags::NO_MANDATORY_KEYS, "no_mandatory_keys"),
    ];

    /// Both.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    const fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }
}

/// Which of a command's words others may not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hides {
    /// None.
    Nothing,
    /// All behind its name.
    Words,
    /// The two behind every AUTH among its options, which begin with SETNAME or AUTH.
    Auths,
    /// The values of directives that are secret.
    Directives,
}

/// How a command names the script that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptBy {
    /// By its text.
    Text,
    /// By its SHA-1.
    Sha,
    /// As a function of a library.
    Function,
}

/// What one row says.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// In small letters; a subcommand's own name.
    pub name: &'static str,
    /// The container, or "".
    pub parent: &'static str,
    /// Words with the name; negative: at least.
    pub arity: i8,
    /// Properties.
    pub flags: Flags,
    /// Where its keys are, and how it comes to them.
    pub shape: Shape,
    /// Which of its words others may not see.
    pub hides: Hides,
    /// Whether it shows the value of a key, or makes a new one of it: siblings may be an error then.
    pub shows_values: bool,
    /// How it names the script that it runs.
    pub script_by: ScriptBy,
    /// Redis's group.
    pub group: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The row's number, given when the table is put together.
    pub(super) id: usize,
}

impl Spec {
    /// A command; how it travels follows from its keys, unless it says otherwise.
    pub(super) const fn new(
        (parent, name): (&'static str, &'static str),
        arity: i8,
        flags: Flags,
        keys: &'static [KeySpec],
        (group, summary): (&'static str, &'static str),
    ) -> Self {
        let on_keys = !keys.is_empty() && flags.has(Flags::READ.and(Flags::WRITE));
        Self {
            name,
            parent,
            arity,
            flags,
            shape: Shape {
                keys,
                reads: flags.has(Flags::READ),
                writes: flags.has(Flags::WRITE),
                grows: flags.has(Flags::DENYOOM),
                travels: if on_keys {
                    Travels::ToFirst
                } else {
                    Travels::Stays
                },
                leaves: Leaves::What,
                elsewhere: Elsewhere::No,
                waits: None,
            },
            hides: Hides::Nothing,
            shows_values: false,
            script_by: ScriptBy::Text,
            group,
            summary,
            id: 0,
        }
    }

    /// Whether the command has a property.
    pub fn has(&self, flag: Flags) -> bool {
        self.flags.has(flag)
    }

    /// `set`, or `config|get`.
    pub fn full_name(&self) -> String {
        if self.parent.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}|{}", self.parent, self.name)
        }
    }

    /// The row's number.
    pub fn id(&self) -> usize {
        self.id
    }

    /// Whether a command may have so many words.
    pub fn takes(&self, words: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity >= 0 {
            words == wanted
        } else {
            words >= wanted
        }
    }

    /// The command with these words.
    pub fn call(&'static self, args: Args<'_>) -> Call {
        Call::new(
            self.id,
            &self.shape,
            args.to_owned(),
            self.shape.positions(args),
        )
    }

    /// The keys that a command names.
    pub fn keys_of<'k>(&self, args: Args<'k>) -> impl Iterator<Item = &'k [u8]> + use<'k> {
        let positions = self.shape.positions(args);
        positions.into_iter().map(move |at| args.at(at as usize))
    }

    /// First key, last key (negative from the end), step, as COMMAND had them before key specifications.
    pub fn key_range(&self) -> (i8, i8, i8) {
        let place = |keys: &KeySpec| match (keys.begin, keys.find) {
            (Begin::Index(at), Find::Range { last, step, .. }) => {
                Some((at as i8, last, step as i8))
            }
            _ => None,
        };
        // Keys that follow each other; those that move are found in other ways.
        let mut places = self.shape.keys.iter().map_while(place);
        let Some((first, last, step)) = places.next() else {
            return (0, 0, 0);
        };
        let end = |at: i8, last: i8| if last < 0 { last } else { at + last };
        let last = places.fold(end(first, last), |_, (at, last, _)| end(at, last));
        (first, last, step)
    }

    /// What a cluster-aware client may know of it: Redis's tips. None says that a command is to be sent to
    /// every node: here each answers for all.
    pub fn tips(&self) -> &'static [&'static str] {
        match self.shape.travels {
            Travels::Apart(Merge::Sum) => {
                &["request_policy:multi_shard", "response_policy:agg_sum"]
            }
            Travels::Apart(Merge::Ok) => &[
                "request_policy:multi_shard",
                "response_policy:all_succeeded",
            ],
            Travels::Apart(Merge::Elements) => &["request_policy:multi_shard"],
            _ => &[],
        }
    }
}

/// Redis's words for what a command does with a key.
pub fn access_flags(access: Access) -> &'static [&'static str] {
    match access {
        Access::Read => &["RO", "access"],
        Access::ReadMeta => &["RO"],
        Access::ReadWrite => &["RW", "access", "update"],
        Access::SetOrGet => &["RW", "access", "update", "variable_flags"],
        Access::Update => &["RW", "update"],
        Access::Insert => &["RW", "insert"],
        Access::Overwrite => &["OW", "update"],
        Access::Create => &["OW", "insert"],
        Access::Take => &["RW", "access", "delete"],
        Access::Remove => &["RW", "delete"],
        Access::Delete => &["RM", "delete"],
        Access::NoKey => &["not_key"],
    }
}

/// All rows, and where each is.
pub struct Specs {
    all: Vec<Spec>,
    /// By the name of a command or a container.
    index: ByName<Entry>,
}

/// What is found by a name.
type ByName<T> = HashMap<&'static [u8], T, BuildHasherDefault<NameHasher>>;

/// Names are short and our own: whoever asks cannot add to them.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..eight.len()].copy_from_slice(eight);
            self.write_u64(u64::from_le_bytes(padded));
        }
    }

    fn write_usize(&mut self, len: usize) {
        self.write_u64(len as u64);
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (mixed >> 64) as u64 ^ mixed as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

struct Entry {
    spec: usize,
    /// Whether the container is a command without a subcommand too.
    alone: bool,
    subcommands: ByName<usize>,
}

/// No name is longer.
const MAX_NAME: usize = 24;

fn lower<'a>(name: &[u8], space: &'a mut [u8; MAX_NAME]) -> Option<&'a [u8]> {
    let space = space.get_mut(..name.len())?;
    space.copy_from_slice(name);
    space.make_ascii_lowercase();
    Some(space)
}

impl Specs {
    /// Rows in their order.
    pub(super) fn new(rows: impl Iterator<Item = Spec>) -> Self {
        let all: Vec<Spec> = rows
            .zip(0..)
            .map(|(spec, id)| Spec { id, ..spec })
            .collect();
        let mut index = ByName::default();
        for spec in all.iter().filter(|spec| spec.parent.is_empty()) {
            let subcommands = all.iter().filter(|sub| sub.parent == spec.name);
            let subcommands = subcommands.map(|sub| (sub.name.as_bytes(), sub.id));
            let entry = Entry {
                spec: spec.id,
                alone: spec.arity == -1,
                subcommands: subcommands.collect(),
            };
            index.insert(spec.name.as_bytes(), entry);
        }
        Self { all, index }
    }

    /// All of them.
    pub fn all(&self) -> &[Spec] {
        &self.all
    }

    /// The row of what a client sent.
    pub fn find(&self, args: Args<'_>) -> Option<&Spec> {
        let entry = self.index.get(lower(args.get(0)?, &mut [0; MAX_NAME])?)?;
        let found = if entry.subcommands.is_empty() {
            entry.spec
        } else {
            match args.get(1) {
                None => entry.alone.then_some(entry.spec)?,
                Some(sub) => *entry.subcommands.get(lower(sub, &mut [0; MAX_NAME])?)?,
            }
        };
        Some(&self.all[found])
    }

    /// The container that a client named, when its subcommand is missing or unknown.
    pub fn container(&self, args: Args<'_>) -> Option<&Spec> {
        let entry = self.index.get(lower(args.get(0)?, &mut [0; MAX_NAME])?)?;
        (!entry.subcommands.is_empty()).then_some(&self.all[entry.spec])
    }

    /// A row by its full name.
    pub fn by_name(&self, name: &str) -> Option<&Spec> {
        let mut all = self.all.iter();
        all.find(|spec| spec.full_name().eq_ignore_ascii_case(name))
    }

    /// The rows of a container's subcommands.
    pub fn subcommands<'s>(&'s self, of: &'s Spec) -> impl Iterator<Item = &'s Spec> + Clone {
        let is_container = of.parent.is_empty();
        let subcommands = self.all.iter().filter(move |sub| sub.parent == of.name);
        subcommands.filter(move |_| is_container)
    }

    /// Whether a row only holds subcommands together.
    pub fn is_container(&self, spec: &Spec) -> bool {
        self.subcommands(spec).next().is_some()
    }
}

/// Where keys are, for rows.
pub mod keys {
    use super::{Access, Begin, Find, KeySpec};
    use crate::routing::shape;

    macro_rules! specs {
        ($($name:ident = $($spec:expr),+;)+) => {
            $(#[doc = concat!("`", stringify!($($spec),+), "`")]
            pub const $name: &[KeySpec] = &[$($spec),+];)+
        };
    }

    /// So many keys as the word at a place says, behind it, one in so many words.
    const fn counted(at: u8, step: u8, access: Access) -> KeySpec {
        KeySpec {
            begin: Begin::Index(at),
            find: Find::Count {
                at: 0,
                first: 1,
                step,
            },
            access,
        }
    }

    /// A key that is written behind a word.
    const fn behind(word: &'static str, from: i8) -> KeySpec {
        KeySpec {
            begin: Begin::Keyword(word, from),
            find: Find::Range {
                last: 0,
                step: 1,
                limit: 0,
            },
            access: Access::Overwrite,
        }
    }

    const fn one(access: Access) -> KeySpec {
        KeySpec::one(1, access)
    }

    /// The first half of what is behind STREAMS, looked for from a place on.
    const fn streams(from: i8) -> KeySpec {
        KeySpec {
            begin: Begin::Keyword(shape::STREAMS, from),
            find: Find::Range {
                last: -1,
                step: 1,
                limit: 2,
            },
            access: Access::Read,
        }
    }

    specs! {
        READ = one(Access::Read);
        META = one(Access::ReadMeta);
        CHANGE = one(Access::ReadWrite);
        SET = one(Access::SetOrGet);
        UPDATE = one(Access::Update);
        INSERT = one(Access::Insert);
        OVERWRITE = one(Access::Overwrite);
        CREATE = one(Access::Create);
        TAKE = one(Access::Take);
        REMOVE = one(Access::Remove);
        SECOND_META = KeySpec::one(2, Access::ReadMeta);
        SECOND_READ = KeySpec::one(2, Access::Read);
        SECOND_INSERT = KeySpec::one(2, Access::Insert);
        SECOND_REMOVE = KeySpec::one(2, Access::Remove);
        SECOND_DELETE = KeySpec::one(2, Access::Delete);
        SECOND_UPDATE = KeySpec::one(2, Access::Update);
        STREAMS = streams(1);
        STREAMS_OF_GROUP = streams(4);
        READ_ALL = KeySpec::range(1, -1, 1, Access::Read);
        META_ALL = KeySpec::range(1, -1, 1, Access::ReadMeta);
        DELETE_ONE = one(Access::Delete);
        DELETE_ALL = KeySpec::range(1, -1, 1, Access::Delete);
        READ_TWO = KeySpec::range(1, 1, 1, Access::Read);
        OVERWRITE_PAIRS = KeySpec::range(1, -1, 2, Access::Overwrite);
        CREATE_PAIRS = KeySpec::range(1, -1, 2, Access::Create);
        OVERWRITE_COUNTED = counted(1, 2, Access::Overwrite);
        READ_COUNTED = counted(1, 1, Access::Read);
        STORE_ALL = one(Access::Overwrite), KeySpec::range(2, -1, 1, Access::Read);
        STORE_COUNTED = one(Access::Overwrite), counted(2, 1, Access::Read);
        BITS = KeySpec::one(2, Access::Overwrite), KeySpec::range(3, -1, 1, Access::Read);
        MERGE = one(Access::Insert), KeySpec::range(2, -1, 1, Access::Read);
        SORT = one(Access::Read), behind("STORE", -2);
        GEORADIUS_AT = one(Access::Read), behind("STORE", 6), behind("STOREDIST", 6);
        GEORADIUS_BY = one(Access::Read), behind("STORE", 5), behind("STOREDIST", 5);
        STORE_ONE = one(Access::Overwrite), KeySpec::one(2, Access::Read);
        TAKE_COUNTED_SECOND = counted(2, 1, Access::Take);
        TAKE_ALL_BUT_LAST = KeySpec::range(1, -2, 1, Access::Take);
        TAKE_COUNTED = counted(1, 1, Access::Take);
        MOVE = one(Access::Take), KeySpec::one(2, Access::Insert);
        RENAME = one(Access::Take), KeySpec::one(2, Access::Overwrite);
        RENAME_NEW = one(Access::Take), KeySpec::one(2, Access::Create);
        COPY = one(Access::Read), KeySpec::one(2, Access::Overwrite);
        CHANNEL = one(Access::NoKey);
        CHANNELS = KeySpec::range(1, -1, 1, Access::NoKey);
        SCRIPT = counted(2, 1, Access::ReadWrite);
        SCRIPT_READS = counted(2, 1, Access::Read);
    }
}
