//! How a row of the table is written: a command's properties, and the handler that runs it.

use super::context::{Ctx, Outcome};
use super::spec::{Flags, Hides, ScriptBy, Spec};
use crate::routing::args::Args;
use crate::routing::shape::{Elsewhere, KeySpec, Leaves, Merge, Travels, Waits};

/// A function that runs a command.
pub type Handler = fn(&mut Ctx<'_>, Args<'_>) -> Outcome;

/// One row.
#[derive(Clone, Copy)]
pub struct Row {
    /// What is known of the command.
    pub spec: Spec,
    /// What runs it.
    pub handler: Handler,
}

/// Changes keys.
pub const W: Flags = Flags::WRITE;
/// That, in constant time.
pub const WF: Flags = W.and(Flags::FAST);
/// Changes keys, and takes space.
pub const WM: Flags = W.and(Flags::DENYOOM);
/// That, in constant time.
pub const WMF: Flags = WM.and(Flags::FAST);
/// Reads keys.
pub const R: Flags = Flags::READ;
/// That, in constant time.
pub const RF: Flags = R.and(Flags::FAST);
/// Possible at any time.
pub const L: Flags = Flags::LOADING.and(Flags::STALE);
/// That, in constant time.
pub const LF: Flags = L.and(Flags::FAST);
/// Possible at any time, not in scripts.
pub const NL: Flags = L.and(Flags::NOSCRIPT);
/// That, in constant time.
pub const NLF: Flags = NL.and(Flags::FAST);
/// The operator's.
pub const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT);
/// The operator's, at any time.
pub const AL: Flags = ADMIN.and(L);
/// Not inside MULTI.
pub const NO_MULTI: Flags = Flags::NO_MULTI;
/// Runs at once inside MULTI.
pub const TX: Flags = NLF.and(Flags::IN_TRANSACTION).and(Flags::ALLOW_BUSY);
/// Possible before AUTH.
pub const OPEN: Flags = NLF.and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY);
/// Ringwood's own.
pub const OWN: Flags = Flags::OWN;

/// A command, or a container.
pub const fn cmd(
    name: &'static str,
    arity: i8,
    flags: Flags,
    keys: &'static [KeySpec],
    group: &'static str,
    handler: Handler,
    summary: &'static str,
) -> Row {
    Row {
        spec: Spec::new(("", name), arity, flags, keys, (group, summary)),
        handler,
    }
}

/// A container's subcommand.
pub const fn sub(
    parent: &'static str,
    name: &'static str,
    arity: i8,
    flags: Flags,
    handler: Handler,
    summary: &'static str,
) -> Row {
    Row {
        spec: Spec::new((parent, name), arity, flags, &[], ("server", summary)),
        handler,
    }
}

impl Row {
    /// It has keys.
    pub const fn on(mut self, keys: &'static [KeySpec]) -> Self {
        let Spec {
            name,
            parent,
            arity,
            flags,
            group,
            summary,
            ..
        } = self.spec;
        self.spec = Spec::new((parent, name), arity, flags, keys, (group, summary));
        self
    }

    /// It is of one of Redis's groups.
    pub const fn of(mut self, group: &'static str) -> Self {
        self.spec.group = group;
        self
    }

    const fn travels(mut self, travels: Travels) -> Self {
        self.spec.shape.travels = travels;
        self
    }

    /// It is this node's own business, keys or not.
    pub const fn stays(self) -> Self {
        self.travels(Travels::Stays)
    }

    /// It is taken apart by coordinator.
    pub const fn apart(self, merge: Merge) -> Self {
        self.travels(Travels::Apart(merge))
    }

    /// All its keys must have one coordinator.
    pub const fn together(self) -> Self {
        self.travels(Travels::Together)
    }

    /// It is about the whole key space.
    pub const fn everywhere(self) -> Self {
        self.travels(Travels::Everywhere)
    }

    /// It is refused in a cluster.
    pub const fn nowhere(self) -> Self {
        self.travels(Travels::Nowhere)
    }

    /// What it leaves, and replies, depends on nothing that was there.
    pub const fn said(mut self) -> Self {
        self.spec.shape.leaves = Leaves::Said;
        self
    }

    /// That, unless one of these options is given from a place on.
    pub const fn said_unless(mut self, options: &'static [&'static str], from: u8) -> Self {
        self.spec.shape.leaves = Leaves::SaidUnless(options, from);
        self
    }

    /// It runs a script.
    pub const fn runs_script(mut self, writes: bool, by: ScriptBy) -> Self {
        self.spec.shape.reads = true;
        self.spec.shape.writes = writes;
        self.spec.script_by = by;
        self.travels(Travels::Script)
    }

    /// It names another database.
    pub const fn other_database(mut self, elsewhere: Elsewhere) -> Self {
        self.spec.shape.elsewhere = elsewhere;
        self
    }

    /// It waits where there is nothing, for as long as a word says (negative: from the end).
    pub const fn waits(mut self, at: i8) -> Self {
        self.spec.shape.waits = Some(Waits::Word(at));
        self.spec.flags = self.spec.flags.and(Flags::BLOCKING).and(Flags::NOSCRIPT);
        self
    }

    /// It waits where there is nothing, if its option BLOCK says so, and for as long.
    pub const fn waits_by_option(mut self) -> Self {
        self.spec.shape.waits = Some(Waits::Block);
        self.spec.flags = self.spec.flags.and(Flags::BLOCKING);
        self
    }

    /// Others may not see all its words.
    pub const fn hides(mut self, hides: Hides) -> Self {
        self.spec.hides = hides;
        self
    }

    /// It shows the value of a key, or makes a new one of it.
    pub const fn shows_values(mut self) -> Self {
        self.spec.shows_values = true;
        self
    }
}
