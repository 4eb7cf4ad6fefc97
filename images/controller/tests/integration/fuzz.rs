//! Whatever is sent, the answer is no 5xx, has the shape of the document, and the next request is served.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime as Tokio;

use crate::support::controller::Controller;
use crate::support::http::{request, send};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

const CASES: u32 = 300;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            vec(("[a-z_]{0,14}|script_content|context|params", inner), 0..8)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Bytes of any kind, any JSON, and a valid body with some of its bytes changed.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let valid = json!({"context": {"a": [1, "\u{e4}"]}, "script_content": "echo"})
        .to_string()
        .into_bytes();
    let changed = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4).prop_map(move |changes| {
        let mut body = valid.clone();
        for (index, byte) in changes {
            let index = index.index(body.len());
            body[index] = byte;
        }
        body
    });
    prop_oneof![
        vec(any::<u8>(), 0..200),
        any_json().prop_map(|value| value.to_string().into_bytes()),
        (any_json(), any_json()).prop_map(|(context, script)| {
            json!({"context": context, "script_content": script})
                .to_string()
                .into_bytes()
        }),
        any_json().prop_map(|params| json!({"params": params}).to_string().into_bytes()),
        changed,
    ]
}

/// Every byte that a header may hold.
fn any_header() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(
            prop_oneof![Just(b'\t'), 0x20..=0x7eu8, 0x80..=0xffu8],
            0..40
        ),
        "(nodejs|python|rust|ruby)-[ -~]{0,200}".prop_map(String::into_bytes),
        Just(b"application/json".to_vec()),
    ]
}

#[test]
fn no_body_and_no_header_gives_a_5xx() {
    let tokio = Tokio::new().unwrap();
    let (_redis, _runtime, _postgres, controller, id) = tokio.block_on(async {
        let (redis, runtime) = (Redis::start().await, Runtime::start().await);
        let postgres = Postgres::migrated().await;
        let url = postgres.url("controller");
        let controller = Controller::with_database(&redis, &runtime, &url).await;
        let id = controller.session("nodejs-x", "echo").await;
        (redis, runtime, postgres, controller, id)
    });
    let paths = [
        "/api/v1/initialize".to_owned(),
        format!("/api/v1/execute/{id}"),
        format!("/api/v1/sessions/{id}"),
        "/api/v1/execute/%F0%9F%A6%80".to_owned(),
        "/api/v1/functions?page=2&language=rust".to_owned(),
        "/api/v1/functions/nodejs-x".to_owned(),
        "/api/v1/functions/%F0%9F%A6%80".to_owned(),
        "/api/v1/functions/nodejs-x?version=latest".to_owned(),
        "/api/v1/functions/alice/nodejs-x/aliases/live".to_owned(),
        "/api/v1/functions/%F0%9F%A6%80/nodejs-x/versions?after=1".to_owned(),
    ];
    let headers = ("language-title", "x-user-id", "content-type", "traceparent");
    let case = (
        prop::sample::select(paths.to_vec()),
        prop_oneof![9 => Just("POST"), 1 => Just("GET"), 2 => Just("PUT"), 1 => Just("DELETE"), 1 => Just("PATCH")],
        any_body(),
        (
            prop::option::weighted(0.8, Just(())),
            prop::array::uniform4(prop::option::weighted(0.2, any_header())),
        ),
    );
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&case, |(path, method, body, (valid, changed))| {
        let mut fuzzed = request(method, &path, &[], body);
        if valid.is_some() {
            fuzzed
                .headers_mut()
                .insert("content-type", "application/json".parse().unwrap());
            fuzzed
                .headers_mut()
                .insert("language-title", "nodejs-x".parse().unwrap());
        }
        let names = [headers.0, headers.1, headers.2, headers.3];
        for (name, value) in names.into_iter().zip(changed) {
            if let Some(value) = value {
                fuzzed
                    .headers_mut()
                    .insert(name, value.as_slice().try_into().unwrap());
            }
        }
        // `send` checks the answer against the document.
        let answer = tokio.block_on(send(controller.address, fuzzed)).unwrap();
        prop_assert!(answer.status.as_u16() < 500, "{answer:?}");
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let metrics = tokio.block_on(controller.metrics());
    assert!(
        metrics.lines().count() < 600,
        "what callers send does not make series"
    );
    assert!(metrics.ends_with("# EOF\n"));
}
