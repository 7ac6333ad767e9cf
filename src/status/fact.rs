//! A fact: one thing that is known of the node, with its name, unit and meaning.
//!
//! INFO, the JSON of RINGWOOD STATUS and docs/facts.md come from the same rows. A fact is read when it
//! is asked for and changes nothing.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value as Json;

use super::source::Source;

/// A row of the table of facts.
pub struct Fact {
    /// The name in INFO. With a `*` there are several: one for each label, in its place.
    pub name: &'static str,
    /// How it behaves over time.
    pub kind: Kind,
    /// What a number counts.
    pub unit: Unit,
    /// What it means, one sentence.
    pub help: &'static str,
    read: fn(&Source<'_>) -> Value,
}

/// Facts that belong together, as INFO shows them.
pub struct Section {
    /// The name to ask for.
    pub name: &'static str,
    /// Whether INFO shows it when nothing is asked for by name.
    pub by_default: bool,
    /// Its rows.
    pub facts: &'static [Fact],
}

/// How a fact behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows, from the start of the process or CONFIG RESETSTAT on.
    Counter,
    /// 1 or 0.
    Flag,
    /// Words.
    Text,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, or nothing that can be counted.
    None,
    /// Bytes.
    Bytes,
    /// Kibibytes a second.
    KibibytesPerSecond,
    /// Bytes a second.
    BytesPerSecond,
    /// Seconds.
    Seconds,
    /// Microseconds.
    Microseconds,
    /// Hundredths.
    Percent,
}

/// What a fact is at the moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// It does not apply to this node: it is not shown.
    Absent,
    /// A number.
    Number(i128),
    /// A number with so many places.
    Decimal(f64, usize),
    /// Words.
    Text(Cow<'static, str>),
    /// Several numbers in one line, by name.
    Fields(Vec<(&'static str, Value)>),
    /// One for each label.
    Each(Vec<(String, Value)>),
}

impl Fact {
    /// A fact that goes up and down.
    pub const fn gauge(
        name: &'static str,
        unit: Unit,
        help: &'static str,
        read: fn(&Source<'_>) -> Value,
    ) -> Self {
        Self::new(name, Kind::Gauge, unit, help, read)
    }

    /// A fact that only grows.
    pub const fn counter(
        name: &'static str,
        unit: Unit,
        help: &'static str,
        read: fn(&Source<'_>) -> Value,
    ) -> Self {
        Self::new(name, Kind::Counter, unit, help, read)
    }

    /// A fact that holds or does not.
    pub const fn flag(
        name: &'static str,
        help: &'static str,
        read: fn(&Source<'_>) -> Value,
    ) -> Self {
        Self::new(name, Kind::Flag, Unit::None, help, read)
    }

    /// A fact in words.
    pub const fn text(
        name: &'static str,
        help: &'static str,
        read: fn(&Source<'_>) -> Value,
    ) -> Self {
        Self::new(name, Kind::Text, Unit::None, help, read)
    }

    const fn new(
        name: &'static str,
        kind: Kind,
        unit: Unit,
        help: &'static str,
        read: fn(&Source<'_>) -> Value,
    ) -> Self {
        Self {
            name,
            kind,
            unit,
            help,
            read,
        }
    }

    /// What it is now.
    pub fn value(&self, source: &Source<'_>) -> Value {
        (self.read)(source)
    }

    /// Its lines in INFO: a name and what it is.
    pub fn lines(&self, source: &Source<'_>) -> Vec<(Cow<'static, str>, Value)> {
        match self.value(source) {
            Value::Absent => Vec::new(),
            Value::Each(all) => {
                let named = |(label, value): (String, Value)| {
                    (Cow::Owned(self.name.replace('*', &label)), value)
                };
                all.into_iter().map(named).collect()
            }
            value => vec![(Cow::Borrowed(self.name), value)],
        }
    }
}

impl Unit {
    /// Its name for people; nothing for things that are counted.
    pub fn name(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Bytes => "bytes",
            Unit::KibibytesPerSecond => "KiB/s",
            Unit::BytesPerSecond => "bytes/s",
            Unit::Seconds => "s",
            Unit::Microseconds => "µs",
            Unit::Percent => "%",
        }
    }
}

impl Kind {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Flag => "0 or 1",
            Kind::Text => "text",
        }
    }
}

impl Value {
    /// In JSON.
    pub fn json(&self) -> Json {
        match self {
            Value::Absent => Json::Null,
            Value::Number(number) => i64::try_from(*number).map_or_else(
                |_| Json::from(u64::try_from(*number).unwrap_or(u64::MAX)),
                Json::from,
            ),
            Value::Decimal(number, _) => Json::from(*number),
            Value::Text(text) => Json::from(text.as_ref()),
            Value::Fields(fields) => {
                let named = |(name, value): &(&str, Value)| ((*name).to_owned(), value.json());
                Json::Object(fields.iter().map(named).collect())
            }
            Value::Each(all) => {
                let named = |(label, value): &(String, Value)| (label.clone(), value.json());
                Json::Object(all.iter().map(named).collect())
            }
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Absent => Ok(()),
            Value::Number(number) => write!(f, "{number}"),
            Value::Decimal(number, places) => write!(f, "{number:.places$}"),
            Value::Text(text) => f.write_str(text),
            Value::Fields(fields) => joined(f, fields.iter().map(|(name, value)| (*name, value))),
            Value::Each(all) => joined(f, all.iter().map(|(label, value)| (&**label, value))),
        }
    }
}

fn joined<'a>(
    f: &mut std::fmt::Formatter<'_>,
    named: impl Iterator<Item = (&'a str, &'a Value)>,
) -> std::fmt::Result {
    for (nth, (name, value)) in named.enumerate() {
        let comma = if nth == 0 { "" } else { "," };
        write!(f, "{comma}{name}={value}")?;
    }
    Ok(())
}

macro_rules! from_numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for Value {
            fn from(number: $number) -> Self {
                Value::Number(number.into())
            }
        }
    )*};
}
from_numbers!(u8, u16, u32, u64, i32, i64);

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::Number(number as i128)
    }
}

/// What a counter says.
pub(super) fn load(counter: &AtomicU64) -> Value {
    counter.load(Ordering::Relaxed).into()
}

impl From<bool> for Value {
    fn from(holds: bool) -> Self {
        Value::Number(i128::from(holds))
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Absent, Into::into)
    }
}
