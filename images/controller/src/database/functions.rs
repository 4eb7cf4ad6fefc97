//! Functions: scripts that are registered under a name, each in versions that never change.

mod aliases;
mod calls;
mod registration;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use sqlx::{Row, error::BoxDynError};
use tokio::sync::Mutex;

pub use aliases::{Alias, AliasSet, Denied};
pub use calls::{Callable, Code, NoVersion, Selector};
pub use registration::{RESERVED_DAYS, Registered, Registration};

use super::{Database, DatabaseUnavailable};
use crate::language::Language;
use calls::Caches;

/// How a function is named: with its owner, or without, which means the caller's own or else the one that holds that name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionName {
    pub owner: Option<String>,
    pub title: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Function {
    pub language_title: String,
    pub owner: String,
    /// Whether the name without an owner leads here.
    pub holds_plain_name: bool,
    pub language: Language,
    /// The newest: counts the versions that it has had.
    pub version: i64,
    pub script_size_bytes: i64,
    /// In hexadecimal.
    pub script_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<i32>,
    /// For its owner alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// For its owner alone, and in no list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
    /// Their names, for its owner alone, and in no list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Who sees and uses a function beside its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    Private,
    Shared,
    Callers(Vec<String>),
}

impl Visibility {
    const fn name(&self) -> &'static str {
        match self {
            Visibility::Private => "private",
            Visibility::Shared => "shared",
            Visibility::Callers(_) => "callers",
        }
    }

    fn callers(&self) -> &[String] {
        match self {
            Visibility::Callers(callers) => callers,
            _ => &[],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Version {
    pub version: i64,
    pub script_size_bytes: i64,
    pub script_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<i32>,
    pub created_at: Timestamp,
}

/// A version's script, as a session or a call begins with it.
pub struct Script {
    pub content: Vec<u8>,
    pub time_limit: Option<Duration>,
    /// An object of texts, where there are some.
    pub environment: Option<Box<RawValue>>,
    pub terms: Terms,
}

/// On what terms a version runs, beside its time: a session keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub function_id: i64,
    pub owner: String,
    pub version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Names of the owner's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

impl Terms {
    /// Whether there is anything to keep to.
    pub const fn hold_anything(&self) -> bool {
        self.memory_bytes.is_some() || self.max_concurrency.is_some() || !self.secrets.is_empty()
    }
}

/// Which functions a list has.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    pub language: Option<Language>,
    pub owner: Option<&'a str>,
    /// Who asks.
    pub user: Option<&'a str>,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug)]
pub enum From<'a> {
    /// So many functions are before it.
    Offset(i64),
    /// After this name and owner.
    After(&'a str, &'a str),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Removed {
    Gone,
    Denied(Denied),
}

/// Timestamps are milliseconds since the epoch. `$1` is who asks.
macro_rules! function_columns {
    ($environment:literal, $secrets:literal) => {
        concat!(
            "f.name, f.language, f.version, v.size_bytes, encode(v.sha256, 'hex'), ",
            "(extract(epoch FROM f.created_at) * 1000)::bigint, ",
            "(extract(epoch FROM f.updated_at) * 1000)::bigint, ",
            "f.owner, f.language_title = f.name, v.timeout_ms, ",
            "CASE WHEN f.owner = $1 THEN f.visibility END, f.callers, v.memory_bytes, v.max_concurrency, ",
            $environment,
            ", ",
            $secrets
        )
    };
}

/// Of a function `f`: whether `$1` sees it.
macro_rules! seen {
    () => {
        "(f.visibility = 'shared' OR f.owner = $1 OR (f.visibility = 'callers' AND $1 = ANY (f.callers)))"
    };
}

/// The function `f` whose name is `$2` with the owner `$3`, or without one where that is null, as `$1` sees it.
macro_rules! named {
    ($what:expr, $joined:literal) => {
        concat!(
            "SELECT ",
            $what,
            " FROM meta.functions f ",
            $joined,
            " WHERE f.name = $2 AND CASE WHEN $3::text IS NULL THEN f.owner = $1 OR f.language_title = $2 ELSE f.owner = $3 END AND ",
            seen!(),
            " ORDER BY f.owner = $1 DESC NULLS LAST LIMIT 1"
        )
    };
}
use {named, seen};

/// What a list has: `$2` language, `$3` owner.
macro_rules! wanted {
    () => {
        concat!(
            "($2::text IS NULL OR f.language = $2) AND ($3::text IS NULL OR f.owner = $3) AND ",
            seen!()
        )
    };
}

const NEWEST: &str = named!(
    function_columns!(
        "CASE WHEN f.owner = $1 THEN v.environment END",
        "CASE WHEN f.owner = $1 THEN v.secrets END"
    ),
    "JOIN meta.function_versions v USING (function_id, version)"
);

/// Of a version `v` of a function `f`: what `script` reads.
macro_rules! script_columns {
    () => {
        "v.content, v.timeout_ms, v.environment, f.function_id, f.owner, v.version, v.memory_bytes, v.max_concurrency, v.secrets"
    };
}
use script_columns;

pub struct FunctionStore {
    database: Arc<Database>,
    max_per_user: u32,
    max_versions: u32,
    caches: Caches,
    /// Of owners, who share them at random: one's registrations wait here, so that they hold one connection at a time.
    turns: [Mutex<()>; 64],
}

impl FunctionStore {
    pub fn new(database: Arc<Database>, max_per_user: u32, max_versions: u32) -> Self {
        FunctionStore {
            database,
            max_per_user,
            max_versions,
            caches: Caches::default(),
            turns: [const { Mutex::const_new(()) }; 64],
        }
    }

    /// At most so many of those that `wanted.user` sees, sorted by name and owner.
    pub async fn list(
        &self,
        wanted: &Wanted<'_>,
        from: From<'_>,
        most: u32,
    ) -> Result<Vec<Function>, DatabaseUnavailable> {
        self.database
            .retrying("read", || self.read_page(wanted, from, most))
            .await
    }

    async fn read_page(
        &self,
        wanted: &Wanted<'_>,
        from: From<'_>,
        most: u32,
    ) -> Result<Vec<Function>, sqlx::Error> {
        let (name, owner, offset) = match from {
            From::Offset(offset) => (None, None, offset),
            From::After(name, owner) => (Some(name), Some(owner), 0),
        };
        let mut transaction = self.database.begin().await?;
        // The page first: of the other functions no version is looked at.
        let rows = sqlx::query(concat!(
            "SELECT ",
            function_columns!("NULL", "NULL"),
            " FROM (SELECT * FROM meta.functions f WHERE ",
            wanted!(),
            " AND ($4::text IS NULL OR (f.name, f.owner) > ($4, $5)) ORDER BY f.name, f.owner OFFSET $6 LIMIT $7) f ",
            "JOIN meta.function_versions v USING (function_id, version) ORDER BY f.name, f.owner"
        ))
        .bind(wanted.user)
        .bind(wanted.language.map(Language::name))
        .bind(wanted.owner)
        .bind(name)
        .bind(owner)
        .bind(offset)
        .bind(i64::from(most))
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        rows.iter().map(function).collect()
    }

    /// How many a list has on all its pages.
    pub async fn count(&self, wanted: &Wanted<'_>) -> Result<i64, DatabaseUnavailable> {
        let count = || async {
            let mut transaction = self.database.begin().await?;
            let count = sqlx::query_scalar(concat!(
                "SELECT count(*) FROM meta.functions f WHERE ",
                wanted!()
            ))
            .bind(wanted.user)
            .bind(wanted.language.map(Language::name))
            .bind(wanted.owner)
            .persistent(false)
            .fetch_one(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(count)
        };
        self.database.retrying("read", count).await
    }

    /// As `user` sees it.
    pub async fn find(
        &self,
        name: &FunctionName,
        user: Option<&str>,
    ) -> Result<Option<Function>, DatabaseUnavailable> {
        let find = || async {
            let mut transaction = self.database.begin().await?;
            let found = find(&mut transaction, name, user).await?;
            transaction.commit().await?;
            Ok(found)
        };
        self.database.retrying("read", find).await
    }

    /// The newest version's, as `user` sees it.
    pub async fn script(
        &self,
        name: &FunctionName,
        user: Option<&str>,
    ) -> Result<Option<Script>, DatabaseUnavailable> {
        let script = || async {
            let mut transaction = self.database.begin().await?;
            const NEWEST_SCRIPT: &str = named!(
                script_columns!(),
                "JOIN meta.function_versions v USING (function_id, version)"
            );
            let row = named_row(&mut transaction, NEWEST_SCRIPT, name, user).await?;
            transaction.commit().await?;
            row.as_ref().map(script).transpose()
        };
        self.database.retrying("read", script).await
    }

    /// The newest first, those before the version `before`. None where `user` sees no such function.
    pub async fn versions(
        &self,
        name: &FunctionName,
        user: Option<&str>,
        before: i64,
        most: u32,
    ) -> Result<Option<Vec<Version>>, DatabaseUnavailable> {
        let versions = || async {
            let mut transaction = self.database.begin().await?;
            let Some(id) = seen_id(&mut transaction, name, user).await? else {
                return Ok(None);
            };
            let rows = sqlx::query(
                "SELECT version, size_bytes, encode(sha256, 'hex'), timeout_ms, memory_bytes, max_concurrency, \
                 (extract(epoch FROM created_at) * 1000)::bigint FROM meta.function_versions \
                 WHERE function_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3",
            )
            .bind(id)
            .bind(before)
            .bind(i64::from(most))
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;
            rows.iter().map(version).collect::<Result<_, _>>().map(Some)
        };
        self.database.retrying("read", versions).await
    }

    pub async fn remove(
        &self,
        name: &FunctionName,
        user: &str,
    ) -> Result<Removed, DatabaseUnavailable> {
        let removed = self
            .database
            .retrying("write", || self.delete(name, user))
            .await;
        self.forget(&name.title);
        removed
    }
}

/// The row that a query made by `named!` finds.
async fn named_row(
    connection: &mut PgConnection,
    query: &'static str,
    name: &FunctionName,
    user: Option<&str>,
) -> Result<Option<PgRow>, sqlx::Error> {
    sqlx::query(query)
        .bind(user)
        .bind(&name.title)
        .bind(&name.owner)
        .persistent(false)
        .fetch_optional(connection)
        .await
}

/// The id of a function that `user` sees.
async fn seen_id(
    connection: &mut PgConnection,
    name: &FunctionName,
    user: Option<&str>,
) -> Result<Option<i64>, sqlx::Error> {
    let row = named_row(connection, named!("f.function_id", ""), name, user).await?;
    row.map(|row| row.try_get(0)).transpose()
}

async fn find(
    connection: &mut PgConnection,
    name: &FunctionName,
    user: Option<&str>,
) -> Result<Option<Function>, sqlx::Error> {
    let row = named_row(connection, NEWEST, name, user).await?;
    row.as_ref().map(function).transpose()
}

fn wrong(column: &str, source: impl Into<BoxDynError>) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: source.into(),
    }
}

pub(super) fn moment(row: &PgRow, index: usize) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_millisecond(row.try_get(index)?).map_err(|error| wrong("a timestamp", error))
}

fn seconds(row: &PgRow, index: usize) -> Result<Option<f64>, sqlx::Error> {
    let milliseconds: Option<i64> = row.try_get(index)?;
    Ok(milliseconds.map(|milliseconds| milliseconds as f64 / 1000.0))
}

fn duration(row: &PgRow, index: usize) -> Result<Option<Duration>, sqlx::Error> {
    let milliseconds: Option<i64> = row.try_get(index)?;
    Ok(milliseconds.map(|milliseconds| Duration::from_millis(milliseconds.unsigned_abs())))
}

/// None where it is empty, as it mostly is.
fn environment(row: &PgRow, index: usize) -> Result<Option<Box<RawValue>>, sqlx::Error> {
    let text: String = row.try_get(index)?;
    if text == "{}" {
        return Ok(None);
    }
    RawValue::from_string(text)
        .map(Some)
        .map_err(|error| wrong("environment", error))
}

fn function(row: &PgRow) -> Result<Function, sqlx::Error> {
    let language: &str = row.try_get(1)?;
    let visibility: Option<&str> = row.try_get(10)?;
    let environment: Option<&str> = row.try_get(14)?;
    Ok(Function {
        language_title: row.try_get(0)?,
        language: Language::from_name(language)
            .ok_or_else(|| wrong("language", "the language is not known"))?,
        version: row.try_get(2)?,
        script_size_bytes: row.try_get(3)?,
        script_sha256: row.try_get(4)?,
        created_at: moment(row, 5)?,
        updated_at: moment(row, 6)?,
        owner: row.try_get(7)?,
        holds_plain_name: row.try_get(8)?,
        timeout_seconds: seconds(row, 9)?,
        memory_bytes: row.try_get(12)?,
        max_concurrency: row.try_get(13)?,
        visibility: match visibility {
            Some("private") => Some(Visibility::Private),
            Some("callers") => Some(Visibility::Callers(row.try_get(11)?)),
            Some(_) => Some(Visibility::Shared),
            None => None,
        },
        environment: environment
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| wrong("environment", error))?,
        secrets: row.try_get(15)?,
    })
}

fn version(row: &PgRow) -> Result<Version, sqlx::Error> {
    Ok(Version {
        version: row.try_get(0)?,
        script_size_bytes: row.try_get(1)?,
        script_sha256: row.try_get(2)?,
        timeout_seconds: seconds(row, 3)?,
        memory_bytes: row.try_get(4)?,
        max_concurrency: row.try_get(5)?,
        created_at: moment(row, 6)?,
    })
}

fn script(row: &PgRow) -> Result<Script, sqlx::Error> {
    Ok(Script {
        content: row.try_get(0)?,
        time_limit: duration(row, 1)?,
        environment: environment(row, 2)?,
        terms: Terms {
            function_id: row.try_get(3)?,
            owner: row.try_get(4)?,
            version: row.try_get(5)?,
            memory_bytes: row.try_get::<Option<i64>, _>(6)?.map(i64::unsigned_abs),
            max_concurrency: row.try_get::<Option<i32>, _>(7)?.map(i32::unsigned_abs),
            secrets: row.try_get(8)?,
        },
    })
}
