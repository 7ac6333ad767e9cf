//! Ringwood: a store that speaks Redis's protocol and replicates the way Amazon's Dynamo does.
//!
//! Rooms, from the top down (ARCHITECTURE.md says which uses which):
//!
//! | layer | what |
//! | --- | --- |
//! | `cli` | the command line: runs a node, or asks one that runs |
//! | `server` | composition root: builds the parts, owns the tasks |
//! | `restore` | a data directory from a copy |
//! | `net` | listener, connections |
//! | `command` | the command table and its handlers |
//! | `status` | what is known of the node: every fact once, for INFO, JSON and reports |
//! | `answer` | what this node answers to others |
//! | `routing` | where a command runs, and how its reply comes back |
//! | `error` | what a client is told when a command fails, in Redis's words |
//! | `background` | gossip, hinted handoff, and when anti-entropy runs |
//! | `convergence` | Merkle anti-entropy between two owners, parts that move |
//! | `coordinator` | quorums, forwarding, read repair |
//! | `cluster` | this node's view: members, owners, who answers |
//! | `peer` | nodes among themselves: messages over raw TCP |
//! | `replica` | this node's objects: order per key, the only writer of the store |
//! | `storage` | the port `Store` with a memory and a disk adapter |
//! | `resp` | the request parser and the reply writer |
//! | `base` | directives, clocks, histograms, the log, the governor |
//! | `logic` | the pure core |

pub mod logic;

#[cfg(feature = "server")]
pub mod answer;
#[cfg(feature = "server")]
pub mod background;
#[cfg(feature = "server")]
pub mod base;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod cluster;
#[cfg(feature = "server")]
pub mod command;
#[cfg(feature = "server")]
pub mod convergence;
#[cfg(feature = "server")]
pub mod coordinator;
#[cfg(feature = "server")]
pub mod error;
#[cfg(feature = "server")]
pub mod net;
#[cfg(feature = "server")]
pub mod peer;
#[cfg(feature = "server")]
pub mod pubsub;
#[cfg(feature = "server")]
pub mod replica;
#[cfg(feature = "server")]
pub mod resp;
#[cfg(feature = "server")]
pub mod restore;
#[cfg(feature = "server")]
pub mod routing;
#[cfg(feature = "server")]
pub mod script;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod status;
#[cfg(feature = "server")]
pub mod storage;
