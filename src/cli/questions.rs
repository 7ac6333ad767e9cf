//! What the command line asks a running node, and how the answers read.

use std::time::Duration;

use indicatif::HumanBytes;

use super::client::{ClientError, Connection, Target};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to mend a partition.
const REPAIR_PATIENCE: Duration = Duration::from_mins(20);
/// Keys that are printed of those that differ, at most.
const MOST_PRINTED: usize = 20;
impl Target {
    /// Sends one command and returns the text of its reply.
    ///
    /// # Errors
    /// When the node is not there, or answers with an error.
    pub fn ask(&self, words: &[&str]) -> Result<String, ClientError> {
        self.connect(PATIENCE)?.ask(words)
    }

    /// What moves, a line for each member; whether anything does.
    ///
    /// # Errors
    /// When the node is not there, or answers with an error.
    pub fn transfers(&self) -> Result<(Vec<Transfers>, bool), ClientError> {
        let raw = self.ask(&["RINGWOOD", "TRANSFERS", "JSON"])?;
        let broken = |_| ClientError::Refused("the node sent something else than JSON".to_owned());
        let answer: serde_json::Value = serde_json::from_str(&raw).map_err(broken)?;
        let nodes = answer["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        let lines: Vec<Transfers> = nodes.iter().map(Transfers::of).collect();
        let unsettled = answer["unsettled"].as_u64().unwrap_or(0) > 0;
        let moves = unsettled || lines.iter().any(|line| line.moves);
        Ok((lines, moves))
    }

    /// Whether all owners of all keys that begin with a prefix hold the same; `report` is told what is
    /// not as it should be.
    ///
    /// # Errors
    /// When the node is not there, or answers with an error.
    pub fn verify(
        &self,
        prefix: &str,
        bar: impl Fn(u64, u64),
        mut report: impl FnMut(String),
    ) -> Result<bool, ClientError> {
        let mut connection = self.connect(PATIENCE)?;
        let partitions = connection.partitions()?;
        let (mut compared, mut printed, mut lost) = (0, 0, 0);
        let mut silent = std::collections::BTreeMap::<String, u64>::new();
        let mut differing = std::collections::BTreeSet::new();
        for partition in 0..partitions {
            let partition = partition.to_string();
            let words = ["RINGWOOD", "VERIFY", &partition, "PREFIX", prefix];
            for line in connection.ask(&words)?.lines() {
                let words: Vec<&str> = line.splitn(4, ' ').collect();
                match words[..] {
                    ["compared", count] => compared += count.parse::<u64>().unwrap_or(0),
                    ["lost", partition] => {
                        lost += 1;
                        report(format!(
                            "partition {partition}: every complete copy was lost"
                        ));
                    }
                    ["silent", node, _] => *silent.entry(node.to_owned()).or_default() += 1,
                    ["differs", partition, a, b] => {
                        differing.insert(partition.to_owned());
                        let (b, keys) = b.split_once(' ').unwrap_or((b, "some"));
                        report(format!(
                            "partition {partition}: {a} and {b} differ in {keys} keys"
                        ));
                    }
                    ["key", _, db, key] if printed < MOST_PRINTED => {
                        printed += 1;
                        report(format!("  database {db} key {key}"));
                    }
                    _ => {}
                }
            }
            bar(partition.parse::<u64>().unwrap_or(0) + 1, partitions);
        }
        for (node, count) in &silent {
            report(format!(
                "{node} does not answer: {count} partitions are not proven"
            ));
        }
        let is_equal = silent.is_empty() && differing.is_empty() && lost == 0;
        report(if lost > 0 {
            format!("NOT whole: {lost} partitions were lost")
        } else if is_equal {
            format!("equal: all owners of {compared} partitions hold the same")
        } else {
            format!(
                "NOT equal: {} of {compared} partitions differ",
                differing.len()
            )
        });
        Ok(is_equal)
    }

    /// Has one partition or all compared and mended now; `bar` is told how far it is.
    ///
    /// # Errors
    /// When the node is not there, or answers with an error.
    pub fn repair(
        &self,
        partition: Option<&str>,
        bar: impl Fn(u64, u64),
    ) -> Result<String, ClientError> {
        let mut connection = self.connect(REPAIR_PATIENCE)?;
        let partitions: Vec<String> = match partition {
            Some(one) => vec![one.to_owned()],
            None => (0..connection.partitions()?)
                .map(|p| p.to_string())
                .collect(),
        };
        let (mut received, mut sent) = (0, 0);
        for (nth, partition) in partitions.iter().enumerate() {
            for line in connection.ask(&["RINGWOOD", "REPAIR", partition])?.lines() {
                match line.split_once(' ') {
                    Some(("received", count)) => received += count.parse::<u64>().unwrap_or(0),
                    Some(("sent", count)) => sent += count.parse::<u64>().unwrap_or(0),
                    _ => {}
                }
            }
            bar(nth as u64 + 1, partitions.len() as u64);
        }
        let count = partitions.len();
        Ok(format!(
            "{count} partitions: {received} objects received, {sent} sent"
        ))
    }
}

/// What one member takes over and gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfers {
    /// Its name.
    pub node: String,
    /// Partitions taken over, since it started.
    pub done: u64,
    /// And those that are to be.
    pub of: u64,
    /// Whether anything moves or waits.
    pub moves: bool,
    /// Bytes, the rate, the time that is left, what waits and why.
    pub text: String,
}

impl Transfers {
    fn of(node: &serde_json::Value) -> Self {
        let number = |name: &str| node[name].as_u64().unwrap_or(0);
        let name = node["node"].as_str().unwrap_or("?").to_owned();
        let done = number("taken");
        let (taking, giving) = (number("taking"), number("giving_up") + number("dropping"));
        if node["answers"] != serde_json::Value::Bool(true) {
            return Self {
                node: name,
                done: 0,
                of: 0,
                moves: false,
                text: "does not answer".to_owned(),
            };
        }
        let mut text = format!("{:>10}", HumanBytes(number("bytes")).to_string());
        if number("bytes_left") > 0 {
            text += &format!(" {}/s", HumanBytes(number("bytes_per_second")));
        }
        if let Some(seconds) = node["seconds_left"].as_u64().filter(|_| taking > 0) {
            text += &format!(", {seconds} s left");
        }
        if number("waiting_for_others") > 0 {
            text += &format!(", {} wait for other owners", number("waiting_for_others"));
        }
        if giving > 0 {
            text += &format!(", gives up {giving}");
            let hints_for = node["hints_for"].as_array().into_iter().flatten();
            let names: Vec<_> = hints_for.filter_map(serde_json::Value::as_str).collect();
            if number("dropping") > 0 && !names.is_empty() {
                text += &format!(" (keeps hints for {})", names.join(", "));
            }
        }
        let parts = node["parts"].as_array().map_or(&[][..], Vec::as_slice);
        if let Some(part) = parts.iter().find(|part| part["stage"] == "waits") {
            let why = part["why"].as_str().unwrap_or("?");
            text += &format!(", {} waits: {why}", part["partition"]);
        }
        Self {
            node: name,
            done,
            of: done + taking,
            moves: taking + giving > 0 || node["leaving"] == serde_json::Value::Bool(true),
            text,
        }
    }
}

impl Connection {
    fn partitions(&mut self) -> Result<u64, ClientError> {
        let info = self.ask(&["INFO", "ringwood"])?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("partitions:"));
        let count = line.and_then(|count| count.trim().parse().ok());
        count.ok_or_else(|| ClientError::Refused("the node is no Ringwood".to_owned()))
    }
}
