//! Tests against real processes: the release of Ringwood that cargo built, and Redis's own server.

mod bounds;
mod cluster;
mod collections;
mod convergence;
mod crash;
mod differential;
mod events;
mod formats;
mod full;
mod functions;
mod grammar;
mod growth;
mod harness;
mod hostile;
mod large;
mod losses;
mod model;
mod namespaces;
mod partition;
mod pubsub;
mod restore;
mod scripts;
mod server;
mod streams;
mod sync;
mod table;
