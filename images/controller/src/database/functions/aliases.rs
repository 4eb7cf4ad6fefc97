//! Aliases: names for one version of a function or, by weights, for several.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::{FunctionName, FunctionStore, moment, named, named_row, seen, seen_id};
use crate::database::DatabaseUnavailable;

/// Of one function.
pub const MOST_ALIASES: i64 = 100;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alias {
    pub alias: String,
    /// Each version with the percentage of the calls that it gets; 100 in all.
    pub versions: BTreeMap<i64, i16>,
    pub updated_at: Timestamp,
}

/// Why a function is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Or not to be seen by this user.
    NotThere,
    NotYours,
}

#[derive(Debug, PartialEq, Eq)]
pub enum AliasSet {
    Set(Alias),
    Denied(Denied),
    /// The function does not have this version.
    NoVersion(i64),
    /// It has as many aliases as a function may have.
    TooMany,
}

impl FunctionStore {
    /// Sorted by name. None where `user` sees no such function.
    pub async fn aliases(
        &self,
        name: &FunctionName,
        user: Option<&str>,
    ) -> Result<Option<Vec<Alias>>, DatabaseUnavailable> {
        let aliases = || async {
            let mut transaction = self.database.begin().await?;
            let Some(id) = seen_id(&mut transaction, name, user).await? else {
                return Ok(None);
            };
            let aliases = read(&mut transaction, id, None).await?;
            transaction.commit().await?;
            Ok(Some(aliases))
        };
        self.database.retrying("read", aliases).await
    }

    /// The outer None where `user` sees no such function.
    pub async fn alias(
        &self,
        name: &FunctionName,
        user: Option<&str>,
        alias: &str,
    ) -> Result<Option<Option<Alias>>, DatabaseUnavailable> {
        let read_one = || async {
            let mut transaction = self.database.begin().await?;
            let Some(id) = seen_id(&mut transaction, name, user).await? else {
                return Ok(None);
            };
            let found = read(&mut transaction, id, Some(alias)).await?;
            transaction.commit().await?;
            Ok(Some(found.into_iter().next()))
        };
        self.database.retrying("read", read_one).await
    }

    pub async fn set_alias(
        &self,
        name: &FunctionName,
        user: &str,
        alias: &str,
        weights: &BTreeMap<i64, i16>,
    ) -> Result<AliasSet, DatabaseUnavailable> {
        let set = self
            .database
            .retrying("write", || self.write_alias(name, user, alias, weights))
            .await;
        self.forget(&name.title);
        set
    }

    async fn write_alias(
        &self,
        name: &FunctionName,
        user: &str,
        alias: &str,
        weights: &BTreeMap<i64, i16>,
    ) -> Result<AliasSet, sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        let id = match own_id(&mut transaction, name, user).await? {
            Ok(id) => id,
            Err(denied) => {
                transaction.rollback().await?;
                return Ok(AliasSet::Denied(denied));
            }
        };
        let versions: Vec<i64> = weights.keys().copied().collect();
        let percentages: Vec<i16> = weights.values().copied().collect();
        let there: Vec<i64> = sqlx::query_scalar(
            "SELECT version FROM meta.function_versions WHERE function_id = $1 AND version = ANY ($2)",
        )
        .bind(id)
        .bind(&versions)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await?;
        if let Some(missing) = versions.iter().find(|version| !there.contains(version)) {
            transaction.rollback().await?;
            return Ok(AliasSet::NoVersion(*missing));
        }
        sqlx::query("DELETE FROM meta.function_aliases WHERE function_id = $1 AND alias = $2")
            .bind(id)
            .bind(alias)
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO meta.function_aliases (function_id, alias, version, weight) \
             SELECT $1, $2, * FROM unnest($3::bigint[], $4::smallint[])",
        )
        .bind(id)
        .bind(alias)
        .bind(&versions)
        .bind(&percentages)
        .persistent(false)
        .execute(&mut *transaction)
        .await?;
        let aliases: i64 = sqlx::query_scalar(
            "SELECT count(DISTINCT alias) FROM meta.function_aliases WHERE function_id = $1",
        )
        .bind(id)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
        if aliases > MOST_ALIASES {
            transaction.rollback().await?;
            return Ok(AliasSet::TooMany);
        }
        let set = read(&mut transaction, id, Some(alias)).await?;
        transaction.commit().await?;
        let set = set.into_iter().next().ok_or(sqlx::Error::RowNotFound)?;
        Ok(AliasSet::Set(set))
    }

    /// Whether there was one.
    pub async fn remove_alias(
        &self,
        name: &FunctionName,
        user: &str,
        alias: &str,
    ) -> Result<Result<bool, Denied>, DatabaseUnavailable> {
        let remove = || async {
            let mut transaction = self.database.begin().await?;
            let id = match own_id(&mut transaction, name, user).await? {
                Ok(id) => id,
                Err(denied) => {
                    transaction.rollback().await?;
                    return Ok(Err(denied));
                }
            };
            let removed = sqlx::query(
                "DELETE FROM meta.function_aliases WHERE function_id = $1 AND alias = $2",
            )
            .bind(id)
            .bind(alias)
            .persistent(false)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            transaction.commit().await?;
            Ok(Ok(removed > 0))
        };
        let removed = self.database.retrying("write", remove).await;
        self.forget(&name.title);
        removed
    }
}

/// The id of a function of `user`'s, which stays as it is until the transaction ends.
pub(super) async fn own_id(
    connection: &mut PgConnection,
    name: &FunctionName,
    user: &str,
) -> Result<Result<i64, Denied>, sqlx::Error> {
    const LOCKED: &str = concat!(named!("f.function_id, f.owner", ""), " FOR UPDATE");
    let Some(row) = named_row(connection, LOCKED, name, Some(user)).await? else {
        return Ok(Err(Denied::NotThere));
    };
    let owner: &str = row.try_get(1)?;
    if owner != user {
        return Ok(Err(Denied::NotYours));
    }
    row.try_get(0).map(Ok)
}

/// All, or the one of this name.
async fn read(
    connection: &mut PgConnection,
    id: i64,
    alias: Option<&str>,
) -> Result<Vec<Alias>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT alias, version, weight, (extract(epoch FROM updated_at) * 1000)::bigint FROM meta.function_aliases \
         WHERE function_id = $1 AND ($2::text IS NULL OR alias = $2) ORDER BY alias, version",
    )
    .bind(id)
    .bind(alias)
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let mut aliases: Vec<Alias> = Vec::new();
    for row in &rows {
        gather(&mut aliases, row)?;
    }
    Ok(aliases)
}

fn gather(aliases: &mut Vec<Alias>, row: &PgRow) -> Result<(), sqlx::Error> {
    let name: String = row.try_get(0)?;
    if aliases.last().is_none_or(|last| last.alias != name) {
        aliases.push(Alias {
            alias: name,
            versions: BTreeMap::new(),
            updated_at: moment(row, 3)?,
        });
    }
    if let Some(last) = aliases.last_mut() {
        last.versions.insert(row.try_get(1)?, row.try_get(2)?);
    }
    Ok(())
}
