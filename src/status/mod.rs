//! What is known of a node, every fact once: rows with a name, a unit and a meaning, and reports of
//! what several members say together.
//!
//! Nothing here changes anything, and nothing here knows a client: INFO, RINGWOOD STATUS, TRANSFERS and
//! VERIFY, the command line and docs/facts.md show what these tables and types say.

mod commands;
mod converging;
mod data;
mod fact;
mod members;
mod server;
mod source;
mod stats;
mod transfers;
mod verified;

pub use fact::{Fact, Kind, Section, Unit, Value};
pub use members::{Member, Members};
pub use server::REDIS_VERSION;
pub use source::{Found, Source};
pub use stats::{CommandStats, Stats};
pub use transfers::{NodeTransfers, PartTransfer, TransferReport};
pub use verified::{Problem, VerifyReport};

/// Every section of INFO, in its order.
pub const SECTIONS: &[Section] = &[
    shown("server", server::SERVER),
    shown("clients", server::CLIENTS),
    shown("memory", server::MEMORY),
    shown("persistence", server::PERSISTENCE),
    shown("stats", commands::STATS),
    shown("replication", server::REPLICATION),
    shown("cpu", server::CPU),
    shown("modules", &[]),
    asked("commandstats", commands::COMMANDSTATS),
    shown("errorstats", commands::ERRORSTATS),
    asked("latencystats", commands::LATENCYSTATS),
    shown("cluster", data::CLUSTER),
    shown("keyspace", data::KEYSPACE),
    shown("ringwood", data::RINGWOOD),
    shown("hints", converging::HINTS),
    shown("repairs", converging::REPAIRS),
    shown("exchanges", converging::EXCHANGES),
    shown("transfers", converging::TRANSFERS),
    shown("tombstones", converging::TOMBSTONES),
    shown("governor", converging::GOVERNOR),
];

/// A section that INFO shows.
const fn shown(name: &'static str, facts: &'static [Fact]) -> Section {
    Section {
        name,
        by_default: true,
        facts,
    }
}

/// A section that INFO shows when it is asked for by name, by `all` or by `everything`.
const fn asked(name: &'static str, facts: &'static [Fact]) -> Section {
    Section {
        name,
        by_default: false,
        facts,
    }
}

/// Every fact of this node, by section.
pub fn facts_json(source: &Source<'_>) -> serde_json::Value {
    let section = |section: &Section| {
        let facts = section
            .facts
            .iter()
            .map(|fact| (fact.name, fact.value(source)));
        let known = facts.filter(|(_, value)| *value != Value::Absent);
        let named = known.map(|(name, value)| (name.to_owned(), value.json()));
        (
            section.name.to_owned(),
            serde_json::Value::Object(named.collect()),
        )
    };
    serde_json::Value::Object(SECTIONS.iter().map(section).collect())
}

impl Section {
    /// Its title in INFO.
    pub fn title(&self) -> String {
        match self.name {
            "cpu" => "CPU".to_owned(),
            name => name[..1].to_ascii_uppercase() + &name[1..],
        }
    }
}
