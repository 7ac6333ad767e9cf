//! A change of the membership that is thought through before it is made.

use thiserror::Error;

use crate::logic::membership::{Member, Membership, Part};
use crate::logic::placement::NodeId;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A node becomes a member.
    Join(Member),
    /// A member hands over what it has, and leaves.
    Leave(NodeId),
    /// A member is gone; the others make its copies again.
    Remove(NodeId),
    /// A node becomes a member and takes all places of another, who leaves.
    Replace(NodeId, Member),
    /// Members have another zone or weight from now on.
    Place(Vec<(NodeId, String, u32)>),
}

/// A copy that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Of what.
    pub part: Part,
    /// Who does not own it any more, if it is somebody's place.
    pub from: Option<NodeId>,
    /// Who owns it then.
    pub to: NodeId,
}

/// What one member owns before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Which.
    pub member: Member,
    /// Partitions before.
    pub before: usize,
    /// Partitions after.
    pub after: usize,
    /// What would be fair by weight alone.
    pub fair: f64,
}

/// A change of the membership, and what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The changes, in order.
    pub steps: Vec<Step>,
    /// Copies that are to be made, by partition.
    pub moves: Vec<Move>,
    /// Who owns how much, by name; also who leaves.
    pub loads: Vec<Load>,
    /// What will not be as it should be.
    pub violations: Vec<String>,
    /// The membership that it is for.
    pub(super) view: u64,
}

/// Why there is no plan, or it cannot be committed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Nothing is planned.
    #[error("nothing is planned")]
    Nothing,
    /// The membership is another one by now.
    #[error("the membership has changed since the plan was made: plan again")]
    Changed,
    /// A step concerns somebody that is no member, or one already.
    #[error("a step does not apply: the member is not there, leaves already, or is one already")]
    Impossible,
    /// One that is to leave is not there to hand over what it has.
    #[error(
        "a member that is to leave does not answer: it hands over what it has by itself. Start it, or remove it"
    )]
    Silent,
    /// Nobody would be left.
    #[error("no member would be left")]
    Nobody,
}

impl Step {
    pub(super) fn apply(&self, membership: &mut Membership) -> bool {
        match self {
            Step::Join(member) => {
                let is_new = membership.member(member.id).is_none();
                if is_new {
                    membership.admit(member.clone());
                }
                is_new
            }
            Step::Leave(id) => membership.leave(*id),
            Step::Remove(id) => membership.remove(*id),
            Step::Replace(old, member) => {
                let is_new = membership.member(member.id).is_none();
                let is_there = membership.member(*old).is_some_and(Member::is_placed);
                if is_new && is_there {
                    membership.replace(*old, member.clone());
                }
                is_new && is_there
            }
            Step::Place(places) => membership.replant(places),
        }
    }

    /// The node that is to become a member.
    pub fn newcomer(&self) -> Option<&Member> {
        match self {
            Step::Join(member) | Step::Replace(_, member) => Some(member),
            _ => None,
        }
    }
}
