//! THE table: every command with its arity, flags and keys. It feeds dispatch, COMMAND, the docs
//! and the tests. A container's row is followed by the rows of its subcommands.

use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::args::Args;
use super::{
    Ctx, Outcome, causal, cluster, connection, converge, docs, expiry, info, keys, latency, meet,
    operator, plan, server, snapshot, strings, timing, transactions, transfers,
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
    /// Runs at once inside MULTI. Ours, not shown.
    pub const IN_TRANSACTION: Flags = Flags(1 << 12);
    /// Not in Redis. Ours, not shown.
    pub const OWN: Flags = Flags(1 << 13);

    /// The names that COMMAND shows.
    pub const NAMES: [(Flags, &'static str); 11] = [
        (Flags::WRITE, "write"),
        (Flags::READ, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::NO_MONITOR, "skip_monitor"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::NO_MULTI, "no_multi"),
    ];

    /// Both.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// A function that runs a command.
pub type Handler = fn(&mut Ctx<'_>, Args<'_>) -> Outcome;

/// One row.
#[derive(Debug)]
pub struct Spec {
    /// In small letters; a subcommand's own name.
    pub name: &'static str,
    /// The container, or "".
    pub parent: &'static str,
    /// Words with the name; negative: at least.
    pub arity: i8,
    /// Properties.
    pub flags: Flags,
    /// First key, last key (negative from the end), step; 0 for none.
    pub keys: (i8, i8, i8),
    /// Redis's group.
    pub group: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What runs it.
    pub handler: Handler,
}

impl Spec {
    /// Whether the command has a property.
    pub fn has(&self, flag: Flags) -> bool {
        self.flags.0 & flag.0 != 0
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
        (std::ptr::from_ref(self) as usize - COMMANDS.as_ptr() as usize) / size_of::<Spec>()
    }

    /// Whether the row only holds subcommands together.
    pub fn is_container(&self) -> bool {
        self.parent.is_empty() && COMMANDS.iter().any(|s| s.parent == self.name)
    }

    /// Whether it does nothing but look at one key.
    pub fn reads_one_key(&self) -> bool {
        self.keys.0 == 1 && self.keys.1 == 1 && self.has(Flags::READ) && !self.has(Flags::WRITE)
    }

    /// Whether it shows the value of a string, or makes a new one of it.
    pub fn shows_values(&self) -> bool {
        const WHATEVER_WAS: &[&str] = &["set", "setnx", "setex", "psetex", "mset", "msetnx"];
        self.group == "string" && !WHATEVER_WAS.contains(&self.name)
    }

    /// Where the keys are in `args`.
    pub fn key_positions(&self, len: usize) -> SmallVec<[usize; 4]> {
        let (first, last, step) = self.keys;
        if first == 0 {
            return SmallVec::new();
        }
        let last = if last < 0 {
            len as i64 + i64::from(last)
        } else {
            i64::from(last)
        };
        (i64::from(first)..=last)
            .step_by(step as usize)
            .map(|nth| nth as usize)
            .collect()
    }
}

/// All rows.
pub fn all() -> &'static [Spec] {
    COMMANDS
}

/// The row of what a client sent.
pub(super) fn find(args: Args<'_>) -> Option<&'static Spec> {
    let entry = INDEX.get(lower(args.get(0)?, &mut [0; MAX_NAME])?)?;
    if entry.subcommands.is_empty() {
        return Some(entry.spec);
    }
    match args.get(1) {
        None => entry.alone.then_some(entry.spec),
        Some(sub) => entry
            .subcommands
            .get(lower(sub, &mut [0; MAX_NAME])?)
            .copied(),
    }
}

/// The container that a client named, when its subcommand is missing or unknown.
pub(super) fn container(args: Args<'_>) -> Option<&'static Spec> {
    let entry = INDEX.get(lower(args.get(0)?, &mut [0; MAX_NAME])?)?;
    (!entry.subcommands.is_empty()).then_some(entry.spec)
}

/// A row by its full name.
pub(super) fn by_name(name: &str) -> Option<&'static Spec> {
    COMMANDS
        .iter()
        .find(|spec| spec.full_name().eq_ignore_ascii_case(name))
}

const MAX_NAME: usize = 24;

fn lower<'a>(name: &[u8], space: &'a mut [u8; MAX_NAME]) -> Option<&'a [u8]> {
    let space = space.get_mut(..name.len())?;
    space.copy_from_slice(name);
    space.make_ascii_lowercase();
    Some(space)
}

struct Entry {
    spec: &'static Spec,
    /// Whether the container is a command without a subcommand too.
    alone: bool,
    subcommands: HashMap<&'static [u8], &'static Spec>,
}

static INDEX: LazyLock<HashMap<&'static [u8], Entry>> = LazyLock::new(|| {
    let mut index: HashMap<&'static [u8], Entry> = HashMap::new();
    for spec in COMMANDS.iter().filter(|s| s.parent.is_empty()) {
        let subcommands = COMMANDS
            .iter()
            .filter(|s| s.parent == spec.name)
            .map(|s| (s.name.as_bytes(), s))
            .collect();
        let entry = Entry {
            spec,
            alone: spec.arity == -1,
            subcommands,
        };
        index.insert(spec.name.as_bytes(), entry);
    }
    index
});

const NONE: (i8, i8, i8) = (0, 0, 0);
const ONE: (i8, i8, i8) = (1, 1, 1);
const TWO: (i8, i8, i8) = (1, 2, 1);
const ALL: (i8, i8, i8) = (1, -1, 1);
const PAIRS: (i8, i8, i8) = (1, -1, 2);
const SECOND: (i8, i8, i8) = (2, 2, 1);

const W: Flags = Flags::WRITE;
const WF: Flags = W.and(Flags::FAST);
const WM: Flags = W.and(Flags::DENYOOM);
const WMF: Flags = WM.and(Flags::FAST);
const R: Flags = Flags::READ;
const RF: Flags = R.and(Flags::FAST);
const L: Flags = Flags::LOADING.and(Flags::STALE);
const LF: Flags = L.and(Flags::FAST);
const NL: Flags = L.and(Flags::NOSCRIPT);
const NLF: Flags = NL.and(Flags::FAST);
const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT);
const AL: Flags = ADMIN.and(L);
const NO_MULTI: Flags = Flags::NO_MULTI;
const TX: Flags = NLF.and(Flags::IN_TRANSACTION);
const OPEN: Flags = NLF.and(Flags::NO_AUTH);
const OWN: Flags = Flags::OWN;

const fn cmd(
    name: &'static str,
    arity: i8,
    flags: Flags,
    keys: (i8, i8, i8),
    group: &'static str,
    handler: Handler,
    summary: &'static str,
) -> Spec {
    Spec {
        name,
        parent: "",
        arity,
        flags,
        keys,
        group,
        summary,
        handler,
    }
}

const fn sub(
    parent: &'static str,
    name: &'static str,
    arity: i8,
    flags: Flags,
    handler: Handler,
    summary: &'static str,
) -> Spec {
    Spec {
        name,
        parent,
        arity,
        flags,
        keys: NONE,
        group: "server",
        summary,
        handler,
    }
}

const fn key_sub(mut spec: Spec) -> Spec {
    spec.keys = SECOND;
    spec
}

static COMMANDS: &[Spec] = &[
    // Strings
    cmd(
        "append",
        3,
        WMF,
        ONE,
        "string",
        strings::append,
        "Appends to a string.",
    ),
    cmd(
        "decr",
        2,
        WMF,
        ONE,
        "string",
        strings::decr,
        "Takes one from a counter.",
    ),
    cmd(
        "decrby",
        3,
        WMF,
        ONE,
        "string",
        strings::decrby,
        "Takes an amount from a counter.",
    ),
    cmd(
        "get",
        2,
        RF,
        ONE,
        "string",
        strings::get,
        "The value of a key.",
    ),
    cmd(
        "getdel",
        2,
        WF,
        ONE,
        "string",
        strings::getdel,
        "The value of a key, which is deleted.",
    ),
    cmd(
        "getex",
        -2,
        WF,
        ONE,
        "string",
        strings::getex,
        "The value of a key, whose expiry is changed.",
    ),
    cmd(
        "getrange",
        4,
        R,
        ONE,
        "string",
        strings::getrange,
        "A part of a string.",
    ),
    cmd(
        "getset",
        3,
        WMF,
        ONE,
        "string",
        strings::getset,
        "The old value of a key, which gets a new one.",
    ),
    cmd(
        "incr",
        2,
        WMF,
        ONE,
        "string",
        strings::incr,
        "Adds one to a counter.",
    ),
    cmd(
        "incrby",
        3,
        WMF,
        ONE,
        "string",
        strings::incrby,
        "Adds an amount to a counter.",
    ),
    cmd(
        "incrbyfloat",
        3,
        WMF,
        ONE,
        "string",
        strings::incrbyfloat,
        "Adds a decimal to a number.",
    ),
    cmd(
        "lcs",
        -3,
        R,
        TWO,
        "string",
        strings::lcs,
        "The longest common subsequence of two strings.",
    ),
    cmd(
        "mget",
        -2,
        RF,
        ALL,
        "string",
        strings::mget,
        "The values of several keys.",
    ),
    cmd(
        "mset",
        -3,
        WM,
        PAIRS,
        "string",
        strings::mset,
        "Sets several keys.",
    ),
    cmd(
        "msetnx",
        -3,
        WM,
        PAIRS,
        "string",
        strings::msetnx,
        "Sets several keys if none of them exists.",
    ),
    cmd(
        "psetex",
        4,
        WM,
        ONE,
        "string",
        strings::psetex,
        "Sets a key with a time to live in milliseconds.",
    ),
    cmd("set", -3, WM, ONE, "string", strings::set, "Sets a key."),
    cmd(
        "setex",
        4,
        WM,
        ONE,
        "string",
        strings::setex,
        "Sets a key with a time to live in seconds.",
    ),
    cmd(
        "setnx",
        3,
        WMF,
        ONE,
        "string",
        strings::setnx,
        "Sets a key if it does not exist.",
    ),
    cmd(
        "setrange",
        4,
        WM,
        ONE,
        "string",
        strings::setrange,
        "Overwrites a part of a string.",
    ),
    cmd(
        "strlen",
        2,
        RF,
        ONE,
        "string",
        strings::strlen,
        "The length of a string.",
    ),
    cmd(
        "substr",
        4,
        R,
        ONE,
        "string",
        strings::getrange,
        "A part of a string (old name of GETRANGE).",
    ),
    // Keys
    cmd(
        "copy",
        -3,
        WM,
        TWO,
        "generic",
        keys::copy,
        "Copies a key, with siblings and expiry.",
    ),
    cmd("del", -2, W, ALL, "generic", keys::del, "Deletes keys."),
    cmd(
        "dump",
        2,
        R,
        ONE,
        "generic",
        keys::dump,
        "A key's values in Ringwood's own format.",
    ),
    cmd(
        "exists",
        -2,
        RF,
        ALL,
        "generic",
        keys::exists,
        "How many of the keys exist.",
    ),
    cmd(
        "expire",
        -3,
        WF,
        ONE,
        "generic",
        expiry::expire,
        "Sets a time to live in seconds.",
    ),
    cmd(
        "expireat",
        -3,
        WF,
        ONE,
        "generic",
        expiry::expireat,
        "Sets the expiry as a time in seconds.",
    ),
    cmd(
        "expiretime",
        2,
        RF,
        ONE,
        "generic",
        expiry::expiretime,
        "The expiry as a time in seconds.",
    ),
    cmd(
        "keys",
        2,
        R,
        NONE,
        "generic",
        keys::keys,
        "All keys that match a pattern.",
    ),
    cmd(
        "move",
        3,
        WF,
        ONE,
        "generic",
        keys::move_key,
        "Moves a key to another database.",
    ),
    cmd(
        "object",
        -2,
        R,
        NONE,
        "generic",
        docs::help,
        "What is known about a key's value.",
    ),
    key_sub(sub(
        "object",
        "encoding",
        3,
        R,
        keys::object_encoding,
        "The encoding that Redis would use.",
    )),
    key_sub(sub(
        "object",
        "freq",
        3,
        R,
        keys::object_freq,
        "Access frequency; always an error, as without LFU.",
    )),
    key_sub(sub(
        "object",
        "idletime",
        3,
        R,
        keys::object_idletime,
        "Seconds since the last access; always 0.",
    )),
    key_sub(sub(
        "object",
        "refcount",
        3,
        R,
        keys::object_refcount,
        "References to the value; always 1.",
    )),
    sub("object", "help", 2, LF, docs::help, "This text."),
    cmd(
        "persist",
        2,
        WF,
        ONE,
        "generic",
        expiry::persist,
        "Removes the expiry.",
    ),
    cmd(
        "pexpire",
        -3,
        WF,
        ONE,
        "generic",
        expiry::pexpire,
        "Sets a time to live in milliseconds.",
    ),
    cmd(
        "pexpireat",
        -3,
        WF,
        ONE,
        "generic",
        expiry::pexpireat,
        "Sets the expiry as a time in milliseconds.",
    ),
    cmd(
        "pexpiretime",
        2,
        RF,
        ONE,
        "generic",
        expiry::pexpiretime,
        "The expiry as a time in milliseconds.",
    ),
    cmd(
        "pttl",
        2,
        RF,
        ONE,
        "generic",
        expiry::pttl,
        "The time to live in milliseconds.",
    ),
    cmd(
        "randomkey",
        1,
        R,
        NONE,
        "generic",
        keys::randomkey,
        "Some key.",
    ),
    cmd(
        "rename",
        3,
        W,
        TWO,
        "generic",
        keys::rename,
        "Gives a key another name, with siblings and expiry.",
    ),
    cmd(
        "renamenx",
        3,
        WF,
        TWO,
        "generic",
        keys::renamenx,
        "Gives a key another name if that is free.",
    ),
    cmd(
        "restore",
        -4,
        WM,
        ONE,
        "generic",
        keys::restore,
        "Makes a key from what DUMP gave.",
    ),
    cmd(
        "scan",
        -2,
        R,
        NONE,
        "generic",
        keys::scan,
        "A page of the keys.",
    ),
    cmd(
        "touch",
        -2,
        RF,
        ALL,
        "generic",
        keys::exists,
        "How many of the keys exist.",
    ),
    cmd(
        "ttl",
        2,
        RF,
        ONE,
        "generic",
        expiry::ttl,
        "The time to live in seconds.",
    ),
    cmd(
        "type",
        2,
        RF,
        ONE,
        "generic",
        keys::type_of,
        "The type of a key's value.",
    ),
    cmd("unlink", -2, WF, ALL, "generic", keys::del, "Deletes keys."),
    cmd(
        "wait",
        3,
        Flags::NOSCRIPT,
        NONE,
        "generic",
        server::wait,
        "How many replicas have this connection's writes.",
    ),
    cmd(
        "waitaof",
        4,
        Flags::NOSCRIPT,
        NONE,
        "generic",
        server::waitaof,
        "How many nodes have this connection's writes on disk.",
    ),
    // Transactions
    cmd(
        "discard",
        1,
        TX,
        NONE,
        "transactions",
        transactions::discard,
        "Forgets the queued commands.",
    ),
    cmd(
        "exec",
        1,
        NL.and(Flags::IN_TRANSACTION),
        NONE,
        "transactions",
        transactions::exec,
        "Runs the queued commands.",
    ),
    cmd(
        "multi",
        1,
        TX,
        NONE,
        "transactions",
        transactions::multi,
        "Queues the commands that follow.",
    ),
    cmd(
        "unwatch",
        1,
        NLF,
        NONE,
        "transactions",
        transactions::unwatch,
        "Forgets the watched keys.",
    ),
    cmd(
        "watch",
        -2,
        TX.and(R),
        ALL,
        "transactions",
        transactions::watch,
        "EXEC does nothing if one of the keys changes.",
    ),
    // Causality
    cmd(
        "siblings",
        -2,
        R.and(OWN),
        ONE,
        "causal",
        causal::siblings,
        "All values of a key and the context to resolve them: SIBLINGS key [WITHMETA] [FIELD element].",
    ),
    cmd(
        "resolve",
        -3,
        WM.and(OWN),
        ONE,
        "causal",
        causal::resolve,
        "Writes over exactly what a context has seen: RESOLVE key context [value [EX s|PX ms|EXAT t|PXAT t|KEEPTTL]] [FIELD element].",
    ),
    cmd(
        "conflicts",
        -2,
        R.and(OWN),
        NONE,
        "causal",
        keys::conflicts,
        "A page of the keys that have siblings: CONFLICTS cursor [MATCH p] [COUNT n].",
    ),
    cmd(
        "ringwood",
        -2,
        L.and(OWN),
        NONE,
        "causal",
        docs::help,
        "What the node knows about itself and a key.",
    ),
    key_sub(sub(
        "ringwood",
        "explain",
        3,
        R.and(OWN),
        operator::explain,
        "Where a key lives and what its copies hold.",
    )),
    sub("ringwood", "help", 2, LF.and(OWN), docs::help, "This text."),
    sub(
        "ringwood",
        "hints",
        2,
        L.and(OWN),
        operator::hints,
        "How many hints this node holds.",
    ),
    key_sub(sub(
        "ringwood",
        "local",
        3,
        R.and(OWN),
        operator::local,
        "This node's copy of a key, in canonical bytes.",
    )),
    key_sub(sub(
        "ringwood",
        "owners",
        3,
        R.and(OWN),
        operator::owners,
        "The nodes of a key, in rank order.",
    )),
    sub(
        "ringwood",
        "accept-loss",
        -3,
        L.and(OWN).and(NO_MULTI),
        converge::accept_loss,
        "Says that what is left of partitions that were lost, or of all of them, is all there is.",
    ),
    sub(
        "ringwood",
        "plan",
        -2,
        L.and(OWN).and(NO_MULTI),
        plan::plan,
        "Shows what a change of the membership would move; COMMIT does it, CANCEL withdraws it.",
    ),
    sub(
        "ringwood",
        "repair",
        -2,
        L.and(OWN).and(NO_MULTI),
        converge::repair,
        "Compares one partition or all with the other owners now, and mends them.",
    ),
    sub(
        "ringwood",
        "latency",
        2,
        L.and(OWN),
        timing::latency,
        "Where commands spend their time, from their arrival to their reply, since the start or CONFIG RESETSTAT.",
    ),
    sub(
        "ringwood",
        "ring",
        2,
        L.and(OWN),
        operator::ring,
        "Which node owns which partitions.",
    ),
    sub(
        "ringwood",
        "snapshot",
        3,
        ADMIN.and(OWN).and(NO_MULTI),
        snapshot::snapshot,
        "Makes a consistent copy of this node's data in a folder that is not there yet.",
    ),
    sub(
        "ringwood",
        "status",
        2,
        L.and(OWN),
        operator::status,
        "The state of the node.",
    ),
    sub(
        "ringwood",
        "transfers",
        -2,
        L.and(OWN).and(NO_MULTI),
        transfers::transfers,
        "What moves from node to node, how far it is, what waits and why.",
    ),
    sub(
        "ringwood",
        "verify",
        -2,
        L.and(OWN).and(NO_MULTI),
        converge::verify,
        "Whether all owners of one partition or of all hold the same, or what differs.",
    ),
    // Connection
    cmd(
        "asking",
        1,
        Flags::FAST,
        NONE,
        "cluster",
        connection::ok,
        "Accepted: every node takes every command.",
    ),
    cmd(
        "cluster",
        -2,
        NL,
        NONE,
        "cluster",
        docs::help,
        "What cluster-aware clients ask.",
    ),
    sub(
        "cluster",
        "countkeysinslot",
        3,
        NL,
        cluster::count_keys,
        "How many keys of a slot this node holds.",
    ),
    sub(
        "cluster",
        "forget",
        3,
        NL,
        cluster::forget,
        "Removes a member that is gone, by its id or its name.",
    ),
    sub(
        "cluster",
        "getkeysinslot",
        4,
        NL,
        cluster::keys_in_slot,
        "Keys of a slot that this node holds.",
    ),
    sub("cluster", "help", 2, NL, docs::help, "This text."),
    sub(
        "cluster",
        "info",
        2,
        NL,
        cluster::info,
        "The state of the cluster.",
    ),
    sub(
        "cluster",
        "keyslot",
        3,
        NL,
        cluster::key_slot,
        "The slot of a key.",
    ),
    sub(
        "cluster",
        "links",
        2,
        NL,
        cluster::links,
        "The links to other nodes.",
    ),
    sub(
        "cluster",
        "meet",
        -4,
        NL.and(NO_MULTI),
        meet::meet,
        "Joins the cluster of another node, or has that one join: CLUSTER MEET host port [peer-port].",
    ),
    sub(
        "cluster",
        "myid",
        2,
        NL,
        cluster::my_id,
        "The id of this node.",
    ),
    sub(
        "cluster",
        "nodes",
        2,
        NL,
        cluster::nodes,
        "All members with the slots that they coordinate.",
    ),
    sub(
        "cluster",
        "shards",
        2,
        NL,
        cluster::shards,
        "Slots by owners.",
    ),
    sub(
        "cluster",
        "slots",
        2,
        NL,
        cluster::slots,
        "Owners by slots, the coordinator first.",
    ),
    cmd(
        "auth",
        -2,
        OPEN,
        NONE,
        "connection",
        connection::auth,
        "Proves who the client is.",
    ),
    cmd(
        "client",
        -2,
        NL,
        NONE,
        "connection",
        docs::help,
        "Connections.",
    ),
    sub(
        "client",
        "getname",
        2,
        NL,
        connection::client_getname,
        "The connection's name.",
    ),
    sub("client", "help", 2, L, docs::help, "This text."),
    sub(
        "client",
        "id",
        2,
        NL,
        connection::client_id,
        "The connection's number.",
    ),
    sub(
        "client",
        "info",
        2,
        NL,
        connection::client_info,
        "This connection.",
    ),
    sub(
        "client",
        "kill",
        -3,
        AL,
        connection::client_kill,
        "Closes connections.",
    ),
    sub(
        "client",
        "list",
        -2,
        AL,
        connection::client_list,
        "All connections.",
    ),
    sub(
        "client",
        "no-evict",
        3,
        AL,
        connection::client_switch,
        "Accepted: clients are not evicted.",
    ),
    sub(
        "client",
        "no-touch",
        3,
        NL,
        connection::client_switch,
        "Accepted: reads do not touch.",
    ),
    sub(
        "client",
        "pause",
        -3,
        AL,
        connection::client_pause,
        "Makes commands wait.",
    ),
    sub(
        "client",
        "quorum",
        -2,
        NLF.and(OWN),
        connection::client_quorum,
        "This connection's quorum: CLIENT QUORUM [R n] [W n].",
    ),
    sub(
        "client",
        "reply",
        3,
        NL,
        connection::client_reply,
        "Whether the client wants replies.",
    ),
    sub(
        "client",
        "setinfo",
        4,
        NL,
        connection::client_setinfo,
        "The client library's name and version.",
    ),
    sub(
        "client",
        "setname",
        3,
        NL,
        connection::client_setname,
        "Names the connection.",
    ),
    sub(
        "client",
        "trackinginfo",
        2,
        NL,
        connection::client_trackinginfo,
        "Tracking, which is off.",
    ),
    sub(
        "client",
        "unpause",
        2,
        AL,
        connection::client_unpause,
        "Lets commands go on.",
    ),
    cmd(
        "echo",
        2,
        LF,
        NONE,
        "connection",
        connection::echo,
        "Replies its argument.",
    ),
    cmd(
        "hello",
        -1,
        OPEN,
        NONE,
        "connection",
        connection::hello,
        "Chooses the protocol.",
    ),
    cmd(
        "ping",
        -1,
        LF,
        NONE,
        "connection",
        connection::ping,
        "Replies PONG.",
    ),
    cmd(
        "quit",
        -1,
        OPEN.and(Flags::IN_TRANSACTION),
        NONE,
        "connection",
        connection::quit,
        "Closes the connection.",
    ),
    cmd(
        "readonly",
        1,
        LF,
        NONE,
        "cluster",
        connection::ok,
        "Accepted: every node takes reads.",
    ),
    cmd(
        "readwrite",
        1,
        LF,
        NONE,
        "cluster",
        connection::ok,
        "Accepted: every node takes writes.",
    ),
    cmd(
        "reset",
        1,
        OPEN.and(Flags::IN_TRANSACTION),
        NONE,
        "connection",
        connection::reset,
        "Makes the connection like new.",
    ),
    cmd(
        "select",
        2,
        LF,
        NONE,
        "connection",
        connection::select,
        "Chooses the database.",
    ),
    // Server
    cmd(
        "bgrewriteaof",
        1,
        ADMIN,
        NONE,
        "server",
        server::bgrewriteaof,
        "Accepted: the journal is trimmed all the time.",
    ),
    cmd(
        "bgsave",
        -1,
        ADMIN,
        NONE,
        "server",
        server::bgsave,
        "Makes everything durable.",
    ),
    cmd(
        "command",
        -1,
        L,
        NONE,
        "server",
        docs::command,
        "The command table.",
    ),
    sub(
        "command",
        "count",
        2,
        L,
        docs::count,
        "How many commands there are.",
    ),
    sub("command", "docs", -2, L, docs::docs, "What commands do."),
    sub(
        "command",
        "getkeys",
        -4,
        L,
        docs::getkeys,
        "Which words of a command are keys.",
    ),
    sub("command", "help", 2, L, docs::help, "This text."),
    sub(
        "command",
        "info",
        -2,
        L,
        docs::info,
        "Rows of the command table.",
    ),
    sub(
        "command",
        "list",
        -2,
        L,
        docs::list,
        "The names of the commands.",
    ),
    cmd("config", -2, AL, NONE, "server", docs::help, "Directives."),
    sub(
        "config",
        "get",
        -3,
        AL,
        server::config_get,
        "The values of directives.",
    ),
    sub("config", "help", 2, L, docs::help, "This text."),
    sub(
        "config",
        "resetstat",
        2,
        AL,
        server::config_resetstat,
        "Sets the statistics to zero.",
    ),
    sub(
        "config",
        "rewrite",
        2,
        AL,
        server::config_rewrite,
        "Writes changed directives into the file.",
    ),
    sub(
        "config",
        "set",
        -4,
        AL,
        server::config_set,
        "Changes directives.",
    ),
    cmd(
        "dbsize",
        1,
        RF,
        NONE,
        "server",
        keys::dbsize,
        "How many keys the database has.",
    ),
    cmd("debug", -2, AL, NONE, "server", docs::help, "For tests."),
    sub("debug", "help", 2, L, docs::help, "This text."),
    sub(
        "debug",
        "sleep",
        3,
        AL,
        server::debug_sleep,
        "Makes this connection wait.",
    ),
    cmd(
        "flushall",
        -1,
        W,
        NONE,
        "server",
        keys::flushall,
        "Empties all databases.",
    ),
    cmd(
        "flushdb",
        -1,
        W,
        NONE,
        "server",
        keys::flushdb,
        "Empties the database.",
    ),
    cmd("info", -1, L, NONE, "server", info::info, "Statistics."),
    cmd(
        "lastsave",
        1,
        LF,
        NONE,
        "server",
        server::lastsave,
        "When everything was last made durable by SAVE.",
    ),
    cmd(
        "latency",
        -2,
        AL,
        NONE,
        "server",
        docs::help,
        "Slow events and latencies.",
    ),
    sub(
        "latency",
        "doctor",
        2,
        AL,
        latency::doctor,
        "What was slow, in words.",
    ),
    sub(
        "latency",
        "graph",
        3,
        AL,
        latency::graph,
        "One event's history as a picture.",
    ),
    sub("latency", "help", 2, L, docs::help, "This text."),
    sub(
        "latency",
        "histogram",
        -2,
        AL,
        latency::histogram,
        "How long commands took.",
    ),
    sub(
        "latency",
        "history",
        3,
        AL,
        latency::history,
        "One event's history.",
    ),
    sub(
        "latency",
        "latest",
        2,
        AL,
        latency::latest,
        "The latest events.",
    ),
    sub(
        "latency",
        "reset",
        -2,
        AL,
        latency::reset,
        "Forgets events.",
    ),
    cmd("memory", -2, R, NONE, "server", docs::help, "Memory."),
    sub("memory", "help", 2, L, docs::help, "This text."),
    key_sub(sub(
        "memory",
        "usage",
        -3,
        R,
        keys::memory_usage,
        "The bytes of a key.",
    )),
    cmd(
        "monitor",
        1,
        AL,
        NONE,
        "server",
        server::monitor,
        "Shows every command as it runs.",
    ),
    cmd(
        "role",
        1,
        NLF,
        NONE,
        "server",
        server::role,
        "The role, which is always master.",
    ),
    cmd(
        "save",
        1,
        ADMIN.and(NO_MULTI),
        NONE,
        "server",
        server::save,
        "Makes everything durable.",
    ),
    cmd(
        "shutdown",
        -1,
        AL.and(NO_MULTI),
        NONE,
        "server",
        server::shutdown,
        "Stops the node.",
    ),
    cmd(
        "slowlog",
        -2,
        AL,
        NONE,
        "server",
        docs::help,
        "The slow log.",
    ),
    sub(
        "slowlog",
        "get",
        -2,
        AL,
        server::slowlog_get,
        "The latest entries.",
    ),
    sub("slowlog", "help", 2, L, docs::help, "This text."),
    sub(
        "slowlog",
        "len",
        2,
        AL,
        server::slowlog_len,
        "How many entries there are.",
    ),
    sub(
        "slowlog",
        "reset",
        2,
        AL,
        server::slowlog_reset,
        "Forgets the entries.",
    ),
    cmd(
        "swapdb",
        3,
        WF,
        NONE,
        "server",
        keys::swapdb,
        "Exchanges two databases.",
    ),
    cmd(
        "time",
        1,
        LF,
        NONE,
        "server",
        server::time,
        "The time of day.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_row_is_found() {
        for spec in COMMANDS {
            let same = COMMANDS
                .iter()
                .filter(|s| s.full_name() == spec.full_name());
            assert_eq!(same.count(), 1, "{}", spec.full_name());
            assert!(by_name(&spec.full_name()).is_some());
            assert!(spec.parent.is_empty() || COMMANDS.iter().any(|s| s.name == spec.parent));
        }
    }
}
