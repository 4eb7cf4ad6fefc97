//! How many of something are under way over all replicas: leases in Redis, which end by themselves where a replica is lost.

use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use tokio::time::Instant;
use uuid::Uuid;

use crate::redis_master::{Lane, RedisMaster, RedisUnavailable};

const TAKE: &str = include_str!("store/lease.lua");

pub struct Leases {
    master: Arc<RedisMaster>,
    timeout: Duration,
}

/// Given back when it is dropped.
pub struct Lease {
    master: Arc<RedisMaster>,
    timeout: Duration,
    key: String,
    id: String,
    /// Perhaps; not where Redis has said no.
    held: bool,
}

impl Leases {
    pub fn new(master: Arc<RedisMaster>, timeout: Duration) -> Self {
        Leases { master, timeout }
    }

    /// None where `most` are under way already. It ends after `lasting` at the latest.
    pub async fn take(
        &self,
        key: String,
        most: u32,
        lasting: Duration,
    ) -> Result<Option<Lease>, RedisUnavailable> {
        // Before it is asked for: who stops waiting for the answer gives it back, too.
        let mut lease = Lease {
            master: self.master.clone(),
            timeout: self.timeout,
            key,
            id: Uuid::new_v4().simple().to_string(),
            held: true,
        };
        let mut commands = Pipeline::new();
        commands
            .cmd("EVAL")
            .arg(TAKE)
            .arg(1)
            .arg(&lease.key)
            .arg(&lease.id)
            .arg(most)
            .arg(lasting.as_millis() as u64);
        let start = Instant::now();
        let deadline = start + self.timeout;
        let answer = self.master.run(Lane::Write, &commands, deadline).await;
        self.master.observe(Lane::Write, start.elapsed());
        let (taken,): (bool,) = answer?;
        lease.held = taken;
        Ok(taken.then_some(lease))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Ok(tokio) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if !self.held {
            return;
        }
        let mut commands = Pipeline::new();
        commands.cmd("ZREM").arg(&self.key).arg(&self.id).ignore();
        let (master, deadline) = (self.master.clone(), Instant::now() + self.timeout);
        // Where that fails the lease ends by itself.
        tokio.spawn(async move {
            let _ = master.run::<()>(Lane::Write, &commands, deadline).await;
        });
    }
}
