//! What is said in the log because of what others do: one line of a kind in a while, however often they
//! do it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A kind is said no more often.
const EVERY: Duration = Duration::from_secs(10);
/// Characters of another node's words.
pub(super) const MAX_REASON: usize = 200;

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// A connection could not be accepted.
    Accept,
    /// A node was refused, or refuses this one.
    Refused,
    /// A connection was closed because of what came over it.
    Closed,
}

const KINDS: usize = 3;

/// What was said, and how often something was not.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<[Option<(Instant, u64)>; KINDS]>);

impl Complaints {
    /// Whether something may be said now: how often it was not said since it was said last.
    pub(super) fn may_say(&self, what: Complaint) -> Option<u64> {
        let mut said = self.0.lock();
        let entry = &mut said[what as usize];
        match entry {
            Some((last, unsaid)) if last.elapsed() < EVERY => {
                *unsaid += 1;
                None
            }
            _ => {
                let unsaid = entry.map_or(0, |(_, unsaid)| unsaid);
                *entry = Some((Instant::now(), 0));
                Some(unsaid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thousand_times_the_same_are_one_line() {
        let complaints = Complaints::default();
        let said: Vec<u64> = (0..1_000)
            .filter_map(|_| complaints.may_say(Complaint::Closed))
            .collect();
        assert_eq!(said, [0]);
        assert_eq!(complaints.may_say(Complaint::Refused), Some(0));
        tokio::time::advance(EVERY).await;
        assert_eq!(complaints.may_say(Complaint::Closed), Some(999));
    }
}
