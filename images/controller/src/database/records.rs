//! Rows that requests leave behind: the logs and the list of sessions. They are written in batches by a task of their
//! own, so a request waits for none of it. The queue is bounded; what does not fit is dropped and counted.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Postgres, Transaction};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{Database, assess, describe};
use crate::language::Language;
use crate::metrics::{DroppedLabels, Metrics, TableLabels};

/// About 5 MB, and at 500 requests a second the time of a failover.
const QUEUE: usize = 20_000;
const BATCH: usize = 1_000;
/// Between batches, so that a row each does not become a transaction each.
const GATHER: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(1);
/// A transaction that takes longer is given up and tried again.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// At the end, within the time that the pod has after its last request.
const LAST_WRITE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
pub enum Row {
    Request(RequestLog),
    Error(ErrorLog),
    Session(SessionRow),
}

/// No scripts, contexts, params, results, messages to callers or secrets.
#[derive(Clone, Debug, Serialize)]
pub struct RequestLog {
    pub at: Timestamp,
    pub id: Uuid,
    pub request_id: Option<Uuid>,
    pub trace_id: String,
    pub span_id: String,
    pub route: &'static str,
    pub method: &'static str,
    pub status: Option<u16>,
    pub outcome: &'static str,
    pub duration_ms: f64,
    pub user_id: Option<String>,
    pub language: Option<Language>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ErrorLog {
    pub at: Timestamp,
    pub id: Uuid,
    pub request_id: Option<Uuid>,
    pub trace_id: String,
    pub span_id: String,
    pub route: &'static str,
    pub status: u16,
    pub code: &'static str,
    pub cause: Option<String>,
    pub user_id: Option<String>,
    pub language: Option<Language>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SessionRow {
    pub request_id: Uuid,
    pub language: Language,
    pub language_title: String,
    pub user_id: Option<String>,
    pub function_version: Option<i64>,
    pub script_size_bytes: usize,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Row {
    const fn table(&self) -> &'static str {
        match self {
            Row::Request(_) => "request_logs",
            Row::Error(_) => "error_logs",
            Row::Session(_) => "sessions",
        }
    }
}

/// A batch is one JSON text, which PostgreSQL turns into rows. A row that is there already was written before its
/// confirmation was lost.
const INSERT_REQUESTS: &str = "INSERT INTO meta.request_logs (at, id, request_id, trace_id, span_id, route, method, \
     status, outcome, duration_ms, user_id, language) SELECT * FROM jsonb_to_recordset($1::text::jsonb) AS r (at timestamptz, \
     id uuid, request_id uuid, trace_id text, span_id text, route text, method text, status smallint, outcome text, \
     duration_ms double precision, user_id text, language text) ON CONFLICT DO NOTHING";
const INSERT_ERRORS: &str = "INSERT INTO meta.error_logs (at, id, request_id, trace_id, span_id, route, status, code, \
     cause, user_id, language) SELECT * FROM jsonb_to_recordset($1::text::jsonb) AS r (at timestamptz, id uuid, \
     request_id uuid, trace_id text, span_id text, route text, status smallint, code text, cause text, user_id text, \
     language text) ON CONFLICT DO NOTHING";
const INSERT_SESSIONS: &str = "INSERT INTO meta.sessions (request_id, language, language_title, user_id, \
     function_version, script_size_bytes, created_at, expires_at) SELECT * FROM jsonb_to_recordset($1::text::jsonb) AS r \
     (request_id uuid, language text, language_title text, user_id text, function_version bigint, \
     script_size_bytes bigint, created_at timestamptz, expires_at timestamptz) ON CONFLICT DO NOTHING";

/// Where requests leave their rows. Without a database they leave none.
pub struct Records {
    queue: Option<mpsc::Sender<Row>>,
    metrics: Arc<Metrics>,
}

impl Records {
    pub fn nowhere(metrics: Arc<Metrics>) -> Self {
        Records {
            queue: None,
            metrics,
        }
    }

    /// The writer ends, after a last batch, once its `Records` is dropped.
    pub fn start(database: Arc<Database>, metrics: Arc<Metrics>) -> (Self, JoinHandle<()>) {
        let (queue, records) = mpsc::channel(QUEUE);
        let writer = Writer {
            database,
            metrics: metrics.clone(),
        };
        let queue = Some(queue);
        (
            Records { queue, metrics },
            tokio::spawn(writer.run(records)),
        )
    }

    /// Whether anybody wants them.
    pub fn are_kept(&self) -> bool {
        self.queue.is_some()
    }

    pub fn leave(&self, record: Row) {
        let Some(queue) = &self.queue else { return };
        let table = record.table();
        if queue.try_send(record).is_err() {
            dropped(&self.metrics, table, "queue_full", 1);
        }
    }
}

fn dropped(metrics: &Metrics, table: &'static str, reason: &'static str, rows: usize) {
    metrics
        .records_dropped
        .get_or_create(&DroppedLabels { table, reason })
        .inc_by(rows as u64);
}

struct Writer {
    database: Arc<Database>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Batch {
    requests: Vec<RequestLog>,
    errors: Vec<ErrorLog>,
    sessions: Vec<SessionRow>,
}

impl Batch {
    fn of(records: &mut Vec<Row>) -> Self {
        let mut batch = Batch::default();
        for record in records.drain(..) {
            match record {
                Row::Request(row) => batch.requests.push(row),
                Row::Error(row) => batch.errors.push(row),
                Row::Session(row) => batch.sessions.push(row),
            }
        }
        batch
    }

    fn sizes(&self) -> [(&'static str, usize); 3] {
        [
            ("request_logs", self.requests.len()),
            ("error_logs", self.errors.len()),
            ("sessions", self.sessions.len()),
        ]
    }
}

impl Writer {
    async fn run(self, mut records: mpsc::Receiver<Row>) {
        let mut gathered = Vec::with_capacity(BATCH);
        while records.recv_many(&mut gathered, BATCH).await > 0 {
            let closing = records.is_closed();
            if gathered.len() < BATCH && !closing {
                sleep(GATHER).await;
                while gathered.len() < BATCH
                    && let Ok(record) = records.try_recv()
                {
                    gathered.push(record);
                }
            }
            let batch = Batch::of(&mut gathered);
            self.write_until_done(&batch, &records).await;
        }
    }

    /// Tries until PostgreSQL has the batch or refuses it; once the process ends, for a last moment only.
    async fn write_until_done(&self, batch: &Batch, records: &mpsc::Receiver<Row>) {
        let start = Instant::now();
        let mut closed_since = None;
        loop {
            let attempt = timeout(WRITE_TIMEOUT, self.write(batch)).await;
            let error = match attempt {
                Ok(Ok(())) => {
                    self.database.is_up();
                    self.database.observe("records", start.elapsed());
                    for (table, rows) in batch.sizes() {
                        self.metrics
                            .records_written
                            .get_or_create(&TableLabels { table })
                            .inc_by(rows as u64);
                    }
                    return;
                }
                Ok(Err(error)) => error,
                Err(_) => sqlx::Error::PoolTimedOut,
            };
            self.database.is_down(&error);
            if !assess(&error).1 {
                let cause = describe(&error);
                tracing::error!(cause, "rows of the logs were refused");
                return self.give_up(batch, "refused");
            }
            if records.is_closed() {
                let since = *closed_since.get_or_insert_with(Instant::now);
                if since.elapsed() + RETRY > LAST_WRITE {
                    return self.give_up(batch, "shutdown");
                }
            }
            sleep(RETRY).await;
        }
    }

    async fn write(&self, batch: &Batch) -> Result<(), sqlx::Error> {
        let mut transaction = self.database.begin().await?;
        insert(&mut transaction, INSERT_SESSIONS, &batch.sessions).await?;
        insert(&mut transaction, INSERT_REQUESTS, &batch.requests).await?;
        insert(&mut transaction, INSERT_ERRORS, &batch.errors).await?;
        transaction.commit().await
    }

    fn give_up(&self, batch: &Batch, reason: &'static str) {
        for (table, rows) in batch.sizes().into_iter().filter(|(_, rows)| *rows > 0) {
            dropped(&self.metrics, table, reason, rows);
        }
    }
}

async fn insert<T: Serialize>(
    transaction: &mut Transaction<'_, Postgres>,
    statement: &'static str,
    rows: &[T],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows = serde_json::to_string(rows).expect("rows are always JSON");
    sqlx::query(statement)
        .bind(rows)
        .persistent(false)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
