//! What requests leave in the database.

use std::time::Duration;

use serde_json::json;

use crate::support::controller::{Controller, JSON};
use crate::support::eventually;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

async fn rows(postgres: &Postgres, table: &str) -> i64 {
    postgres
        .count(&format!("SELECT count(*) FROM meta.{table}"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_errors_and_sessions_are_written_without_what_callers_send() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let postgres = Postgres::migrated().await;
    let controller = Controller::with_database(&redis, &runtime, &postgres.url("controller")).await;
    let headers = [JSON, ("language-title", "python-x"), ("x-user-id", "alice")];
    for script in [
        "echo secret-word",
        "status 422 secret-word",
        "status 500 secret-word",
    ] {
        let body = json!({"script_content": script, "context": "secret-word"}).to_string();
        let answer = controller
            .call("POST", "/api/v1/initialize", &headers, body.as_bytes())
            .await
            .expect(200);
        let path = format!(
            "/api/v1/execute/{}",
            answer.json()["request_id"].as_str().unwrap()
        );
        let params = json!({"params": "secret-word"}).to_string();
        controller
            .call("POST", &path, &headers, params.as_bytes())
            .await;
    }
    controller
        .register("python-x", "alice", "echo secret-word")
        .await
        .expect(201);
    controller
        .call(
            "POST",
            "/api/v1/initialize",
            &headers,
            b"{\"secret-word\": 1}",
        )
        .await
        .expect(400);
    controller
        .initialize_registered("python-x")
        .await
        .expect(200);
    controller.get("/nowhere/secret-word").await.expect(404);
    controller.get("/ready").await.expect(200);
    eventually("all are written", Duration::from_secs(5), async || {
        rows(&postgres, "request_logs").await == 10
    })
    .await;
    assert_eq!(rows(&postgres, "error_logs").await, 4);
    assert_eq!(rows(&postgres, "sessions").await, 4);
    let all = "SELECT count(*) FROM meta.%1 r WHERE to_jsonb(r)::text LIKE '%secret-word%'";
    for table in ["request_logs", "error_logs", "sessions"] {
        assert_eq!(
            postgres.count(&all.replace("%1", table)).await,
            0,
            "{table}"
        );
    }
    for (expected, statement) in [
        (
            3,
            "SELECT count(*) FROM meta.request_logs WHERE route = 'execute' AND language = 'python' AND user_id = 'alice'",
        ),
        (
            1,
            "SELECT count(*) FROM meta.request_logs WHERE route = 'execute' AND status = 422 AND outcome = 'RUNTIME_ERROR'",
        ),
        (
            1,
            "SELECT count(*) FROM meta.request_logs WHERE route = 'none' AND status = 404",
        ),
        (
            1,
            "SELECT count(*) FROM meta.error_logs WHERE code = 'INTERNAL_ERROR' AND cause IS NOT NULL",
        ),
        (
            3,
            "SELECT count(*) FROM meta.request_logs l JOIN meta.sessions s USING (request_id) WHERE l.route = 'execute'",
        ),
        (
            1,
            "SELECT count(*) FROM meta.sessions WHERE function_version = 1 AND language_title = 'python-x'",
        ),
        (
            4,
            "SELECT count(*) FROM meta.sessions WHERE expires_at - created_at = interval '1 hour'",
        ),
    ] {
        assert_eq!(postgres.count(statement).await, expected, "{statement}");
    }
    for table in ["request_logs", "error_logs", "sessions"] {
        let series = format!("lambda_controller_records_written_total{{table=\"{table}\"}}");
        assert!(controller.metric(&series).await > 0.0, "{series}");
    }
}

/// Rows that PostgreSQL will never take do not block those after them.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_refused_are_counted_and_the_next_are_written() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let postgres = Postgres::migrated().await;
    let controller = Controller::with_database(&redis, &runtime, &postgres.url("controller")).await;
    postgres
        .execute("ALTER TABLE meta.request_logs RENAME TO away")
        .await;
    controller.session("python-x", "echo").await;
    let dropped =
        "lambda_controller_records_dropped_total{table=\"request_logs\",reason=\"refused\"}";
    eventually("they are dropped", Duration::from_secs(5), async || {
        controller.metric(dropped).await == 1.0
    })
    .await;
    postgres
        .execute("ALTER TABLE meta.away RENAME TO request_logs")
        .await;
    controller.session("python-x", "echo").await;
    eventually("the next are written", Duration::from_secs(5), async || {
        rows(&postgres, "request_logs").await == 1
    })
    .await;
}

/// 20 000 rows fit into the queue; here far more come while nobody takes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_drops_and_counts() {
    use lambda_controller::config::read_schema;
    use lambda_controller::database::Database;
    use lambda_controller::database::records::{Records, RequestLog, Row};
    use lambda_controller::metrics::{DroppedLabels, Metrics};

    let metrics = std::sync::Arc::new(Metrics::new());
    let nowhere = format!(
        "postgresql://x@127.0.0.1:{}/x?sslmode=disable",
        crate::support::free_port()
    );
    let config = read_schema(|name| (name == "DATABASE_URL").then(|| nowhere.clone())).unwrap();
    let database = std::sync::Arc::new(Database::new(&config.database, metrics.clone()).unwrap());
    let (records, writer) = Records::start(database, metrics.clone());
    for _ in 0..25_000 {
        records.leave(Row::Request(RequestLog {
            at: jiff::Timestamp::now(),
            id: uuid::Uuid::new_v4(),
            request_id: None,
            trace_id: String::new(),
            span_id: String::new(),
            route: "none",
            method: "GET",
            status: Some(404),
            outcome: "NOT_FOUND",
            duration_ms: 0.1,
            user_id: None,
            language: None,
        }));
    }
    let dropped = |reason| {
        metrics
            .records_dropped
            .get_or_create(&DroppedLabels {
                table: "request_logs",
                reason,
            })
            .get()
    };
    let full = dropped("queue_full");
    assert!((3_000..=5_000).contains(&full), "{full}");
    writer.abort();
}

/// The last rows are written before the process ends.
#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_writes_the_last_rows() {
    use lambda_common::shutdown::{Lifecycle, Phase};

    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let postgres = Postgres::migrated().await;
    let lifecycle = Lifecycle::new();
    let url = postgres.url("controller");
    let changes = [("DATABASE_URL", url.as_str())];
    let controller =
        Controller::start_in(lifecycle.clone(), &redis.url(), &runtime.url(), &changes).await;
    controller.session("python-x", "echo").await;
    lifecycle.enter(Phase::Closing);
    assert!(controller.ended().await);
    assert_eq!(rows(&postgres, "request_logs").await, 1);
    assert_eq!(rows(&postgres, "sessions").await, 1);
}
