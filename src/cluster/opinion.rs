//! What this node thinks of another: its detector, and what follows from that until something happens.

use crate::logic::membership::Detector;

/// What this node thinks of another.
pub struct Opinion {
    /// What was heard of it, and when.
    pub detector: Detector,
    /// Until then it is worth asking, whatever time passes in silence.
    pub trusted_until_ms: u64,
}

impl Opinion {
    /// It is taken for alive from now on.
    pub fn new(now_ms: u64, phi_threshold: f64) -> Self {
        let detector = Detector::new(now_ms);
        Self {
            trusted_until_ms: detector.suspected_from_ms(phi_threshold),
            detector,
        }
    }

    /// Something happened.
    pub fn change(&mut self, phi_threshold: f64, change: impl FnOnce(&mut Detector)) {
        change(&mut self.detector);
        self.trusted_until_ms = self.detector.suspected_from_ms(phi_threshold);
    }
}
