//! RINGWOOD PLAN: a change of the membership, shown before anything happens, then committed or
//! withdrawn.
//!
//! The plan is kept by the node that was asked; what it would move is worked out by `cluster`. Here is
//! what it takes to know the newcomers, to guess sizes, and to tell people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use indicatif::HumanBytes;

use super::meet;
use crate::cluster::{Cluster, Load, Move, Part, Plan, Step};
use crate::command::context::{Ctx, Outcome};
use crate::command::node::Node;
use crate::command::row::{L, NO_MULTI, OWN, Row, sub};
use crate::convergence::Convergence;
use crate::error::Error;
use crate::logic::membership::Member;
use crate::logic::placement::NodeId;
use crate::peer::message::{MembershipRequest, Response};
use crate::routing::args::Args;

/// The rows of this family.
pub const ROWS: &[Row] = &[sub(
    "ringwood",
    "plan",
    -2,
    L.and(OWN).and(NO_MULTI),
    plan,
    "Shows what a change of the membership would move; COMMIT does it, CANCEL withdraws it.",
)];

const WITHIN: Duration = Duration::from_secs(3);
/// A newcomer is asked so often to come, before gossip goes on with it.
const INVITATIONS: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Columns of a line that lists partitions.
const WIDTH: usize = 80;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Show,
    Commit,
    Cancel,
    Plan(Vec<Change>),
}

/// One of the changes that are planned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Join(Vec<String>),
    Leave(Vec<String>),
    Remove(Vec<String>),
    Replace(String, String),
    Weights(Vec<(String, u32)>),
    Zones(Vec<(String, String)>),
}

/// RINGWOOD PLAN [COMMIT | CANCEL | change [AND change …]], where a change is one of JOIN address …,
/// LEAVE member …, REMOVE member …, REPLACE member address, WEIGHT member n …, ZONE member zone ….
pub(super) fn plan(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let asked = parse(args)?;
    let Some(convergence) = ctx.node.convergence.clone() else {
        return Err(Error::text(
            "ERR This instance has cluster support disabled",
        ));
    };
    ctx.reply_later(async move { answer(&convergence, asked).await });
    Ok(())
}

fn parse(args: Args<'_>) -> Result<Asked, Error> {
    let words: Vec<String> = (2..args.len()).map(|nth| args.text(nth)).collect();
    match words.as_slice() {
        [] => Ok(Asked::Show),
        [word] if word.eq_ignore_ascii_case("COMMIT") => Ok(Asked::Commit),
        [word] if word.eq_ignore_ascii_case("CANCEL") => Ok(Asked::Cancel),
        words => {
            let changes = words.split(|word| word.eq_ignore_ascii_case("AND"));
            let changes: Result<_, _> = changes.map(parse_change).collect();
            changes.map(Asked::Plan)
        }
    }
}

fn parse_change(words: &[String]) -> Result<Change, Error> {
    let [verb, words @ ..] = words else {
        return Err(Error::Syntax);
    };
    let is = |word| verb.eq_ignore_ascii_case(word);
    let pairs = || match words.as_chunks() {
        (pairs @ [_, ..], []) => Ok(pairs.iter().map(|[a, b]| (a.clone(), b.clone()))),
        _ => Err(Error::Syntax),
    };
    match words {
        [_, ..] if is("JOIN") => Ok(Change::Join(words.to_vec())),
        [_, ..] if is("LEAVE") => Ok(Change::Leave(words.to_vec())),
        [_, ..] if is("REMOVE") => Ok(Change::Remove(words.to_vec())),
        [old, new] if is("REPLACE") => Ok(Change::Replace(old.clone(), new.clone())),
        _ if is("WEIGHT") => {
            let weight = |(member, weight): (String, String)| {
                let weight: Option<u32> = weight.parse().ok();
                let valid = weight.filter(|weight| (1..=1_000).contains(weight));
                let weight = valid.ok_or(Error::text("ERR weight must be between 1 and 1000"))?;
                Ok((member, weight))
            };
            let weights: Result<_, Error> = pairs()?.map(weight).collect();
            weights.map(Change::Weights)
        }
        _ if is("ZONE") => Ok(Change::Zones(pairs()?.collect())),
        _ => Err(Error::Syntax),
    }
}

async fn answer(convergence: &Convergence, asked: Asked) -> Result<String, String> {
    let cluster = convergence.cluster();
    if !cluster.has_joined() {
        return Err("this node has no cluster yet".to_owned());
    }
    let changes = match asked {
        Asked::Show => {
            let plan = cluster.planned().ok_or("nothing is planned")?;
            return Ok(shown(convergence, &plan).await);
        }
        Asked::Cancel if cluster.cancel() => return Ok("the plan is withdrawn\n".to_owned()),
        Asked::Cancel => return Err("nothing is planned".to_owned()),
        Asked::Commit => return commit(cluster).await,
        Asked::Plan(changes) => changes,
    };
    let steps = steps(cluster, changes).await?;
    let plan = cluster.plan(steps).map_err(|error| error.to_string())?;
    Ok(shown(convergence, &plan).await)
}

async fn steps(cluster: &Cluster, changes: Vec<Change>) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut places: Vec<(NodeId, String, u32)> = Vec::new();
    for change in changes {
        match change {
            Change::Join(addresses) => {
                for address in addresses {
                    steps.push(Step::Join(describe(cluster, &address).await?));
                }
            }
            Change::Leave(names) => steps.extend(each(cluster, &names, Step::Leave)?),
            Change::Remove(names) => {
                steps.extend(each(cluster, &names, Step::Remove)?);
                for name in &names {
                    if cluster.answers(member(cluster, name)?.id) {
                        return Err(format!(
                            "{name} answers: only a member that is gone can be removed; let it leave"
                        ));
                    }
                }
            }
            Change::Replace(old, new) => {
                let old = member(cluster, &old)?.id;
                let new = describe(cluster, &new).await?;
                steps.push(Step::Replace(old, new));
            }
            Change::Weights(weights) => {
                for (name, weight) in weights {
                    place(cluster, &mut places, &name)?.2 = weight;
                }
            }
            Change::Zones(zones) => {
                for (name, zone) in zones {
                    place(cluster, &mut places, &name)?.1 = zone;
                }
            }
        }
    }
    if !places.is_empty() {
        steps.push(Step::Place(places));
    }
    Ok(steps)
}

/// Where a member is to stand, as far as that was said.
fn place<'p>(
    cluster: &Cluster,
    places: &'p mut Vec<(NodeId, String, u32)>,
    name: &str,
) -> Result<&'p mut (NodeId, String, u32), String> {
    let member = member(cluster, name)?;
    let nth = places.iter().position(|(id, ..)| *id == member.id);
    let nth = nth.unwrap_or_else(|| {
        let (zone, weight) = member.place();
        places.push((member.id, zone.to_owned(), weight));
        places.len() - 1
    });
    Ok(&mut places[nth])
}

fn member(cluster: &Cluster, name: &str) -> Result<Member, String> {
    let long_id = |member: &Member| format!("{:040x}", member.id.0);
    let is_it = |member: &Member| {
        member.name == name || member.id.to_string() == name || long_id(member) == name
    };
    let mut found = cluster.members().into_iter().filter(is_it);
    match (found.next(), found.next()) {
        (Some(member), None) => Ok(member),
        (None, _) => Err(format!("Unknown node {name}")),
        (Some(_), Some(_)) => Err(format!("several members are called {name}: give an id")),
    }
}

fn each(
    cluster: &Cluster,
    names: &[String],
    step: impl Fn(NodeId) -> Step,
) -> Result<Vec<Step>, String> {
    let found = names.iter().map(|name| member(cluster, name));
    found.map(|member| Ok(step(member?.id))).collect()
}

/// Asks a node who it is, and whether it could join.
async fn describe(cluster: &Cluster, address: &str) -> Result<Member, String> {
    let peer = meet::peer_address(address)?;
    let known = cluster.members();
    if let Some(member) = known.iter().find(|member| member.peer_address == peer) {
        return Err(format!("{address} is a member: {}", member.name));
    }
    let peers = cluster.peers();
    match peers
        .call_address(&peer, &MembershipRequest::Describe.into(), WITHIN)
        .await
    {
        Ok((_, Response::Described { member, reason })) if reason.is_empty() => {
            if known.iter().any(|other| other.name == member.name) {
                return Err(format!("a member is called {} already", member.name));
            }
            Ok(*member)
        }
        Ok((_, Response::Described { reason, .. } | Response::Refused(reason))) => {
            Err(format!("{address}: {reason}"))
        }
        Ok(_) => Err(format!(
            "{address}: the other node sent something that was not asked for"
        )),
        Err(error) => Err(format!("{address}: {error}")),
    }
}

/// The new membership holds from here on; then the newcomers are told.
async fn commit(cluster: &Cluster) -> Result<String, String> {
    let steps = cluster.planned().map_or_else(Vec::new, |plan| plan.steps);
    for step in &steps {
        if let Step::Remove(id) = step
            && cluster.answers(*id)
        {
            return Err(format!("{} answers by now", cluster.name_of(*id)));
        }
    }
    let plan = cluster.commit().map_err(|error| error.to_string())?;
    let is_noted = cluster.noted().await;
    cluster.announce();
    let count = plan.steps.len();
    tracing::info!(
        steps = count,
        moves = plan.moves.len(),
        "a plan is committed"
    );
    let mut text = format!("committed: {}\n", words(cluster, &plan));
    if !is_noted {
        text.push_str("this node could not write it down; it is lost if all stop that know it\n");
    }
    for newcomer in plan.steps.iter().filter_map(Step::newcomer) {
        if let Err(reason) = invite(cluster, newcomer).await {
            let _ = writeln!(
                text,
                "{} has not come yet ({reason}); it is asked again and again",
                newcomer.name
            );
        }
    }
    let _ = writeln!(text, "{} copies of partitions move", plan.moves.len());
    Ok(text)
}

async fn invite(cluster: &Cluster, newcomer: &Member) -> Result<(), String> {
    let mut said = Ok(());
    for _ in 0..INVITATIONS {
        said = meet::invite(cluster, &newcomer.peer_address).await;
        if said.is_ok() {
            return said;
        }
        tokio::time::sleep(PAUSE).await;
    }
    said
}

/// Who a node is, for one that would take it in.
/// What a node says of itself for a plan.
pub fn described(node: &Node) -> Response {
    let Some(coordinator) = &node.site.coordinator else {
        return Response::Refused("not in a cluster".into());
    };
    let cluster = coordinator.cluster();
    Response::Described {
        member: Box::new(cluster.with_membership(|membership| membership.me().clone())),
        reason: meet::may_join(node, cluster).err().unwrap_or_default(),
    }
}

fn words(cluster: &Cluster, plan: &Plan) -> String {
    let name = |id: &NodeId| cluster.name_of(*id);
    let of = |step: &Step| match step {
        Step::Join(member) => format!("join {}", member.name),
        Step::Leave(id) => format!("leave {}", name(id)),
        Step::Remove(id) => format!("remove {}", name(id)),
        Step::Replace(id, member) => format!("replace {} by {}", name(id), member.name),
        Step::Place(places) => {
            let of = |(id, zone, weight): &(NodeId, String, u32)| {
                format!("{}: zone {zone}, weight {weight}", name(id))
            };
            places.iter().map(of).collect::<Vec<_>>().join(", ")
        }
    };
    let steps: Vec<String> = plan.steps.iter().map(of).collect();
    steps.join(", ")
}

/// The plan for people.
async fn shown(convergence: &Convergence, plan: &Plan) -> String {
    let cluster = convergence.cluster();
    let sizes = sizes(convergence, plan).await;
    let mut text = format!("plan         {}\n", words(cluster, plan));
    let _ = writeln!(
        text,
        "partitions   {} with {} copies each\n",
        cluster.options().partitions.count(),
        cluster.options().rules.default().n
    );
    loads(&mut text, &plan.loads);
    moves(&mut text, plan, &sizes, cluster.options().rules.default().n);
    let _ = match plan.violations.as_slice() {
        [] => writeln!(text, "\nviolations   none"),
        some => writeln!(text, "\nviolations   {}", some.join("\n             ")),
    };
    text.push_str("\nNothing has happened yet: commit the plan, or cancel it.\n");
    text
}

fn loads(text: &mut String, loads: &[Load]) {
    let _ = writeln!(
        text,
        "{:<20} {:<10} {:>6} {:>8} {:>8} {:>8} {:>10}",
        "member", "zone", "weight", "before", "after", "change", "fair share"
    );
    for Load {
        member,
        before,
        after,
        fair,
    } in loads
    {
        let (zone, weight) = member.place();
        let change = *after as i64 - *before as i64;
        let _ = writeln!(
            text,
            "{:<20} {zone:<10} {weight:>6} {before:>8} {after:>8} {change:>+8} {fair:>10.1}",
            member.name
        );
    }
}

fn moves(text: &mut String, plan: &Plan, sizes: &BTreeMap<Part, (u64, u64)>, n: u8) {
    let bytes_of = |of: &dyn Fn(&&Move) -> bool| {
        let moves = plan.moves.iter().filter(of);
        let (mut bytes, mut unknown) = (0, 0);
        for m in moves {
            match sizes.get(&m.part) {
                Some((_, size)) => bytes += size,
                None => unknown += 1,
            }
        }
        match unknown {
            0 => format!("about {}", HumanBytes(bytes)),
            _ if bytes == 0 => "of a size that is not known".to_owned(),
            _ => format!(
                "about {} and {unknown} of a size that is not known",
                HumanBytes(bytes)
            ),
        }
    };
    let names: BTreeMap<NodeId, &str> = plan
        .loads
        .iter()
        .map(|load| (load.member.id, load.member.name.as_str()))
        .collect();
    let name = |id: NodeId| names.get(&id).copied().unwrap_or("nobody");
    let _ = writeln!(
        text,
        "\nmoves        {} copies, {}",
        plan.moves.len(),
        bytes_of(&|_| true)
    );
    let pairs: BTreeSet<(NodeId, Option<NodeId>, u8)> = plan
        .moves
        .iter()
        .map(|m| (m.to, m.from, m.part.0))
        .collect();
    for (to, from, copies) in pairs {
        let between = |m: &&Move| (m.to, m.from, m.part.0) == (to, from, copies);
        let of_prefixes = if copies == n {
            String::new()
        } else {
            format!(" of keys with {copies} owners")
        };
        let partitions: Vec<u16> = plan
            .moves
            .iter()
            .filter(between)
            .map(|m| m.part.1)
            .collect();
        let _ = writeln!(
            text,
            "  {} to {}: {} copies{of_prefixes}, {}",
            from.map_or("(made again)", name),
            name(to),
            partitions.len(),
            bytes_of(&between)
        );
        wrapped(text, &partitions);
    }
}

/// Partitions, neighbours together, in lines of bounded length.
fn wrapped(text: &mut String, partitions: &[u16]) {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &partition in partitions {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == partition => *last = partition,
            _ => ranges.push((partition, partition)),
        }
    }
    let mut line = String::from("   ");
    for (first, last) in ranges {
        let range = if first == last {
            format!(" {first}")
        } else {
            format!(" {first}-{last}")
        };
        if line.len() + range.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("   ");
        }
        line.push_str(&range);
    }
    let _ = writeln!(text, "{line}");
}

/// About how large what moves is, as those say that have it.
async fn sizes(convergence: &Convergence, plan: &Plan) -> BTreeMap<Part, (u64, u64)> {
    let cluster = convergence.cluster();
    let holder = |part: &Part| {
        let holders = cluster.holders(*part);
        holders
            .serving
            .iter()
            .copied()
            .find(|id| cluster.answers(*id))
    };
    let parts: BTreeSet<Part> = plan.moves.iter().map(|m| m.part).collect();
    let asked = parts.iter().filter_map(|part| Some((*part, holder(part)?)));
    convergence.sizes_of(asked).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::args::OwnedArgs;

    fn parsed(text: &str) -> Result<Asked, Error> {
        let mut words = OwnedArgs::default();
        for word in text.split(' ') {
            words.push(word.as_bytes());
        }
        parse(words.as_args())
    }

    #[test]
    fn a_plan_holds_one_change_or_several() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let zones = Change::Zones(vec![pair("a", "x"), pair("b", "y")]);
        let one = parsed("ringwood plan zone a x b y");
        assert_eq!(one, Ok(Asked::Plan(vec![zones.clone()])));
        let leave = Change::Leave(vec!["c".into(), "d".into()]);
        let weights = Change::Weights(vec![("a".into(), 2)]);
        let several = parsed("RINGWOOD PLAN LEAVE c d AND ZONE a x b y and weight a 2");
        assert_eq!(several, Ok(Asked::Plan(vec![leave, zones, weights])));
        assert_eq!(parsed("ringwood plan commit"), Ok(Asked::Commit));
        for wrong in [
            "zone a",
            "zone",
            "and",
            "leave a and",
            "replace a",
            "sing a",
        ] {
            let said = parsed(&format!("ringwood plan {wrong}"));
            assert_eq!(said, Err(Error::Syntax), "{wrong}");
        }
        assert!(parsed("ringwood plan weight a 0").is_err());
    }

    #[test]
    fn partitions_are_listed_in_lines_of_80_columns() {
        let mut text = String::new();
        let partitions: Vec<u16> = (0..200).filter(|p| p % 7 != 0).chain([300]).collect();
        wrapped(&mut text, &partitions);
        assert!(text.starts_with("    1-6 8-13 "));
        assert!(text.ends_with(" 300\n"));
        assert!(text.lines().all(|line| line.len() <= WIDTH));
    }
}
