//! Sessions: a script and its context under an unguessable id, kept in Redis until they expire, so that any replica
//! can execute them. A session never changes.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use redis::Pipeline;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::config::RedisConfig;
use crate::language::Language;
use crate::redis_master::{Lane, RedisMaster, RedisUnavailable};

/// A session as it is stored. Context and script stay in their JSON text from the caller to the runtime: they are
/// checked once, at initialize, and never built up or escaped again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Session<'a> {
    pub language: Language,
    #[serde(borrow)]
    pub language_title: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    pub user_id: Option<std::borrow::Cow<'a, str>>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub script_size: usize,
    #[serde(borrow)]
    pub context: &'a RawValue,
    #[serde(borrow)]
    pub script_content: &'a RawValue,
}

impl Session<'_> {
    /// A session that was made for a user is that user's alone; one that was made for nobody belongs to whoever has
    /// its id.
    pub fn belongs_to(&self, user_id: Option<&str>) -> bool {
        self.user_id.is_none() || self.user_id.as_deref() == user_id
    }
}

/// The stored text of a session.
#[derive(Debug)]
pub struct StoredSession(Vec<u8>);

impl StoredSession {
    pub fn session(&self) -> Result<Session<'_>, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}

pub struct SessionStore {
    master: Arc<RedisMaster>,
    timeout: Duration,
    confirm_replicas: u32,
    expiry: Duration,
}

/// How long the master may take to hear from its replicas before the write is tried again: shorter than the time
/// after which the connection counts as broken.
const REPLICATION_WAIT: Duration = Duration::from_millis(500);

impl SessionStore {
    pub fn new(master: Arc<RedisMaster>, config: &RedisConfig, expiry: Duration) -> Self {
        SessionStore {
            master,
            timeout: config.timeout,
            confirm_replicas: config.confirm_replicas,
            expiry,
        }
    }

    /// When a session made at `now` expires.
    pub fn expires_at(&self, now: Timestamp) -> Timestamp {
        let expiry = SignedDuration::try_from(self.expiry).unwrap_or(SignedDuration::MAX);
        now.saturating_add(expiry).unwrap_or(Timestamp::MAX)
    }

    /// Stores a session. After `Ok` it is in Redis, and in as many replicas as the configuration asks for, so a
    /// failover to one of them keeps it.
    pub async fn save(&self, id: Uuid, session: &Session<'_>) -> Result<(), RedisUnavailable> {
        let value = serde_json::to_vec(session).expect("a session is always JSON");
        let mut commands = Pipeline::new();
        commands
            .cmd("SET")
            .arg(key(id))
            .arg(value)
            .arg("EX")
            .arg(self.expiry.as_secs())
            .ignore();
        if self.confirm_replicas > 0 {
            commands
                .cmd("WAIT")
                .arg(self.confirm_replicas)
                .arg(REPLICATION_WAIT.as_millis() as u64);
        }
        let start = Instant::now();
        let result = self.confirm(&commands, start + self.timeout).await;
        self.master.observe(Lane::Write, start.elapsed());
        result
    }

    async fn confirm(
        &self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<(), RedisUnavailable> {
        loop {
            let replicas: Vec<u32> = self.master.run(Lane::Write, commands, deadline).await?;
            if replicas.first().copied().unwrap_or(0) >= self.confirm_replicas {
                return Ok(());
            }
            self.master.count("replication");
            if Instant::now() + REPLICATION_WAIT >= deadline {
                return Err(RedisUnavailable(format!(
                    "the session reached {} of the {} replicas asked for",
                    replicas.first().copied().unwrap_or(0),
                    self.confirm_replicas
                )));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn find(&self, id: Uuid) -> Result<Option<StoredSession>, RedisUnavailable> {
        let mut commands = Pipeline::new();
        commands.cmd("GET").arg(key(id));
        let start = Instant::now();
        let result = self
            .master
            .run(Lane::Read, &commands, start + self.timeout)
            .await;
        self.master.observe(Lane::Read, start.elapsed());
        let (value,): (Option<Vec<u8>>,) = result?;
        Ok(value.map(StoredSession))
    }
}

fn key(id: Uuid) -> String {
    format!("lambda:session:{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_session_reads_back_with_its_json_texts_untouched() {
        let context = raw(r#"{"a": 1.0e2, "b":"\u00e4"}"#);
        let script = raw(r#""return \"\u2028\";""#);
        let now = Timestamp::now();
        let session = Session {
            language: Language::Python,
            language_title: "python-\"x".into(),
            user_id: Some("me\n".into()),
            created_at: now,
            expires_at: now,
            script_size: 3,
            context: &context,
            script_content: &script,
        };
        let stored = StoredSession(serde_json::to_vec(&session).unwrap());
        let back = stored.session().unwrap();
        assert_eq!(back.context.get(), context.get());
        assert_eq!(back.script_content.get(), script.get());
        assert_eq!(back.language_title, "python-\"x");
        assert_eq!((back.language, back.created_at), (Language::Python, now));
        assert!(back.belongs_to(Some("me\n")));
        assert!(!back.belongs_to(Some("other")) && !back.belongs_to(None));
    }
}
