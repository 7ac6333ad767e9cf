//! The table of directives. Redis's names and defaults where Redis has the thing.

use super::error::ConfigError;

/// What a directive takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// yes or no.
    Switch,
    /// A number between two bounds.
    Number(i64, i64),
    /// Bytes, with an optional unit (kb, mb, gb), between two bounds.
    Bytes(i64, i64),
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// Redis's `class hard soft seconds`, for one class or several; others keep their default.
    OutputLimits,
}

/// One directive.
#[derive(Debug)]
pub struct Directive {
    /// Its name in the file, as a flag and in CONFIG.
    pub name: &'static str,
    /// Its value when nothing is said.
    pub default: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether CONFIG SET may change it.
    pub mutable: bool,
    /// One sentence, with the unit.
    pub help: &'static str,
}

const MAX: i64 = i64::MAX;

const fn fixed(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    help: &'static str,
) -> Directive {
    Directive {
        name,
        default,
        kind,
        mutable: false,
        help,
    }
}

const fn live(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    help: &'static str,
) -> Directive {
    Directive {
        name,
        default,
        kind,
        mutable: true,
        help,
    }
}

/// Every directive.
pub static DIRECTIVES: &[Directive] = &[
    fixed(
        "bind",
        "127.0.0.1",
        Kind::Text,
        "Addresses to listen on, separated by blanks.",
    ),
    fixed(
        "port",
        "6379",
        Kind::Number(0, 65_535),
        "TCP port for clients; 0 takes a free one.",
    ),
    live(
        "protected-mode",
        "yes",
        Kind::Switch,
        "Refuse clients from other machines while no password is set.",
    ),
    live(
        "requirepass",
        "",
        Kind::Text,
        "The password that AUTH asks for; empty for none.",
    ),
    fixed("dir", "./data", Kind::Text, "The data directory."),
    fixed(
        "node-name",
        "node-1",
        Kind::Text,
        "The name of this node for people.",
    ),
    live(
        "appendfsync",
        "everysec",
        Kind::Choice(&["always", "everysec", "no"]),
        "When an acknowledged write is on the disk.",
    ),
    fixed(
        "storage-shards",
        "0",
        Kind::Number(0, 64),
        "Nothing any more: there is one database. Taken so that files of earlier versions can be read.",
    ),
    fixed(
        "io-threads",
        "0",
        Kind::Number(0, 1_024),
        "Threads that serve clients and other nodes; 0 for one per core.",
    ),
    fixed(
        "partitions",
        "256",
        Kind::Number(1, 16_384),
        "Partitions of the key space, a power of two, fixed when the data directory is made.",
    ),
    fixed(
        "cache-size",
        "0",
        Kind::Bytes(0, MAX),
        "Bytes of other rows kept in memory; 0 for a quarter of the machine's (or control group's) memory.",
    ),
    fixed(
        "block-cache-size",
        "64mb",
        Kind::Bytes(1 << 20, MAX),
        "Bytes of the tables' block cache.",
    ),
    fixed(
        "write-buffer-size",
        "0",
        Kind::Bytes(0, 1 << 40),
        "Bytes of rows in memory that are not in the tables yet, of which the journal may have twice as much; 0 for an eighth of the memory, at most 256mb.",
    ),
    fixed(
        "min-free-disk",
        "64mb",
        Kind::Bytes(0, MAX),
        "Writes are refused while the disk has less free (on a small disk, a tenth of it).",
    ),
    fixed(
        "accept-damaged-store",
        "no",
        Kind::Switch,
        "Start with what is readable of a damaged store; what is missing is lost.",
    ),
    fixed(
        "cluster-enabled",
        "no",
        Kind::Switch,
        "Whether this node is a member of a cluster.",
    ),
    fixed(
        "cluster-secret",
        "",
        Kind::Text,
        "What all members know and nobody else does; empty for the file ringwood.secret in the data directory.",
    ),
    fixed(
        "seeds",
        "",
        Kind::Text,
        "Peer addresses (host:port) of members through which a new node joins; the node that is the first of them makes the cluster.",
    ),
    fixed(
        "peer-bind",
        "127.0.0.1",
        Kind::Text,
        "Address on which other nodes reach this one.",
    ),
    fixed(
        "peer-port",
        "0",
        Kind::Number(0, 65_535),
        "TCP port for other nodes; 0 for the client port plus 10000.",
    ),
    fixed(
        "zone",
        "default",
        Kind::Text,
        "What fails together with this node; owners are in distinct zones where there are enough.",
    ),
    fixed(
        "weight",
        "1",
        Kind::Number(1, 1_000),
        "This node's share of the data relative to the others'.",
    ),
    fixed(
        "replicas-per-key",
        "3",
        Kind::Number(1, 16),
        "Owners a key (N), fixed when the cluster is made.",
    ),
    fixed(
        "read-quorum",
        "2",
        Kind::Number(1, 16),
        "Replies that a read waits for (R).",
    ),
    fixed(
        "write-quorum",
        "2",
        Kind::Number(1, 16),
        "Acknowledgements that a write waits for (W).",
    ),
    fixed(
        "quorum",
        "sloppy",
        Kind::Choice(&["sloppy", "strict"]),
        "Whether others take the place of owners that do not answer (sloppy), or only owners count (strict).",
    ),
    fixed(
        "read-repair-chance",
        "10",
        Kind::Number(0, 100),
        "Of a hundred reads so many compare the copies of all owners; the others only those of R.",
    ),
    fixed(
        "request-timeout-ms",
        "1000",
        Kind::Number(10, 600_000),
        "Milliseconds that another node has to answer.",
    ),
    fixed(
        "phi-threshold",
        "8",
        Kind::Number(1, 100),
        "The suspicion (phi) from which a silent member is skipped.",
    ),
    fixed(
        "hint-limit",
        "1gb",
        Kind::Bytes(0, MAX),
        "Bytes kept for members that do not answer; beyond it nothing more is.",
    ),
    fixed(
        "hint-rate",
        "20000",
        Kind::Number(1, 1_000_000_000),
        "Hints a second that are handed to a member that is back.",
    ),
    fixed(
        "hint-max-age",
        "43200",
        Kind::Number(1, MAX),
        "Seconds after which what is kept for a member is dropped; anti-entropy brings it what it lacks.",
    ),
    fixed(
        "expired-grace",
        "120",
        Kind::Number(0, MAX),
        "Seconds that a member keeps an expired key before it reclaims it; more than clocks differ.",
    ),
    fixed(
        "tombstone-grace",
        "3600",
        Kind::Number(0, MAX),
        "Seconds that a member remembers a deleted key at least; longer while not every owner is shown to have it.",
    ),
    fixed(
        "on-conflict",
        "newest",
        Kind::Choice(&["newest", "error", "max", "min", "union"]),
        "What is shown of a key with siblings: the newest, none (-CONFLICT), the greatest, the least, or JSON arrays and objects together.",
    ),
    fixed(
        "sibling-warning",
        "25",
        Kind::Number(2, MAX),
        "Siblings of one key from which the log says so.",
    ),
    fixed(
        "sibling-limit",
        "100",
        Kind::Number(1, 10_000),
        "Siblings that one key keeps at most; the oldest are merged into the newest, with a line in the log.",
    ),
    fixed(
        "sibling-bytes-limit",
        "16mb",
        Kind::Bytes(1, MAX),
        "Bytes that the siblings of one key have at most, where there are several.",
    ),
    fixed(
        "collection-row-size",
        "1kb",
        Kind::Bytes(1, 64 << 20),
        "Up to so many bytes a hash, set, sorted set or list is kept as one row, beyond as a row an element.",
    ),
    fixed(
        "anti-entropy-interval",
        "60",
        Kind::Number(1, 86_400),
        "Seconds from one comparison of a member's copies with the other owners' to the next.",
    ),
    fixed(
        "lost-partitions",
        "error",
        Kind::Choice(&["error", "empty"]),
        "What readers of a partition get of which every complete copy was lost, until the loss is accepted: an error, or what is left.",
    ),
    fixed(
        "transfer-parallelism",
        "4",
        Kind::Number(1, 64),
        "Partitions that a member takes over at a time.",
    ),
    live(
        "transfer-rate",
        "0",
        Kind::Bytes(0, MAX),
        "Bytes a second that a member takes over from others; 0: as much as its clients leave.",
    ),
    fixed(
        "snapshot-dir",
        "",
        Kind::Text,
        "The only folder in which RINGWOOD SNAPSHOT makes copies, which it then takes by name; anywhere when empty.",
    ),
    fixed(
        "peer-wire-version",
        "0",
        Kind::Number(0, 6),
        "The newest version of the protocol between nodes that is spoken; 0: the newest that the program knows.",
    ),
    fixed(
        "background-p99-us",
        "0",
        Kind::Number(0, MAX),
        "Background work slows down while the 99th percentile of reads is above so many microseconds; 0: above background-slowdown.",
    ),
    fixed(
        "background-slowdown",
        "160",
        Kind::Number(100, 10_000),
        "Background work slows down while the 99th percentile of reads is above so many hundredths of what it is without.",
    ),
    fixed(
        "max-clock-drift-ms",
        "60000",
        Kind::Number(0, MAX),
        "Milliseconds that another member's clock may be ahead.",
    ),
    live(
        "maxclients",
        "10000",
        Kind::Number(1, 1_000_000),
        "Clients that may be connected at a time.",
    ),
    live(
        "timeout",
        "0",
        Kind::Number(0, MAX),
        "Seconds after which an idle client is disconnected; 0 for never.",
    ),
    live(
        "tcp-keepalive",
        "300",
        Kind::Number(0, 32_767),
        "Seconds between TCP keep-alive probes; 0 for none.",
    ),
    fixed(
        "tcp-backlog",
        "511",
        Kind::Number(1, 65_535),
        "Connections that may wait to be accepted.",
    ),
    live(
        "proto-max-bulk-len",
        "512mb",
        Kind::Bytes(1 << 20, (1 << 32) - (1 << 20)),
        "Bytes of the longest argument.",
    ),
    live(
        "client-query-buffer-limit",
        "1gb",
        Kind::Bytes(1 << 20, MAX),
        "Bytes of one client's unfinished command; beyond it the client is disconnected.",
    ),
    live(
        "client-output-buffer-limit",
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        Kind::OutputLimits,
        "A client whose replies wait is disconnected beyond the hard limit at once, beyond the soft limit after so many seconds: class, bytes, bytes, seconds; 0 for no limit.",
    ),
    live(
        "slowlog-log-slower-than",
        "10000",
        Kind::Number(-1, MAX),
        "Microseconds from which a command is in the slow log; -1 for never.",
    ),
    live(
        "slowlog-max-len",
        "128",
        Kind::Number(0, 1_000_000),
        "Entries of the slow log.",
    ),
    live(
        "latency-monitor-threshold",
        "0",
        Kind::Number(0, MAX),
        "Milliseconds from which an event is monitored; 0 for none.",
    ),
    live(
        "loglevel",
        "notice",
        Kind::Choice(&["debug", "verbose", "notice", "warning", "nothing"]),
        "How much is logged.",
    ),
    fixed(
        "databases",
        "16",
        Kind::Number(16, 16),
        "Numbered databases.",
    ),
    live(
        "save",
        "",
        Kind::Text,
        "Accepted for Redis's tools; every write is stored as it comes.",
    ),
    fixed(
        "appendonly",
        "yes",
        Kind::Switch,
        "Accepted for Redis's tools; every write is journaled.",
    ),
    live(
        "maxmemory",
        "0",
        Kind::Bytes(0, MAX),
        "Accepted for Redis's tools; data is on disk and never evicted.",
    ),
    live(
        "maxmemory-policy",
        "noeviction",
        Kind::Choice(&["noeviction"]),
        "Accepted for Redis's tools; data is never evicted.",
    ),
    live(
        "notify-keyspace-events",
        "",
        Kind::Text,
        "Accepted for Redis's tools; events are not published yet.",
    ),
    live(
        "lazyfree-lazy-user-del",
        "no",
        Kind::Switch,
        "Accepted for Redis's tools; deletes are always cheap.",
    ),
    live(
        "replica-read-only",
        "yes",
        Kind::Switch,
        "Accepted for Redis's tools; every node takes writes.",
    ),
];

impl Directive {
    /// The value in the form that CONFIG GET shows.
    pub fn normalise(&self, raw: &str) -> Result<String, ConfigError> {
        let raw = raw.trim();
        let fail = |expected: String| ConfigError::Value {
            name: self.name,
            value: raw.to_owned(),
            expected,
        };
        let within = |number: Option<i64>, low: i64, high: i64| {
            let inside = number
                .filter(|n| (low..=high).contains(n))
                .map(|n| n.to_string());
            inside.ok_or_else(|| fail(format!("a number from {low} to {high}")))
        };
        match self.kind {
            Kind::Text => Ok(raw.to_owned()),
            Kind::Switch => match raw.to_ascii_lowercase().as_str() {
                "yes" | "true" => Ok("yes".to_owned()),
                "no" | "false" => Ok("no".to_owned()),
                _ => Err(fail("argument must be 'yes' or 'no'".to_owned())),
            },
            Kind::Number(low, high) => within(raw.parse().ok(), low, high),
            Kind::Bytes(low, high) => within(bytes(raw), low, high),
            Kind::OutputLimits => OutputLimits::parse(raw)
                .map(OutputLimits::text)
                .ok_or_else(|| fail("class, hard limit, soft limit, soft seconds".to_owned())),
            Kind::Choice(words) => {
                let found = words.iter().find(|w| w.eq_ignore_ascii_case(raw));
                let expected = || fail(format!("one of {}", words.join(", ")));
                found.map(|w| (*w).to_owned()).ok_or_else(expected)
            }
        }
    }

    /// The value as TOML writes it.
    pub fn toml(&self, value: &str) -> toml_edit::Value {
        match self.kind {
            Kind::Number(..) | Kind::Bytes(..) => match value.parse::<i64>() {
                Ok(number) => number.into(),
                Err(_) => value.into(),
            },
            Kind::Switch => (value == "yes").into(),
            Kind::Text | Kind::Choice(_) | Kind::OutputLimits => value.into(),
        }
    }
}

/// What may wait for a client: bytes at once, bytes for a time, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// Beyond so many bytes the client is disconnected at once; 0 for no limit.
    pub hard_bytes: i64,
    /// Beyond so many bytes it is disconnected after `soft_secs`; 0 for no limit.
    pub soft_bytes: i64,
    /// How long.
    pub soft_secs: i64,
}

/// Redis's classes of clients with their limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputLimits([OutputLimit; 3]);

impl OutputLimits {
    const CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

    pub(super) fn parse(text: &str) -> Option<Self> {
        let limit = |hard_bytes, soft_bytes, soft_secs| OutputLimit {
            hard_bytes,
            soft_bytes,
            soft_secs,
        };
        let mut limits = [
            limit(0, 0, 0),
            limit(256 << 20, 64 << 20, 60),
            limit(32 << 20, 8 << 20, 60),
        ];
        let words: Vec<&str> = text.split_whitespace().collect();
        for group in words.chunks(4) {
            let &[class, hard, soft, secs] = group else {
                return None;
            };
            let class = class.to_ascii_lowercase().replace("replica", "slave");
            let nth = Self::CLASSES.iter().position(|c| *c == class)?;
            let numbers = limit(bytes(hard)?, bytes(soft)?, secs.parse().ok()?);
            let negative =
                numbers.hard_bytes < 0 || numbers.soft_bytes < 0 || numbers.soft_secs < 0;
            limits[nth] = if negative { return None } else { numbers };
        }
        Some(Self(limits))
    }

    /// Of ordinary clients.
    pub(super) fn normal(self) -> OutputLimit {
        self.0[0]
    }

    fn text(self) -> String {
        let group = |(class, limit): (&&str, OutputLimit)| {
            let OutputLimit {
                hard_bytes,
                soft_bytes,
                soft_secs,
            } = limit;
            format!("{class} {hard_bytes} {soft_bytes} {soft_secs}")
        };
        let groups: Vec<String> = Self::CLASSES.iter().zip(self.0).map(group).collect();
        groups.join(" ")
    }
}

/// Redis's memory units: 1k is 1000, 1kb is 1024.
fn bytes(raw: &str) -> Option<i64> {
    let lower = raw.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: i64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(unit)
}
