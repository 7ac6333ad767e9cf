//! The port through which routing runs commands, and what it needs of the node that it routes for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use smallvec::SmallVec;

use super::args::{Args, OwnedArgs};
use super::gate::Gate;
use super::lanes::Lanes;
use super::looks::Looks;
use super::shape::{Positions, Shape};
use super::who::Who;
use crate::coordinator::Coordinator;
use crate::error::Error;
use crate::replica::{Replica, Uncommitted, Written};

/// Lanes of a coordinator.
const LANES: u16 = 1_024;

/// A command's reply, when it is there.
pub type Later = Pin<Box<dyn Future<Output = BytesMut> + Send>>;

/// A node, as far as commands are routed to it.
pub struct Site {
    /// The data.
    pub replica: Arc<Replica>,
    /// What makes it a member of a cluster.
    pub coordinator: Option<Arc<Coordinator>>,
    /// Which commands keep each other out while a handler runs.
    pub gate: Gate,
    /// Commands on one key take turns at its coordinator, from the read quorum before a command to its
    /// local step.
    pub lanes: Lanes,
    /// What those saw who had a turn last.
    pub looks: Looks,
}

impl Site {
    /// A node's.
    pub fn new(replica: Arc<Replica>, coordinator: Option<Arc<Coordinator>>) -> Self {
        Self {
            replica,
            coordinator,
            gate: Gate::default(),
            lanes: Lanes::new(LANES),
            looks: Looks::new(LANES),
        }
    }

    /// Waits until this node's part of a write is committed.
    ///
    /// # Errors
    /// When it is not, or may not be.
    pub async fn commit(&self, written: &[Written]) -> Result<(), Error> {
        if written.is_empty() {
            return Ok(());
        }
        let store = self.replica.store();
        // Others with writes for the same batch queue theirs first.
        tokio::task::yield_now().await;
        for write in written {
            store.kick(write.shard);
        }
        for write in written {
            let progress = store.progress(write.shard);
            progress.wait_committed(write.ticket).await?;
        }
        Ok(())
    }

    /// Waits until what was seen is committed.
    pub(super) async fn are_committed(&self, seen: &[Uncommitted]) -> Result<(), Error> {
        let store = self.replica.store();
        for Uncommitted { shard, ticket } in seen {
            store.kick(*shard);
            store.progress(*shard).wait_committed(*ticket).await?;
        }
        Ok(())
    }
}

/// One command with its words.
#[derive(Clone, Debug)]
pub struct Call {
    /// The number of its row.
    pub row: usize,
    /// What its row says.
    pub shape: &'static Shape,
    /// Its words.
    pub words: OwnedArgs,
    /// Where its keys are.
    positions: Positions,
}

impl Call {
    /// A command of a row, whose keys have been found.
    pub fn new(row: usize, shape: &'static Shape, words: OwnedArgs, positions: Positions) -> Self {
        Self {
            row,
            shape,
            words,
            positions,
        }
    }

    /// Its words.
    pub fn args(&self) -> Args<'_> {
        self.words.as_args()
    }

    /// Its keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let args = self.args();
        self.positions.iter().map(move |at| args.at(*at as usize))
    }

    /// Where its keys are.
    pub(super) fn positions(&self) -> &[u32] {
        &self.positions
    }
}

/// A script that waits for a command which runs elsewhere.
pub trait Paused: Send {
    /// That command's reply, when it is there.
    fn awaited(&mut self) -> Later;

    /// Goes on with it: to the end, or to the next such command.
    fn resume(self: Box<Self>, reply: BytesMut) -> Result<BytesMut, Box<dyn Paused>>;
}

/// Something that is done, when it is done; the reply where it cannot be.
pub type Doing = Pin<Box<dyn Future<Output = Option<BytesMut>> + Send>>;

/// What came of handlers that have run.
#[derive(Default)]
pub struct Ran {
    /// What they replied.
    pub reply: BytesMut,
    /// What they wrote.
    pub written: Vec<Written>,
    /// Others' writes that they have read.
    pub seen: SmallVec<[Uncommitted; 1]>,
    /// A script that goes on when what it has written so far is stored; its reply comes then.
    pub paused: Option<Box<dyn Paused>>,
}

/// Who has the table, and runs what it says.
pub trait Runner: Send + Sync {
    /// The node.
    fn site(&self) -> &Site;

    /// The command that some words are, where it has so many.
    fn call(&self, words: OwnedArgs) -> Option<Call>;

    /// The command whose reply says what WATCH compares of a key.
    fn look_at(&self, key: &[u8]) -> Call;

    /// The command whose reply is 1 where a key is there, and 0 where it is not.
    fn is_there(&self, key: &[u8]) -> Call;

    /// Runs a command's handler against this node's copies. The caller keeps others out.
    fn run(self: Arc<Self>, who: &Who, call: &Call) -> Ran;

    /// Finds the script that a command names, where it is not at hand; `None`: nothing is to be done.
    fn fetch(self: Arc<Self>, call: &Call) -> Option<Doing>;

    /// Runs a script whose commands all run wherever their keys are.
    fn spread(self: Arc<Self>, who: Who, call: Call) -> Later;

    /// Counts an error that a client is told.
    fn count_error(&self, error: &Error);
}
