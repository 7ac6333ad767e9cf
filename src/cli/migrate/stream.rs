//! What a stream is beside its entries: its last id, its groups, their consumers and what those have not
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Cmd, Value};

use super::error::MigrateError;
use super::remote::Remote;
use super::value::{command, word, words};
use crate::base::clock;

/// Deliveries that are read at a time.
const DELIVERIES: usize = 1_000;

type Fields = BTreeMap<String, Vec<u8>>;

/// The commands that make a stream whose entries are there already what it is at its source.
///
/// # Errors
/// When the source is gone, or the stream is.
pub fn beside_entries(
    source: &mut Remote,
    key: &[u8],
    is_empty: bool,
) -> Result<Vec<Cmd>, MigrateError> {
    let about = fields(source.one(about("STREAM", key))?);
    let last = field(&about, "last-generated-id");
    let mut todo = Vec::new();
    if is_empty {
        // As Redis itself writes a stream without entries.
        let id: &[u8] = if last == b"0-0" { b"0-1" } else { &last };
        let mut add = command("XADD", key);
        todo.push(add.arg("MAXLEN").arg(0).arg(id).arg("x").arg("y").take());
    }
    let mut set = command("XSETID", key);
    set.arg(&last);
    if let (Some(added), Some(deleted)) = (
        about.get("entries-added"),
        about.get("max-deleted-entry-id"),
    ) {
        set.arg("ENTRIESADDED").arg(added);
        set.arg("MAXDELETEDID").arg(deleted);
    }
    todo.push(set);
    for group in groups(source, key)? {
        let name = field(&group, "name");
        let mut create = command("XGROUP", b"CREATE");
        create.arg(key).arg(&name);
        create.arg(field(&group, "last-delivered-id"));
        if let Some(read) = group.get("entries-read").filter(|read| !read.is_empty()) {
            create.arg("ENTRIESREAD").arg(read);
        }
        todo.push(create);
        let ask = about_group("CONSUMERS", key, &name);
        for consumer in lists(source.one(ask)?) {
            let mut create = command("XGROUP", b"CREATECONSUMER");
            create.arg(key).arg(&name);
            todo.push(create.arg(field(&consumer, "name")).take());
        }
        let mut from = b"-".to_vec();
        while let Some(page) = deliveries(source, key, &name, &mut from)? {
            for one in page {
                let mut claim = command("XCLAIM", key);
                claim.arg(&name).arg(one.consumer).arg(0).arg(one.id);
                claim.arg("TIME").arg(one.at);
                claim.arg("RETRYCOUNT").arg(one.times);
                todo.push(claim.arg("JUSTID").arg("FORCE").take());
            }
        }
    }
    Ok(todo)
}

/// What is compared of a stream beside its entries: its last id, and of each group where it stands and what
/// it has given out of the entries that there are. (What is said of others, no command can bring here.)
///
/// # Errors
/// When the server is gone, or the stream is.
pub fn described(
    remote: &mut Remote,
    key: &[u8],
    entries: &BTreeSet<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, MigrateError> {
    let stream = fields(remote.one(about("STREAM", key))?);
    let mut all = vec![field(&stream, "last-generated-id")];
    let mut groups = groups(remote, key)?;
    groups.sort();
    for group in groups {
        let name = field(&group, "name");
        all.push(field(&group, "last-delivered-id"));
        all.push(field(&group, "consumers"));
        let mut from = b"-".to_vec();
        while let Some(page) = deliveries(remote, key, &name, &mut from)? {
            let there = page.into_iter().filter(|one| entries.contains(&one.id));
            all.extend(there.flat_map(|one| [one.id, one.consumer, one.times]));
        }
        all.push(name);
    }
    Ok(all)
}

/// What a group has given out and nobody has acknowledged.
struct Delivery {
    id: Vec<u8>,
    consumer: Vec<u8>,
    /// When, in milliseconds since 1970.
    at: u64,
    times: Vec<u8>,
}

/// The next deliveries from an id on; nothing when there are none.
fn deliveries(
    remote: &mut Remote,
    key: &[u8],
    group: &[u8],
    from: &mut Vec<u8>,
) -> Result<Option<Vec<Delivery>>, MigrateError> {
    let mut ask = command("XPENDING", key);
    ask.arg(group).arg(&*from).arg("+").arg(DELIVERIES);
    let now = clock::now_ms();
    let Value::Array(found) = remote.one(ask)? else {
        return Err(remote.refused("no reply of XPENDING's".to_owned()));
    };
    let mut page = Vec::with_capacity(found.len());
    for delivery in found {
        let parts = words(delivery).unwrap_or_default();
        let [id, consumer, idle, times] = <[Vec<u8>; 4]>::try_from(parts)
            .map_err(|_| remote.refused("no delivery of XPENDING's".to_owned()))?;
        let idle = std::str::from_utf8(&idle).ok().and_then(|i| i.parse().ok());
        *from = [b"(", &*id].concat();
        page.push(Delivery {
            id,
            consumer,
            at: now.saturating_sub(idle.unwrap_or(0)),
            times,
        });
    }
    Ok((!page.is_empty()).then_some(page))
}

fn groups(remote: &mut Remote, key: &[u8]) -> Result<Vec<Fields>, MigrateError> {
    Ok(lists(remote.one(about("GROUPS", key))?))
}

fn about(what: &str, key: &[u8]) -> Cmd {
    Cmd::new().arg("XINFO").arg(what).arg(key).take()
}

fn about_group(what: &str, key: &[u8], group: &[u8]) -> Cmd {
    about(what, key).arg(group).take()
}

fn lists(reply: Value) -> Vec<Fields> {
    match reply {
        Value::Array(of) => of.into_iter().map(fields).collect(),
        _ => Vec::new(),
    }
}

/// Names and values in turn; values that are lists are left out.
fn fields(reply: Value) -> Fields {
    let Value::Array(parts) = reply else {
        return Fields::new();
    };
    let mut fields = Fields::new();
    let mut parts = parts.into_iter();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        if let (Some(name), Some(value)) = (word(name), word(value)) {
            fields.insert(String::from_utf8_lossy(&name).into_owned(), value);
        }
    }
    fields
}

fn field(fields: &Fields, name: &str) -> Vec<u8> {
    fields.get(name).cloned().unwrap_or_default()
}
