use std::collections::BTreeSet;

use lambda_controller::api::Operation;
use lambda_controller::error::ErrorCode;
use serde_json::Value;

use crate::support::contract::{DOCUMENT, resolve, validator};

#[test]
fn the_document_has_the_operations_of_the_api_and_no_others() {
    let documented: BTreeSet<_> = operations()
        .map(|(path, method, _)| (path.to_owned(), method.to_uppercase()))
        .collect();
    let served: BTreeSet<_> = Operation::ALL
        .iter()
        .flat_map(|operation| {
            let method = operation.method().to_string();
            operation.paths().map(move |path| (path, method.clone()))
        })
        .collect();
    assert_eq!(documented, served);
}

#[test]
fn every_reference_leads_somewhere_and_every_part_is_used() {
    let mut used = BTreeSet::new();
    collect_references(&DOCUMENT, &mut used);
    let mut there = BTreeSet::new();
    for (kind, parts) in DOCUMENT["components"].as_object().unwrap() {
        there.extend(
            parts
                .as_object()
                .unwrap()
                .keys()
                .map(|name| format!("#/components/{kind}/{name}")),
        );
    }
    assert_eq!(used, there);
}

#[test]
fn examples_fit_their_schemas() {
    let mut examples = 0;
    for (path, method, operation) in operations() {
        let body = &operation["requestBody"]["content"]["application/json"];
        if !body.is_null() {
            assert!(
                validator(&body["schema"]).is_valid(&body["example"]),
                "{method} {path}"
            );
            examples += 1;
        }
    }
    for parameter in DOCUMENT["components"]["parameters"]
        .as_object()
        .unwrap()
        .values()
    {
        if !parameter["example"].is_null() {
            assert!(
                validator(&parameter["schema"]).is_valid(&parameter["example"]),
                "{parameter}"
            );
            examples += 1;
        }
    }
    assert_eq!(examples, 18);
}

#[test]
fn every_error_has_its_code_and_status() {
    let codes = [
        ("400", ErrorCode::InvalidRequest),
        ("403", ErrorCode::Forbidden),
        ("404", ErrorCode::NotFound),
        ("409", ErrorCode::Conflict),
        ("413", ErrorCode::PayloadTooLarge),
        ("422", ErrorCode::RuntimeError),
        ("429", ErrorCode::RateLimited),
        ("500", ErrorCode::Internal),
        ("503", ErrorCode::Unavailable),
        ("504", ErrorCode::Timeout),
    ];
    for (path, method, operation) in operations().filter(|(path, ..)| path.starts_with("/api/")) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let schema = validator(&resolve(response)["content"]["application/json"]["schema"]);
            for (_, code) in codes {
                let body = serde_json::json!({"error": {"code": code.name(), "message": "why"}});
                let expected = codes.contains(&(status, code));
                assert_eq!(
                    schema.is_valid(&body),
                    expected,
                    "{method} {path} {status} {code:?}"
                );
            }
        }
    }
}

fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    DOCUMENT["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .iter()
                .map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values()
                .for_each(|value| collect_references(value, found));
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect_references(value, found)),
        _ => {}
    }
}
