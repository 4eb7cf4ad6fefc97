//! `lambda-controller maintain`: makes the logs' partitions of the next months, drops those that are older than the
//! retention, and removes the rows of expired sessions and of names that are nobody's any more. Any number may run at once, and a missed run is caught up.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::describe;
use super::functions::RESERVED_DAYS;
use super::schema::SchemaError;

const LOGS: [&str; 2] = ["request_logs", "error_logs"];
/// This month and the next two, so that a month without a run loses nothing.
const MONTHS_AHEAD: i32 = 3;
/// Rows in a statement, so that none holds locks for long.
const SESSIONS_AT_ONCE: i64 = 10_000;
/// "m", "a", "i", "n" in ASCII: the key of the lock, any number that no other lock has.
const LOCK: i64 = 0x6d61_696e;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Tables made and dropped.
    pub made: Vec<String>,
    pub dropped: Vec<String>,
    pub sessions_removed: u64,
    /// Of removed functions, that others may take now.
    pub names_released: u64,
}

pub async fn maintain(
    connection: &mut PgConnection,
    log_retention_days: u32,
) -> Result<Maintained, SchemaError> {
    partitions_and_sessions(connection, log_retention_days)
        .await
        .map_err(|error| {
            SchemaError(format!(
                "cannot maintain the schema meta: {}{}",
                describe(&error),
                if super::assess(&error).0 == "schema" {
                    "; run lambda-controller migrate first"
                } else {
                    ""
                }
            ))
        })
}

async fn partitions_and_sessions(
    connection: &mut PgConnection,
    log_retention_days: u32,
) -> Result<Maintained, sqlx::Error> {
    let mut maintained = Maintained::default();
    for table in LOGS {
        let mut transaction = connection.begin().await?;
        // Making and dropping a partition locks the whole table for a moment, and must not queue up behind a long
        // reader with all writers behind itself: rather this run fails and the next one does it.
        sqlx::raw_sql("SET LOCAL lock_timeout = '5s'")
            .execute(&mut *transaction)
            .await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(LOCK)
            .execute(&mut *transaction)
            .await?;
        // The database's clock, as there is one of it.
        let now: i64 = sqlx::query_scalar("SELECT extract(epoch FROM now())::bigint")
            .fetch_one(&mut *transaction)
            .await?;
        let there: Vec<String> = sqlx::query_scalar(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
             WHERE i.inhparent = $1::text::regclass",
        )
        .bind(format!("meta.{table}"))
        .fetch_all(&mut *transaction)
        .await?;
        let now = Timestamp::from_second(now).unwrap_or_default();
        let today = Offset::UTC.to_datetime(now).date();
        for month in months(today, MONTHS_AHEAD) {
            let name = partition(table, month);
            if there.contains(&name) {
                continue;
            }
            let next = first_of_next(month);
            let statement = format!(
                "CREATE TABLE meta.{name} PARTITION OF meta.{table} \
                 FOR VALUES FROM ('{month} 00:00+00') TO ('{next} 00:00+00')"
            );
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut *transaction)
                .await?;
            maintained.made.push(name);
        }
        for name in there {
            let old = month_of(table, &name)
                .is_some_and(|month| is_over(month, today, log_retention_days));
            if old {
                sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE meta.{name}")))
                    .execute(&mut *transaction)
                    .await?;
                maintained.dropped.push(name);
            }
        }
        transaction.commit().await?;
    }
    maintained.names_released = sqlx::query(
        "DELETE FROM meta.removed_functions WHERE removed_at < now() - make_interval(days => $1)",
    )
    .bind(RESERVED_DAYS)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    loop {
        let removed = sqlx::query(
            "DELETE FROM meta.sessions WHERE request_id IN (SELECT request_id FROM meta.sessions \
             WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED)",
        )
        .bind(SESSIONS_AT_ONCE)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        maintained.sessions_removed += removed;
        if removed < SESSIONS_AT_ONCE as u64 {
            return Ok(maintained);
        }
    }
}

/// The first days of the month of `today` and of those after it.
fn months(today: Date, count: i32) -> Vec<Date> {
    let mut months = vec![today.first_of_month()];
    while months.len() < count as usize {
        months.push(first_of_next(months[months.len() - 1]));
    }
    months
}

fn first_of_next(month: Date) -> Date {
    month
        .last_of_month()
        .tomorrow()
        .expect("the clock is not at the end of time")
}

fn partition(table: &str, month: Date) -> String {
    format!("{table}_{:04}_{:02}", month.year(), month.month())
}

/// The month in a partition's name. A table with another name is not ours to drop.
fn month_of(table: &str, name: &str) -> Option<Date> {
    let (year, month) = name
        .strip_prefix(table)?
        .strip_prefix('_')?
        .split_once('_')?;
    let date = Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()?;
    (partition(table, date) == name).then_some(date)
}

/// Whether the youngest row of the month is older than the retention.
fn is_over(month: Date, today: Date, retention_days: u32) -> bool {
    let age = today.since(first_of_next(month));
    age.is_ok_and(|age| i64::from(age.get_days()) >= i64::from(retention_days))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn months_go_over_the_end_of_the_year() {
        let expected = [date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1)];
        assert_eq!(months(date(2026, 11, 30), 3), expected);
    }

    #[test]
    fn only_names_of_ours_have_a_month() {
        assert_eq!(
            month_of("request_logs", "request_logs_2026_02"),
            Some(date(2026, 2, 1))
        );
        for other in [
            "request_logs_2026_2",
            "request_logs_2026_13",
            "request_logs_old",
            "error_logs_2026_02",
            "request_logs_2026_02_x",
        ] {
            assert_eq!(month_of("request_logs", other), None, "{other}");
        }
    }

    #[test]
    fn a_month_is_over_when_its_last_row_is_too_old() {
        let january = date(2026, 1, 1);
        // The last row is of January 31st.
        assert!(!is_over(january, date(2026, 5, 1), 90));
        assert!(is_over(january, date(2026, 5, 2), 90));
        assert!(!is_over(january, date(2025, 12, 1), 1));
    }
}
