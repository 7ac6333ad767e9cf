//! What the commands on streams have in common: which part of a stream they read, and what they reply.

use crate::command::context::Ctx;
use crate::error::Error;
use crate::logic::causal::{Kind, Object};
use crate::logic::edit::Edit;
use crate::logic::spread::Stretch;
use crate::logic::types::stream::{self, Entry, Id};
use crate::replica::Reach;
use crate::resp::Reply;
use crate::routing::args::Args;

/// No stream was added to by more actors: a node is another one each time that it starts.
const MOST_ADDERS: usize = 8_192;
/// Entries of one id: so many sides may have given it without hearing each other.
pub(super) const MOST_OF_AN_ID: usize = 16;

/// Who has added to a stream, as a part of what is read.
pub(super) fn adders_stretch() -> Stretch {
    let (from, to) = stream::adders_between();
    Stretch::of_names(Kind::StreamState, (&from, Some(&to)), MOST_ADDERS, false)
}

/// Some of a stream's state by its names.
pub(super) fn state_stretch((from, to): &(Vec<u8>, Vec<u8>), most: usize) -> Stretch {
    Stretch::of_names(Kind::StreamState, (from, Some(to)), most, false)
}

/// Entries from an id on; up to one, with it.
pub(super) fn entries_stretch(from: Id, to: Id, most: usize, is_back: bool) -> Stretch {
    let end = to.next().map(Id::encode);
    let to = end.as_ref().map(|end| &end[..]);
    Stretch::of_names(Kind::Stream, (&from.encode(), to), most, is_back)
}

/// Entries with these ids, whoever has added them.
pub(super) fn stretches_of(ids: &[Id]) -> Vec<Stretch> {
    let of = |id: &Id| entries_stretch(*id, *id, MOST_OF_AN_ID, false);
    ids.iter().map(of).collect()
}

/// What is pending of a group with these ids.
pub(super) fn pending_stretches(group: &[u8], ids: &[Id]) -> Vec<Stretch> {
    let (_, last) = stream::pending_between(group);
    let of = |id: &Id| {
        let to = id.next().map(|next| stream::pending_from(group, next));
        let between = (
            stream::pending_from(group, *id),
            to.unwrap_or_else(|| last.clone()),
        );
        state_stretch(&between, MOST_OF_AN_ID)
    };
    ids.iter().map(of).collect()
}

/// All of some stretches.
pub(super) fn reaches(stretches: &[Stretch]) -> Vec<Reach<'_>> {
    stretches.iter().map(Reach::Stretch).collect()
}

/// So many entries, and those that have the same id as the last: whoever goes on behind that id must not pass them over.
pub(super) fn whole_ids<T>(
    mut all: impl Iterator<Item = T>,
    most: usize,
    id: impl Fn(&T) -> Id,
) -> Vec<T> {
    let mut found: Vec<T> = all.by_ref().take(most).collect();
    if let Some(last) = found.last().map(&id) {
        found.extend(all.take_while(|next| id(next) == last));
    }
    found
}

/// Changes a stream; with who has added at hand, and what else a reach says.
pub(super) fn change<R>(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    reach: Reach<'_>,
    decide: impl FnOnce(&Object, u64) -> Result<(Edit, R), Error>,
) -> Result<R, Error> {
    let stretch = adders_stretch();
    let own = [stream::adder_element(ctx.node.replica.actor())];
    let both = [Reach::Stretch(&stretch), Reach::Named(&own), reach];
    ctx.change_some(key, Kind::Stream, Reach::Each(&both), decide)
}

/// Whether there is a stream: it may have no entries.
pub(super) fn is_there(object: &Object) -> bool {
    !object.is_tombstone()
}

/// A word as an id; without a number among those of its moment it is the first.
pub(super) fn id(word: &[u8]) -> Result<Id, Error> {
    id_or(word, 0)
}

pub(super) fn id_or(word: &[u8], without: u64) -> Result<Id, Error> {
    Id::parse(word, without).ok_or(INVALID_ID)
}

pub(super) const INVALID_ID: Error =
    Error::text("ERR Invalid stream ID specified as stream command argument");

/// The ids that words from one on say.
pub(super) fn ids(args: Args<'_>, from: usize) -> Result<Vec<Id>, Error> {
    args.from(from).map(id).collect()
}

pub(super) fn reply_id(reply: &mut Reply, id: Id) {
    reply.bulk(id.to_string().as_bytes());
}

pub(super) fn reply_entry(reply: &mut Reply, entry: &Entry) {
    reply.array(2);
    reply_id(reply, entry.id);
    reply.bulks(&entry.words());
}

pub(super) fn reply_entries(reply: &mut Reply, entries: &[Entry]) {
    reply.array(entries.len());
    for entry in entries {
        reply_entry(reply, entry);
    }
}

/// No such group, or no key.
pub(super) fn no_group(key: &[u8], group: &[u8], behind: &str) -> Error {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    Error::Text(format!("NOGROUP No such key '{key}' or consumer group '{group}'{behind}").into())
}

/// No such group, where the key is there.
pub(super) fn no_group_of(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    Error::Text(format!("NOGROUP No such consumer group '{group}' for key name '{key}'").into())
}
