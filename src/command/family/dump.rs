//! DUMP and RESTORE: a key's values as bytes, in a format of our own.

use std::collections::HashSet;

use bytes::Bytes;

use crate::base::clock;
use crate::command::context::{Ctx, Outcome};
use crate::command::row::{R, Row, WM, cmd};
use crate::command::spec::keys;
use crate::error::Error;
use crate::logic::causal::{Element, Object, Payload, Value};
use crate::logic::codec::{Reader, put_bytes, put_varint};
use crate::logic::edit::{Edit, Put, Puts};
use crate::logic::policy::OnConflict;
use crate::logic::types::list;
use crate::logic::{record, types};
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    cmd(
        "dump",
        2,
        R,
        keys::READ,
        "generic",
        dump,
        "A key's values in Ringwood's own format.",
    ),
    cmd(
        "restore",
        -4,
        WM,
        keys::OVERWRITE,
        "generic",
        restore,
        "Makes a key from what DUMP gave.",
    ),
];

/// DUMP's own formats, of strings and of collections; Redis's payloads end in an RDB version and are refused.
const STRING: &[u8] = b"ringwood1";
const COLLECTION: &[u8] = b"ringwood2";
pub(super) fn dump(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let object = ctx.object(args.at(1))?;
    let payload = encode_dump(&object);
    ctx.reply.bulk_or_null(payload.as_deref());
    Ok(())
}

fn encode_dump(object: &Object) -> Option<Vec<u8>> {
    let puts = types::puts(object, clock::now_ms());
    let values = || puts.iter().filter(|put| put.element != Element::EXPIRY);
    values().next()?;
    let is_string = values().all(|put| put.element == Element::STRING);
    let mut out = if is_string { STRING } else { COLLECTION }.to_vec();
    put_varint(&mut out, values().count() as u64);
    for Put { element, value } in values() {
        if !is_string {
            out.push(element.kind as u8);
            put_bytes(&mut out, &element.name);
        }
        if let Payload::Bytes(bytes) = &value.payload {
            put_bytes(&mut out, bytes);
        }
    }
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    Some(out)
}

/// The values of a payload, of an element the oldest first; beyond `most` the oldest are one, as the
/// policy says.
fn decode_dump(payload: &[u8], most: usize, policy: OnConflict) -> Option<Puts> {
    let (body, sum) = payload.split_at_checked(payload.len().checked_sub(4)?)?;
    if crc32fast::hash(body).to_le_bytes() != sum {
        return None;
    }
    let (mut r, is_string) = match body.strip_prefix(STRING) {
        Some(rest) => (Reader(rest), true),
        None => (Reader(body.strip_prefix(COLLECTION)?), false),
    };
    let mut of_each: Vec<(Element, Vec<&[u8]>)> = Vec::new();
    for _ in 0..r.count(1).ok()? {
        let element = if is_string {
            Element::STRING
        } else {
            let kind = record::read_kind(r.u8().ok()?).ok()?;
            types::element(kind, r.bytes().ok()?)
        };
        let value = r.bytes().ok()?;
        match of_each.last_mut() {
            Some((last, values)) if *last == element => values.push(value),
            _ => of_each.push((element, vec![value])),
        }
    }
    let mut met = HashSet::new();
    let is_right = |(element, _): &(Element, Vec<&[u8]>)| {
        *element != Element::EXPIRY && met.insert(element.clone())
    };
    if !r.0.is_empty() || !of_each.iter().all(is_right) {
        return None;
    }
    let puts = of_each.into_iter().flat_map(|(element, oldest_first)| {
        let values = newest_of(oldest_first, most, policy);
        values.into_iter().map(move |bytes| Put {
            element: element.clone(),
            value: Value {
                payload: Payload::Bytes(Bytes::copy_from_slice(bytes)),
                expires_at_ms: None,
            },
        })
    });
    let puts: Puts = puts.collect();
    (!puts.is_empty() && types::are_possible(&puts)).then_some(puts)
}

/// Of values, the oldest first, so many as may be, each once.
fn newest_of(mut oldest_first: Vec<&[u8]>, most: usize, policy: OnConflict) -> Vec<&[u8]> {
    let beyond = (oldest_first.len() + 1).saturating_sub(most.max(1));
    if beyond > 1 {
        let best = oldest_first.drain(..beyond).reduce(|best, next| {
            if policy.prefers(best, next) {
                best
            } else {
                next
            }
        });
        oldest_first.splice(0..0, best);
    }
    let mut met = HashSet::new();
    let newest_first = oldest_first.into_iter().rev();
    let mut values: Vec<&[u8]> = newest_first.filter(|value| met.insert(*value)).collect();
    values.reverse();
    values
}

pub(super) fn restore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (mut replace, mut absolute) = (false, false);
    let (mut idle_secs, mut uses) = (None, None);
    let mut nth = 4;
    while nth < args.len() {
        match () {
            () if args.is(nth, "REPLACE") => replace = true,
            () if args.is(nth, "ABSTTL") => absolute = true,
            () if args.is(nth, "IDLETIME") && nth + 1 < args.len() => {
                nth += 1;
                let secs = args.integer(nth)?;
                if secs < 0 {
                    return Err(Error::text("ERR Invalid IDLETIME value, must be >= 0"));
                }
                idle_secs = Some(u32::try_from(secs).unwrap_or(u32::MAX));
            }
            () if args.is(nth, "FREQ") && nth + 1 < args.len() => {
                nth += 1;
                let wrong = Error::text("ERR Invalid FREQ value, must be >= 0 and <= 255");
                uses = Some(u8::try_from(args.integer(nth)?).map_err(|_| wrong)?);
            }
            () => return Err(Error::Syntax),
        }
        nth += 1;
    }
    if !replace && ctx.present(args.at(1))?.is_some() {
        return Err(Error::BusyKey);
    }
    let ttl = args.integer(2)?;
    let ttl = u64::try_from(ttl).map_err(|_| Error::text("ERR Invalid TTL value, must be >= 0"))?;
    let replica = &ctx.node.replica;
    let (most, policy) = (replica.sibling_limit(), replica.policies().of(args.at(1)));
    let mut puts = decode_dump(args.at(3), most, policy).ok_or(Error::text(
        "ERR DUMP payload version or checksum are wrong",
    ))?;
    let start = if absolute { 0 } else { clock::now_ms() };
    let expires_at_ms = match start.checked_add(ttl) {
        _ if ttl == 0 => None,
        Some(at) if i64::try_from(at).is_ok() => Some(at),
        _ => return Err(Error::InvalidExpire("restore")),
    };
    types::end_at(&mut puts, expires_at_ms);
    // Places are this node's to give: what comes later goes by their times.
    list::place_anew(&mut puts, (replica.actor(), clock::now_ms()));
    ctx.update(args.at(1), |object, now_ms| {
        if !replace && types::is_present(object, now_ms) {
            return (Edit::Keep, Err(Error::BusyKey));
        }
        (Edit::Replace(puts), Ok(()))
    })??;
    ctx.node.eviction.set_use(args.at(1), idle_secs, uses);
    ctx.reply.ok();
    Ok(())
}
