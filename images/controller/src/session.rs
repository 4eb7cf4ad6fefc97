//! Sessions: a script and its context under an unguessable id, kept in Redis until they expire, so that any replica
//! can execute them. A session never changes. A caller's scripts are kept once each, however many sessions have them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::account::{Account, sha256};
use crate::database::functions::Terms;
use crate::language::Language;
use crate::redis_master::RedisUnavailable;
use crate::store::{How, Kept, Store};

/// A session as it is stored, after the line that names its script's key. Context and script stay in their JSON text from
/// the caller to the runtime: they are checked once, at initialize, and never built up or escaped again.
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
    /// Of the function that it was made of, where that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
    /// Of that function, where it has any beside its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    #[serde(borrow)]
    pub context: &'a RawValue,
}

impl Session<'_> {
    pub fn time_limit(&self) -> Option<Duration> {
        self.time_limit_ms.map(Duration::from_millis)
    }

    /// A session that was made for a user is that user's alone; one that was made for nobody belongs to whoever has
    /// its id.
    pub fn belongs_to(&self, user_id: Option<&str>) -> bool {
        self.user_id.is_none() || self.user_id.as_deref() == user_id
    }
}

/// The stored text of a session and of its script.
#[derive(Debug)]
pub struct StoredSession {
    text: Vec<u8>,
    script: Vec<u8>,
}

impl StoredSession {
    pub fn session(&self) -> Result<Session<'_>, serde_json::Error> {
        let end = self.text.iter().position(|byte| *byte == b'\n');
        serde_json::from_slice(&self.text[end.map_or(0, |end| end + 1)..])
    }

    pub fn script(&self) -> Result<&RawValue, serde_json::Error> {
        serde_json::from_slice(&self.script)
    }
}

/// When a session made at `now` expires.
pub fn expires_at(now: Timestamp, expiry: Duration) -> Timestamp {
    let expiry = SignedDuration::try_from(expiry).unwrap_or(SignedDuration::MAX);
    now.saturating_add(expiry).unwrap_or(Timestamp::MAX)
}

/// Keeps a session and its script for its account.
pub async fn save(
    store: &Store,
    account: &Account,
    expiry: Duration,
    id: Uuid,
    session: &Session<'_>,
    script: &RawValue,
) -> Result<Kept, RedisUnavailable> {
    let script = script.get().as_bytes();
    let script_key = format!(
        "lambda:script:{}",
        sha256([account.digest().as_bytes(), script])
    );
    let text = stored_text(&script_key, session);
    let values = [(&*key(id), &*text), (&*script_key, script)];
    store.keep(How::Keep, account, expiry, &values).await
}

fn stored_text(script_key: &str, session: &Session<'_>) -> Vec<u8> {
    let mut text = format!("{script_key}\n").into_bytes();
    serde_json::to_writer(&mut text, session).expect("a session is always JSON");
    text
}

pub async fn find(store: &Store, id: Uuid) -> Result<Option<StoredSession>, RedisUnavailable> {
    let found = store.find(&key(id)).await?;
    Ok(found.map(|(text, script)| StoredSession { text, script }))
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
        let terms = Terms {
            function_id: 7,
            owner: "\"me".into(),
            version: 2,
            memory_bytes: Some(1 << 27),
            max_concurrency: None,
            secrets: vec!["TOKEN".into()],
        };
        let session = Session {
            language: Language::Python,
            language_title: "python-\"x".into(),
            user_id: Some("me\n".into()),
            created_at: now,
            expires_at: now,
            script_size: 3,
            time_limit_ms: Some(250),
            terms: Some(terms.clone()),
            context: &context,
        };
        let stored = StoredSession {
            text: stored_text("lambda:script:x", &session),
            script: script.get().as_bytes().to_vec(),
        };
        let back = stored.session().unwrap();
        assert_eq!(back.context.get(), context.get());
        assert_eq!(back.time_limit(), Some(Duration::from_millis(250)));
        assert_eq!(back.terms, Some(terms));
        assert_eq!(stored.script().unwrap().get(), script.get());
        assert_eq!(back.language_title, "python-\"x");
        assert_eq!((back.language, back.created_at), (Language::Python, now));
        assert!(back.belongs_to(Some("me\n")));
        assert!(!back.belongs_to(Some("other")) && !back.belongs_to(None));
    }
}
