//! XGROUP: the groups of a stream and their consumers.

use super::parts::{adders_stretch, change, id, is_there, no_group_of, state_stretch};
use crate::command::context::{Ctx, Outcome};
use crate::error::Error;
use crate::logic::causal::{Kind, Object};
use crate::logic::edit::{Edit, Touch};
use crate::logic::types::stream::{self, Consumer, Group, Id};
use crate::replica::Reach;
use crate::resp::Reply;
use crate::routing::args::Args;

/// What follows the group's name and its id.
struct Options {
    makes: bool,
    read: Option<u64>,
}

/// A group that begins behind an entry, as a word says it: `$` is the last.
fn begun(
    word: Result<Option<Id>, Error>,
    object: &Object,
    (read, at_ms): (Option<u64>, u64),
) -> Result<Group, Error> {
    Ok(match word? {
        None => Group::behind_all(&stream::adders(object), read, at_ms),
        Some(id) => Group::behind(id, read, at_ms),
    })
}

fn place(word: &[u8]) -> Result<Option<Id>, Error> {
    match word {
        b"$" => Ok(None),
        word => id(word).map(Some),
    }
}

impl Options {
    fn parse(args: Args<'_>, creates: bool) -> Result<Self, Error> {
        let (mut makes, mut read, mut nth) = (false, None, 5);
        while nth < args.len() {
            if creates && args.is(nth, "MKSTREAM") {
                makes = true;
            } else if args.is(nth, "ENTRIESREAD") && nth + 1 < args.len() {
                nth += 1;
                let wrong = Error::text("ERR value for ENTRIESREAD must be positive or -1");
                read = match args.integer(nth)? {
                    -1 => None,
                    count => Some(u64::try_from(count).map_err(|_| wrong)?),
                };
            } else {
                return Err(wrong_words(args));
            }
            nth += 1;
        }
        Ok(Self { makes, read })
    }
}

/// What is said of a subcommand with words that it does not know.
pub(super) fn wrong_words(args: Args<'_>) -> Error {
    Error::WrongWords(args.text(1), args.text(0).to_ascii_uppercase())
}

/// Where a stream must be.
fn there(object: &Object) -> Result<(), Error> {
    if is_there(object) {
        return Ok(());
    }
    Err(Error::text(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
         MKSTREAM option to create an empty stream automatically.",
    ))
}

/// A group that must be there.
fn known(object: &Object, key: &[u8], name: &[u8]) -> Result<Group, Error> {
    there(object)?;
    stream::group(object, name).ok_or_else(|| no_group_of(key, name))
}

pub(super) fn create(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let options = Options::parse(args, true)?;
    let (key, name, actor) = (args.at(2), args.at(3), ctx.node.replica.actor());
    let named = [stream::group_element(name)];
    let reach = [Reach::Named(&named), Reach::Ends(Kind::Stream, 1, 1)];
    change(ctx, key, Reach::Each(&reach), |object, now_ms| {
        if !options.makes {
            there(object)?;
        }
        let begun = begun(place(args.at(4)), object, (options.read, now_ms))?;
        if stream::group(object, name).is_some() {
            return Err(Error::text("BUSYGROUP Consumer Group name already exists"));
        }
        let mut touched = vec![stream::put_group(name, &begun)];
        if stream::adders(object).is_empty() {
            // There is a stream from now on, whatever becomes of the group.
            touched.push(stream::put_added(actor, &stream::Added::default()));
        }
        Ok((Edit::Touch(touched), ()))
    })?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn set_id(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let options = Options::parse(args, false)?;
    let (key, name) = (args.at(2), args.at(3));
    let named = [stream::group_element(name)];
    let reach = [Reach::Named(&named), Reach::Ends(Kind::Stream, 1, 1)];
    change(ctx, key, Reach::Each(&reach), |object, now_ms| {
        let group = known(object, key, name)?;
        let at_ms = now_ms.max(group.set_at_ms.saturating_add(1));
        let place = match args.at(4) {
            b"-" => Ok(Some(Id::MIN)),
            b"+" => Ok(Some(Id::MAX)),
            word => place(word),
        };
        let group = begun(place, object, (options.read, at_ms))?;
        Ok((Edit::Touch(vec![stream::put_group(name, &group)]), ()))
    })?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn create_consumer(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (key, group, name) = (args.at(2), args.at(3), args.at(4));
    let named = [
        stream::group_element(group),
        stream::consumer_element(group, name),
    ];
    let made = change(ctx, key, Reach::Named(&named), |object, now_ms| {
        known(object, key, group)?;
        if stream::consumer(object, group, name).is_some() {
            return Ok((Edit::Keep, 0));
        }
        let consumer = Consumer { seen_ms: now_ms };
        let made = stream::put_consumer(group, name, &consumer);
        Ok((Edit::Touch(vec![made]), 1))
    })?;
    ctx.reply.integer(made);
    Ok(())
}

pub(super) fn del_consumer(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (key, group, name) = (args.at(2), args.at(3), args.at(4));
    let named = [
        stream::group_element(group),
        stream::consumer_element(group, name),
    ];
    let pending = state_stretch(&stream::pending_between(group), usize::MAX);
    let reach = [Reach::Named(&named), Reach::Stretch(&pending)];
    let gone = change(ctx, key, Reach::Each(&reach), |object, _| {
        known(object, key, group)?;
        if stream::consumer(object, group, name).is_none() {
            return Ok((Edit::Keep, 0));
        }
        let its = stream::pending(object, group).filter(|(.., pending)| pending.consumer == name);
        let mut removed: Vec<Touch> = its
            .map(|(id, actor, _)| Touch::remove(stream::pending_element(group, id, actor)))
            .collect();
        let gone = removed.len();
        removed.push(Touch::remove(stream::consumer_element(group, name)));
        Ok((Edit::Touch(removed), gone))
    })?;
    ctx.reply.integer(gone as i64);
    Ok(())
}

pub(super) fn destroy(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let (key, name) = (args.at(2), args.at(3));
    let named = [stream::group_element(name)];
    let pending = state_stretch(&stream::pending_between(name), usize::MAX);
    let consumers = state_stretch(&stream::consumers_between(name), usize::MAX);
    let reach = [
        Reach::Named(&named),
        Reach::Stretch(&pending),
        Reach::Stretch(&consumers),
    ];
    let gone = change(ctx, key, Reach::Each(&reach), |object, _| {
        there(object)?;
        if stream::group(object, name).is_none() {
            return Ok((Edit::Keep, false));
        }
        let pending = stream::pending(object, name);
        let pending = pending.map(|(id, actor, _)| stream::pending_element(name, id, actor));
        let consumers = stream::consumers(object, name);
        let consumers = consumers.map(|(consumer, _)| stream::consumer_element(name, consumer));
        let all = pending
            .chain(consumers)
            .chain([stream::group_element(name)]);
        Ok((Edit::Touch(all.map(Touch::remove).collect()), true))
    })?;
    ctx.reply.integer(i64::from(gone));
    Ok(())
}

/// The groups of a stream and who has added to it.
pub(super) fn of(ctx: &Ctx<'_>, key: &[u8]) -> Result<std::sync::Arc<Object>, Error> {
    let (from, to) = stream::groups_between();
    let groups = state_stretch(&(from.to_vec(), to.to_vec()), usize::MAX);
    let adders = adders_stretch();
    let reach = [
        Reach::Stretch(&adders),
        Reach::Stretch(&groups),
        Reach::Ends(Kind::Stream, 1, 1),
    ];
    ctx.typed_some(key, Kind::Stream, Reach::Each(&reach))
}

/// A consumer's name and how many entries are pending of it.
pub(super) fn reply_count(reply: &mut Reply, (name, count): (&[u8], usize)) {
    reply.array(2);
    reply.bulk(name);
    reply.bulk(count.to_string().as_bytes());
}
