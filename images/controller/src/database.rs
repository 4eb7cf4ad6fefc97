//! PostgreSQL: registered functions, the logs, and the list of sessions. Only what needs it waits for it.
//!
//! Everything happens in transactions and with unnamed prepared statements: PgBouncer in transaction pooling gives the
//! parts of a transaction one server connection, and knows nothing of what a connection prepared before.

pub mod functions;
pub mod maintenance;
pub mod records;
pub mod schema;
pub mod secrets;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{ConnectOptions, PgPool, Postgres, Transaction};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::DatabaseConfig;
use crate::metrics::{DatabaseErrorLabels, DatabaseWorkLabels, Metrics};

const PAUSE: Duration = Duration::from_millis(100);
/// A look at the database where nobody uses it, so that `/ready` can say how it is without waiting.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LONGEST_IDLE: Duration = Duration::from_secs(300);
/// Callers at once for each connection. More would only hold places that requests without the database need.
const CALLERS_PER_CONNECTION: usize = 8;

/// The database did not do what was asked in time. The text is for the log and for `/ready`; it holds no values.
#[derive(Clone, Debug)]
pub struct DatabaseUnavailable(pub String);

pub struct Database {
    pool: PgPool,
    config: DatabaseConfig,
    state: watch::Sender<Result<(), String>>,
    places: Semaphore,
    metrics: Arc<Metrics>,
}

impl Database {
    /// Needs a tokio runtime; does not wait for a connection.
    pub fn new(config: &DatabaseConfig, metrics: Arc<Metrics>) -> Result<Self, sqlx::Error> {
        let options = config.connect_options()?.disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(config.pool_size)
            .acquire_timeout(config.timeout)
            .idle_timeout(LONGEST_IDLE)
            .connect_lazy_with(options);
        Ok(Database {
            pool,
            config: config.clone(),
            state: watch::Sender::new(Err("not asked yet".to_owned())),
            places: Semaphore::new(config.pool_size as usize * CALLERS_PER_CONNECTION),
            metrics,
        })
    }

    /// Looks at the database from now on; ends with the set's task.
    pub fn watch(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let database = self.clone();
        tasks.spawn(async move {
            loop {
                let deadline = Instant::now() + database.config.timeout;
                let _ = timeout_at(deadline, database.look())
                    .await
                    .unwrap_or(Err(sqlx::Error::PoolTimedOut))
                    .inspect(|()| database.is_up())
                    .inspect_err(|error| database.is_down(error));
                sleep(LOOK_EVERY).await;
            }
        });
    }

    /// Whether the last use succeeded.
    pub fn state(&self) -> Result<(), String> {
        self.state.borrow().clone()
    }

    async fn look(&self) -> Result<(), sqlx::Error> {
        let mut transaction = self.begin().await?;
        sqlx::query("SELECT secrets FROM meta.function_versions LIMIT 0")
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Passwords are files that may have been rotated, so they are read before a connection might be opened.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let options = self.config.connect_options()?.disable_statement_logging();
        self.pool.set_connect_options(options);
        self.pool.begin().await
    }

    /// Does `work`, a whole transaction, again until it succeeds, fails for good, or the time for it is over.
    pub(super) async fn retrying<T, F>(
        &self,
        name: &'static str,
        work: impl Fn() -> F,
    ) -> Result<T, DatabaseUnavailable>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let Ok(_place) = self.places.try_acquire() else {
            self.count("busy");
            let cause = "too many requests wait for the database";
            return Err(DatabaseUnavailable(cause.to_owned()));
        };
        let start = Instant::now();
        let deadline = start + self.config.timeout;
        let result = loop {
            let attempt = timeout_at(deadline, work()).await;
            let error = match attempt {
                Ok(Ok(value)) => {
                    self.is_up();
                    break Ok(value);
                }
                Ok(Err(error)) => error,
                Err(_) => sqlx::Error::PoolTimedOut,
            };
            self.is_down(&error);
            if !assess(&error).1 || Instant::now() + PAUSE >= deadline {
                break Err(DatabaseUnavailable(describe(&error)));
            }
            sleep(PAUSE).await;
        };
        self.observe(name, start.elapsed());
        result
    }

    pub(super) fn observe(&self, work: &'static str, duration: Duration) {
        self.metrics
            .database_seconds
            .get_or_create(&DatabaseWorkLabels { work })
            .observe(duration.as_secs_f64());
    }

    pub(super) fn is_up(&self) {
        self.metrics.database_up.set(1);
        self.state.send_if_modified(|state| {
            let was_down = state.is_err();
            if was_down {
                tracing::info!("PostgreSQL answers");
                *state = Ok(());
            }
            was_down
        });
    }

    pub(super) fn is_down(&self, error: &sqlx::Error) {
        self.count(assess(error).0);
        self.metrics.database_up.set(0);
        let cause = describe(error);
        self.state.send_if_modified(|state| {
            let is_news = state.as_ref().err() != Some(&cause);
            if is_news {
                tracing::warn!(cause, "PostgreSQL is not available");
                *state = Err(cause);
            }
            is_news
        });
    }

    fn count(&self, kind: &'static str) {
        self.metrics
            .database_errors
            .get_or_create(&DatabaseErrorLabels { kind })
            .inc();
    }
}

/// The metric's label, and whether the same may succeed a moment later.
/// (Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html)
pub(super) fn assess(error: &sqlx::Error) -> (&'static str, bool) {
    let code = match error {
        sqlx::Error::Database(error) => error.code().unwrap_or_default(),
        sqlx::Error::PoolTimedOut => return ("timeout", true),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
            return ("connection", true);
        }
        _ => return ("other", false),
    };
    match &*code {
        "42P01" | "42703" | "3F000" => ("schema", false),
        // A new server whose database is just being made.
        "3D000" => ("schema", true),
        // A standby that was the primary a moment ago.
        "25006" => ("connection", true),
        // Two that write the same.
        "40001" | "40P01" | "55P03" => ("busy", true),
        code => match code.get(..2).unwrap_or_default() {
            "08" | "57" => ("connection", true),
            "53" => ("busy", true),
            // The password may be just being rotated.
            "28" => ("auth", true),
            _ => ("other", false),
        },
    }
}

/// A server's own words can quote values, and a script is one of those; those about the connection, rights and missing
/// objects do not.
pub(super) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default().into_owned();
            match code.get(..2).unwrap_or_default() {
                "08" | "28" | "3D" | "3F" | "53" | "55" | "57" => error.message().to_owned(),
                "42" if matches!(&*code, "42P01" | "42501") => error.message().to_owned(),
                _ => format!("PostgreSQL answered with the error {code}"),
            }
        }
        sqlx::Error::PoolTimedOut => "no answer in time".to_owned(),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => {
            error.to_string()
        }
        _ => "PostgreSQL's answer was not understood".to_owned(),
    }
}
