//! A number that only grows, and those who wait until it has: in the order in which they began to wait,
//! so that a simulation is the same every time.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Growing {
    value: AtomicU64,
    grew: Notify,
}

impl Growing {
    /// What it is now.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    /// Makes it one more.
    pub fn grow(&self) {
        self.value.fetch_add(1, Ordering::AcqRel);
        self.grew.notify_waiters();
    }

    /// Makes it at least so much.
    pub fn raise(&self, to: u64) {
        self.value.fetch_max(to, Ordering::AcqRel);
        self.grew.notify_waiters();
    }

    /// Waits until it is at least so much.
    pub async fn reach(&self, at_least: u64) {
        loop {
            // Hears of whatever happens from here on.
            let grew = self.grew.notified();
            if self.get() >= at_least {
                return;
            }
            grew.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn who_waits_hears_of_it_and_who_comes_late_need_not_wait() {
        let growing = Growing::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut waits = pin!(growing.reach(2));
        assert_eq!(waits.as_mut().poll(&mut context), Poll::Pending);
        growing.grow();
        growing.raise(1);
        assert_eq!(waits.as_mut().poll(&mut context), Poll::Pending);
        growing.raise(7);
        assert_eq!(waits.as_mut().poll(&mut context), Poll::Ready(()));
        let late = pin!(growing.reach(7));
        assert_eq!(late.poll(&mut context), Poll::Ready(()));
        assert_eq!(growing.get(), 7);
    }
}
