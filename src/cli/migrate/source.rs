//! The server that keys come from: a URL, its databases, and where it is a Redis Cluster its masters.

use std::collections::BTreeMap;

use redis::{Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, Value};

use super::error::MigrateError;
use super::remote::{Remote, name_of};
use super::value::word;

/// Slots of a Redis Cluster.
const SLOTS: i64 = 16_384;

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
        let is_tcp = matches!(parsed.scheme(), "redis" | "valkey");
        let names_db =
            is_tcp && parsed.path().len() > 1 || parsed.query_pairs().any(|(name, _)| name == "db");
        let info = url
            .into_connection_info()
            .map_err(|error| unusable(&error.to_string()))?;
        let settings = info.redis_settings().clone();
        let only = names_db.then(|| settings.db());
        let info = info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP2));
        let mut first = Remote::new(vec![info.clone()], 0);
        let masters = if first.is_redis_cluster()? {
            first.masters(&info)?
        } else {
            let about = first.info("replication")?;
            if about.get("role").is_some_and(|role| role == "slave") {
                return Err(unusable("a replica: name its master"));
            }
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
                    // Redis's name, and Valkey's.
                    has_ending_fields: field("subexpiry").unwrap_or(0) > 0
                        || field("keys_with_volatile_items").unwrap_or(0) > 0,
                });
            }
        }
        Ok(parts)
    }

    /// One database of one master.
    pub fn remote(&self, part: &Part) -> Remote {
        let at = self.masters.iter().filter(|m| name_of(m) == part.node);
        Remote::new(at.cloned().collect(), part.db).of_run(&part.run_id)
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
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match url.rsplit_once('@') {
        Some((_, place)) if scheme.is_empty() => place.to_owned(),
        Some((_, place)) => format!("{scheme}://{place}"),
        None => url.to_owned(),
    }
}

impl Remote {
    /// A section of INFO.
    pub fn info(&mut self, section: &str) -> Result<BTreeMap<String, String>, MigrateError> {
        let reply = self.one(Cmd::new().arg("INFO").arg(section).take())?;
        let text = word(reply).ok_or_else(|| self.refused("no reply of INFO's".to_owned()))?;
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
        let mut slots = 0;
        for range in ranges {
            let Value::Array(parts) = range else { continue };
            let [
                Value::Int(first),
                Value::Int(last),
                Value::Array(master),
                ..,
            ] = &*parts
            else {
                continue;
            };
            let [host, Value::Int(port), ..] = &**master else {
                continue;
            };
            // A node that does not say its own host is reached as the one that was asked.
            let host = match (word(host.clone()), like.addr()) {
                (Some(host), _) if !host.is_empty() => String::from_utf8_lossy(&host).into_owned(),
                (_, ConnectionAddr::Tcp(host, _)) => host.clone(),
                _ => continue,
            };
            slots += last - first + 1;
            let address = ConnectionAddr::Tcp(host, *port as u16);
            let at = like.clone().set_addr(address);
            masters.insert(name_of(&at), at);
        }
        if slots != SLOTS {
            let words = format!("only {slots} of its {SLOTS} slots have a master");
            return Err(self.refused(words));
        }
        Ok(masters.into_values().collect())
    }
}
