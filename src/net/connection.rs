//! One connection: reads, runs all the commands it has, waits for their commits, writes once.
//!
//! Backpressure is the whole memory story: while replies wait for a client that does not read,
//! nothing more is read from it. Invariant: no reply leaves before its writes are committed.

mod messages;
mod transaction;

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::waiting::{await_sync, has_messages, has_too_many, next_line, sleep_or_never};
use crate::base::clock;
use crate::command::{
    self, After, Ctx, Feed, Flags, Node, ReplyMode, Session, Spec, Timed, Transaction,
};
use crate::error::Error;
use crate::replica::{Uncommitted, Written};
use crate::resp::{Limits, Parser, Reply};
use crate::routing::args::Args;
use crate::routing::{self, Later};

/// Bytes read at a time, and kept by an idle connection.
const READ_CHUNK: usize = 16 * 1024;
/// A reading buffer grows by at most so much before bytes arrive.
const MAX_READ_AHEAD: usize = 1 << 20;
/// Replies are sent when so many bytes or commands have gathered.
const FLUSH_BYTES: usize = 256 * 1024;
const FLUSH_COMMANDS: usize = 1_024;
/// Commands of one client that run at a time in a cluster.
const MAX_LATER: usize = 128;

struct Connection {
    stream: TcpStream,
    node: Arc<Node>,
    session: Session,
    parser: Parser,
    input: BytesMut,
    reply: Reply,
    /// Writes whose commit the gathered replies wait for, with the reply's place: the client's own, and those
    /// of others that it has read.
    pending: Vec<Pending>,
    written: Vec<Written>,
    seen: SmallVec<[Uncommitted; 1]>,
    /// When the command that was read arrived.
    arrived: Instant,
    /// When it began, if CLIENT PAUSE has held it.
    began: Option<Instant>,
    /// Commands that have run and whose replies wait for something.
    timed: Vec<Timed>,
    /// Which of these the last one is, if it is one.
    latest_timed: Option<usize>,
    monitor: Option<Feed>,
    /// Replies that are still to come.
    later: Vec<Coming>,
    /// Whether the command that was just run gets no reply.
    silent: bool,
    closing: bool,
}

struct Pending {
    write: Uncommitted,
    /// Whether it is the client's own, or one that it has read.
    is_own: bool,
    reply: std::ops::Range<usize>,
}

/// A reply that is still to come.
struct Coming {
    /// Its place among the gathered ones.
    at: usize,
    /// Which of the commands that have run it is of, where that is still to be counted.
    of: Option<usize>,
    reply: Later,
    /// Whether it is of a message that was sent.
    publishes: bool,
}

/// Serves a client until one side closes.
pub(super) async fn run(stream: TcpStream, node: Arc<Node>, session: Session) {
    let mut connection = Connection {
        stream,
        node,
        session,
        parser: Parser::default(),
        input: BytesMut::with_capacity(READ_CHUNK),
        reply: Reply::default(),
        pending: Vec::new(),
        written: Vec::new(),
        seen: SmallVec::new(),
        arrived: clock::monotonic(),
        began: None,
        timed: Vec::new(),
        latest_timed: None,
        monitor: None,
        later: Vec::new(),
        silent: false,
        closing: false,
    };
    if let Err(error) = connection.serve().await {
        tracing::debug!(client = %connection.session.client.address, %error, "connection ended");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        command::end_listening(&self.node, &mut self.session);
    }
}

impl Connection {
    async fn serve(&mut self) -> std::io::Result<()> {
        loop {
            let more = self.run_commands().await;
            self.settle().await;
            self.finish_later().await;
            self.count_replied();
            self.take_messages();
            self.send().await?;
            if self.closing || self.session.client.is_killed() {
                return self.stream.shutdown().await;
            }
            if !more && !self.receive().await? {
                return Ok(());
            }
        }
    }

    /// Runs the commands that are in the input; `true` when some may be left.
    async fn run_commands(&mut self) -> bool {
        let node = Arc::clone(&self.node);
        for _ in 0..FLUSH_COMMANDS {
            let limits = self.limits();
            match self.parser.advance(&self.input, limits) {
                Ok(true) => {}
                Ok(false) => {
                    self.consume();
                    return false;
                }
                Err(error) => {
                    self.reply.error(&format!("ERR {error}"));
                    self.closing = true;
                    return false;
                }
            }
            (self.arrived, self.began) = (clock::monotonic(), None);
            if self.is_held_by_pause() {
                // What has begun must not keep others waiting meanwhile.
                self.finish_later().await;
                self.wait_for_pause().await;
                self.began = Some(clock::monotonic());
                if self.session.client.is_killed() {
                    self.closing = true;
                    break;
                }
            }
            let found = command::find(self.args());
            let barrier = command::is_barrier(&node, &self.session, found, self.args());
            // Messages are on their way, in their order, when the next command begins.
            let publishes = found.is_some_and(|spec| spec.has(Flags::PUBLISHES));
            let is_behind = barrier && !(publishes && self.later.iter().all(|c| c.publishes));
            if is_behind || self.later.len() >= MAX_LATER {
                self.finish_later().await;
            }
            let before = self.later.len();
            let after = self.run_command(&node, found).await;
            self.follow_up(after).await;
            if publishes {
                for coming in self.later.iter_mut().skip(before) {
                    coming.publishes = true;
                }
            } else if barrier {
                self.finish_later().await;
            }
            if self.closing || self.reply.len() >= FLUSH_BYTES {
                break;
            }
        }
        self.consume();
        true
    }

    fn limits(&self) -> Limits {
        Limits {
            max_bulk_len: self.node.config.max_bulk_len(),
            authenticated: self.session.authenticated,
        }
    }

    fn consume(&mut self) {
        let consumed = self.parser.take_consumed();
        self.input.advance(consumed);
        if self.input.is_empty() && self.input.capacity() > 4 * READ_CHUNK {
            self.input = BytesMut::with_capacity(READ_CHUNK);
        }
    }

    fn is_held_by_pause(&self) -> bool {
        let args = self.args();
        let may_write = || command::may_write(&self.session, args);
        self.node.pause.holds(may_write) && !args.is(0, "client")
    }

    async fn wait_for_pause(&mut self) {
        tokio::select! {
            () = self.node.pause.over() => {}
            () = self.session.client.killed() => {}
        }
    }

    /// The words of the command that was read.
    fn args(&self) -> Args<'_> {
        Args::new(self.parser.source(&self.input), self.parser.args())
    }

    async fn run_command(&mut self, node: &Arc<Node>, found: Option<&'static Spec>) -> After {
        let mut start = self.reply.len();
        if self.session.reply_mode == ReplyMode::SkipNext {
            self.session.reply_mode = ReplyMode::Skip;
        }
        let mut after = self.run_with(node, |ctx, args| command::execute(ctx, found, args));
        if let After::Held(spec, wanted) = after {
            // What has begun must not keep others waiting meanwhile.
            self.settle().await;
            self.finish_later().await;
            start = self.reply.len();
            let turns = command::turns(node, &wanted).await;
            if self.session.client.is_killed() {
                return After::Close;
            }
            after = self.run_with(node, |ctx, args| match turns {
                Some(turns) => command::resume(ctx, spec, args, turns),
                None => command::refuse(ctx, spec),
            });
        }
        self.silent = self.session.reply_mode != ReplyMode::On;
        match self.session.reply_mode {
            ReplyMode::On => {}
            ReplyMode::Off | ReplyMode::SkipNext => self.reply.buffer().truncate(start),
            ReplyMode::Skip => {
                self.reply.buffer().truncate(start);
                self.session.reply_mode = ReplyMode::On;
            }
        }
        let reply = start..self.reply.len();
        for written in self.written.drain(..) {
            self.session.note_written(&written);
            let Written { shard, ticket, .. } = written;
            self.pending.push(Pending {
                write: Uncommitted { shard, ticket },
                is_own: true,
                reply: reply.clone(),
            });
        }
        for write in self.seen.drain(..) {
            self.pending.push(Pending {
                write,
                is_own: false,
                reply: reply.clone(),
            });
        }
        after
    }

    /// Runs the command that was read.
    fn run_with<'a>(
        &'a mut self,
        node: &'a Arc<Node>,
        run: impl FnOnce(&mut Ctx<'a>, Args<'_>),
    ) -> After {
        let args = Args::new(self.parser.source(&self.input), self.parser.args());
        let mut ctx = command::context(
            node,
            &mut self.session,
            &mut self.reply,
            &mut self.written,
            self.arrived,
        );
        ctx.began = self.began;
        run(&mut ctx, args);
        self.seen = ctx.seen.take();
        let timed = ctx.timed.take();
        self.latest_timed = timed.is_some().then_some(self.timed.len());
        self.timed.extend(timed);
        ctx.after
    }

    /// The replies that were waited for are there.
    fn count_replied(&mut self) {
        if self.timed.is_empty() {
            return;
        }
        let now = clock::monotonic();
        for timed in self.timed.drain(..) {
            timed.replied(&self.node, &mut self.session, now);
        }
    }

    async fn follow_up(&mut self, after: After) {
        match after {
            // What was held has run by now.
            After::Nothing | After::Held(..) => {}
            After::Close => self.closing = true,
            After::Cut => {
                self.later.clear();
                self.pending.clear();
                self.reply.buffer().clear();
                self.closing = true;
            }
            After::Sleep(duration) => tokio::time::sleep(duration).await,
            After::Later(later) => self.begin_later(later).await,
            After::Paused(paused) => self.begin_later(Box::pin(routing::drive(paused))).await,
            After::Waiting(later) => {
                self.send_what_is_ready().await;
                let reply = self.wait_for(later).await;
                match reply {
                    Some(_) if self.silent => {}
                    Some(reply) => self.reply.buffer().extend_from_slice(&reply),
                    None => self.closing = true,
                }
            }
            After::Exec(exec) => self.run_transaction(exec).await,
            After::EndMonitor => self.monitor = None,
            After::Monitor => self.monitor = Some(self.node.add_monitor()),
            After::AwaitSync(timeout) => {
                self.send_what_is_ready().await;
                let (node, latest) = (Arc::clone(&self.node), self.session.latest.clone());
                let synced = self.wait_for(await_sync(&node, &latest, timeout)).await;
                match synced {
                    Some(_) if self.silent => {}
                    Some(synced) => command::reply_to_waitaof(&mut self.reply, synced),
                    None => self.closing = true,
                }
            }
        }
    }

    /// Lets a command begin, in its turn; its reply is waited for with those of the next commands.
    async fn begin_later(&mut self, mut later: Later) {
        let begun = std::future::poll_fn(|cx| Poll::Ready(later.as_mut().poll(cx))).await;
        let (at, of) = (self.reply.len(), self.latest_timed);
        let reply: Later = match begun {
            Poll::Ready(_) if self.silent => return,
            Poll::Ready(reply) if self.later.is_empty() => {
                self.note_failed(of, &reply);
                return self.reply.buffer().extend_from_slice(&reply);
            }
            Poll::Ready(reply) => Box::pin(std::future::ready(reply)),
            Poll::Pending if self.silent => Box::pin(async move {
                later.await;
                BytesMut::new()
            }),
            Poll::Pending => later,
        };
        self.later.push(Coming {
            at,
            of,
            reply,
            publishes: false,
        });
    }

    fn note_failed(&mut self, nth: Option<usize>, reply: &[u8]) {
        if reply.first() == Some(&b'-')
            && let Some(timed) = nth.and_then(|nth| self.timed.get_mut(nth))
        {
            timed.failed = true;
        }
    }

    /// Waits for the replies that are still to come and puts them in their places.
    async fn finish_later(&mut self) {
        self.session.under_way.clear();
        if self.later.is_empty() {
            if self.node.site.coordinator.is_some() {
                // Before others' places among the replies are fixed behind them.
                self.settle().await;
            }
            return;
        }
        self.settle().await;
        let coming = std::mem::take(&mut self.later).into_iter();
        let (places, later): (Vec<(usize, Option<usize>)>, Vec<Later>) = coming
            .map(|coming| ((coming.at, coming.of), coming.reply))
            .unzip();
        let replies = join_all(later).await;
        let gathered = self.reply.buffer().split();
        let mut from = 0;
        for ((at, of), reply) in places.into_iter().zip(replies) {
            self.note_failed(of, &reply);
            self.reply.buffer().extend_from_slice(&gathered[from..at]);
            self.reply.buffer().extend_from_slice(&reply);
            from = at;
        }
        self.reply.buffer().extend_from_slice(&gathered[from..]);
        self.count_replied();
    }

    /// Waits for the commits behind the gathered replies; a write that failed turns its reply into
    /// an error.
    async fn settle(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let store = self.node.replica.store();
        // The other connections that have input queue their writes first: one batch for all.
        tokio::task::yield_now().await;
        let mut kicked = 0_u64;
        for Pending { write, .. } in &self.pending {
            let shard = 1_u64 << (write.shard % 64);
            if kicked & shard == 0 && write.ticket > store.progress(write.shard).committed() {
                kicked |= shard;
                store.kick(write.shard);
            }
        }
        let is_there =
            |Pending { write, .. }: &Pending| store.progress(write.shard).is_settled(write.ticket);
        if self.pending.iter().all(is_there) {
            return self.pending.clear();
        }
        let mut failed: Vec<(std::ops::Range<usize>, Error)> = Vec::new();
        // Of each reply the client's own writes come first.
        let mut has_own = None;
        for Pending {
            write,
            is_own,
            reply,
        } in self.pending.drain(..)
        {
            if is_own {
                has_own = Some(reply.start);
            }
            let progress = store.progress(write.shard);
            if let Err(why) = progress.wait_committed(write.ticket).await
                && failed.last().is_none_or(|(last, _)| *last != reply)
            {
                let error = match () {
                    () if is_own => why.into(),
                    () if has_own == Some(reply.start) => Error::InDoubt,
                    () => Error::WasNotStored,
                };
                failed.push((reply, error));
            }
        }
        for (range, error) in failed.into_iter().rev() {
            if range.is_empty() {
                continue;
            }
            let tail = self.reply.buffer().split_off(range.end);
            self.reply.buffer().truncate(range.start);
            self.reply.error(&error.to_string());
            self.reply.buffer().unsplit(tail);
            self.node.stats.count_error(&error);
        }
    }

    async fn send(&mut self) -> std::io::Result<()> {
        if self.reply.is_empty() {
            return Ok(());
        }
        let len = self.reply.len() as u64;
        let patience = self.patience(len)?;
        let output = self.reply.buffer().split();
        let inbox = self.session.listens.inbox().cloned();
        tokio::select! {
            biased;
            sent = self.stream.write_all(&output) => sent?,
            () = self.session.client.killed() => return Err(std::io::ErrorKind::ConnectionAborted.into()),
            () = has_too_many(inbox.as_deref()) => return Err(self.too_much_output(len)),
            () = sleep_or_never(patience) => return Err(self.too_much_output(len)),
        }
        self.node.stats.output_bytes.add(len);
        if self.reply.buffer().capacity() > 4 * FLUSH_BYTES {
            *self.reply.buffer() = BytesMut::new();
        }
        Ok(())
    }

    /// Before a command that may wait for long.
    async fn send_what_is_ready(&mut self) {
        self.settle().await;
        self.finish_later().await;
        self.count_replied();
        self.closing |= self.send().await.is_err();
    }

    /// Reads more input; `false` when the connection is over.
    async fn receive(&mut self) -> std::io::Result<bool> {
        let queued = self.session.transaction.as_ref();
        let held = self.input.len() + queued.map_or(0, Transaction::bytes);
        if held as i64 > self.node.config.query_buffer_limit() {
            tracing::warn!(client = %self.session.client.address,
                "closed: its unfinished command or transaction is beyond client-query-buffer-limit");
            return Ok(false);
        }
        // At most as much as has arrived: a declared length alone reserves nothing.
        let most = self.input.len().clamp(READ_CHUNK, MAX_READ_AHEAD);
        let wanted = self.parser.wanted(self.input.len()).clamp(READ_CHUNK, most);
        self.input.reserve(wanted);
        let idle = self.node.config.timeout_secs();
        let inbox = self.session.listens.inbox().cloned();
        let idle = (idle > 0 && !self.session.listens.is_confined())
            .then(|| Duration::from_secs(idle as u64));
        tokio::select! {
            biased;
            read = self.stream.read_buf(&mut self.input) => {
                let read = read?;
                self.node.stats.input_bytes.add(read as u64);
                self.session.client.note_active();
                Ok(read > 0)
            }
            () = self.session.client.over() => Ok(false),
            line = next_line(&mut self.monitor) => {
                match line {
                    Some(line) => self.reply.simple(&line),
                    None => self.closing = true,
                }
                Ok(true)
            }
            () = has_messages(inbox.as_deref()) => Ok(true),
            () = sleep_or_never(idle) => Ok(false),
        }
    }
}
