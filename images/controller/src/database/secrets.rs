//! Owners' secrets, encrypted by keys that the database never has (crate::envelope).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::functions::moment;
use super::{Database, DatabaseUnavailable};
use crate::config::SecretsConfig;
use crate::envelope::{Keys, Place, Sealed, Unreadable, WrappingKey};

/// Of one owner.
pub const MOST_SECRETS: i64 = 100;
/// "secr" in ASCII: the kind of the locks on an owner's secrets.
const OWNER_LOCK: i32 = 0x7365_6372;
/// "wrap": who writes shares it, who wraps all anew has it alone.
const WRAP_LOCK: i32 = 0x7772_6170;
/// As functions' versions: less than the second within which every replica has a changed one.
const FRESH: Duration = Duration::from_millis(500);
const MOST_REMEMBERED: usize = 100;

/// What is told of a secret: never its value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SecretEntry {
    pub name: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Put {
    Created(SecretEntry),
    Replaced(SecretEntry),
    /// The owner has as many as it may.
    TooMany,
}

/// What a script is given. Without Debug, so that it comes into no log.
pub struct Given {
    /// An object of names and texts.
    pub values: Box<RawValue>,
    /// When the last of them was changed.
    pub changed: Timestamp,
}

/// Why a script is not given its secrets.
#[derive(Debug)]
pub enum Withheld {
    /// The owner has none of these names.
    Missing(Vec<String>),
    Unreadable(Unreadable),
}

/// What `rewrap` found.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewrapped {
    pub wrapped: usize,
    /// Those that neither key opens.
    pub unreadable: usize,
}

pub struct SecretStore {
    database: Arc<Database>,
    config: SecretsConfig,
    remembered: Mutex<HashMap<Asked, (Instant, Arc<Given>)>>,
}

/// An owner and the names.
type Asked = (String, Vec<String>);

impl SecretStore {
    pub fn new(database: Arc<Database>, config: SecretsConfig) -> Self {
        SecretStore {
            database,
            config,
            remembered: Mutex::default(),
        }
    }

    fn keys(&self) -> Result<Keys, DatabaseUnavailable> {
        Keys::read(&self.config)
            .map_err(|error| DatabaseUnavailable(format!("the key of secrets: {error}")))
    }

    pub async fn put(&self, place: Place<'_>, text: &str) -> Result<Put, DatabaseUnavailable> {
        let keys = self.keys()?;
        let written = self
            .database
            .retrying("write", || self.write(&keys, place, text))
            .await;
        self.forget(place.owner);
        written
    }

    async fn write(&self, keys: &Keys, place: Place<'_>, text: &str) -> Result<Put, sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        // One after the other, so that no number of them gets beyond the limit; and none while all are wrapped anew.
        sqlx::query(
            "SELECT pg_advisory_xact_lock_shared($1, 0), pg_advisory_xact_lock($2, hashtext($3))",
        )
        .bind(WRAP_LOCK)
        .bind(OWNER_LOCK)
        .bind(place.owner)
        .persistent(false)
        .execute(&mut *transaction)
        .await?;
        let key = wrapping_key(&mut transaction, keys).await?;
        let sealed = place.seal(key, text.as_bytes());
        // xmax is 0 in a row that was inserted.
        let row = sqlx::query(
            "INSERT INTO meta.secrets (owner, name, key_id, wrapped_key, content) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (owner, name) DO UPDATE SET key_id = excluded.key_id, wrapped_key = excluded.wrapped_key, \
             content = excluded.content, updated_at = now() \
             RETURNING name, (extract(epoch FROM created_at) * 1000)::bigint, \
             (extract(epoch FROM updated_at) * 1000)::bigint, xmax = 0, \
             (SELECT count(*) FROM meta.secrets WHERE owner = $1)",
        )
        .bind(place.owner)
        .bind(place.name)
        .bind(&sealed.key_id)
        .bind(&sealed.wrapped_key)
        .bind(&sealed.content)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
        let entry = entry(&row)?;
        let is_new: bool = row.try_get(3)?;
        // Those before it: a statement does not see what it inserts.
        let before: i64 = row.try_get(4)?;
        if is_new && before >= MOST_SECRETS {
            transaction.rollback().await?;
            return Ok(Put::TooMany);
        }
        transaction.commit().await?;
        Ok(if is_new {
            Put::Created(entry)
        } else {
            Put::Replaced(entry)
        })
    }

    /// Sorted by name.
    pub async fn list(&self, owner: &str) -> Result<Vec<SecretEntry>, DatabaseUnavailable> {
        let list = || async {
            let mut transaction = self.database.begin().await?;
            let rows = sqlx::query(
                "SELECT name, (extract(epoch FROM created_at) * 1000)::bigint, \
                 (extract(epoch FROM updated_at) * 1000)::bigint FROM meta.secrets WHERE owner = $1 ORDER BY name",
            )
            .bind(owner)
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;
            rows.iter().map(entry).collect()
        };
        self.database.retrying("read", list).await
    }

    /// Whether there was one.
    pub async fn remove(&self, place: Place<'_>) -> Result<bool, DatabaseUnavailable> {
        let remove = || async {
            let mut transaction = self.database.begin().await?;
            let removed = sqlx::query("DELETE FROM meta.secrets WHERE owner = $1 AND name = $2")
                .bind(place.owner)
                .bind(place.name)
                .persistent(false)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
            transaction.commit().await?;
            Ok(removed > 0)
        };
        let removed = self.database.retrying("write", remove).await;
        self.forget(place.owner);
        removed
    }

    /// Those of these names, now or, where another replica has changed one, half a second ago.
    pub async fn given(
        &self,
        owner: &str,
        names: &[String],
    ) -> Result<Result<Arc<Given>, Withheld>, DatabaseUnavailable> {
        let asked = (owner.to_owned(), names.to_vec());
        let now = Instant::now();
        if let Some((since, given)) = self.remembered().get(&asked)
            && now.duration_since(*since) < FRESH
        {
            return Ok(Ok(given.clone()));
        }
        let read = || async {
            let mut transaction = self.database.begin().await?;
            let rows = sqlx::query(
                "SELECT name, (extract(epoch FROM updated_at) * 1000)::bigint, key_id, wrapped_key, content \
                 FROM meta.secrets WHERE owner = $1 AND name = ANY ($2)",
            )
            .bind(owner)
            .bind(names)
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(rows)
        };
        let rows = self.database.retrying("read", read).await?;
        let given = opened(&self.keys()?, owner, names, &rows)
            .map_err(|error| DatabaseUnavailable(super::describe(&error)))?
            .map(Arc::new);
        if let Ok(given) = &given {
            let mut remembered = self.remembered();
            remembered.retain(|_, (since, _)| now.duration_since(*since) < FRESH);
            if remembered.len() < MOST_REMEMBERED {
                // It is as old as the question, not as the answer.
                remembered.insert(asked, (now, given.clone()));
            }
        }
        Ok(given)
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<Asked, (Instant, Arc<Given>)>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Who changed one finds that at this replica at once.
    fn forget(&self, owner: &str) {
        self.remembered().retain(|(other, _), _| other != owner);
    }

    /// Wraps the data keys of all by the current key, so that the one before can be forgotten.
    pub async fn rewrap(&self) -> Result<Rewrapped, DatabaseUnavailable> {
        let keys = self.keys()?;
        self.database
            .retrying("write", || self.rewrap_with(&keys))
            .await
    }

    async fn rewrap_with(&self, keys: &Keys) -> Result<Rewrapped, sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1, 0)")
            .bind(WRAP_LOCK)
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        let rows = sqlx::query(
            "SELECT owner, name, key_id, wrapped_key FROM meta.secrets WHERE key_id <> $1 FOR UPDATE",
        )
        .bind(&keys.current.id)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await?;
        let (mut owners, mut names, mut wrapped) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let (owner, name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            let sealed = Sealed {
                key_id: row.try_get(2)?,
                wrapped_key: row.try_get(3)?,
                content: Vec::new(),
            };
            if let Ok(anew) = keys.wrap_anew(&Place { owner, name }, &sealed) {
                owners.push(owner);
                names.push(name);
                wrapped.push(anew);
            }
        }
        // updated_at stays: what scripts are given is the same.
        sqlx::query(
            "UPDATE meta.secrets s SET key_id = $1, wrapped_key = anew.wrapped_key \
             FROM unnest($2::text[], $3::text[], $4::bytea[]) AS anew (owner, name, wrapped_key) \
             WHERE s.owner = anew.owner AND s.name = anew.name",
        )
        .bind(&keys.current.id)
        .bind(&owners)
        .bind(&names)
        .bind(&wrapped)
        .persistent(false)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Rewrapped {
            wrapped: wrapped.len(),
            unreadable: rows.len() - wrapped.len(),
        })
    }
}

/// The key before as long as it wraps anything: until all are wrapped anew, a replica may not have the new one's file yet.
async fn wrapping_key<'a>(
    connection: &mut PgConnection,
    keys: &'a Keys,
) -> Result<&'a WrappingKey, sqlx::Error> {
    let Some(previous) = &keys.previous else {
        return Ok(&keys.current);
    };
    let used: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM meta.secrets WHERE key_id = $1)")
            .bind(&previous.id)
            .persistent(false)
            .fetch_one(connection)
            .await?;
    Ok(if used { previous } else { &keys.current })
}

/// Those of `names` that `owner` does not have.
pub(super) async fn missing(
    connection: &mut PgConnection,
    owner: &str,
    names: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT name FROM unnest($2::text[]) AS name WHERE NOT EXISTS (\
         SELECT FROM meta.secrets s WHERE s.owner = $1 AND s.name = name.name)",
    )
    .bind(owner)
    .bind(names)
    .persistent(false)
    .fetch_all(connection)
    .await
}

fn entry(row: &PgRow) -> Result<SecretEntry, sqlx::Error> {
    Ok(SecretEntry {
        name: row.try_get(0)?,
        created_at: moment(row, 1)?,
        updated_at: moment(row, 2)?,
    })
}

fn opened(
    keys: &Keys,
    owner: &str,
    names: &[String],
    rows: &[PgRow],
) -> Result<Result<Given, Withheld>, sqlx::Error> {
    let mut values = BTreeMap::new();
    let mut changed = Timestamp::MIN;
    for row in rows {
        let name: &str = row.try_get(0)?;
        let sealed = Sealed {
            key_id: row.try_get(2)?,
            wrapped_key: row.try_get(3)?,
            content: row.try_get(4)?,
        };
        let text = keys.open(&Place { owner, name }, &sealed);
        let text = text.and_then(|text| String::from_utf8(text).map_err(|_| Unreadable::Broken));
        match text {
            Ok(text) => values.insert(name, text),
            Err(unreadable) => return Ok(Err(Withheld::Unreadable(unreadable))),
        };
        changed = changed.max(moment(row, 1)?);
    }
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !values.contains_key(name.as_str()))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Ok(Err(Withheld::Missing(missing)));
    }
    let values = serde_json::value::to_raw_value(&values).expect("texts are JSON");
    Ok(Ok(Given { values, changed }))
}
