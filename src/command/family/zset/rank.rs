//! Ranks of members, and what else is counted in the order of scores.

use crate::base::blocking::at_length;
use crate::base::clock;
use crate::command::at_hand::MANY;
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::Kind;
use crate::logic::types::{self, element};
use crate::replica::{Key, Reach, Replica, ReplicaError};
use crate::routing::args::Args;

pub(super) fn zrank(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    rank(ctx, args, |at, _| at)
}

pub(super) fn zrevrank(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    rank(ctx, args, |at, len| len - 1 - at)
}

fn rank(ctx: &mut Ctx<'_>, args: Args<'_>, from: fn(usize, usize) -> usize) -> Outcome {
    let member = element(Kind::Zset, args.at(2));
    let rank = counted(ctx, args.at(1), |replica, key| replica.rank(key, &member))?;
    match rank {
        Some((before, len)) => ctx.reply.integer(from(before, len) as i64),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// What is counted in the order of scores.
pub(super) fn counted<R>(
    ctx: &Ctx<'_>,
    name: &[u8],
    count: impl FnOnce(&Replica, Key<'_>) -> Result<Option<R>, ReplicaError>,
) -> Result<Option<R>, Error> {
    let head = ctx.typed_some(name, Kind::Zset, Reach::Head)?;
    let (replica, key) = (&ctx.node.replica, ctx.key(ctx.session.db, name)?);
    let found = if head.is_whole() || replica.has_ranks(key, MANY as usize) {
        count(replica, key)?
    } else {
        at_length(|| count(replica, key))?
    };
    // What it has counted may not be committed yet; and it may have ended.
    let now = ctx.some_of(name, Reach::Head)?;
    Ok(found.filter(|_| types::kind(&now, clock::now_ms()) == Some(Kind::Zset)))
}
