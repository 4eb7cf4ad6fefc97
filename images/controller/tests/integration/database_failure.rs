//! PostgreSQL away: what needs it says so within its time, everything else goes on.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::controller::Controller;
use crate::support::eventually;
use crate::support::postgres::{PASSWORD, Postgres};
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

async fn database_part(controller: &Controller) -> serde_json::Value {
    controller.get("/ready").await.expect(200).json()["parts"]["database"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_functions_are_unavailable_and_the_rest_works() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session("python-x", "echo").await;
    controller.execute(&id, json!({})).await.expect(200);
    assert_eq!(database_part(&controller).await, json!({"status": "off"}));
    for answer in [
        controller.get("/api/v1/functions").await,
        controller.get("/api/v1/functions/python-x").await,
        controller.register("python-x", "alice", "echo").await,
        controller.remove("python-x", "alice").await,
    ] {
        assert_eq!(answer.code(), "UNAVAILABLE");
        assert!(answer.message().contains("no database"), "{answer:?}");
    }
    let nameless = controller
        .initialize_registered("python-x")
        .await
        .expect(400);
    assert!(nameless.message().contains("no database"), "{nameless:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_and_comes_back() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let mut postgres = Postgres::migrated().await;
    let url = postgres.url("controller");
    let changes = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_TIMEOUT_SECONDS", "3"),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &changes).await;
    controller
        .register("python-x", "alice", "echo")
        .await
        .expect(201);
    eventually("it is up", Duration::from_secs(7), async || {
        database_part(&controller).await == json!({"status": "up"})
    })
    .await;
    postgres.stop();
    let start = Instant::now();
    let away = controller
        .initialize_registered("python-x")
        .await
        .expect(503);
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(away.code(), "UNAVAILABLE");
    assert!(away.retry_after() >= 1);
    let id = controller.session("python-x", "echo").await;
    controller.execute(&id, json!({})).await.expect(200);
    // The replica stays ready, and says which part is down.
    let part = database_part(&controller).await;
    assert_eq!(part["status"], "down", "{part}");
    assert!(
        !part["message"].as_str().unwrap().contains("hunter2"),
        "{part}"
    );
    postgres.start_again().await;
    controller
        .initialize_registered("python-x")
        .await
        .expect(200);
    eventually("it is told to be up", Duration::from_secs(8), async || {
        database_part(&controller).await == json!({"status": "up"})
    })
    .await;
    // What was logged meanwhile was kept.
    eventually("all is logged", Duration::from_secs(8), async || {
        postgres
            .count("SELECT count(*) FROM meta.request_logs WHERE outcome = 'UNAVAILABLE'")
            .await
            == 1
    })
    .await;
}

/// A failover: requests that come meanwhile wait, and find it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_database_that_is_just_coming_back() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let mut postgres = Postgres::migrated().await;
    let url = postgres.url("controller");
    let changes = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_TIMEOUT_SECONDS", "15"),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &changes).await;
    controller
        .register("python-x", "alice", "echo")
        .await
        .expect(201);
    postgres.stop();
    let (answer, ()) = tokio::join!(
        controller.initialize_registered("python-x"),
        postgres.start_again()
    );
    answer.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_wait_for_it_do_not_take_all_places() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let mut postgres = Postgres::migrated().await;
    let url = postgres.url("controller");
    let changes = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_POOL_SIZE", "1"),
        ("DATABASE_TIMEOUT_SECONDS", "2"),
        ("MAX_CONCURRENT_REQUESTS", "20"),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &changes).await;
    postgres.stop();
    let waiting =
        futures_util::future::join_all((0..16).map(|_| controller.get("/api/v1/functions")));
    let others = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for _ in 0..10 {
            controller.session("python-x", "echo").await;
        }
    };
    let (answers, ()) = tokio::join!(waiting, others);
    assert!(answers.iter().all(|answer| answer.code() == "UNAVAILABLE"));
    assert_eq!(
        controller
            .metric("lambda_controller_database_errors_total{kind=\"busy\"}")
            .await,
        8.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_schema_is_told() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let postgres = Postgres::start().await;
    let controller = Controller::with_database(&redis, &runtime, &postgres.url("controller")).await;
    controller.get("/api/v1/functions").await.expect(503);
    // A new replica waits for the database's first answer, which a missing schema is not.
    let ready = controller.get("/ready").await.expect(503).json();
    let part = &ready["parts"]["database"];
    assert_eq!(part["status"], "down");
    assert!(part["message"].as_str().unwrap().contains("meta"), "{part}");
    postgres.migrate().await;
    controller.get("/api/v1/functions").await.expect(200);
    assert_eq!(database_part(&controller).await["status"], "up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_needs_no_restart() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let mut postgres = Postgres::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, PASSWORD).unwrap();
    let url = format!(
        "postgresql://127.0.0.1:{}/lambda?sslmode=disable",
        postgres.port
    );
    let changes = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_USERNAME", "controller"),
        ("DATABASE_PASSWORD_FILE", file.to_str().unwrap()),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &changes).await;
    controller
        .register("python-x", "alice", "echo")
        .await
        .expect(201);
    postgres
        .execute("ALTER ROLE controller PASSWORD 'another'")
        .await;
    // Connections that are open stay; all new ones need the new password.
    controller.get("/api/v1/functions").await.expect(200);
    fs::write(&file, "another\n").unwrap();
    postgres.stop();
    postgres.start_again().await;
    controller.get("/api/v1/functions").await.expect(200);
}

/// TLS as on the platform: the server's certificate must be of the authority and of the name.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_certificate_is_checked() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let certificate = |name: &str, subject: &str| {
        let path = |suffix: &str| folder.path().join(format!("{name}.{suffix}"));
        let made = std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "1",
            ])
            .args(["-subj", "/CN=test", "-addext", subject])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args([
                std::ffi::OsStr::new("-keyout"),
                path("key").as_os_str(),
                "-out".as_ref(),
                path("crt").as_os_str(),
            ])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        (path("crt"), path("key"))
    };
    let (right, key) = certificate("right", "subjectAltName=DNS:localhost");
    let (wrong, _) = certificate("wrong", "subjectAltName=DNS:localhost");
    let postgres = Postgres::with_certificate(&right, &key).await;
    postgres.migrate().await;
    let url = format!(
        "postgresql://controller:{PASSWORD}@localhost:{}/lambda",
        postgres.port
    );
    let by_address = url.replace("localhost", "127.0.0.1");
    for (url, authority, status) in [
        (&url, &right, 200),
        (&url, &wrong, 503),
        (&by_address, &right, 503),
    ] {
        let changes = [
            ("DATABASE_URL", url.as_str()),
            ("DATABASE_CA_FILE", authority.to_str().unwrap()),
            ("DATABASE_TIMEOUT_SECONDS", "3"),
        ];
        let controller = Controller::start_with(&redis.url(), &runtime.url(), &changes).await;
        controller.get("/api/v1/functions").await.expect(status);
    }
}
