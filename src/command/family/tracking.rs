//! CLIENT TRACKING and what belongs to it: client-side caching.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::command::context::{After, Ctx, Outcome};
use crate::command::row::{NL, Row, sub};
use crate::command::subscriptions::{Notes, Tracking};
use crate::command::tracking;
use crate::error::Error;
use crate::pubsub::Tracker;
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    sub(
        "client",
        "caching",
        3,
        NL,
        caching,
        "Whether what the next command reads is tracked.",
    )
    .of("connection"),
    sub(
        "client",
        "getredir",
        2,
        NL,
        getredir,
        "Whom tracking is redirected to.",
    )
    .of("connection"),
    sub(
        "client",
        "tracking",
        -3,
        NL,
        tracking,
        "Tells the client when what it has read changes, on any node.",
    )
    .of("connection"),
    sub(
        "client",
        "trackinginfo",
        2,
        NL,
        trackinginfo,
        "How this connection is tracked.",
    )
    .of("connection"),
];

fn caching(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let Some(tracking) = ctx.session.tracking.as_mut() else {
        return Err(Error::text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    tracking.caching = Some(
        match (tracking.notes, args.is(2, "YES"), args.is(2, "NO")) {
            (Notes::OptIn, true, _) => true,
            (Notes::OptOut, _, true) => false,
            (_, true, _) => {
                return Err(Error::text(
                    "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
                ));
            }
            (_, _, true) => {
                return Err(Error::text(
                    "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
                ));
            }
            _ => return Err(Error::Syntax),
        },
    );
    ctx.reply.ok();
    Ok(())
}

fn getredir(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let redirect = redirect(ctx);
    ctx.reply.integer(redirect);
    Ok(())
}

/// -1: it is not tracked; 0: it is told itself.
fn redirect(ctx: &Ctx<'_>) -> i64 {
    let tracking = ctx.session.tracking.as_ref();
    tracking.map_or(-1, |tracking| {
        tracking.tracker.redirect.map_or(0, |id| id as i64)
    })
}

fn trackinginfo(ctx: &mut Ctx<'_>, _: Args<'_>) -> Outcome {
    let mut flags = Vec::new();
    let mut prefixes = Vec::new();
    match &ctx.session.tracking {
        None => flags.push("off"),
        Some(tracking) => {
            let tracker = &tracking.tracker;
            flags.push("on");
            flags.extend(tracker.prefixes.is_some().then_some("bcast"));
            match tracking.notes {
                Notes::All => {}
                Notes::OptIn => {
                    flags.push("optin");
                    flags.extend(tracking.caching.map(|_| "caching-yes"));
                }
                Notes::OptOut => {
                    flags.push("optout");
                    flags.extend(tracking.caching.map(|_| "caching-no"));
                }
            }
            flags.extend(tracker.skips_own.then_some("noloop"));
            flags.extend(tracker.is_lost().then_some("broken_redirect"));
            prefixes.extend(tracker.prefixes.iter().flatten().cloned());
        }
    }
    let redirect = redirect(ctx);
    ctx.reply.map(3);
    ctx.reply.bulk(b"flags");
    ctx.reply.set(flags.len());
    for flag in &flags {
        ctx.reply.bulk(flag.as_bytes());
    }
    ctx.reply.bulk(b"redirect");
    ctx.reply.integer(redirect);
    ctx.reply.bulk(b"prefixes");
    ctx.reply.bulks(&prefixes);
    Ok(())
}

/// The words of CLIENT TRACKING.
#[derive(Default)]
struct Wanted {
    redirect: Option<u64>,
    is_broadcast: bool,
    notes: Notes,
    /// Whether it was asked to note in both ways.
    contradicts: bool,
    skips_own: bool,
    prefixes: Vec<Bytes>,
}

impl Wanted {
    fn parse(ctx: &Ctx<'_>, args: Args<'_>) -> Result<Self, Error> {
        let mut wanted = Self::default();
        let mut nth = 3;
        while nth < args.len() {
            let has_more = nth + 1 < args.len();
            match () {
                () if args.is(nth, "REDIRECT") && has_more => {
                    nth += 1;
                    if wanted.redirect.is_some() {
                        return Err(Error::text(
                            "ERR A client can only redirect to a single other client",
                        ));
                    }
                    let id = u64::try_from(args.integer(nth)?).ok();
                    let clients = ctx.node.clients.all();
                    let found = id.filter(|id| clients.iter().any(|client| client.id == *id));
                    let nobody = "ERR The client ID you want redirect to does not exist";
                    wanted.redirect = Some(found.ok_or(Error::text(nobody))?);
                }
                () if args.is(nth, "PREFIX") && has_more => {
                    nth += 1;
                    wanted.prefixes.push(Bytes::copy_from_slice(args.at(nth)));
                }
                () if args.is(nth, "BCAST") => wanted.is_broadcast = true,
                () if args.is(nth, "OPTIN") => wanted.take(Notes::OptIn),
                () if args.is(nth, "OPTOUT") => wanted.take(Notes::OptOut),
                () if args.is(nth, "NOLOOP") => wanted.skips_own = true,
                () => return Err(Error::Syntax),
            }
            nth += 1;
        }
        Ok(wanted)
    }

    fn take(&mut self, notes: Notes) {
        self.contradicts |= ![Notes::All, notes].contains(&self.notes);
        self.notes = notes;
    }

    /// Whether that is possible, also after what there is.
    fn check(&self, before: Option<&Tracking>) -> Outcome {
        let fail = |text: &'static str| Err(Error::text(text));
        if !self.is_broadcast && !self.prefixes.is_empty() {
            return fail("ERR PREFIX option requires BCAST mode to be enabled");
        }
        if before.is_some_and(|t| t.tracker.prefixes.is_some() != self.is_broadcast) {
            return fail(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, \
                 and then re-enabling it with a different mode.",
            );
        }
        if self.is_broadcast && self.notes != Notes::All {
            return fail("ERR OPTIN and OPTOUT are not compatible with BCAST");
        }
        if self.contradicts {
            return fail("ERR You can't specify both OPTIN mode and OPTOUT mode");
        }
        let was = before.map_or(Notes::All, |tracking| tracking.notes);
        if was != Notes::All && self.notes != Notes::All && was != self.notes {
            return fail(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, \
                 and then re-enabling it with a different mode.",
            );
        }
        let known = before.and_then(|tracking| tracking.tracker.prefixes.as_ref());
        self.check_prefixes(known)
    }

    /// No prefix of a client begins like another one of it.
    fn check_prefixes(&self, known: Option<&BTreeSet<Bytes>>) -> Outcome {
        let overlap = |a: &Bytes, b: &Bytes| a.starts_with(b) || b.starts_with(a);
        let said = |one: &Bytes, which: &str, other: &Bytes| {
            let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
            let text = format!(
                "ERR Prefix '{one}' overlaps with {which} prefix '{other}'. Prefixes for a single \
                 client must not overlap."
            );
            Err(Error::Text(text.into()))
        };
        for (nth, one) in self.prefixes.iter().enumerate() {
            let mut known = known.into_iter().flatten();
            if let Some(other) = known.find(|other| overlap(one, other)) {
                return said(one, "an existing", other);
            }
            let mut others = self.prefixes[nth + 1..].iter();
            if let Some(other) = others.find(|other| overlap(one, other)) {
                return said(one, "another provided", other);
            }
        }
        Ok(())
    }
}

/// The reply leaves when all members that answer know of it: what changes anywhere after it is told.
fn tracking(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let wanted = Wanted::parse(ctx, args)?;
    if args.is(2, "OFF") {
        tracking::end(ctx.node, ctx.session);
        ctx.reply.ok();
        return Ok(());
    }
    if !args.is(2, "ON") {
        return Err(Error::Syntax);
    }
    let before = ctx.session.tracking.take();
    if let Err(error) = wanted.check(before.as_ref()) {
        ctx.session.tracking = before;
        return Err(error);
    }
    let notes = wanted.notes;
    let (id, limit) = (ctx.session.client.id, ctx.node.config.pubsub_limit());
    let how = (limit, ctx.reply.protocol());
    let inbox = ctx.session.listens.open((&ctx.node.listeners, id), how);
    let known = before.and_then(|before| before.tracker.prefixes.clone());
    let mut prefixes = wanted.is_broadcast.then(|| known.unwrap_or_default());
    if let Some(prefixes) = &mut prefixes {
        if wanted.prefixes.is_empty() {
            // All keys begin so.
            prefixes.insert(Bytes::new());
        }
        prefixes.extend(wanted.prefixes);
    }
    let mut tracker = Tracker::new(id, &inbox);
    tracker.redirect = wanted.redirect;
    tracker.prefixes = prefixes;
    tracker.skips_own = wanted.skips_own;
    let tracker = Arc::new(tracker);
    let tracked = ctx.node.listeners.tracked();
    tracked.begin(Arc::clone(&tracker));
    if let Some(target) = wanted.redirect {
        let clients = ctx.node.clients.all();
        if !clients.iter().any(|client| client.id == target) {
            // It has left just now.
            tracked.lose(target);
        }
    }
    ctx.session.tracking = Some(Tracking {
        tracker,
        notes,
        caching: None,
        notes_script: false,
    });
    ctx.reply.ok();
    if let Some(elsewhere) = &ctx.node.elsewhere {
        let heard = elsewhere.tell_of_tracking();
        ctx.after = After::Later(Box::pin(async move {
            heard.await;
            BytesMut::new()
        }));
    }
    Ok(())
}
