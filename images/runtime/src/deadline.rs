//! How long a request may take, whatever it waits for.

use std::time::Duration;

use tokio::time::Instant;

/// What may pass beside the script's own time: until the body has come, and in queues. The controller gives up 2 s after the
/// limit (its Config::call_timeout) and cannot say then what happened; the other second is for a process that has to end, for
/// what is read of a body that is refused, and for the answer's way.
const WAITS: Duration = Duration::from_secs(1);

/// One for all stages, from the moment at which a request's head was read.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    pub begun: Instant,
    /// The script's time limit.
    pub allowed: Duration,
}

impl Deadline {
    pub fn new(allowed: Duration) -> Self {
        Self {
            begun: Instant::now(),
            allowed,
        }
    }

    /// When all waiting ends.
    pub fn latest(&self) -> Instant {
        self.begun + self.allowed + WAITS
    }

    /// When something ends that begins now and may take `most`.
    pub fn within(&self, most: Duration) -> Instant {
        (Instant::now() + most).min(self.latest())
    }

    /// What it may take from now on, `most` at the longest.
    pub fn left(&self, most: Duration) -> Duration {
        self.within(most).saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_is_not_the_script_s_up_to_a_second() {
        let deadline = Deadline::new(Duration::from_secs(5));
        let seconds = |most| deadline.left(Duration::from_secs(most)).as_secs_f64();
        assert_eq!((seconds(5), seconds(600)), (5.0, 6.0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(seconds(5), 5.0);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!((seconds(5), seconds(1)), (2.0, 1.0));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(seconds(5), 0.0);
    }
}
