//! What the command line asks a running node, and how the answers read.

use std::time::Duration;

use indicatif::HumanBytes;

use super::client::{ClientError, Connection, Target};
use crate::status::{NodeTransfers, Problem, TransferReport, VerifyReport};

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
        let report: TransferReport = serde_json::from_str(&raw).map_err(|_| broken("JSON"))?;
        let lines = report.nodes.iter().map(Transfers::of).collect();
        Ok((lines, report.moves()))
    }

    /// Whether all owners of all keys that begin with a prefix hold the same; `report_to` is told what is
    /// not as it should be.
    ///
    /// # Errors
    /// When the node is not there, or answers with an error.
    pub fn verify(
        &self,
        prefix: &str,
        bar: impl Fn(u64, u64),
        mut report_to: impl FnMut(String),
    ) -> Result<bool, ClientError> {
        let mut connection = self.connect(PATIENCE)?;
        let partitions = connection.partitions()?;
        let (mut compared, mut printed, mut lost, mut others) = (0, 0, 0, 0);
        let mut silent = std::collections::BTreeMap::<String, u64>::new();
        let mut differing = std::collections::BTreeSet::new();
        for partition in 0..partitions {
            let partition = partition.to_string();
            let words = ["RINGWOOD", "VERIFY", &partition, "PREFIX", prefix];
            let report: VerifyReport = connection
                .ask(&words)?
                .parse()
                .map_err(|_| broken("lines"))?;
            compared += report.compared;
            for problem in report.problems {
                match problem {
                    Problem::Lost { partition } => {
                        lost += 1;
                        report_to(format!(
                            "partition {partition}: every complete copy was lost"
                        ));
                    }
                    Problem::Silent { node, .. } => *silent.entry(node).or_default() += 1,
                    Problem::Differs {
                        partition,
                        between: [a, b],
                        keys,
                    } => {
                        differing.insert(partition);
                        report_to(format!(
                            "partition {partition}: {a} and {b} differ in {keys} keys"
                        ));
                    }
                    Problem::Key { db, key, .. } if printed < MOST_PRINTED => {
                        printed += 1;
                        report_to(format!("  database {db} key {key}"));
                    }
                    Problem::Key { .. } => {}
                    Problem::Other(line) => {
                        others += 1;
                        report_to(line);
                    }
                }
            }
            bar(partition.parse::<u64>().unwrap_or(0) + 1, partitions);
        }
        for (node, count) in &silent {
            report_to(format!(
                "{node} does not answer: {count} partitions are not proven"
            ));
        }
        let is_equal = silent.is_empty() && differing.is_empty() && lost + others == 0;
        report_to(if lost > 0 {
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
    fn of(node: &NodeTransfers) -> Self {
        Self {
            node: node.node.clone(),
            done: node.taken,
            of: node.taken + node.taking,
            moves: node.moves(),
            text: line_of(node),
        }
    }
}

fn line_of(node: &NodeTransfers) -> String {
    if !node.answers {
        return "does not answer".to_owned();
    }
    let mut text = format!("{:>10}", HumanBytes(node.bytes).to_string());
    if node.bytes_left > 0 {
        text += &format!(" {}/s", HumanBytes(node.bytes_per_second));
    }
    if let Some(seconds) = node.seconds_left.filter(|_| node.taking > 0) {
        text += &format!(", {seconds} s left");
    }
    if node.waiting_for_others > 0 {
        text += &format!(", {} wait for other owners", node.waiting_for_others);
    }
    if node.giving() > 0 {
        text += &format!(", gives up {}", node.giving());
        if node.dropping > 0 && !node.hints_for.is_empty() {
            text += &format!(" (keeps hints for {})", node.hints_for.join(", "));
        }
    }
    if let Some(part) = node.parts.iter().find(|part| part.stage == "waits") {
        let why = part.why.as_deref().unwrap_or("?");
        text += &format!(", {} waits: {why}", part.partition);
    }
    text
}

fn broken(wanted: &str) -> ClientError {
    ClientError::Refused(format!("the node sent something else than {wanted}"))
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
