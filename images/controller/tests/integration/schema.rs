//! `migrate` and `maintain`, as the executable and as the library.

use std::process::{Command, Output};

use lambda_controller::database::maintenance::maintain;
use lambda_controller::database::schema::{Migrated, migrate, migration, migrations};
use sqlx::{Connection, Executor, PgConnection};

use crate::support::controller::Controller;
use crate::support::postgres::{PASSWORD, Postgres};
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

fn command(postgres: &Postgres, name: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lambda-controller"))
        .arg(name)
        .env_clear()
        .env(
            "DATABASE_URL",
            format!(
                "postgresql://127.0.0.1:{}/lambda?sslmode=disable",
                postgres.port
            ),
        )
        .env("DATABASE_USERNAME", "migrator")
        .env("DATABASE_PASSWORD", PASSWORD)
        .output()
        .unwrap()
}

fn log(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_idempotent_and_two_at_once_are_safe() {
    let postgres = &Postgres::start().await;
    let outputs = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| command(postgres, "migrate")))
            .collect();
        runs.into_iter()
            .map(|run| run.join().unwrap())
            .collect::<Vec<_>>()
    });
    for output in &outputs {
        assert!(output.status.success(), "{}", log(output));
    }
    let who_did = outputs
        .iter()
        .filter(|output| log(output).contains("[1, 2, 3, 4, 5]"))
        .count();
    assert_eq!(who_did, 1, "{outputs:?}");
    let again = command(postgres, "migrate");
    assert!(
        again.status.success() && log(&again).contains("\"applied\":\"[]\""),
        "{}",
        log(&again)
    );
    assert!(!log(&again).contains(PASSWORD));
    assert_eq!(
        postgres
            .count("SELECT count(*) FROM meta.schema_migrations")
            .await,
        5
    );
    // This month and two more, of each log.
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent IN ('meta.request_logs'::regclass, 'meta.error_logs'::regclass)";
    assert_eq!(postgres.count(partitions).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_migration_is_refused_and_nothing_is_changed() {
    let postgres = Postgres::migrated().await;
    let mut connection = postgres.connection("migrator").await.unwrap();
    let mut changed = migrations();
    changed[1] = migration(2, "sessions", "CREATE TABLE meta.changed (a int)");
    changed.push(migration(5, "further", "CREATE TABLE meta.further (a int)"));
    let error = migrate(&mut connection, changed).await.unwrap_err().0;
    assert!(
        error.starts_with("migration 2 (sessions) is not what was applied"),
        "{error}"
    );
    assert!(error.contains("new migration"), "{error}");
    let made = "SELECT count(*) FROM pg_class WHERE relname IN ('changed', 'further')";
    assert_eq!(postgres.count(made).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_migration_leaves_nothing_and_can_be_repeated() {
    let postgres = Postgres::migrated().await;
    let with = |sql: &'static str| {
        let mut all = migrations();
        all.push(migration(6, "further", sql));
        all
    };
    let broken = "CREATE TABLE meta.half (a int); SELECT 1 FROM meta.missing";
    let mut connection = postgres.connection("migrator").await.unwrap();
    let error = migrate(&mut connection, with(broken)).await.unwrap_err().0;
    assert!(
        error.contains("migration 6 (further) failed and was rolled back"),
        "{error}"
    );
    assert!(error.contains("\"meta.missing\" does not exist"), "{error}");
    assert_eq!(
        postgres
            .count("SELECT count(*) FROM pg_class WHERE relname = 'half'")
            .await,
        0
    );
    drop(connection);
    let mut connection = postgres.connection("migrator").await.unwrap();
    let repaired = migrate(&mut connection, with("CREATE TABLE meta.half (a int)"))
        .await
        .unwrap();
    assert_eq!(
        repaired,
        Migrated {
            applied: vec![6],
            newer: vec![]
        }
    );
    // The build before it, as in a rollback, leaves it alone.
    let older = migrate(&mut connection, migrations()).await.unwrap();
    assert_eq!(
        older,
        Migrated {
            applied: vec![],
            newer: vec![6]
        }
    );
}

/// The statements of the build before, which goes on during a rolling update and comes back with a rollback.
mod before {
    pub const REGISTER: &str = "INSERT INTO meta.functions (language_title, language, owner) VALUES ($1, 'rust', $2) \
         ON CONFLICT (language_title) DO UPDATE SET owner = functions.owner RETURNING owner, xmax = 0";
    pub const SCRIPT: &str = "INSERT INTO meta.scripts (language_title, content) VALUES ($1, $2) \
         ON CONFLICT (language_title) DO UPDATE SET content = excluded.content WHERE scripts.content <> excluded.content";
    pub const COUNT: &str = "UPDATE meta.functions SET version = version + 1, updated_at = now() WHERE language_title = $1";
    pub const READ: &str = "SELECT s.content, f.version FROM meta.functions f JOIN meta.scripts s USING (language_title) \
         WHERE f.language_title = $1";
    pub const REMOVE: &str = "DELETE FROM meta.functions WHERE language_title = $1 AND owner = $2";
}

/// As the build before did.
async fn registered_before(
    connection: &mut PgConnection,
    title: &str,
    owner: &str,
    script: &str,
) -> bool {
    let mut transaction = connection.begin().await.unwrap();
    let (registered_by, is_new): (String, bool) = sqlx::query_as(before::REGISTER)
        .bind(title)
        .bind(owner)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    if registered_by != owner {
        return false;
    }
    let script = sqlx::query(before::SCRIPT)
        .bind(title)
        .bind(script.as_bytes())
        .persistent(false);
    let changed = script.execute(&mut *transaction).await.unwrap();
    if changed.rows_affected() > 0 && !is_new {
        let count = sqlx::query(before::COUNT).bind(title).persistent(false);
        count.execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
    true
}

async fn read_before(connection: &mut PgConnection, title: &str) -> (String, i64) {
    let (script, version): (Vec<u8>, i64) = sqlx::query_as(before::READ)
        .bind(title)
        .persistent(false)
        .fetch_one(connection)
        .await
        .unwrap();
    (String::from_utf8(script).unwrap(), version)
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_come_to_a_database_with_functions_while_the_build_before_serves() {
    let postgres = Postgres::start().await;
    let mut migrator = postgres.connection("migrator").await.unwrap();
    let mut known = migrations();
    known.truncate(3);
    migrate(&mut migrator, known).await.unwrap();
    let old = &mut postgres.connection("controller").await.unwrap();
    for script in ["echo 1", "echo 2", "echo 3"] {
        assert!(registered_before(old, "rust-x", "alice", script).await);
    }
    registered_before(old, "rust-y", "bob", "echo").await;
    postgres.migrate().await;

    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let new = Controller::with_database(&redis, &runtime, &postgres.url("controller")).await;
    let shown = async |title: &str| {
        let path = format!("/api/v1/functions/{title}");
        let function = new.get(&path).await.expect(200).json();
        let versions = new.get(&format!("{path}/versions")).await.expect(200);
        let numbers = versions.json()["versions"].as_array().unwrap().clone();
        let numbers: Vec<_> = numbers
            .iter()
            .map(|one| one["version"].as_i64().unwrap())
            .collect();
        assert_eq!(function["version"], numbers[0]);
        (function["script_sha256"].clone(), numbers)
    };
    // What was there is the version that it was.
    let (third, numbers) = shown("rust-x").await;
    assert_eq!(numbers, [3]);
    assert_eq!(shown("rust-y").await.1, [1]);
    // Each sees what the other registers, in both directions.
    registered_before(old, "rust-x", "alice", "echo 4").await;
    registered_before(old, "rust-x", "alice", "echo 4").await;
    let (fourth, numbers) = shown("rust-x").await;
    assert!(numbers == [4, 3] && third != fourth);
    new.register("rust-x", "alice", "echo 5").await.expect(200);
    assert_eq!(read_before(old, "rust-x").await, ("echo 5".to_owned(), 5));
    registered_before(old, "rust-x", "alice", "echo 3").await;
    let (sixth, numbers) = shown("rust-x").await;
    assert_eq!((sixth, numbers), (third, vec![6, 5, 4, 3]));
    registered_before(old, "rust-z", "carol", "echo").await;
    assert_eq!(shown("rust-z").await.1, [1]);
    assert!(!registered_before(old, "rust-z", "bob", "echo").await);
    new.register("rust-new", "carol", "echo").await.expect(201);
    assert_eq!(read_before(old, "rust-new").await, ("echo".to_owned(), 1));
    // A name that the build before removes is its owner's, too.
    let remove = sqlx::query(before::REMOVE).bind("rust-z").bind("carol");
    assert_eq!(remove.execute(old).await.unwrap().rows_affected(), 1);
    new.register("rust-z", "bob", "echo").await.expect(403);
    new.register("rust-z", "carol", "echo").await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_misspelt_is_told() {
    let postgres = Postgres::start().await;
    let mut connection = postgres.connection("postgres").await.unwrap();
    connection.execute("DROP ROLE controller").await.unwrap();
    let output = command(&postgres, "migrate");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        log(&output).contains("migration 1 (functions) failed"),
        "{}",
        log(&output)
    );
    assert!(
        log(&output).contains("role \\\"controller\\\" does not exist"),
        "{}",
        log(&output)
    );
    let output = Command::new(env!("CARGO_BIN_EXE_lambda-controller"))
        .arg("migrate")
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "lambda-controller cannot start. DATABASE_URL: found nothing, expected postgresql://HOST[:PORT]/DATABASE\n"
    );
    let output = Command::new(env!("CARGO_BIN_EXE_lambda-controller"))
        .arg("migrations")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controllers_role_cannot_change_the_schema_nor_read_the_logs() {
    let postgres = Postgres::migrated().await;
    let mut connection = postgres.connection("controller").await.unwrap();
    for statement in [
        "CREATE TABLE meta.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "DROP TABLE meta.scripts",
        "ALTER TABLE meta.functions ADD COLUMN a int",
        "TRUNCATE meta.functions",
        "SELECT * FROM meta.request_logs",
        "DELETE FROM meta.request_logs",
        "DELETE FROM meta.sessions",
        "UPDATE meta.schema_migrations SET version = 9",
    ] {
        let refused = connection.execute(statement).await.unwrap_err();
        let code = refused
            .as_database_error()
            .unwrap()
            .code()
            .unwrap()
            .into_owned();
        assert_eq!(code, "42501", "{statement}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_makes_drops_and_removes_what_is_due() {
    let postgres = Postgres::migrated().await;
    for statement in [
        "CREATE TABLE meta.request_logs_2020_01 PARTITION OF meta.request_logs FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00')",
        "CREATE TABLE meta.request_logs_archive PARTITION OF meta.request_logs FOR VALUES FROM ('2019-01-01 00:00+00') TO ('2019-02-01 00:00+00')",
        "ALTER TABLE meta.request_logs_2020_01 OWNER TO migrator",
        "INSERT INTO meta.sessions SELECT gen_random_uuid(), 'rust', 'rust-x', NULL, NULL, 1, now() - interval '2 h', \
         now() - interval '1 h' FROM generate_series(1, 25000)",
        "INSERT INTO meta.sessions VALUES (gen_random_uuid(), 'rust', 'rust-x', NULL, NULL, 1, now(), now() + interval '1 h')",
    ] {
        postgres.execute(statement).await;
    }
    let mut connection = postgres.connection("migrator").await.unwrap();
    let maintained = maintain(&mut connection, 90).await.unwrap();
    assert_eq!(maintained.dropped, ["request_logs_2020_01"]);
    assert_eq!(
        (maintained.made.len(), maintained.sessions_removed),
        (0, 25000)
    );
    assert_eq!(
        postgres.count("SELECT count(*) FROM meta.sessions").await,
        1
    );
    assert_eq!(
        maintain(&mut connection, 90).await.unwrap(),
        Default::default()
    );
    // A partition that is missing is made again, and rows for it find it.
    postgres.execute("DO $$ BEGIN EXECUTE 'DROP TABLE meta.request_logs_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'); END $$").await;
    assert!(command(&postgres, "maintain").status.success());
    postgres
        .execute("INSERT INTO meta.request_logs (at, id, trace_id, span_id, route, method, outcome, duration_ms) \
                  VALUES (now(), gen_random_uuid(), '', '', '', '', '', 0)")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_without_a_schema_says_what_is_missing() {
    let postgres = Postgres::start().await;
    let output = command(&postgres, "maintain");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        log(&output).contains("run lambda-controller migrate first"),
        "{}",
        log(&output)
    );
}
