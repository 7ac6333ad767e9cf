//! How members and scores are replied, and kept under another key.

use bytes::Bytes;

use crate::command::context::{Ctx, Outcome};
use crate::command::family;
use crate::logic::edit;
use crate::logic::types::zset::{self, Score};

/// A score, or nil.
pub(super) fn reply_score(ctx: &mut Ctx<'_>, score: Option<Score>) {
    match score {
        Some(score) => ctx.reply.double(score.get()),
        None => ctx.reply.null(),
    }
}

/// Members, with their scores where they are wanted.
pub(super) fn reply_members(ctx: &mut Ctx<'_>, members: &[(Score, &Bytes)], with_scores: bool) {
    if with_scores {
        ctx.reply.pairs(members.len());
    } else {
        ctx.reply.array(members.len());
    }
    for (score, member) in members {
        if with_scores {
            ctx.reply.pair();
        }
        ctx.reply.bulk(member);
        if with_scores {
            ctx.reply.double(score.get());
        }
    }
}

/// Has a key hold these members alone; replies how many they are.
pub(in crate::command::family) fn store<'m>(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    members: impl Iterator<Item = (Score, &'m [u8])>,
) -> Outcome {
    let puts = edit::puts(members.map(|(score, member)| zset::put(member, score)));
    let len = puts.len() as i64;
    family::replace(ctx, key, puts)?;
    ctx.reply.integer(len);
    Ok(())
}
