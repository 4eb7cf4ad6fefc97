//! `lambda-controller migrate`: brings the schema `meta` to what this build needs. Migrations are applied in order,
//! each in a transaction with the record of it; two that run at once come one after the other (an advisory lock).

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{ConnectOptions, PgConnection, SqlSafeStr};
use tokio::time::{Instant, sleep};

use super::{assess, describe};
use crate::config::DatabaseConfig;

/// Applied migrations never change; a further one is a further file.
const MIGRATIONS: [(i64, &str, &str); 5] = [
    (
        1,
        "functions",
        include_str!("../../migrations/0001_functions.sql"),
    ),
    (
        2,
        "sessions",
        include_str!("../../migrations/0002_sessions.sql"),
    ),
    (3, "logs", include_str!("../../migrations/0003_logs.sql")),
    (
        4,
        "function versions",
        include_str!("../../migrations/0004_function_versions.sql"),
    ),
    (
        5,
        "secrets and limits",
        include_str!("../../migrations/0005_secrets_and_limits.sql"),
    ),
];
const RECORD: &str = "meta.schema_migrations";

/// A failover passes within it.
const WAIT_FOR_DATABASE: Duration = Duration::from_secs(60);

/// Why the schema is not as it should be, and what to do.
#[derive(Debug)]
pub struct SchemaError(pub String);

/// What `migrate` did.
#[derive(Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Versions applied by this run.
    pub applied: Vec<i64>,
    /// Versions in the database that this build does not know: a newer build made them.
    pub newer: Vec<i64>,
}

pub fn migrations() -> Vec<Migration> {
    MIGRATIONS
        .into_iter()
        .map(|(version, name, sql)| migration(version, name, sql))
        .collect()
}

pub fn migration(version: i64, name: &'static str, sql: &'static str) -> Migration {
    let kind = MigrationType::Simple;
    Migration::new(
        version,
        Cow::Borrowed(name),
        kind,
        sql.into_sql_str(),
        false,
    )
}

/// Connects straight to the primary, as `migrator`: advisory locks belong to a session, which a pooler in transaction
/// mode does not give.
pub async fn connect(config: &DatabaseConfig) -> Result<PgConnection, SchemaError> {
    let deadline = Instant::now() + WAIT_FOR_DATABASE;
    loop {
        let options = config.connect_options().map_err(|error| cannot(&error))?;
        let error = match options.disable_statement_logging().connect().await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if !assess(&error).1 || Instant::now() >= deadline {
            return Err(cannot(&error));
        }
        tracing::warn!(cause = describe(&error), "waiting for PostgreSQL");
        sleep(Duration::from_secs(1)).await;
    }
}

fn cannot(error: &sqlx::Error) -> SchemaError {
    SchemaError(format!(
        "cannot connect to the database of DATABASE_URL: {}",
        describe(error)
    ))
}

pub async fn migrate(
    connection: &mut PgConnection,
    migrations: Vec<Migration>,
) -> Result<Migrated, SchemaError> {
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.dangerous_set_table_name(RECORD);
    // A rollback to an older build finds migrations that it does not know, and works with what they made.
    migrator.set_ignore_missing(true);
    // Taken once more inside, which one session may. What goes wrong ends the connection, and the lock with it.
    connection.lock().await.map_err(failed)?;
    make_schema(connection).await.map_err(failed)?;
    let before = applied(connection).await.map_err(failed)?;
    migrator
        .run_direct(None, connection, false)
        .await
        .map_err(|error| explain(error, &migrator))?;
    let after = applied(connection).await.map_err(failed)?;
    connection.unlock().await.map_err(failed)?;
    let mut applied: Vec<_> = after.difference(&before).copied().collect();
    let mut newer: Vec<_> = after
        .into_iter()
        .filter(|version| !migrator.version_exists(*version))
        .collect();
    applied.sort_unstable();
    newer.sort_unstable();
    Ok(Migrated { applied, newer })
}

/// Without a right to make schemas this works where the schema is there already.
async fn make_schema(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let there: bool = sqlx::query_scalar("SELECT to_regnamespace('meta') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        connection.create_schema_if_not_exists("meta").await?;
    }
    Ok(())
}

async fn applied(connection: &mut PgConnection) -> Result<HashSet<i64>, MigrateError> {
    connection.ensure_migrations_table(RECORD).await?;
    let applied = connection.list_applied_migrations(RECORD).await?;
    Ok(applied.into_iter().map(|one| one.version).collect())
}

fn failed(error: MigrateError) -> SchemaError {
    let cause = match &error {
        MigrateError::Execute(error) => describe(error),
        other => other.to_string(),
    };
    SchemaError(format!("cannot prepare the schema meta: {cause}"))
}

fn explain(error: MigrateError, migrator: &Migrator) -> SchemaError {
    let name = |version: i64| {
        let known = migrator
            .iter()
            .find(|migration| migration.version == version);
        let description = known.map_or("unknown", |migration| &*migration.description);
        format!("migration {version} ({description})")
    };
    SchemaError(match error {
        MigrateError::VersionMismatch(version) => format!(
            "{} is not what was applied to this database: its text was changed afterwards. Applied migrations must stay as \
             they are; restore its text and put the change into a new migration. Nothing was changed",
            name(version)
        ),
        // The migrations are ours, so their errors quote nobody's values.
        MigrateError::ExecuteMigration(sqlx::Error::Database(error), version) => format!(
            "{} failed and was rolled back; those before it are applied: {} ({})",
            name(version),
            error.message(),
            error.code().unwrap_or_default()
        ),
        MigrateError::ExecuteMigration(error, version) => format!(
            "{} failed and was rolled back; those before it are applied: {}",
            name(version),
            describe(&error)
        ),
        other => return failed(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_a_gap() {
        let versions: Vec<_> = migrations().iter().map(|one| one.version).collect();
        let expected: Vec<_> = (1..=versions.len() as i64).collect();
        assert_eq!(versions, expected);
    }
}
