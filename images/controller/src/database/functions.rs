//! Functions: scripts that are registered under the name with which they are initialized.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use sqlx::{Row, error::BoxDynError};

use super::{Database, DatabaseUnavailable};
use crate::language::Language;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Function {
    pub language_title: String,
    pub language: Language,
    /// Counts the scripts that it has had.
    pub version: i64,
    pub script_size_bytes: i64,
    /// In hexadecimal.
    pub script_sha256: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What `function` reads. Timestamps are milliseconds since the epoch.
macro_rules! select_functions {
    ($rest:literal) => {
        concat!(
            "SELECT f.language_title, f.language, f.version, s.size_bytes, encode(s.sha256, 'hex'), ",
            "(extract(epoch FROM f.created_at) * 1000)::bigint, ",
            "(extract(epoch FROM f.updated_at) * 1000)::bigint ",
            "FROM meta.functions f JOIN meta.scripts s USING (language_title) ",
            $rest
        )
    };
}

pub struct Script {
    pub content: Vec<u8>,
    pub version: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Registered {
    Created(Function),
    /// Also where the script is the one that was there.
    Replaced(Function),
    /// The name is another user's.
    NotYours,
    /// The user has as many functions as a user may have.
    TooMany,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Removed {
    Gone,
    NotThere,
    NotYours,
}

pub struct FunctionStore {
    database: Arc<Database>,
    max_per_user: u32,
}

impl FunctionStore {
    pub fn new(database: Arc<Database>, max_per_user: u32) -> Self {
        FunctionStore {
            database,
            max_per_user,
        }
    }

    /// One page, and how many there are on all pages, sorted by name.
    pub async fn list(
        &self,
        language: Option<Language>,
        page: u32,
        per_page: u32,
    ) -> Result<(Vec<Function>, i64), DatabaseUnavailable> {
        let offset = i64::from(page.saturating_sub(1)) * i64::from(per_page);
        self.database
            .retrying("read", || self.read_page(language, offset, per_page))
            .await
    }

    async fn read_page(
        &self,
        language: Option<Language>,
        offset: i64,
        limit: u32,
    ) -> Result<(Vec<Function>, i64), sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        let (total,): (i64,) = sqlx::query_as(
            "SELECT count(*) FROM meta.functions WHERE $1::text IS NULL OR language = $1",
        )
        .bind(language.map(Language::name))
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
        let rows = sqlx::query(select_functions!(
            "WHERE $1::text IS NULL OR f.language = $1 ORDER BY f.language_title OFFSET $2 LIMIT $3"
        ))
        .bind(language.map(Language::name))
        .bind(offset)
        .bind(i64::from(limit))
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let functions: Result<_, _> = rows.iter().map(function).collect();
        Ok((functions?, total))
    }

    pub async fn find(&self, title: &str) -> Result<Option<Function>, DatabaseUnavailable> {
        let find = || async {
            let mut transaction = self.database.begin().await?;
            let found = find(&mut transaction, title).await?;
            transaction.commit().await?;
            Ok(found)
        };
        self.database.retrying("read", find).await
    }

    pub async fn script(&self, title: &str) -> Result<Option<Script>, DatabaseUnavailable> {
        let script = || async {
            let mut transaction = self.database.begin().await?;
            let found: Option<(Vec<u8>, i64)> = sqlx::query_as(
                "SELECT s.content, f.version FROM meta.functions f JOIN meta.scripts s USING (language_title) \
                 WHERE f.language_title = $1",
            )
            .bind(title)
            .persistent(false)
            .fetch_optional(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(found.map(|(content, version)| Script { content, version }))
        };
        self.database.retrying("read", script).await
    }

    pub async fn register(
        &self,
        title: &str,
        language: Language,
        owner: &str,
        script: &str,
    ) -> Result<Registered, DatabaseUnavailable> {
        self.database
            .retrying("write", || self.write(title, language, owner, script))
            .await
    }

    async fn write(
        &self,
        title: &str,
        language: Language,
        owner: &str,
        script: &str,
    ) -> Result<Registered, sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        // The update changes nothing; it locks the row, so that two who register at once come one after the other.
        // xmax is 0 in a row that was inserted.
        let (registered_by, is_new): (String, bool) = sqlx::query_as(
            "INSERT INTO meta.functions (language_title, language, owner) VALUES ($1, $2, $3) \
             ON CONFLICT (language_title) DO UPDATE SET owner = functions.owner RETURNING owner, xmax = 0",
        )
        .bind(title)
        .bind(language.name())
        .bind(owner)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
        if registered_by != owner {
            transaction.rollback().await?;
            return Ok(Registered::NotYours);
        }
        if is_new && owned_by(&mut transaction, owner).await? > i64::from(self.max_per_user) {
            transaction.rollback().await?;
            return Ok(Registered::TooMany);
        }
        let changed = sqlx::query(
            "INSERT INTO meta.scripts (language_title, content) VALUES ($1, $2) \
             ON CONFLICT (language_title) DO UPDATE SET content = excluded.content \
             WHERE scripts.content <> excluded.content",
        )
        .bind(title)
        .bind(script.as_bytes())
        .persistent(false)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if changed > 0 && !is_new {
            sqlx::query(
                "UPDATE meta.functions SET version = version + 1, updated_at = now() WHERE language_title = $1",
            )
            .bind(title)
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        }
        let function = find(&mut transaction, title).await?;
        let function = function.ok_or(sqlx::Error::RowNotFound)?;
        transaction.commit().await?;
        Ok(if is_new {
            Registered::Created(function)
        } else {
            Registered::Replaced(function)
        })
    }

    pub async fn remove(&self, title: &str, owner: &str) -> Result<Removed, DatabaseUnavailable> {
        self.database
            .retrying("write", || self.delete(title, owner))
            .await
    }

    async fn delete(&self, title: &str, owner: &str) -> Result<Removed, sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        let removed =
            sqlx::query("DELETE FROM meta.functions WHERE language_title = $1 AND owner = $2")
                .bind(title)
                .bind(owner)
                .persistent(false)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
        let removed = if removed > 0 {
            Removed::Gone
        } else if find(&mut transaction, title).await?.is_some() {
            Removed::NotYours
        } else {
            Removed::NotThere
        };
        transaction.commit().await?;
        Ok(removed)
    }
}

async fn owned_by(connection: &mut PgConnection, owner: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM meta.functions WHERE owner = $1")
        .bind(owner)
        .persistent(false)
        .fetch_one(connection)
        .await
}

async fn find(connection: &mut PgConnection, title: &str) -> Result<Option<Function>, sqlx::Error> {
    let row = sqlx::query(select_functions!("WHERE f.language_title = $1"))
        .bind(title)
        .persistent(false)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(function).transpose()
}

fn function(row: &PgRow) -> Result<Function, sqlx::Error> {
    let wrong = |index: &str, source: BoxDynError| sqlx::Error::ColumnDecode {
        index: index.to_owned(),
        source,
    };
    let at = |index: usize| -> Result<Timestamp, sqlx::Error> {
        Timestamp::from_millisecond(row.try_get(index)?)
            .map_err(|error| wrong("created_at or updated_at", error.into()))
    };
    let language: &str = row.try_get(1)?;
    Ok(Function {
        language_title: row.try_get(0)?,
        language: Language::from_name(language)
            .ok_or_else(|| wrong("language", "the language is not known".into()))?,
        version: row.try_get(2)?,
        script_size_bytes: row.try_get(3)?,
        script_sha256: row.try_get(4)?,
        created_at: at(5)?,
        updated_at: at(6)?,
    })
}
