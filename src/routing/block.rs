//! Commands that wait where there is nothing (BLPOP and its like): they are tried, and tried again when a
//! key may have got something, by whichever node.
//!
//! Of the keys that this node holds it hears at once; after others it looks. Whoever waits at one node is
//! served in the order of coming.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::args::Args;
use super::reply::error_reply;
use super::route::begin;
use super::runner::{Call, Later, Runner};
use super::shape::{Reading, Waits};
use super::who::Who;
use crate::error::Error;
use crate::resp::Reply;

/// How often somebody looks whether keys that other nodes hold have got something.
const LOOK_ELSEWHERE: Duration = Duration::from_millis(100);
/// How often somebody looks who would hear of it.
const LOOK_HERE: Duration = Duration::from_secs(1);

/// How a client that waits is made to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unblocked {
    /// As if its time was over.
    TimedOut,
    /// With an error.
    Error,
}

/// How long a command waits; `None`: for ever.
pub fn timeout(args: Args<'_>, waits: Waits) -> Result<Option<Duration>, Error> {
    match waits {
        Waits::Word(at) => seconds(args, at),
        Waits::Block => match Reading::of(args).block {
            Some(at) => milliseconds(args, at),
            None => Ok(None),
        },
    }
}

/// Whether a command waits at all.
pub fn is_asked(args: Args<'_>, waits: Waits) -> bool {
    waits != Waits::Block || Reading::of(args).block.is_some()
}

/// A word that says so many milliseconds; none of them: for ever.
pub fn milliseconds(args: Args<'_>, nth: usize) -> Result<Option<Duration>, Error> {
    let wrong = Error::text("ERR timeout is not an integer or out of range");
    let ms = args.integer(nth).map_err(|_| wrong)?;
    let negative = Error::text("ERR timeout is negative");
    let ms = u64::try_from(ms).map_err(|_| negative)?;
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

fn seconds(args: Args<'_>, at: i8) -> Result<Option<Duration>, Error> {
    let nth = match usize::try_from(at) {
        Ok(nth) => nth,
        Err(_) => args.len() - usize::from(at.unsigned_abs()),
    };
    let word = args
        .get(nth)
        .and_then(|word| std::str::from_utf8(word).ok());
    let seconds: Option<f64> = word.and_then(|word| word.parse().ok());
    let seconds = seconds.filter(|seconds| !seconds.is_nan());
    let seconds = seconds.ok_or(Error::text("ERR timeout is not a float or out of range"))?;
    if seconds < 0.0 {
        return Err(Error::text("ERR timeout is negative"));
    }
    let ms = (seconds * 1_000.0).ceil();
    if ms > i64::MAX as f64 {
        return Err(Error::text("ERR timeout is out of range"));
    }
    Ok((ms > 0.0).then(|| Duration::from_millis(ms as u64)))
}

/// What is said to whoever waits for a group when that goes, or its stream, in the place of what is found then.
fn left_alone(found: &[u8]) -> Option<&'static str> {
    match () {
        () if found.starts_with(b"-NOGROUP ") => {
            Some("NOGROUP the consumer group this client was blocked on no longer exists")
        }
        () if found.starts_with(b"-WRONGTYPE ") => {
            Some("UNBLOCKED the stream key no longer exists")
        }
        () => None,
    }
}

/// Runs a command until it has found something, for so long at most.
pub fn wait<F>(
    node: Arc<dyn Runner>,
    who: Who,
    call: Call,
    timeout: Option<Duration>,
    unblocked: F,
) -> Later
where
    F: Future<Output = Unblocked> + Send + 'static,
{
    Box::pin(async move {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut unblocked = std::pin::pin!(unblocked);
        let site = node.site();
        let db = site.replica.database(who.db);
        let keys = call.shape.awaited(call.args());
        let awaited = site.replica.await_keys(db, keys.iter().copied());
        let coordinator = site.coordinator.as_ref();
        let hears_of_all = coordinator.is_none_or(|c| call.keys().all(|key| c.holds(key)));
        let pause = if hears_of_all {
            LOOK_HERE
        } else {
            LOOK_ELSEWHERE
        };
        let takes_all = keys.len() == call.keys().len();
        // What one has seen others may still want to see.
        let leaves_all = call.shape.waits == Some(Waits::Block);
        // Who reads for a group is told when that goes.
        let is_for_group = leaves_all && call.shape.writes;
        let (mut is_first, mut may_be_there, mut was_told) = (true, true, false);
        loop {
            if may_be_there {
                let reply = attempt(&node, &who, &call).await;
                // What came of another type is not what it waits for.
                let is_of_type = !reply.starts_with(b"-WRONGTYPE ");
                let is_other = !is_first && takes_all && !is_of_type && !is_for_group;
                if !is_nothing(&reply) && !is_other {
                    awaited.has_taken();
                    let gone = left_alone(&reply).filter(|_| !is_first && is_for_group);
                    return gone.map_or(reply, |gone| error_reply(&who, &Error::text(gone)));
                }
                if (is_other || leaves_all) && was_told {
                    awaited.pass_on();
                }
            }
            is_first = false;
            if until.is_some_and(|until| until <= Instant::now()) {
                return ended(&who, Unblocked::TimedOut);
            }
            let look_again = Instant::now() + pause;
            let wake_at = until.map_or(look_again, |until| until.min(look_again));
            tokio::select! {
                biased;
                how = &mut unblocked => return ended(&who, how),
                () = awaited.told() => {
                    (may_be_there, was_told) = (true, true);
                    // Should it go before it has looked, the next one does.
                    awaited.has_taken();
                }
                () = tokio::time::sleep_until(wake_at) => {
                    let ask = |key: &&[u8]| begin(&node, who.clone(), node.is_there(key));
                    let asked = keys.iter().filter(|_| site.coordinator.is_some()).map(ask);
                    // Asking takes nobody's turn, and the others look for themselves.
                    was_told = false;
                    let said = join_all(asked).await;
                    may_be_there = said.is_empty() || said.iter().any(|said| **said != *b":0\r\n");
                }
            }
        }
    })
}

fn ended(who: &Who, how: Unblocked) -> BytesMut {
    let mut reply = Reply::default();
    reply.set_protocol(who.protocol);
    match how {
        Unblocked::TimedOut => reply.null_array(),
        Unblocked::Error => {
            let text = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
            return error_reply(who, &Error::text(text));
        }
    }
    std::mem::take(reply.buffer())
}

fn is_nothing(reply: &[u8]) -> bool {
    matches!(reply, b"*-1\r\n" | b"$-1\r\n" | b"_\r\n")
}

/// Runs a command on keys to its end, wherever that is.
pub fn run(node: Arc<dyn Runner>, who: Who, call: Call) -> Later {
    Box::pin(async move { attempt(&node, &who, &call).await })
}

async fn attempt(node: &Arc<dyn Runner>, who: &Who, call: &Call) -> BytesMut {
    if node.site().coordinator.is_some() {
        return begin(node, who.clone(), call.clone()).await;
    }
    alone(node, who, call).await
}

/// Runs a command on a lone node, as its connection would.
async fn alone(node: &Arc<dyn Runner>, who: &Who, call: &Call) -> BytesMut {
    let site = node.site();
    let is_on_several = call.keys().len() > 1;
    let ran = {
        let wanted = site.gate.of_keys(call.keys(), is_on_several);
        let _turns = site.gate.enter(&wanted).await;
        let _gathering = is_on_several.then(|| site.replica.gather(call.keys()));
        Arc::clone(node).run(who, call)
    };
    let committed = match site.commit(&ran.written).await {
        Ok(()) => site.are_committed(&ran.seen).await,
        failed => failed,
    };
    match committed {
        Ok(()) => ran.reply,
        Err(error) => {
            node.count_error(&error);
            error_reply(who, &error)
        }
    }
}
