//! Who answers: this node's own opinion of each member, and what the members know of this node.

use super::opinion::Opinion;
use super::{ANNOUNCED_WITHIN, Cluster};
use crate::logic::membership::{Detector, Digest, Membership};
use crate::logic::placement::NodeId;
use crate::peer::CallError;

impl Cluster {
    /// Counts a gossip round.
    pub fn beat(&self) {
        self.state.write().membership.beat();
    }

    /// Takes heartbeats in.
    pub fn hear(&self, digest: &[Digest]) {
        let hear = |membership: &mut Membership| membership.hear(digest);
        let is_overtaken = self.with_membership(|membership| membership.is_overtaken(digest));
        let heard = if is_overtaken {
            // Nobody may hear of that before it is followed.
            self.change(hear)
        } else {
            hear(&mut self.state.write().membership)
        };
        for id in heard {
            self.heard_from(id);
        }
    }

    /// A member gives a sign of life: a heartbeat that others tell of, or a message of its own.
    pub fn heard_from(&self, id: NodeId) {
        let now_ms = self.now_ms();
        let threshold = self.options.phi_threshold;
        let mut detectors = self.detectors.lock();
        let opinion = detectors.entry(id);
        let opinion = opinion.or_insert_with(|| Opinion::new(now_ms, threshold));
        opinion.change(threshold, |detector| detector.heard(now_ms));
    }

    /// Whether a member is worth asking.
    pub fn answers(&self, id: NodeId) -> bool {
        if id == self.me() {
            return true;
        }
        let now_ms = self.now_ms();
        let suspected = |opinion: &Opinion| now_ms >= opinion.trusted_until_ms;
        !self.peers.is_down(id)
            && !self.detectors.lock().get(&id).is_some_and(suspected)
            && !self.stops(id)
    }

    /// A member did not do what it was asked.
    pub fn failed(&self, id: NodeId, error: CallError) {
        let now_ms = self.now_ms();
        tracing::debug!(node = %self.name_of(id), %error, "did not answer");
        if matches!(error, CallError::TooMuch | CallError::Unknown) {
            // That is no fault of its own: it was not asked.
            return;
        }
        let threshold = self.options.phi_threshold;
        let mut detectors = self.detectors.lock();
        detectors
            .entry(id)
            .or_insert_with(|| Opinion::new(now_ms, threshold))
            .change(threshold, Detector::failed);
    }

    /// How suspicious a member is, and for how many milliseconds it has been silent.
    pub fn suspicion(&self, id: NodeId) -> (f64, u64) {
        let now_ms = self.now_ms();
        let detectors = self.detectors.lock();
        let found = detectors.get(&id).map(|opinion| &opinion.detector);
        found.map_or((0.0, 0), |d| (d.phi(now_ms), d.silent_ms(now_ms)))
    }

    /// The members that answer know that this node is there.
    pub fn has_announced(&self) {
        self.announced.raise(1);
    }

    /// Whether they do, or were given the time to.
    pub fn is_announced(&self) -> bool {
        self.announced.get() > 0
    }

    /// Waits until they do. Before that another node may still run the commands on this node's keys: two that
    /// change one key without seeing each other would both believe to be alone.
    pub async fn announced(&self) {
        let _ = tokio::time::timeout(ANNOUNCED_WITHIN, self.announced.reach(1)).await;
    }
}
