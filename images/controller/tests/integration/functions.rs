use serde_json::{Value, json};

use crate::support::controller::{Controller, JSON};
use crate::support::postgres::{PgBouncer, Postgres};
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

struct Platform {
    _redis: Redis,
    runtime: Runtime,
    postgres: Postgres,
    controller: Controller,
}

async fn platform() -> Platform {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let postgres = Postgres::migrated().await;
    let controller = Controller::with_database(&redis, &runtime, &postgres.url("controller")).await;
    Platform {
        _redis: redis,
        runtime,
        postgres,
        controller,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_function_is_initialized_by_its_name() {
    let Platform {
        controller,
        runtime,
        _redis: redis,
        postgres,
    } = platform().await;
    let created = controller
        .register("python-hello", "alice", "echo \u{0}\u{1F980}")
        .await
        .expect(201)
        .json();
    assert_eq!(
        (
            &created["language_title"],
            &created["language"],
            &created["version"]
        ),
        (&json!("python-hello"), &json!("python"), &json!(1))
    );
    assert_eq!(created["script_size_bytes"], 10);
    let other = Controller::with_database(&redis, &runtime, &postgres.url("controller")).await;
    // Another replica, and another user: whoever knows the name uses it.
    for controller in [&controller, &other] {
        let session = controller
            .initialize_registered("python-hello")
            .await
            .expect(200)
            .json();
        let id = session["request_id"].as_str().unwrap();
        let executed = controller.execute(id, json!({"n": 1})).await.expect(200);
        assert_eq!(executed.json()["result"]["params"], json!({"n": 1}));
        let shown = controller
            .get(&format!("/api/v1/sessions/{id}"))
            .await
            .expect(200)
            .json();
        assert_eq!(shown["script_size_bytes"], 10);
    }
    assert_eq!(runtime.counts.started(), 2);
    // The next one gets the new script; a session keeps the one with which it began.
    let before = controller.initialize_registered("python-hello").await;
    let replaced = controller
        .register("python-hello", "alice", "status 422 new")
        .await
        .expect(200)
        .json();
    assert_eq!(replaced["version"], 2);
    assert_ne!(replaced["script_sha256"], created["script_sha256"]);
    let after = other
        .initialize_registered("python-hello")
        .await
        .expect(200);
    let id = |answer: Value| answer["request_id"].as_str().unwrap().to_owned();
    controller
        .execute(&id(before.json()), json!({}))
        .await
        .expect(200);
    controller
        .execute(&id(after.json()), json!({}))
        .await
        .expect(422);
    controller.remove("python-hello", "alice").await.expect(200);
    let gone = other
        .initialize_registered("python-hello")
        .await
        .expect(404);
    assert_eq!(gone.code(), "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_belongs_to_the_user_who_registered_it() {
    let Platform { controller, .. } = &platform().await;
    controller
        .register("rust-mine", "alice", "echo")
        .await
        .expect(201);
    let same = controller
        .register("rust-mine", "alice", "echo")
        .await
        .expect(200);
    assert_eq!(same.json()["version"], 1);
    let refused = controller
        .register("rust-mine", "bob", "echo 2")
        .await
        .expect(403);
    assert_eq!(refused.code(), "FORBIDDEN");
    controller.remove("rust-mine", "bob").await.expect(403);
    let shown = controller
        .call(
            "GET",
            "/api/v1/functions/rust-mine",
            &[("x-user-id", "alice")],
            b"",
        )
        .await
        .expect(200);
    assert_eq!(shown.json(), same.json());
    controller.remove("rust-mine", "alice").await.expect(200);
    controller.remove("rust-mine", "alice").await.expect(404);
    controller
        .get("/api/v1/functions/rust-mine")
        .await
        .expect(404);
    let reserved = controller
        .register("rust-mine", "bob", "echo 2")
        .await
        .expect(403);
    assert_eq!(reserved.code(), "FORBIDDEN");
    for (method, body) in [
        ("PUT", json!({"script_content": "echo"}).to_string()),
        ("DELETE", String::new()),
    ] {
        let nobody = controller
            .call(
                method,
                "/api/v1/functions/rust-mine",
                &[JSON],
                body.as_bytes(),
            )
            .await
            .expect(400);
        assert!(nobody.message().contains("X-User-ID"), "{nobody:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_pages_and_languages() {
    let Platform { controller, .. } = &platform().await;
    for title in ["nodejs-b", "nodejs-a", "python-a", "nodejs-c"] {
        controller
            .register(title, "alice", "echo")
            .await
            .expect(201);
    }
    let list = async |query: &str| {
        let answer = controller.get(&format!("/api/v1/functions{query}")).await;
        let answer = answer.expect(200).json();
        let titles: Vec<_> = answer["functions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|function| function["language_title"].as_str().unwrap().to_owned())
            .collect();
        (titles.join(" "), answer["total"].as_i64().unwrap())
    };
    assert_eq!(
        list("").await,
        ("nodejs-a nodejs-b nodejs-c python-a".into(), 4)
    );
    assert_eq!(list("?language=python").await, ("python-a".into(), 1));
    assert_eq!(
        list("?language=nodejs&page=2&per_page=2").await,
        ("nodejs-c".into(), 3)
    );
    assert_eq!(list("?page=1000000&per_page=100").await, (String::new(), 4));
    for wrong in [
        "?language=ruby",
        "?page=0",
        "?page=-1",
        "?page=x",
        "?per_page=101",
        "?per_page=0",
        "?page=1&page=2",
        "?order=name",
        "?page=99999999999",
        "?language",
    ] {
        let answer = controller.get(&format!("/api/v1/functions{wrong}")).await;
        assert_eq!(answer.expect(400).code(), "INVALID_REQUEST", "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused() {
    let redis = Redis::start().await;
    let runtime = Runtime::start().await;
    let postgres = Postgres::migrated().await;
    let url = postgres.url("controller");
    let changes = [
        ("DATABASE_URL", url.as_str()),
        ("MAX_FUNCTIONS_PER_USER", "2"),
        ("MAX_SCRIPT_SIZE", "100"),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &changes).await;
    for title in ["ruby-x", "python", "python-", "python-a%20b", "%70ython-x"] {
        controller
            .register(title, "alice", "echo")
            .await
            .expect(400);
        controller
            .get(&format!("/api/v1/functions/{title}"))
            .await
            .expect(400);
    }
    controller
        .register("python-x", "alice", "  ")
        .await
        .expect(400);
    controller
        .register("python-x", "alice", &"x".repeat(101))
        .await
        .expect(413);
    for body in [
        "{}",
        "[]",
        "{\"script_content\": null}",
        "{\"script_content\": \"echo\", \"owner\": 1}",
    ] {
        let headers = [JSON, ("x-user-id", "alice")];
        controller
            .call(
                "PUT",
                "/api/v1/functions/python-x",
                &headers,
                body.as_bytes(),
            )
            .await
            .expect(400);
    }
    let null = controller
        .call(
            "POST",
            "/api/v1/initialize",
            &[JSON, ("language-title", "python-x")],
            b"{\"script_content\": null}",
        )
        .await
        .expect(400);
    assert!(null.message().contains("script_content"), "{null:?}");
    controller
        .register("python-1", "alice", "echo")
        .await
        .expect(201);
    controller
        .register("python-2", "alice", "echo")
        .await
        .expect(201);
    let third = controller
        .register("python-3", "alice", "echo")
        .await
        .expect(400);
    assert!(third.message().contains("2 functions"), "{third:?}");
    controller
        .get("/api/v1/functions/python-3")
        .await
        .expect(404);
    controller
        .register("python-1", "alice", "echo 2")
        .await
        .expect(200);
    controller
        .register("python-3", "bob", "echo")
        .await
        .expect(201);
    let method = controller
        .call("PATCH", "/api/v1/functions/python-3", &[], b"")
        .await;
    let allowed = method.expect(405).headers["allow"]
        .to_str()
        .unwrap()
        .to_owned();
    for method in ["GET", "PUT", "DELETE", "POST"] {
        assert!(allowed.contains(method), "{allowed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_register_the_same_name_at_once_and_one_gets_it() {
    let Platform { controller, .. } = &platform().await;
    let users: Vec<_> = (0..12).map(|n| format!("user-{n}")).collect();
    let answers = futures_util::future::join_all(
        users
            .iter()
            .map(|user| controller.register("nodejs-race", user, "echo")),
    )
    .await;
    let statuses: Vec<_> = answers
        .iter()
        .map(|answer| answer.status.as_u16())
        .collect();
    assert_eq!(
        statuses.iter().filter(|status| **status == 201).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|status| **status == 403).count(),
        11,
        "{statuses:?}"
    );
}

/// Its two server connections serve statements of several clients in turns.
#[tokio::test(flavor = "multi_thread")]
async fn it_works_through_a_pooler_in_transaction_mode() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let postgres = Postgres::migrated().await;
    let bouncer = PgBouncer::before(&postgres).await;
    let (one, other) = (
        Controller::with_database(&redis, &runtime, &bouncer.url()).await,
        Controller::with_database(&redis, &runtime, &bouncer.url()).await,
    );
    one.register("python-x", "alice", "echo").await.expect(201);
    let answers = futures_util::future::join_all((0..40).map(|n| {
        let controller = if n % 2 == 0 { &one } else { &other };
        async move {
            if n % 3 == 0 {
                let title = format!("python-{n}");
                controller
                    .register(&title, "alice", "echo")
                    .await
                    .expect(201)
            } else {
                controller
                    .initialize_registered("python-x")
                    .await
                    .expect(200)
            }
        }
    }))
    .await;
    assert_eq!(answers.len(), 40);
    let list = other.get("/api/v1/functions?per_page=1").await.expect(200);
    assert_eq!(list.json()["total"], 15);
}
