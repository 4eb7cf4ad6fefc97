//! Registering and removing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use sqlx::{PgConnection, Row};

use super::{Denied, Function, FunctionName, FunctionStore, Removed, Visibility, aliases, find};
use crate::database::{DatabaseUnavailable, secrets};
use crate::language::Language;

/// "func" in ASCII: the kind of the locks on an owner's functions, any number that no other kind of lock has.
const OWNER_LOCK: i32 = 0x6675_6e63;
/// How long a removed function's plain name stays its owner's.
pub const RESERVED_DAYS: i32 = 30;
/// Of one owner, times the functions that it may have; beyond, the oldest is given up.
const RESERVED_NAMES: i64 = 10;

/// What is to be registered. What is `None` stays as it is.
pub struct Registration<'a> {
    pub name: &'a FunctionName,
    pub language: Language,
    pub owner: &'a str,
    pub script: &'a str,
    pub visibility: Option<Visibility>,
    /// The inner `None` takes it away.
    pub time_limit: Option<Option<Duration>>,
    /// The inner `None` takes it away, as it does with time_limit.
    pub memory_bytes: Option<Option<u64>>,
    pub max_concurrency: Option<Option<u32>>,
    /// An object of texts, in JSON.
    pub environment: Option<String>,
    /// Names, sorted.
    pub secrets: Option<Vec<String>>,
}

impl Registration<'_> {
    /// A version's, where `before` is the newest one's.
    fn settings(&self, before: Option<&Settings>) -> Settings {
        let kept = before.cloned().unwrap_or_default();
        Settings {
            timeout_ms: self
                .time_limit
                .map_or(kept.timeout_ms, |limit| limit.map(milliseconds)),
            memory_bytes: self
                .memory_bytes
                .map_or(kept.memory_bytes, |bytes| bytes.map(|bytes| bytes as i64)),
            max_concurrency: self
                .max_concurrency
                .map_or(kept.max_concurrency, |most| most.map(|most| most as i32)),
            environment: self.environment.clone().unwrap_or(kept.environment),
            secrets: self.secrets.clone().unwrap_or(kept.secrets),
        }
    }
}

/// What a version has beside its script, as it is stored.
#[derive(Clone, PartialEq)]
struct Settings {
    timeout_ms: Option<i64>,
    memory_bytes: Option<i64>,
    max_concurrency: Option<i32>,
    environment: String,
    secrets: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            timeout_ms: None,
            memory_bytes: None,
            max_concurrency: None,
            environment: "{}".to_owned(),
            secrets: Vec::new(),
        }
    }
}

/// And whether its script is this one.
async fn read_settings(
    connection: &mut PgConnection,
    id: i64,
    version: i64,
    script: &str,
) -> Result<(Settings, bool), sqlx::Error> {
    let row = sqlx::query(
        "SELECT timeout_ms, memory_bytes, max_concurrency, environment, secrets, content = $3 \
         FROM meta.function_versions WHERE function_id = $1 AND version = $2",
    )
    .bind(id)
    .bind(version)
    .bind(script.as_bytes())
    .persistent(false)
    .fetch_one(connection)
    .await?;
    let settings = Settings {
        timeout_ms: row.try_get(0)?,
        memory_bytes: row.try_get(1)?,
        max_concurrency: row.try_get(2)?,
        environment: row.try_get(3)?,
        secrets: row.try_get(4)?,
    };
    Ok((settings, row.try_get(5)?))
}

#[derive(Debug, PartialEq)]
pub enum Registered {
    Created(Function),
    /// Also where it is what was there.
    Replaced(Function),
    /// Another user holds the name.
    NotYours,
    /// Another user held the name until a while ago.
    Reserved,
    /// The user has as many functions as a user may have.
    TooMany,
    /// Aliases name all versions that may be kept.
    AllNamed,
    /// The user has no secrets of these names.
    NoSecrets(Vec<String>),
}

impl FunctionStore {
    pub async fn register(
        &self,
        registration: &Registration<'_>,
    ) -> Result<Registered, DatabaseUnavailable> {
        let registered = self
            .database
            .retrying("write", || self.write(registration))
            .await;
        self.forget(&registration.name.title);
        registered
    }

    async fn write(&self, asked: &Registration<'_>) -> Result<Registered, sqlx::Error> {
        let mut hasher = DefaultHasher::new();
        asked.owner.hash(&mut hasher);
        let _turn = self.turns[hasher.finish() as usize % self.turns.len()]
            .lock()
            .await;
        let mut transaction = self.database.begin().await?;
        // One registration of an owner after the other: no number of them gets beyond the limit.
        sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2))")
            .bind(OWNER_LOCK)
            .bind(asked.owner)
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        let own: Option<(i64, i64)> = sqlx::query_as(
            "SELECT function_id, version FROM meta.functions WHERE owner = $1 AND name = $2 FOR UPDATE",
        )
        .bind(asked.owner)
        .bind(&asked.name.title)
        .persistent(false)
        .fetch_optional(&mut *transaction)
        .await?;
        let (id, newest) = match own {
            Some((id, newest)) => (id, Some(newest)),
            None => match self.begin_function(&mut transaction, asked).await? {
                Ok(begun) => begun,
                Err(refused) => {
                    transaction.rollback().await?;
                    return Ok(refused);
                }
            },
        };
        if let Err(refused) = self
            .write_version(&mut transaction, asked, id, newest)
            .await?
        {
            transaction.rollback().await?;
            return Ok(refused);
        }
        if let Some(visibility) = &asked.visibility {
            sqlx::query(
                "UPDATE meta.functions SET visibility = $2, callers = $3, updated_at = now() \
                 WHERE function_id = $1 AND (visibility, callers) IS DISTINCT FROM ($2, $3)",
            )
            .bind(id)
            .bind(visibility.name())
            .bind(visibility.callers())
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        }
        let own = FunctionName {
            owner: Some(asked.owner.to_owned()),
            title: asked.name.title.clone(),
        };
        let function = find(&mut transaction, &own, Some(asked.owner)).await?;
        let function = function.ok_or(sqlx::Error::RowNotFound)?;
        transaction.commit().await?;
        Ok(match newest {
            None => Registered::Created(function),
            Some(_) => Registered::Replaced(function),
        })
    }

    /// The function without a version: its id, and its newest version where a replica of the build before was faster.
    async fn begin_function(
        &self,
        transaction: &mut PgConnection,
        asked: &Registration<'_>,
    ) -> Result<Result<(i64, Option<i64>), Registered>, sqlx::Error> {
        let title = &asked.name.title;
        let key = match &asked.name.owner {
            Some(owner) => format!("{owner}/{title}"),
            None => title.clone(),
        };
        // The update changes nothing; it locks the row, so that two who register at once come one after the other.
        // xmax is 0 in a row that was inserted.
        let (owner, is_new, id, newest): (String, bool, i64, i64) = sqlx::query_as(
            "INSERT INTO meta.functions (language_title, language, owner) VALUES ($1, $2, $3) \
             ON CONFLICT (language_title) DO UPDATE SET owner = functions.owner \
             RETURNING owner, xmax = 0, function_id, version",
        )
        .bind(&key)
        .bind(asked.language.name())
        .bind(asked.owner)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
        if owner != asked.owner {
            return Ok(Err(Registered::NotYours));
        }
        if !is_new {
            return Ok(Ok((id, Some(newest))));
        }
        // After the insertion, which waits for a removal that is under way.
        let (functions, reserved): (i64, bool) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM meta.functions WHERE owner = $2), EXISTS (SELECT FROM meta.removed_functions \
             WHERE name = $1 AND owner <> $2 AND removed_at > now() - make_interval(days => $3))",
        )
        .bind(title)
        .bind(asked.owner)
        .bind(RESERVED_DAYS)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
        if functions > i64::from(self.max_per_user) {
            return Ok(Err(Registered::TooMany));
        }
        if reserved && asked.name.owner.is_none() {
            return Ok(Err(Registered::Reserved));
        }
        Ok(Ok((id, None)))
    }

    /// Nothing where the newest version is what is asked for.
    async fn write_version(
        &self,
        transaction: &mut PgConnection,
        asked: &Registration<'_>,
        id: i64,
        newest: Option<i64>,
    ) -> Result<Result<(), Registered>, sqlx::Error> {
        let before = match newest {
            Some(newest) => Some(read_settings(transaction, id, newest, asked.script).await?),
            None => None,
        };
        let settings = asked.settings(before.as_ref().map(|(settings, _)| settings));
        if let Some((before, same_script)) = &before
            && *same_script
            && settings == *before
        {
            return Ok(Ok(()));
        }
        let missing = secrets::missing(transaction, asked.owner, &settings.secrets).await?;
        if !missing.is_empty() {
            return Ok(Err(Registered::NoSecrets(missing)));
        }
        let version = newest.unwrap_or(0) + 1;
        sqlx::query(
            "INSERT INTO meta.function_versions \
             (function_id, version, content, timeout_ms, memory_bytes, max_concurrency, environment, secrets) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(id)
        .bind(version)
        .bind(asked.script.as_bytes())
        .bind(settings.timeout_ms)
        .bind(settings.memory_bytes)
        .bind(settings.max_concurrency)
        .bind(settings.environment)
        .bind(settings.secrets)
        .persistent(false)
        .execute(&mut *transaction)
        .await?;
        if newest.is_some() {
            sqlx::query(
                "UPDATE meta.functions SET version = $2, updated_at = now() WHERE function_id = $1",
            )
            .bind(id)
            .bind(version)
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        }
        // For replicas of the build before, which know no versions.
        sqlx::query(
            "INSERT INTO meta.scripts (language_title, content) \
             SELECT language_title, $2 FROM meta.functions WHERE function_id = $1 \
             ON CONFLICT (language_title) DO UPDATE SET content = excluded.content \
             WHERE scripts.content <> excluded.content",
        )
        .bind(id)
        .bind(asked.script.as_bytes())
        .persistent(false)
        .execute(&mut *transaction)
        .await?;
        if newest.is_some() && !self.drop_old_versions(transaction, id, version).await? {
            return Ok(Err(Registered::AllNamed));
        }
        Ok(Ok(()))
    }

    /// The oldest that no alias names, and never the newest. False where there are too many nevertheless.
    async fn drop_old_versions(
        &self,
        transaction: &mut PgConnection,
        id: i64,
        newest: i64,
    ) -> Result<bool, sqlx::Error> {
        let most = i64::from(self.max_versions);
        sqlx::query(
            "DELETE FROM meta.function_versions WHERE function_id = $1 AND version IN (\
             SELECT version FROM meta.function_versions v WHERE function_id = $1 AND version <> $2 AND NOT EXISTS (\
             SELECT FROM meta.function_aliases a WHERE a.function_id = $1 AND a.version = v.version) ORDER BY version \
             LIMIT greatest(0, (SELECT count(*) FROM meta.function_versions WHERE function_id = $1) - $3))",
        )
        .bind(id)
        .bind(newest)
        .bind(most)
        .persistent(false)
        .execute(&mut *transaction)
        .await?;
        let kept: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM meta.function_versions WHERE function_id = $1",
        )
        .bind(id)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
        Ok(kept <= most)
    }

    pub(super) async fn delete(
        &self,
        name: &FunctionName,
        user: &str,
    ) -> Result<Removed, sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        let id = match aliases::own_id(&mut transaction, name, user).await? {
            Ok(id) => id,
            Err(denied) => {
                transaction.rollback().await?;
                return Ok(Removed::Denied(denied));
            }
        };
        // A trigger remembers whose the plain name was.
        let removed = sqlx::query("DELETE FROM meta.functions WHERE function_id = $1")
            .bind(id)
            .persistent(false)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        sqlx::query(
            "DELETE FROM meta.removed_functions WHERE owner = $1 AND name IN (\
             SELECT name FROM meta.removed_functions WHERE owner = $1 ORDER BY removed_at DESC OFFSET $2)",
        )
        .bind(user)
        .bind(RESERVED_NAMES * i64::from(self.max_per_user))
        .persistent(false)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(if removed > 0 {
            Removed::Gone
        } else {
            Removed::Denied(Denied::NotThere)
        })
    }
}

fn milliseconds(limit: Duration) -> i64 {
    i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
}
