//! The scripts that this node has at hand, its machines, and who runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::clock;
use crate::error::Error;
use crate::routing::args::Args;
use crate::script::{Machine, Pauses, Running, Sha, Source, Stopped, sha_of};

/// Scripts that are kept at hand; of more the oldest go. Those that were loaded are found again.
const MAX_KNOWN: usize = 4_096;
/// Bytes of their texts; one larger is kept by itself.
const MAX_BYTES: usize = 64 << 20;
/// Words of a call that are shown, and bytes of each.
const SHOWN_WORDS: usize = 32;
const SHOWN_LEN: usize = 128;
/// Machines that wait for work.
const MAX_IDLE: usize = 16;
/// A run that takes longer is slow: ...
const SLOW: Duration = Duration::from_millis(5);
/// ... so much more than others it counts, ...
const SLOW_RUN: u32 = 16;
/// ... and from here on a script runs where it holds up nobody.
const SLOW_FROM: u32 = 32;
const SLOW_MOST: u32 = 1_024;
/// While one runs for longer, others run where they hold up nobody, too.
const LONG: Duration = Duration::from_millis(50);

/// A script, and what its runs have shown.
#[derive(Debug)]
pub struct Body {
    pub(super) source: Source,
    /// Whether it was kept for all nodes.
    kept: AtomicBool,
    /// Whether it has run to its end.
    has_run: AtomicBool,
    /// Whether it has asked for a key that it had not named.
    wide: AtomicBool,
    /// How often it was slow lately.
    slow: AtomicU32,
}

impl Body {
    fn new(source: Source) -> Self {
        Self {
            source,
            kept: AtomicBool::new(false),
            has_run: AtomicBool::new(false),
            wide: AtomicBool::new(false),
            slow: AtomicU32::new(0),
        }
    }

    /// One that is kept for all nodes.
    pub(super) fn kept(source: Source) -> Self {
        let body = Self::new(source);
        body.note_kept();
        body
    }

    /// Whether nothing is known of its runs.
    pub(super) fn is_new(&self) -> bool {
        !self.has_run.load(Ordering::Relaxed)
    }

    pub(super) fn is_wide(&self) -> bool {
        self.wide.load(Ordering::Relaxed)
    }

    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed) >= SLOW_FROM
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    pub(super) fn note_kept(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_wide(&self) {
        self.wide.store(true, Ordering::Relaxed);
    }

    /// It has run, for so long, and was not stopped: what it does not do by itself says nothing of it.
    pub(super) fn note_run(&self, took: Duration, running: &Running) {
        if self.is_new() && !running.is_stopped() {
            self.has_run.store(true, Ordering::Relaxed);
        }
        let slow = self.slow.load(Ordering::Relaxed);
        if took > SLOW {
            let slow = (slow + SLOW_RUN).min(SLOW_MOST);
            self.slow.store(slow, Ordering::Relaxed);
        } else if slow > 0 {
            self.slow.store(slow - 1, Ordering::Relaxed);
        }
    }
}

/// All of them.
pub struct Scripts {
    bodies: DashMap<Sha, Arc<Body>>,
    /// In the order of coming.
    order: Mutex<VecDeque<Sha>>,
    /// Bytes of their texts.
    bytes: AtomicUsize,
    idle: Mutex<Vec<Machine>>,
    running: Mutex<Vec<Arc<Running>>>,
    /// How many they are.
    count: AtomicUsize,
    /// Somebody has begun to run.
    begun: Notify,
    pauses: Pauses,
    memory: usize,
    /// Scripts that have run.
    ran: AtomicU64,
    /// Those of them that asked for keys elsewhere.
    pub(super) ran_wide: AtomicU64,
}

impl Scripts {
    /// A node's; in a cluster scripts may pause.
    pub fn new(is_in_cluster: bool, memory: usize) -> Self {
        Self {
            bodies: DashMap::new(),
            order: Mutex::default(),
            bytes: AtomicUsize::new(0),
            idle: Mutex::default(),
            running: Mutex::default(),
            count: AtomicUsize::new(0),
            begun: Notify::new(),
            pauses: if is_in_cluster {
                Pauses::Sometimes
            } else {
                Pauses::Never
            },
            memory,
            ran: AtomicU64::new(0),
            ran_wide: AtomicU64::new(0),
        }
    }

    /// How many are at hand, have run, and have asked for keys elsewhere.
    pub fn figures(&self) -> [u64; 3] {
        let ran = [&self.ran, &self.ran_wide].map(|count| count.load(Ordering::Relaxed));
        [self.bodies.len() as u64, ran[0], ran[1]]
    }

    /// A script by its name, in small or capital letters.
    pub(super) fn find(&self, name: &[u8]) -> Option<Arc<Body>> {
        let mut sha: Sha = name.try_into().ok()?;
        sha.make_ascii_lowercase();
        self.bodies.get(&sha).map(|body| Arc::clone(&body))
    }

    /// A script by its text, if it is at hand.
    pub(super) fn find_text(&self, text: &[u8]) -> Option<Arc<Body>> {
        self.find(&sha_of(text))
    }

    /// The same; from now on it is at hand.
    pub(super) fn add(&self, text: &[u8]) -> Result<Arc<Body>, Error> {
        if let Some(body) = self.find_text(text) {
            return Ok(body);
        }
        let source = Source::new(text).map_err(|bad| Error::Text(format!("ERR {bad}").into()))?;
        let body = Arc::new(Body::new(source));
        let sha = body.source.sha;
        if self.bodies.insert(sha, Arc::clone(&body)).is_none() {
            let mut order = self.order.lock();
            order.push_back(sha);
            let bytes = self.bytes.fetch_add(text.len(), Ordering::Relaxed) + text.len();
            let mut left = (order.len(), bytes);
            while (left.0 > MAX_KNOWN || left.1 > MAX_BYTES && left.0 > 1)
                && let Some(oldest) = order.pop_front()
            {
                left = (order.len(), self.let_go(&oldest));
            }
        }
        Ok(body)
    }

    /// A script that compiles; from now on it is at hand.
    pub(super) fn compiled(&self, text: &[u8]) -> Result<Arc<Body>, Error> {
        let body = self.add(text)?;
        let mut machine = self.machine();
        let compiled = machine.compile(&body.source);
        self.give_back(machine);
        if let Err(why) = compiled {
            self.remove(&body.source.sha);
            return Err(not_lua(&why));
        }
        Ok(body)
    }

    /// None is at hand any more.
    pub fn forget(&self) {
        let mut order = self.order.lock();
        for sha in order.drain(..) {
            self.let_go(&sha);
        }
    }

    /// A machine that runs nothing.
    pub(super) fn machine(&self) -> Machine {
        let idle = self.idle.lock().pop();
        idle.unwrap_or_else(|| Machine::new(self.pauses, self.memory))
    }

    /// A machine that runs nothing any more.
    pub(super) fn give_back(&self, mut machine: Machine) {
        if machine.is_clean() {
            let mut idle = self.idle.lock();
            if idle.len() < MAX_IDLE {
                idle.push(machine);
            }
        }
    }

    /// A script begins. Of a function its call is shown.
    pub(super) fn begin(self: &Arc<Self>, source: &Source, call: Args<'_>) -> Begun {
        let (name, now) = (source.name().to_owned(), clock::monotonic());
        let words = call
            .from(0)
            .take(SHOWN_WORDS)
            .filter(|_| source.is_function());
        let words = words.map(|word| word[..word.len().min(SHOWN_LEN)].to_vec());
        let running = Running::new(name, source.is_function(), now).called(words.collect());
        let running = Arc::new(running);
        self.running.lock().push(Arc::clone(&running));
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ran.fetch_add(1, Ordering::Relaxed);
        self.begun.notify_waiters();
        Begun {
            scripts: Arc::clone(self),
            running,
        }
    }

    /// Has the one end that runs longest, of scripts or of functions where that is said, unless it has written;
    /// `None`: nobody runs.
    pub fn stop(&self, functions: Option<bool>) -> Option<Stopped> {
        let running = self.running.lock();
        let those = running.iter();
        let those = those.filter(|one| functions.is_none_or(|wanted| one.is_function == wanted));
        let longest = those.min_by_key(|running| running.since);
        longest.map(|running| running.stop())
    }

    /// Has all end that have written nothing.
    pub fn stop_all(&self) {
        for running in self.running.lock().iter() {
            running.stop();
        }
    }

    /// Whether the one that runs longest is a function of a library; `None`: nobody runs.
    pub fn runs_function(&self) -> Option<bool> {
        let running = self.running.lock();
        let longest = running.iter().min_by_key(|running| running.since);
        longest.map(|running| running.is_function)
    }

    /// A script is at hand no more; the bytes of those that are.
    fn let_go(&self, sha: &Sha) -> usize {
        let gone = self.bodies.remove(sha);
        let len = gone.map_or(0, |(_, body)| body.source.text.len());
        self.bytes.fetch_sub(len, Ordering::Relaxed) - len
    }

    /// A text turned out to be no script.
    pub(super) fn remove(&self, sha: &Sha) {
        self.let_go(sha);
        self.order.lock().retain(|known| known != sha);
    }

    /// Whether somebody has run for long: another one had better not take a thread from those who are served.
    pub(super) fn has_long_one(&self) -> bool {
        let running = self.running.lock();
        let now = clock::monotonic();
        running.len() > 1
            && running
                .iter()
                .any(|one| now.saturating_duration_since(one.since) > LONG)
    }

    /// What runs longest: its name, its call, and for how long.
    pub fn running(&self) -> Option<(String, Vec<Vec<u8>>, Duration)> {
        let running = self.running.lock();
        let longest = running.iter().min_by_key(|running| running.since)?;
        let since = clock::monotonic().saturating_duration_since(longest.since);
        Some((longest.name.clone(), longest.call.clone(), since))
    }

    /// When the one that runs longest has begun.
    fn longest(&self) -> Option<Instant> {
        self.running
            .lock()
            .iter()
            .map(|running| running.since)
            .min()
    }

    /// Whether a script has run for so long; zero: never. One load while none runs.
    pub(crate) fn is_busy(&self, threshold: impl Fn() -> Duration) -> bool {
        let is_long = |since: Instant| {
            let (threshold, took) = (
                threshold(),
                clock::monotonic().saturating_duration_since(since),
            );
            !threshold.is_zero() && took >= threshold
        };
        self.count.load(Ordering::Relaxed) > 0 && self.longest().is_some_and(is_long)
    }

    /// Waits until a script has run for so long; zero: for ever.
    pub(crate) async fn are_busy(&self, threshold: Duration) {
        if threshold.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let begun = self.begun.notified();
            match self.longest() {
                None => begun.await,
                Some(since) => {
                    let left = (since + threshold).saturating_duration_since(clock::monotonic());
                    if left.is_zero() {
                        return;
                    }
                    tokio::time::sleep(left).await;
                }
            }
        }
    }
}

/// A script that runs, as long as it does.
pub(super) struct Begun {
    scripts: Arc<Scripts>,
    pub(super) running: Arc<Running>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.scripts.count.fetch_sub(1, Ordering::Relaxed);
        let mut running = self.scripts.running.lock();
        running.retain(|running| !Arc::ptr_eq(running, &self.running));
    }
}

/// What is said while a script, or a function, has run for too long.
pub fn busy(is_function: bool) -> &'static str {
    if is_function {
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
    } else {
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    }
}

/// What is said of a text that is no Lua.
pub(super) fn not_lua(why: &str) -> Error {
    Error::Text(format!("ERR Error compiling script (new function): {why}").into())
}
