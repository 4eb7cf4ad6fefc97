//! The end of a replica, in the order that loses no request:
//!
//! 1. SIGTERM: the readiness check fails and every answer says `Connection: close`, while requests are still taken. The
//!    endpoint is removed everywhere meanwhile, and kept connections move away.
//! 2. The listener closes; idle connections close; requests in flight finish.
//! 3. What is not done when the grace is over is cut.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    Draining,
    Closing,
}

#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
}

impl Lifecycle {
    pub fn new() -> Self {
        Lifecycle {
            phase: watch::Sender::new(Phase::Serving),
        }
    }

    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub async fn reached(&self, phase: Phase) {
        // Never an error: `self` holds the sender.
        let _ = self
            .phase
            .subscribe()
            .wait_for(|current| *current >= phase)
            .await;
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Lifecycle::new()
    }
}

/// The signals that end a process: Kubernetes sends the first, a terminal the second.
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
