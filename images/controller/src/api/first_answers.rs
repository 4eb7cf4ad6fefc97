//! A new replica is ready once each part that it uses has answered it.
//!
//! Where NetworkPolicies are enforced, a new pod's address is let through only when every node has learnt it, which may
//! take seconds: requests that came before would fail although every part works for all others.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// What is silent for longer is away for every replica, and no reason to keep this one out.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct FirstAnswers {
    since: Instant,
    came: Mutex<Vec<&'static str>>,
}

impl FirstAnswers {
    pub fn new() -> Self {
        FirstAnswers {
            since: Instant::now(),
            came: Mutex::new(Vec::new()),
        }
    }

    /// The parts of `answers` (name, whether it answers now) that have not answered yet and are still waited for.
    pub fn awaited(&self, answers: &[(&'static str, bool)]) -> Vec<&'static str> {
        let mut came = self
            .came
            .lock()
            .expect("no code panics while it holds this lock");
        for (part, answers) in answers {
            if *answers && !came.contains(part) {
                came.push(part);
            }
        }
        if self.since.elapsed() >= PATIENCE {
            return Vec::new();
        }
        answers
            .iter()
            .map(|(part, _)| *part)
            .filter(|part| !came.contains(part))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_waited_for_once() {
        let first = FirstAnswers::new();
        assert_eq!(first.awaited(&[("a", false), ("b", true)]), ["a"]);
        // Not both at once: what has answered may be away again.
        assert!(first.awaited(&[("a", true), ("b", false)]).is_empty());
        assert!(first.awaited(&[("a", false), ("b", false)]).is_empty());
    }

    #[test]
    fn what_never_answers_is_not_waited_for_without_end() {
        let mut first = FirstAnswers::new();
        first.since -= PATIENCE - Duration::from_secs(1);
        assert_eq!(first.awaited(&[("a", false)]), ["a"]);
        first.since -= Duration::from_secs(1);
        assert!(first.awaited(&[("a", false)]).is_empty());
    }
}
