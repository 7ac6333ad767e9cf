//! Whether all owners hold the same: what a comparison found, as lines that the command line reads, too.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::convergence::{Convergence, ExchangeError, MOST_NAMED};

/// What a comparison of all owners of some partitions found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Pairs of a partition and a number of owners that were compared.
    pub compared: u64,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

/// One thing that is not as it should be: a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nobody has a complete copy.
    Lost {
        /// The partition.
        partition: u16,
    },
    /// A member does not answer.
    Silent {
        /// Its name.
        node: String,
        /// Of so many comparisons it would be a part.
        count: u64,
    },
    /// Two owners differ.
    Differs {
        /// The partition.
        partition: u16,
        /// The owners' names.
        between: [String; 2],
        /// In so many keys; at most 1,000 are counted.
        keys: usize,
    },
    /// What a later build says.
    Other(String),
    /// A key of which two owners hold something else.
    Key {
        /// The partition.
        partition: u16,
        /// The database as stored.
        db: u8,
        /// The key; what does not print is escaped.
        key: String,
    },
}

impl VerifyReport {
    /// Compares the copies of all owners of some partitions; of keys that differ those are named that
    /// begin with a prefix.
    ///
    /// # Errors
    /// When an owner breaks off in the middle.
    pub async fn of(
        convergence: &Convergence,
        partitions: &[u16],
        prefix: &[u8],
    ) -> Result<Self, ExchangeError> {
        let found = convergence.verify(partitions).await?;
        let cluster = convergence.cluster();
        let lost: BTreeSet<u16> = cluster
            .lost_parts()
            .into_iter()
            .map(|part| part.1)
            .collect();
        let lost = partitions.iter().filter(|one| lost.contains(one));
        let mut problems: Vec<Problem> =
            lost.map(|one| Problem::Lost { partition: *one }).collect();
        problems.extend(found.silent.into_iter().map(|(id, count)| Problem::Silent {
            node: cluster.name_of(id),
            count,
        }));
        for mut differs in found.differs {
            let is_full = differs.keys.len() >= MOST_NAMED;
            differs.keys.retain(|(_, key)| key.starts_with(prefix));
            if differs.keys.is_empty() && !is_full {
                continue;
            }
            let partition = differs.partition;
            problems.push(Problem::Differs {
                partition,
                between: differs.between.map(|id| cluster.name_of(id)),
                keys: differs.keys.len(),
            });
            problems.extend(differs.keys.into_iter().map(|(db, key)| Problem::Key {
                partition,
                db,
                key: key.escape_ascii().to_string(),
            }));
        }
        Ok(Self {
            compared: found.compared,
            problems,
        })
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "compared {}", self.compared)?;
        self.problems
            .iter()
            .try_for_each(|problem| writeln!(f, "{problem}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Lost { partition } => write!(f, "lost {partition}"),
            Problem::Silent { node, count } => write!(f, "silent {} {count}", one_word(node)),
            Problem::Differs {
                partition,
                between: [a, b],
                keys,
            } => {
                let (a, b) = (one_word(a), one_word(b));
                write!(f, "differs {partition} {a} {b} {keys}")
            }
            Problem::Other(line) => f.write_str(line),
            Problem::Key { partition, db, key } => write!(f, "key {partition} {db} {key}"),
        }
    }
}

/// A name as one word, which it may not be.
fn one_word(name: &str) -> String {
    let name = name.replace('\\', "\\x5c").replace(' ', "\\x20");
    name.replace('\n', "\\x0a").replace('\r', "\\x0d")
}

fn name_of(word: &str) -> String {
    let word = word.replace("\\x0d", "\r").replace("\\x0a", "\n");
    word.replace("\\x20", " ").replace("\\x5c", "\\")
}

/// Somebody sent something else than a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoReport;

impl FromStr for VerifyReport {
    type Err = NoReport;

    fn from_str(text: &str) -> Result<Self, NoReport> {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let compared = first.strip_prefix("compared ").ok_or(NoReport)?;
        Ok(Self {
            compared: compared.trim().parse().map_err(|_| NoReport)?,
            problems: rest.lines().map(str::parse).collect::<Result<_, _>>()?,
        })
    }
}

impl FromStr for Problem {
    type Err = NoReport;

    fn from_str(line: &str) -> Result<Self, NoReport> {
        let number = |word: &str| word.parse().map_err(|_| NoReport);
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        match (what, words.as_slice()) {
            ("lost", [partition]) => Ok(Problem::Lost {
                partition: number(partition)?,
            }),
            ("silent", [node, count]) => Ok(Problem::Silent {
                node: name_of(node),
                count: count.parse().map_err(|_| NoReport)?,
            }),
            ("differs", [partition, a, b, keys]) => Ok(Problem::Differs {
                partition: number(partition)?,
                between: [name_of(a), name_of(b)],
                keys: keys.parse().map_err(|_| NoReport)?,
            }),
            // A key may hold blanks.
            ("key", [partition, db, ..]) => Ok(Problem::Key {
                partition: number(partition)?,
                db: db.parse().map_err(|_| NoReport)?,
                key: rest.splitn(3, ' ').nth(2).unwrap_or("").to_owned(),
            }),
            ("lost" | "silent" | "differs" | "key", _) => Err(NoReport),
            _ => Ok(Problem::Other(line.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_from_its_lines() {
        let report = VerifyReport {
            compared: 12,
            problems: vec![
                Problem::Lost { partition: 7 },
                Problem::Silent {
                    node: "b of \\x20 words".to_owned(),
                    count: 3,
                },
                Problem::Differs {
                    partition: 9,
                    between: ["a".to_owned(), "c".to_owned()],
                    keys: 1,
                },
                Problem::Key {
                    partition: 9,
                    db: 2,
                    key: "with two  blanks".to_owned(),
                },
            ],
        };
        assert_eq!(report.to_string().parse(), Ok(report));
        for broken in ["", "compared x\n", "compared 1\nlost 2 3\n"] {
            assert_eq!(broken.parse::<VerifyReport>(), Err(NoReport), "{broken:?}");
        }
        let later = "compared 1\nmore 2\nlost 3\n".parse::<VerifyReport>();
        let later = later.map(|report| report.problems);
        let other = Problem::Other("more 2".to_owned());
        assert_eq!(later, Ok(vec![other, Problem::Lost { partition: 3 }]));
    }
}
