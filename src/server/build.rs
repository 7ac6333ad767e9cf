//! How a node is made: one function, from the ports through which it meets the world. The program gives it a
//! disk and sockets, the simulation memory and a network of its own.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::runtime::Handle;

use super::error::StartError;
use super::options;
use crate::base::config::Config;
use crate::base::governor::Governor;
use crate::cluster::{Cluster, Notes};
use crate::command::{self, ContextSeal, Node, NodeOptions};
use crate::convergence::Convergence;
use crate::coordinator::Coordinator;
use crate::logic::causal::ActorId;
use crate::logic::membership::{Losses, Member, Parts, State};
use crate::peer::{Identity, Peers};
use crate::replica::{Recovery, Replica};
use crate::storage::Store;

/// What asks the others, given who this node is to them.
pub type Reach = Box<dyn FnOnce(Arc<RwLock<Identity>>) -> Arc<dyn Peers>>;

/// Through what a node meets the world.
pub struct Ports {
    /// Where it keeps its rows.
    pub store: Arc<dyn Store>,
    /// The directives.
    pub config: Config,
    /// The actor of this run, which must be nobody else's.
    pub actor: ActorId,
    /// What authenticates contexts, and members to each other.
    pub secret: Vec<u8>,
    /// What makes it a member of a cluster.
    pub member: Option<MemberPorts>,
    /// Where what nobody waits for runs, at a lower priority.
    pub background: Option<Handle>,
    /// Follows directives that were changed, where somebody else than the node heeds them.
    pub follow: Box<dyn Fn(&Config) + Send + Sync>,
    /// Where clients reach it.
    pub port: u16,
    /// As many clients as descriptors are left for.
    pub most_clients: i64,
}

/// Through what a member meets the others.
pub struct MemberPorts {
    /// Where they reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// What asks them.
    pub reach: Reach,
    /// What it has written down of its cluster.
    pub notes: Box<dyn FnOnce(&Replica) -> Result<Notes, StartError>>,
}

/// A node, and what its start has found.
pub struct Built {
    /// The node.
    pub node: Arc<Node>,
    /// What was there.
    pub recovery: Recovery,
}

/// Makes a node.
///
/// # Errors
/// When the directives do not go together, or the store cannot be read.
pub fn build(ports: Ports) -> Result<Built, StartError> {
    let Ports {
        store,
        config,
        actor,
        secret,
        member,
        background,
        follow,
        port,
        most_clients,
    } = ports;
    let partitions = options::partitions(&config)?;
    let rules = options::rules(&config)?;
    let options = options::replica(&config, partitions, rules, actor);
    let (replica, recovery) = Replica::start(store, options)?;
    let replica = Arc::new(replica);
    let cluster = member.map(|member| see(&config, member, &replica, &secret));
    let cluster = cluster.transpose()?;
    let governor = Arc::new(Governor::new(options::governor(&config)));
    let convergence = cluster.clone().map(|cluster| {
        let (replica, governor) = (Arc::clone(&replica), Arc::clone(&governor));
        Arc::new(Convergence::new(cluster, replica, governor))
    });
    let coordinator = cluster.map(|cluster| {
        let options = options::coordinator(&config);
        Arc::new(Coordinator::new(cluster, Arc::clone(&replica), options))
    });
    let node = command::node(NodeOptions {
        replica,
        coordinator,
        convergence,
        governor,
        background,
        config,
        seal: ContextSeal::new(&secret),
        follow,
        port,
        most_clients,
    });
    Ok(Built { node, recovery })
}

/// A member's view of its cluster, as far as it has written it down.
fn see(
    config: &Config,
    ports: MemberPorts,
    replica: &Arc<Replica>,
    secret: &[u8],
) -> Result<Arc<Cluster>, StartError> {
    let MemberPorts {
        peer_address,
        client_address,
        reach,
        notes,
    } = ports;
    let notes = notes(replica)?;
    let before = notes.members.iter().find(|member| member.id == notes.node);
    let me = Member {
        id: notes.node,
        name: config.text("node-name"),
        peer_address,
        client_address,
        zone: config.text("zone"),
        weight: config.number("weight") as u32,
        actor: replica.actor(),
        incarnation: before.map_or(1, |member| member.incarnation + 1),
        version: 0,
        joined: before.map_or(0, |member| member.joined),
        left: before.and_then(|member| member.left),
        gone: before.is_some_and(|member| member.gone),
        replaces: before.and_then(|member| member.replaces),
        places: before.map_or_else(Vec::new, |member| member.places.clone()),
        complete: before.and_then(|member| member.complete.clone()),
        proven: before.map_or_else(Parts::default, |member| member.proven.clone()),
        proven_as_of: before.map_or(0, |member| member.proven_as_of),
        losses: before.map_or_else(Losses::default, |member| member.losses.clone()),
        state: State::Runs,
    };
    let options = options::cluster(config, replica.partitions(), secret)?;
    let cluster = Cluster::new(me, notes, options, reach);
    if replica.store().is_damaged() {
        cluster.lack_everything();
    }
    Ok(cluster)
}
