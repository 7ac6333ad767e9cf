//! What a directive is, what it takes, and Redis's ways to write that.

use super::error::ConfigError;
use super::events::Events;

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
    /// Redis's letters for classes of events.
    Events,
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

pub(super) const MAX: i64 = i64::MAX;

pub(super) const fn fixed(
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

pub(super) const fn live(
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
            Kind::Events => Events::parse(raw).map(Events::text).ok_or_else(|| {
                fail("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned())
            }),
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
            Kind::Text | Kind::Choice(_) | Kind::OutputLimits | Kind::Events => value.into(),
        }
    }
}

/// What may wait for a client: bytes at once, bytes for a time, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

    /// Of those that listen to channels.
    pub(super) fn pubsub(self) -> OutputLimit {
        self.0[2]
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
