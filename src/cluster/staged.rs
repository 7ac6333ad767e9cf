//! Plans: what a change of the membership would move, shown before anything happens.
//!
//! A plan is this node's own until it is committed; then it is a few facts about members, which spread
//! like all others. It is good for the membership that it was made for, and no other.

use super::Cluster;
use super::fingerprint::changes;
use super::plan::{Load, Move, Plan, PlanError, Step};
use crate::logic::membership::{Member, Membership};
use crate::logic::placement::{NodeId, Table};

impl Cluster {
    /// Works out what some changes would move, and keeps it for [`Self::commit`].
    ///
    /// # Errors
    /// When a step does not apply.
    pub fn plan(&self, steps: Vec<Step>) -> Result<Plan, PlanError> {
        let before = self.with_membership(Clone::clone);
        let mut after = before.clone();
        if !steps.iter().all(|step| step.apply(&mut after)) {
            return Err(PlanError::Impossible);
        }
        if !after.present().any(Member::is_placed) {
            return Err(PlanError::Nobody);
        }
        self.check_leaving(&steps)?;
        let n = self.options.rules.default().n;
        let table =
            |of: &Membership| Table::new(&of.placed(), self.options.partitions, usize::from(n));
        let (old, new) = (table(&before), table(&after));
        let plan = Plan {
            moves: self.moves(&old, &new),
            loads: loads(&before, &after, &old, &new),
            violations: violations(
                usize::from(n),
                self.options.partitions.count(),
                &after,
                &new,
            ),
            steps,
            view: changes(before.all()),
        };
        *self.staged.lock() = Some(plan.clone());
        Ok(plan)
    }

    /// What is planned.
    pub fn planned(&self) -> Option<Plan> {
        self.staged.lock().clone()
    }

    /// Withdraws what is planned; whether there was something.
    pub fn cancel(&self) -> bool {
        self.staged.lock().take().is_some()
    }

    /// Does what is planned: from now on the membership is the new one.
    ///
    /// # Errors
    /// When nothing is planned, the membership is not what it was, or a member that is to leave does not
    /// answer; the plan is withdrawn then.
    pub fn commit(&self) -> Result<Plan, PlanError> {
        let plan = self.staged.lock().take().ok_or(PlanError::Nothing)?;
        self.check_leaving(&plan.steps)?;
        self.change(|membership| {
            if changes(membership.all()) != plan.view {
                return Err(PlanError::Changed);
            }
            for step in &plan.steps {
                step.apply(membership);
            }
            Ok(())
        })?;
        Ok(plan)
    }

    /// Who is to leave must be there: behind its back the smaller side of a cut could relieve all of the
    /// larger, and serve alone what that one goes on to write.
    fn check_leaving(&self, steps: &[Step]) -> Result<(), PlanError> {
        let is_silent =
            |step: &Step| matches!(step, Step::Leave(id) if *id != self.me() && !self.answers(*id));
        if steps.iter().any(is_silent) {
            return Err(PlanError::Silent);
        }
        Ok(())
    }

    /// What moves, of keys with any number of owners.
    fn moves(&self, old: &Table, new: &Table) -> Vec<Move> {
        let mut moves = Vec::new();
        let partitions = 0..self.options.partitions.count();
        let sizes = self.options.rules.sizes();
        for (partition, n) in partitions.flat_map(|p| sizes.iter().map(move |n| (p, *n))) {
            let owners = |of: &Table| {
                let mut owners = of.preference_list(partition);
                owners.truncate(usize::from(n));
                owners
            };
            let (was, is) = (owners(old), owners(new));
            let mut losers = was.iter().filter(|id| !is.contains(id));
            for to in is.iter().filter(|id| !was.contains(id)) {
                moves.push(Move {
                    part: (n, partition),
                    from: losers.next().copied(),
                    to: *to,
                });
            }
        }
        moves
    }
}

fn loads(before: &Membership, after: &Membership, old: &Table, new: &Table) -> Vec<Load> {
    let placed = || after.present().filter(|member| member.is_placed());
    let weights: f64 = placed().map(|m| f64::from(m.place().1)).sum();
    let total: usize = new.members().iter().map(|id| new.load(*id)).sum();
    let concerned = |member: &&Member| {
        let was = before.member(member.id);
        member.is_placed() || was.is_some_and(|m| m.is_present() && m.is_placed())
    };
    let load = |member: &Member| Load {
        before: old.load(member.id),
        after: new.load(member.id),
        fair: if member.is_placed() {
            total as f64 * f64::from(member.place().1) / weights
        } else {
            0.0
        },
        member: member.clone(),
    };
    let mut loads: Vec<Load> = after.all().filter(concerned).map(load).collect();
    loads.sort_by(|a, b| a.member.name.cmp(&b.member.name));
    loads
}

fn violations(n: usize, partitions: u16, after: &Membership, new: &Table) -> Vec<String> {
    let mut found = Vec::new();
    let members = new.members().len();
    if members < n {
        found.push(format!(
            "{members} members cannot hold {n} copies: there will be {members}"
        ));
    }
    let zone_of = |id: &NodeId| after.member(*id).map(|member| member.place().0);
    let distinct = |ids: &[NodeId]| {
        let mut zones: Vec<_> = ids.iter().map(zone_of).collect();
        zones.sort_unstable();
        zones.dedup();
        zones.len()
    };
    let zones = distinct(new.members());
    let wanted = zones.min(n).min(members);
    let crowded = (0..partitions).filter(|p| distinct(new.owners(*p)) < wanted);
    let crowded = crowded.count();
    if crowded > 0 {
        found.push(format!(
            "{crowded} partitions will have copies in fewer than {wanted} of {zones} zones"
        ));
    }
    let misses = |id: &&NodeId| new.load(**id).abs_diff(new.share(**id)) > 1;
    for id in new.members().iter().filter(misses) {
        let name = after
            .member(*id)
            .map_or_else(|| id.to_string(), |member| member.name.clone());
        found.push(format!(
            "{name} will own {} partitions where its share is {}",
            new.load(*id),
            new.share(*id)
        ));
    }
    if zones > 1 && zones < n {
        found.push(format!(
            "{zones} zones for {n} copies: the loss of one zone may take more than one copy"
        ));
    }
    found
}
