//! What each command says of the keys that it has changed: THE table of events, in Redis's words.

use super::spec::{Spec, Specs};
use crate::base::config::Events;
use crate::routing::args::Args;
use crate::routing::shape::Leaves;

/// An event: its class and its name.
pub type Event = (Events, &'static str);

/// What is said of the keys that a command has changed.
#[derive(Clone, Copy)]
enum Says {
    /// Nothing that it does not note itself.
    Nothing,
    /// The same of each.
    One(Event),
    /// Of the first one and of the second one.
    Two(Event, Event),
    /// What the words say.
    By(fn(Args<'_>, usize) -> Event),
}

const G: Events = Events::GENERIC;
const S: Events = Events::STRING;
const L: Events = Events::LIST;
const T: Events = Events::SET;
const H: Events = Events::HASH;
const Z: Events = Events::SORTED_SET;
const X: Events = Events::STREAM;

pub(super) const DEL: Event = (G, "del");
pub(super) const EXPIRE: Event = (G, "expire");

/// What each command says; those that are not here say nothing.
const SAYS: &[(&str, Says)] = &[
    ("append", Says::One((S, "append"))),
    ("bitfield", Says::One((S, "setbit"))),
    ("bitop", Says::One((S, "set"))),
    ("blmove", Says::By(lmove)),
    ("blmpop", Says::By(|args, _| lmpop(args, 3))),
    ("blpop", Says::One((L, "lpop"))),
    ("brpop", Says::One((L, "rpop"))),
    ("brpoplpush", Says::By(rpoplpush)),
    ("bzmpop", Says::By(|args, _| zmpop(args, 3))),
    ("bzpopmax", Says::One((Z, "zpopmax"))),
    ("bzpopmin", Says::One((Z, "zpopmin"))),
    ("copy", Says::One((G, "copy_to"))),
    ("decr", Says::One((S, "incrby"))),
    ("decrby", Says::One((S, "incrby"))),
    ("del", Says::One(DEL)),
    ("expire", Says::One(EXPIRE)),
    ("expireat", Says::One(EXPIRE)),
    ("geoadd", Says::One((Z, "zadd"))),
    ("georadius", Says::One((Z, "georadiusstore"))),
    ("georadiusbymember", Says::One((Z, "georadiusstore"))),
    ("geosearchstore", Says::One((Z, "geosearchstore"))),
    ("getdel", Says::One(DEL)),
    ("getex", Says::By(getex)),
    ("delex", Says::One(DEL)),
    ("delifeq", Says::One(DEL)),
    ("getset", Says::One((S, "set"))),
    ("hdel", Says::One((H, "hdel"))),
    ("hincrby", Says::One((H, "hincrby"))),
    ("hincrbyfloat", Says::One((H, "hincrbyfloat"))),
    ("hmset", Says::One((H, "hset"))),
    ("hset", Says::One((H, "hset"))),
    ("hsetnx", Says::One((H, "hset"))),
    ("incr", Says::One((S, "incrby"))),
    ("incrby", Says::One((S, "incrby"))),
    ("incrbyfloat", Says::One((S, "incrbyfloat"))),
    ("linsert", Says::One((L, "linsert"))),
    ("lmove", Says::By(lmove)),
    ("lmpop", Says::By(|args, _| lmpop(args, 2))),
    ("lpop", Says::One((L, "lpop"))),
    ("lpush", Says::One((L, "lpush"))),
    ("lpushx", Says::One((L, "lpush"))),
    ("lrem", Says::One((L, "lrem"))),
    ("lset", Says::One((L, "lset"))),
    ("ltrim", Says::One((L, "ltrim"))),
    ("move", Says::Two((G, "move_from"), (G, "move_to"))),
    ("mset", Says::One((S, "set"))),
    ("msetex", Says::One((S, "set"))),
    ("msetnx", Says::One((S, "set"))),
    ("persist", Says::One((G, "persist"))),
    ("pexpire", Says::One(EXPIRE)),
    ("pexpireat", Says::One(EXPIRE)),
    ("pfadd", Says::One((S, "pfadd"))),
    ("pfmerge", Says::One((S, "pfadd"))),
    ("psetex", Says::One((S, "set"))),
    ("rename", Says::Two((G, "rename_from"), (G, "rename_to"))),
    ("renamenx", Says::Two((G, "rename_from"), (G, "rename_to"))),
    ("resolve", Says::One((S, "set"))),
    ("restore", Says::One((G, "restore"))),
    ("ringwood|evict", Says::One((Events::EVICTED, "evicted"))),
    ("rpop", Says::One((L, "rpop"))),
    ("rpoplpush", Says::By(rpoplpush)),
    ("rpush", Says::One((L, "rpush"))),
    ("rpushx", Says::One((L, "rpush"))),
    ("sadd", Says::One((T, "sadd"))),
    ("sdiffstore", Says::One((T, "sdiffstore"))),
    ("set", Says::One((S, "set"))),
    ("setbit", Says::One((S, "setbit"))),
    ("setex", Says::One((S, "set"))),
    ("setnx", Says::One((S, "set"))),
    ("setrange", Says::One((S, "setrange"))),
    ("sinterstore", Says::One((T, "sinterstore"))),
    ("smove", Says::Two((T, "srem"), (T, "sadd"))),
    ("sort", Says::One((L, "sortstore"))),
    ("spop", Says::One((T, "spop"))),
    ("srem", Says::One((T, "srem"))),
    ("sunionstore", Says::One((T, "sunionstore"))),
    ("unlink", Says::One(DEL)),
    ("xack", Says::Nothing),
    ("xadd", Says::One((X, "xadd"))),
    ("xautoclaim", Says::Nothing),
    ("xclaim", Says::Nothing),
    ("xdel", Says::One((X, "xdel"))),
    ("xgroup|create", Says::One((X, "xgroup-create"))),
    (
        "xgroup|createconsumer",
        Says::One((X, "xgroup-createconsumer")),
    ),
    ("xgroup|delconsumer", Says::One((X, "xgroup-delconsumer"))),
    ("xgroup|destroy", Says::One((X, "xgroup-destroy"))),
    ("xgroup|setid", Says::One((X, "xgroup-setid"))),
    ("xreadgroup", Says::Nothing),
    ("xsetid", Says::One((X, "xsetid"))),
    ("xtrim", Says::One((X, "xtrim"))),
    ("zadd", Says::By(zadd)),
    ("zdiffstore", Says::One((Z, "zdiffstore"))),
    ("zincrby", Says::One((Z, "zincr"))),
    ("zinterstore", Says::One((Z, "zinterstore"))),
    ("zmpop", Says::By(|args, _| zmpop(args, 2))),
    ("zpopmax", Says::One((Z, "zpopmax"))),
    ("zpopmin", Says::One((Z, "zpopmin"))),
    ("zrangestore", Says::One((Z, "zrangestore"))),
    ("zrem", Says::One((Z, "zrem"))),
    ("zremrangebylex", Says::One((Z, "zremrangebylex"))),
    ("zremrangebyrank", Says::One((Z, "zremrangebyrank"))),
    ("zremrangebyscore", Says::One((Z, "zremrangebyscore"))),
    ("zunionstore", Says::One((Z, "zunionstore"))),
];

fn pops(args: Args<'_>, at: usize) -> Event {
    (L, if args.is(at, "LEFT") { "lpop" } else { "rpop" })
}

fn lmove(args: Args<'_>, nth: usize) -> Event {
    match nth {
        0 => pops(args, 3),
        _ => (L, if args.is(4, "LEFT") { "lpush" } else { "rpush" }),
    }
}

fn rpoplpush(_: Args<'_>, nth: usize) -> Event {
    (L, if nth == 0 { "rpop" } else { "lpush" })
}

/// Where the keys of a command end that says their number.
fn behind_keys(args: Args<'_>, first: usize) -> usize {
    let count = args.integer(first - 1).unwrap_or(0);
    first + usize::try_from(count).unwrap_or(0)
}

fn lmpop(args: Args<'_>, first: usize) -> Event {
    pops(args, behind_keys(args, first))
}

fn zmpop(args: Args<'_>, first: usize) -> Event {
    let is_min = args.is(behind_keys(args, first), "MIN");
    (Z, if is_min { "zpopmin" } else { "zpopmax" })
}

fn getex(args: Args<'_>, _: usize) -> Event {
    (
        G,
        if args.is(2, "PERSIST") {
            "persist"
        } else {
            "expire"
        },
    )
}

fn zadd(args: Args<'_>, _: usize) -> Event {
    let increments = (2..args.len().min(6)).any(|at| args.is(at, "INCR"));
    (Z, if increments { "zincr" } else { "zadd" })
}

/// Whether a command that puts a string says when it ends, too.
pub(super) fn says_when(spec: &Spec, args: Args<'_>) -> bool {
    match spec.shape.leaves {
        Leaves::SaidUnless(..) => {
            let ends = |at: usize| {
                ["EX", "PX", "EXAT", "PXAT"]
                    .iter()
                    .any(|word| args.is(at, word))
            };
            (3..args.len()).any(ends)
        }
        _ => spec.arity == 4 && spec.shape.is_on_one_key(),
    }
}

/// What rows say, by their numbers.
pub struct Sayings(Vec<Option<Says>>);

impl Sayings {
    /// Of all rows.
    pub(super) fn new(specs: &Specs) -> Self {
        let says = |spec: &Spec| {
            let name = spec.full_name();
            let mut all = SAYS.iter();
            all.find(|(of, _)| *of == name).map(|(_, says)| *says)
        };
        Self(specs.all().iter().map(says).collect())
    }

    /// Whether what is said of the first key is said first; else of whichever was changed first.
    pub(super) fn are_in_order(&self, spec: &Spec) -> bool {
        matches!(self.0.get(spec.id()), Some(Some(Says::Two(..))))
    }

    /// What is said of a key that a command has changed, by its place among the command's keys.
    pub(super) fn of(&self, spec: &Spec, args: Args<'_>, nth: usize) -> Option<Event> {
        Some(match self.0.get(spec.id())?.as_ref()? {
            Says::Nothing => return None,
            Says::One(event) => *event,
            Says::Two(first, second) => [*first, *second][nth.min(1)],
            Says::By(says) => says(args, nth),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    fn every_command_that_changes_named_keys_says_something_of_them() {
        let named = |spec: &Spec| SAYS.iter().any(|(name, _)| *name == spec.full_name());
        for (name, _) in SAYS {
            assert!(table::specs().by_name(name).is_some(), "{name}");
        }
        for spec in table::specs().all() {
            let changes = spec.shape.writes && spec.shape.is_on_keys() && !spec.shape.is_script();
            assert!(!changes || named(spec), "{}", spec.full_name());
        }
    }
}
