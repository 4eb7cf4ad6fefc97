//! Whose a function's name is, who sees it, and lists of many.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::calls::{Platform, ask};
use crate::support::controller::Controller;

async fn register(controller: &Controller, path: &str, user: &str, script: &str) -> u16 {
    let body = json!({"script_content": script});
    let answer = ask(controller, "PUT", path, user, &body).await;
    answer.status.as_u16()
}

/// The owner of the function that `user` calls by `path`.
async fn reached(controller: &Controller, path: &str, user: &str) -> Option<String> {
    let shown = ask(controller, "GET", path, user, &json!(null)).await;
    let called = ask(controller, "POST", path, user, &json!({})).await;
    assert_eq!(shown.status, called.status, "{shown:?} {called:?}");
    let owner = shown.json()["owner"].as_str().map(str::to_owned);
    assert!(owner.is_some() || shown.status == 404, "{shown:?}");
    owner
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_owner_is_ones_own_or_the_firsts() {
    let platform = Platform::start().await;
    let controller = &platform.controller;
    assert_eq!(register(controller, "rust-x", "alice", "echo").await, 201);
    assert_eq!(register(controller, "rust-x", "bob", "echo").await, 403);
    assert_eq!(register(controller, "bob/rust-x", "bob", "echo").await, 201);
    assert_eq!(
        register(controller, "bob/rust-x", "alice", "echo").await,
        403
    );
    for (path, user, owner) in [
        ("rust-x", "alice", "alice"),
        ("rust-x", "bob", "bob"),
        ("rust-x", "carol", "alice"),
        ("rust-x", "", "alice"),
        ("bob/rust-x", "alice", "bob"),
        ("alice/rust-x", "", "alice"),
        ("%61lice/rust-x", "bob", "alice"),
    ] {
        let found = reached(controller, path, user).await;
        assert_eq!(found.as_deref(), Some(owner), "{path} {user}");
    }
    assert_eq!(reached(controller, "carol/rust-x", "carol").await, None);
    // By its plain name, too, each changes what is theirs.
    assert_eq!(
        register(controller, "rust-x", "bob", "status 422 b").await,
        200
    );
    let body = json!({});
    let called = ask(controller, "POST", "rust-x", "bob", &body).await;
    assert_eq!(called.expect(422).message(), "b");
    let headers = [
        ("x-user-id", "bob"),
        ("language-title", "rust-x"),
        ("content-type", "application/json"),
    ];
    let session = controller
        .call("POST", "/api/v1/initialize", &headers, b"{}")
        .await;
    let path = format!(
        "/api/v1/execute/{}",
        session.expect(200).json()["request_id"].as_str().unwrap()
    );
    let executed = controller.call("POST", &path, &headers, b"{}").await;
    assert_eq!(executed.expect(422).message(), "b");
    ask(controller, "POST", "rust-x", "carol", &body)
        .await
        .expect(200);
    let list = controller.get("/api/v1/functions").await.expect(200).json();
    let listed = list["functions"].as_array().unwrap().iter();
    let listed: Vec<_> = listed
        .map(|one| {
            (
                one["owner"].as_str().unwrap(),
                one["holds_plain_name"] == true,
            )
        })
        .collect();
    assert_eq!(listed, [("alice", true), ("bob", false)]);
    assert_eq!(list["total"], 2);
    // What was registered with its owner takes no plain name.
    assert_eq!(register(controller, "bob/rust-y", "bob", "echo").await, 201);
    assert_eq!(reached(controller, "rust-y", "carol").await, None);
    assert_eq!(
        reached(controller, "rust-y", "bob").await.as_deref(),
        Some("bob")
    );
    assert_eq!(register(controller, "rust-y", "carol", "echo").await, 201);
    assert_eq!(
        reached(controller, "rust-y", "alice").await.as_deref(),
        Some("carol")
    );
    // Other owners with a function of this name are none of the name's.
    let owner = "https:%2F%2Fissuer%2F~x%25";
    assert_eq!(
        register(
            controller,
            &format!("{owner}/rust-y"),
            "https://issuer/~x%",
            "echo"
        )
        .await,
        201
    );
    let found = reached(controller, &format!("{owner}/rust-y"), "").await;
    assert_eq!(found.as_deref(), Some("https://issuer/~x%"));
    for wrong in [
        "%00/rust-y",
        "a%20b/rust-y",
        "%zz/rust-y",
        "%C3%A4/rust-y",
        "bob/y",
    ] {
        assert_eq!(
            register(controller, wrong, "bob", "echo").await,
            400,
            "{wrong}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_name_stays_its_owners_for_a_while() {
    let platform = Platform::start_with(&[("MAX_FUNCTIONS_PER_USER", "2")]).await;
    let (controller, postgres) = (&platform.controller, &platform.postgres);
    register(controller, "rust-x", "alice", "echo").await;
    controller.remove("rust-x", "alice").await.expect(200);
    let refused = controller
        .register("rust-x", "bob", "echo")
        .await
        .expect(403);
    assert!(
        refused.message().contains("less than 30 days ago"),
        "{refused:?}"
    );
    assert!(refused.message().contains("bob/rust-x"), "{refused:?}");
    assert_eq!(reached(controller, "rust-x", "bob").await, None);
    assert_eq!(register(controller, "bob/rust-x", "bob", "echo").await, 201);
    assert_eq!(register(controller, "rust-x", "alice", "echo").await, 201);
    let again = ask(controller, "GET", "rust-x", "alice", &json!(null)).await;
    assert_eq!(again.json()["version"], 1);
    controller.remove("rust-x", "alice").await.expect(200);
    let older = "UPDATE meta.removed_functions SET removed_at = removed_at - interval '31 days'";
    postgres.execute(older).await;
    assert_eq!(register(controller, "rust-x", "carol", "echo").await, 201);
    controller.remove("rust-x", "carol").await.expect(200);
    // Who keeps on removing keeps only so many names.
    for n in 0..25 {
        register(controller, &format!("rust-{n}"), "dave", "echo").await;
        controller
            .remove(&format!("rust-{n}"), "dave")
            .await
            .expect(200);
    }
    let reserved = "SELECT count(*) FROM meta.removed_functions WHERE owner = 'dave'";
    assert_eq!(postgres.count(reserved).await, 20);
    assert_eq!(register(controller, "rust-0", "alice", "echo").await, 201);
    assert_eq!(register(controller, "rust-24", "alice", "echo").await, 403);
    // Maintenance forgets what is over.
    postgres.execute(older).await;
    let mut connection = postgres.connection("migrator").await.unwrap();
    let maintained = lambda_controller::database::maintenance::maintain(&mut connection, 90).await;
    assert_eq!(maintained.unwrap().names_released, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_a_function_does_not_find_it() {
    let Platform { controller, .. } = &Platform::start().await;
    let show = async |visibility: Value| {
        let body = json!({"script_content": "echo", "visibility": visibility});
        let answer = ask(controller, "PUT", "rust-x", "alice", &body).await;
        assert_eq!(answer.json()["visibility"], visibility, "{answer:?}");
        // It is remembered for half a second.
        tokio::time::sleep(Duration::from_millis(600)).await;
    };
    let sees = async |user: &str| {
        let (null, empty) = (json!(null), json!({}));
        let mut statuses = Vec::new();
        for (method, path, body) in [
            ("GET", "rust-x", &null),
            ("GET", "alice/rust-x", &null),
            ("GET", "rust-x/versions", &null),
            ("GET", "rust-x/aliases", &null),
            ("GET", "rust-x/aliases/live", &null),
            ("POST", "rust-x", &empty),
            ("POST", "alice/rust-x?version=live", &empty),
        ] {
            let answer = ask(controller, method, path, user, body).await;
            statuses.push(answer.status.as_u16());
        }
        let mut headers = vec![
            ("language-title", "rust-x"),
            ("content-type", "application/json"),
        ];
        if !user.is_empty() {
            headers.push(("x-user-id", user));
        }
        let session = controller
            .call("POST", "/api/v1/initialize", &headers, b"{}")
            .await;
        statuses.push(session.status.as_u16());
        let list = controller
            .call("GET", "/api/v1/functions?owner=alice", &headers, b"")
            .await
            .json();
        let there = list["functions"].as_array().unwrap().len();
        assert_eq!(list["total"], there);
        statuses.push(if there == 1 { 200 } else { 404 });
        statuses.dedup();
        assert_eq!(statuses.len(), 1, "{user}: {statuses:?}");
        statuses[0] == 200
    };
    show(json!("shared")).await;
    let live = json!({"versions": {"1": 100}});
    ask(controller, "PUT", "rust-x/aliases/live", "alice", &live)
        .await
        .expect(200);
    for (visibility, expected) in [
        (json!("shared"), [true, true, true, true]),
        (json!("private"), [true, false, false, false]),
        (
            json!({"callers": ["bob", "dave"]}),
            [true, true, false, false],
        ),
        (json!("shared"), [true, true, true, true]),
    ] {
        show(visibility.clone()).await;
        for (user, expected) in ["alice", "bob", "carol", ""].into_iter().zip(expected) {
            assert_eq!(sees(user).await, expected, "{visibility} {user}");
        }
        // To change what one does not see is no different from what is not there.
        let status = |seen: bool| if seen { 403 } else { 404 };
        ask(controller, "DELETE", "rust-x", "carol", &json!(null))
            .await
            .expect(status(expected[2]));
        ask(controller, "PUT", "rust-x/aliases/live", "carol", &live)
            .await
            .expect(status(expected[2]));
    }
    // A version and an alias made no difference to it, and it made none to them.
    let shown = ask(controller, "GET", "rust-x", "alice", &json!(null))
        .await
        .json();
    assert_eq!(shown["version"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_number_of_registrations_at_once_gets_beyond_the_limit() {
    let platform = Platform::start_with(&[("MAX_FUNCTIONS_PER_USER", "5")]).await;
    let (one, other) = (
        &platform.controller,
        &platform.another_with_limit("5").await,
    );
    let answers = join_all((0..20).map(|n| async move {
        let controller = if n % 2 == 0 { one } else { other };
        let path = if n % 3 == 0 {
            format!("alice/rust-{n}")
        } else {
            format!("rust-{n}")
        };
        register(controller, &path, "alice", "echo").await
    }))
    .await;
    let made = answers.iter().filter(|status| **status == 201).count();
    assert_eq!(made, 5, "{answers:?}");
    assert!(
        answers.iter().all(|status| [201, 400].contains(status)),
        "{answers:?}"
    );
    let count = "SELECT count(*) FROM meta.functions WHERE owner = 'alice'";
    assert_eq!(platform.postgres.count(count).await, 5);
    assert_eq!(register(one, "rust-x", "bob", "echo").await, 201);
}

/// A page's body, without the time that its comparison with openapi.yaml takes.
async fn unchecked(controller: &Controller, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(controller.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{path}");
    let head = answer
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .unwrap();
    answer.split_off(head + 4)
}

/// 10,000 functions of one owner and 1,000 versions: each page within 50 ms, the last as the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_many_is_read_page_by_page_in_little_time() {
    let Platform {
        controller,
        postgres,
        ..
    } = &Platform::start().await;
    for statement in [
        "INSERT INTO meta.functions (language_title, language, owner) \
         SELECT 'python-' || lpad(n::text, 5, '0'), 'python', 'alice' FROM generate_series(0, 9999) n",
        "INSERT INTO meta.scripts (language_title, content) SELECT language_title, 'echo' FROM meta.functions",
        "INSERT INTO meta.function_versions (function_id, version, content) \
         SELECT function_id, v, convert_to(repeat(v::text, 100), 'UTF8') FROM meta.functions, generate_series(2, 1000) v \
         WHERE language_title = 'python-05000'",
        "UPDATE meta.functions SET version = 1000 WHERE language_title = 'python-05000'",
        "ANALYZE meta.functions, meta.function_versions",
    ] {
        postgres.execute(statement).await;
    }
    // The slowest page's best of twenty, as this machine may do other work.
    let walk = async |path: &str, list: &str| {
        let first = format!("{path}per_page=100");
        controller.get(&first).await.expect(200);
        let (mut place, mut seen, mut slowest) = (first.clone(), Vec::new(), Duration::ZERO);
        loop {
            let (mut page, mut best) = (json!(null), Duration::MAX);
            for _ in 0..20 {
                let start = Instant::now();
                let body = unchecked(controller, &place).await;
                best = best.min(start.elapsed());
                page = serde_json::from_slice(&body).unwrap();
                if best < Duration::from_millis(25) {
                    break;
                }
            }
            slowest = slowest.max(best);
            seen.extend(page[list].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else {
                break;
            };
            place = format!("{first}&after={next}");
        }
        eprintln!(
            "{path}: {} rows, the slowest page in {slowest:?}",
            seen.len()
        );
        assert!(slowest < Duration::from_millis(50), "{path}: {slowest:?}");
        seen
    };
    for path in [
        "/api/v1/functions?owner=alice&",
        "/api/v1/functions?",
        "/api/v1/functions?language=python&",
    ] {
        let functions = walk(path, "functions").await;
        assert_eq!(functions.len(), 10_000);
        assert!(
            functions.is_sorted_by_key(|function| function["language_title"]
                .as_str()
                .unwrap()
                .to_owned())
        );
    }
    let versions = walk("/api/v1/functions/python-05000/versions?", "versions").await;
    let numbers: Vec<_> = versions
        .iter()
        .map(|one| one["version"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=1000).rev().collect::<Vec<_>>());
    // A page by its number, with the number of all, as ever; where a list goes on is said there, too.
    let page = controller
        .get("/api/v1/functions?page=100&per_page=100")
        .await
        .json();
    assert_eq!(
        (&page["total"], &page["page"]),
        (&json!(10_000), &json!(100))
    );
    assert!(page["next"].is_null());
    let page = controller
        .get("/api/v1/functions?page=2&per_page=2")
        .await
        .json();
    assert_eq!(page["next"], "alice/python-00003");
    let rest = controller
        .get("/api/v1/functions?after=alice/python-09998")
        .await
        .json();
    assert_eq!(rest["functions"][0]["language_title"], "python-09999");
    assert!(rest["total"].is_null() && rest["page"].is_null() && rest["next"].is_null());
    for wrong in [
        "after=x",
        "after=",
        "after=%00/x",
        "after=a/b&page=1",
        "owner=",
        "owner=a%20b",
    ] {
        let answer = controller.get(&format!("/api/v1/functions?{wrong}")).await;
        assert_eq!(answer.expect(400).code(), "INVALID_REQUEST", "{wrong}");
    }
}
