//! What callers keep in Redis until it expires: sessions, scripts and first answers. Each may keep so many keys and bytes,
//! counted exactly by Redis itself in scripts that change the values and their count together.

use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, Pipeline, Value};
use tokio::time::{Instant, sleep};

use crate::account::Account;
use crate::config::{KeptLimits, RedisConfig};
use crate::metrics::{Metrics, RefusalLabels};
use crate::redis_master::{Lane, RedisMaster, RedisUnavailable};

/// Of keys, for whom only bytes are bounded. A number of Lua holds it exactly.
const ANY_NUMBER: u64 = 1 << 52;

const KEEP: &str = include_str!("store/keep.lua");
const REMOVE: &str = include_str!("store/remove.lua");
const FIND: &str = include_str!("store/find.lua");

/// How long the master may take to hear from its replicas before the write is tried again: shorter than the time
/// after which the connection counts as broken.
const REPLICATION_WAIT: Duration = Duration::from_millis(500);

pub struct Store {
    master: Arc<RedisMaster>,
    metrics: Arc<Metrics>,
    timeout: Duration,
    confirm_replicas: u32,
    limits: KeptLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Keep,
    /// Only where the first key is not there, or has this very value.
    Claim,
    /// Whatever the owner may keep: for the last words on what was let in before.
    Force,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    Kept,
    There(Vec<u8>),
    Refused(Refusal),
}

/// Why nothing was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller keeps as many keys as it may; seconds until the first of them expires.
    Keys(u64),
    Bytes(u64),
    /// All callers without a user together keep as many bytes as they may.
    Anonymous(u64),
    /// Redis has no memory for more.
    Full,
}

impl Refusal {
    const fn reason(self) -> &'static str {
        match self {
            Refusal::Keys(_) => "keys",
            Refusal::Bytes(_) => "bytes",
            Refusal::Anonymous(_) => "anonymous",
            Refusal::Full => "full",
        }
    }
}

impl Store {
    pub fn new(
        master: Arc<RedisMaster>,
        config: &RedisConfig,
        limits: KeptLimits,
        metrics: Arc<Metrics>,
    ) -> Self {
        Store {
            master,
            metrics,
            timeout: config.timeout,
            confirm_replicas: config.confirm_replicas,
            limits,
        }
    }

    pub const fn limits(&self) -> &KeptLimits {
        &self.limits
    }

    /// Writes values under their keys for as long as `expiry`. After `Kept` they are in Redis, and in as many replicas as
    /// the configuration asks for, so a failover to one of them keeps them.
    pub async fn keep(
        &self,
        how: How,
        account: &Account,
        expiry: Duration,
        values: &[(&str, &[u8])],
    ) -> Result<Kept, RedisUnavailable> {
        let owners = owners(account);
        let mut commands = Pipeline::new();
        let command = commands.cmd("EVAL").arg(KEEP);
        command.arg(2 * owners.len() + values.len());
        for owner in &owners {
            command.arg(owner.index()).arg(owner.sizes());
        }
        for (key, _) in values {
            command.arg(*key);
        }
        command
            .arg(match how {
                How::Keep => "keep",
                How::Claim => "claim",
                How::Force => "force",
            })
            .arg(owners.len())
            .arg(expiry.as_secs());
        for owner in &owners {
            let (keys, bytes) = match owner {
                Owner::Account(_) => (self.limits.keys, self.limits.bytes),
                Owner::Anonymous => (ANY_NUMBER, self.limits.anonymous_bytes),
            };
            command.arg(keys).arg(bytes);
        }
        for (_, value) in values {
            command.arg(*value);
        }
        let start = Instant::now();
        let result = self.confirm(&mut commands, start + self.timeout).await;
        self.master.observe(Lane::Write, start.elapsed());
        let kept = read_kept(&result?, &owners)?;
        if let Kept::Refused(refusal) = kept {
            self.metrics
                .kept_refused
                .get_or_create(&RefusalLabels {
                    reason: refusal.reason(),
                })
                .inc();
        }
        Ok(kept)
    }

    async fn confirm(
        &self,
        commands: &mut Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>, RedisUnavailable> {
        if self.confirm_replicas > 0 {
            commands
                .cmd("WAIT")
                .arg(self.confirm_replicas)
                .arg(REPLICATION_WAIT.as_millis() as u64);
        }
        loop {
            let answer: Vec<Value> = self.master.run(Lane::Write, commands, deadline).await?;
            let mut answer = answer.into_iter();
            let Some(Value::Array(kept)) = answer.next() else {
                return Err(unexpected());
            };
            let replicas = match answer.next() {
                Some(Value::Int(replicas)) => replicas,
                _ => 0,
            };
            let wrote = matches!(kept.first(), Some(Value::BulkString(word)) if word == b"kept");
            if !wrote || replicas >= i64::from(self.confirm_replicas) {
                return Ok(kept);
            }
            self.master.count("replication");
            if Instant::now() + REPLICATION_WAIT >= deadline {
                return Err(RedisUnavailable(format!(
                    "what was written reached {replicas} of the {} replicas asked for",
                    self.confirm_replicas
                )));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Removes a value if it is still this one.
    pub async fn remove(
        &self,
        account: &Account,
        key: &str,
        value: &[u8],
    ) -> Result<(), RedisUnavailable> {
        let owners = owners(account);
        let mut commands = Pipeline::new();
        let command = commands.cmd("EVAL").arg(REMOVE).arg(2 * owners.len() + 1);
        for owner in &owners {
            command.arg(owner.index()).arg(owner.sizes());
        }
        command.arg(key).arg(value).ignore();
        self.master
            .run(Lane::Write, &commands, Instant::now() + self.timeout)
            .await
    }

    /// The session under `key` and its script.
    pub async fn find(&self, key: &str) -> Result<Option<(Vec<u8>, Vec<u8>)>, RedisUnavailable> {
        let mut commands = Pipeline::new();
        commands.cmd("EVAL").arg(FIND).arg(1).arg(key);
        let start = Instant::now();
        let result = self
            .master
            .run(Lane::Read, &commands, start + self.timeout)
            .await;
        self.master.observe(Lane::Read, start.elapsed());
        let (found,): (Option<(Vec<u8>, Vec<u8>)>,) = result?;
        Ok(found)
    }
}

/// Whom a value counts for.
enum Owner {
    /// The account's digest.
    Account(String),
    Anonymous,
}

fn owners(account: &Account) -> Vec<Owner> {
    let mut owners = vec![Owner::Account(account.digest())];
    if account.is_anonymous() {
        owners.push(Owner::Anonymous);
    }
    owners
}

impl Owner {
    fn index(&self) -> String {
        match self {
            Owner::Account(digest) => format!("lambda:kept:{digest}"),
            Owner::Anonymous => "lambda:kept:anonymous".to_owned(),
        }
    }

    fn sizes(&self) -> String {
        format!("{}:sizes", self.index())
    }
}

fn unexpected() -> RedisUnavailable {
    RedisUnavailable("an answer that is none of the script's".to_owned())
}

fn read_kept(answer: &[Value], owners: &[Owner]) -> Result<Kept, RedisUnavailable> {
    let text = |index: usize| -> Option<Vec<u8>> {
        Vec::<u8>::from_redis_value(answer.get(index)?.clone()).ok()
    };
    let number = |index: usize| match answer.get(index) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let kept = match text(0).unwrap_or_default().as_slice() {
        b"kept" => Some(Kept::Kept),
        b"there" => text(1).map(Kept::There),
        b"full" => Some(Kept::Refused(Refusal::Full)),
        word @ (b"keys" | b"bytes") => {
            let owner = number(1).and_then(|number| owners.get(number.checked_sub(1)? as usize));
            owner.zip(number(2)).map(|(owner, seconds)| {
                Kept::Refused(match owner {
                    Owner::Anonymous => Refusal::Anonymous(seconds),
                    Owner::Account(_) if word == b"keys" => Refusal::Keys(seconds),
                    Owner::Account(_) => Refusal::Bytes(seconds),
                })
            })
        }
        _ => None,
    };
    kept.ok_or_else(unexpected)
}
