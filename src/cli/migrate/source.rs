//! The server that keys come from: a URL, its databases, and where it is a Redis Cluster its masters.

use std::collections::BTreeMap;

use redis::{Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Value};

use super::error::MigrateError;
use super::remote::{Remote, name_of};
use super::value::{word, words};

/// A server or a cluster.
pub struct Source {
    masters: Vec<ConnectionInfo>,
    /// One database, where the URL names one.
    only: Option<i64>,
    /// Without its password.
    pub name: String,
}

/// A database of one master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The master, as `host:port`.
    pub node: String,
    /// The database.
    pub db: i64,
    /// Of the server's process: cursors of another mean nothing.
    pub run_id: String,
    /// Keys, when it was looked at.
    pub keys: u64,
    /// Whether there are hashes with fields that end, which no command of this node can keep.
    pub has_ending_fields: bool,
}

impl Source {
    /// Looks at the server.
    ///
    /// # Errors
    /// When the URL is none, the server is not there, or is no master.
    pub fn of(url: &str) -> Result<Self, MigrateError> {
        let unusable =
            |why: &str| MigrateError::Unusable(format!("--from {}: {why}", without_secret(url)));
        let parsed = redis::parse_redis_url(url).ok_or_else(|| {
            unusable("not a URL like redis://[user:password@]host:port[/database]")
        })?;
        if matches!(parsed.scheme(), "rediss" | "valkeys") {
            return Err(unusable("TLS is not supported yet"));
        }
        let names_db = parsed.path().len() > 1;
        let info = url
            .into_connection_info()
            .map_err(|error| unusable(&error.to_string()))?;
        let only = names_db.then(|| info.redis_settings().db());
        let mut first = Remote::new(vec![info.clone()], 0);
        let about = first.info("replication")?;
        if about.get("role").is_some_and(|role| role == "slave") {
            return Err(unusable("a replica: name its master"));
        }
        let masters = if first.is_redis_cluster()? {
            first.masters(&info)?
        } else {
            vec![info]
        };
        Ok(Self {
            name: masters.iter().map(name_of).collect::<Vec<_>>().join(","),
            masters,
            only,
        })
    }

    /// All that is to be walked through.
    ///
    /// # Errors
    /// When a master is not there.
    pub fn parts(&self) -> Result<Vec<Part>, MigrateError> {
        let mut parts = Vec::new();
        for master in &self.masters {
            let mut remote = Remote::new(vec![master.clone()], 0);
            let run_id = remote.info("server")?.remove("run_id").unwrap_or_default();
            for (name, fields) in remote.info("keyspace")? {
                let Some(db) = name.strip_prefix("db").and_then(|db| db.parse().ok()) else {
                    continue;
                };
                if !self.may_have(db) {
                    continue;
                }
                let field = |name: &str| {
                    let mut fields = fields.split(',').filter_map(|f| f.split_once('='));
                    let of_name = fields.find(|(of, _)| *of == name);
                    of_name.and_then(|(_, count)| count.parse::<u64>().ok())
                };
                parts.push(Part {
                    node: name_of(master),
                    db,
                    run_id: run_id.clone(),
                    keys: field("keys").unwrap_or(0),
                    has_ending_fields: field("subexpiry").unwrap_or(0) > 0,
                });
            }
        }
        Ok(parts)
    }

    /// One database of one master.
    pub fn remote(&self, part: &Part) -> Remote {
        let at = self.masters.iter().filter(|m| name_of(m) == part.node);
        Remote::new(at.cloned().collect(), part.db)
    }

    /// Whether a database is of those that were asked for.
    pub fn may_have(&self, db: i64) -> bool {
        self.only.is_none_or(|only| only == db)
    }

    /// One database of every master.
    pub fn remotes(&self, db: i64) -> Vec<Remote> {
        let of = |master: &ConnectionInfo| Remote::new(vec![master.clone()], db);
        self.masters.iter().map(of).collect()
    }
}

/// A URL as it may be shown.
fn without_secret(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.to_owned(),
    }
}

impl Remote {
    /// A section of INFO.
    pub fn info(&mut self, section: &str) -> Result<BTreeMap<String, String>, MigrateError> {
        let reply = self.one(Cmd::new().arg("INFO").arg(section).take())?;
        let text = word(reply).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Ok(lines
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect())
    }

    /// Whether each of several masters has its own slots. Every node of Ringwood has all.
    fn is_redis_cluster(&mut self) -> Result<bool, MigrateError> {
        let has_slots =
            |info: BTreeMap<_, _>| info.get("cluster_enabled").is_some_and(|on| on == "1");
        let is_ringwood = self.info("ringwood")?.contains_key("partitions");
        Ok(!is_ringwood && has_slots(self.info("cluster")?))
    }

    fn masters(&mut self, like: &ConnectionInfo) -> Result<Vec<ConnectionInfo>, MigrateError> {
        let reply = self.one(Cmd::new().arg("CLUSTER").arg("SLOTS").take())?;
        let Value::Array(ranges) = reply else {
            return Err(self.refused("no reply of CLUSTER SLOTS's".to_owned()));
        };
        let mut masters = BTreeMap::new();
        for range in ranges {
            let Value::Array(parts) = range else { continue };
            let master = parts.into_iter().nth(2).and_then(words).unwrap_or_default();
            let text = |word: Option<&Vec<u8>>| {
                word.map(|word| String::from_utf8_lossy(word).into_owned())
            };
            let (host, port) = (text(master.first()), text(master.get(1)));
            let Some(port) = port.and_then(|port| port.parse().ok()) else {
                continue;
            };
            // A node that does not know its own address is the one that was asked.
            let host = match (host, like.addr()) {
                (Some(host), _) if !host.is_empty() => host,
                (_, ConnectionAddr::Tcp(host, _)) => host.clone(),
                _ => continue,
            };
            let at = like.clone().set_addr(ConnectionAddr::Tcp(host, port));
            masters.insert(name_of(&at), at);
        }
        Ok(masters.into_values().collect())
    }
}
