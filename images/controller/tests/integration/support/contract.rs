//! openapi.yaml as a check of real answers.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::http::Method;
use jsonschema::Validator;
use lambda_controller::api::Operation;
use serde_json::{Value, json};

use super::http::Answer;

pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../../openapi.yaml");
    yaml_serde::from_str(text).expect("openapi.yaml is YAML")
});

/// What the document allows: operation and status to the answer's schema and the headers that it must have.
static ANSWERS: LazyLock<HashMap<(String, String, String), Described>> = LazyLock::new(|| {
    let mut answers = HashMap::new();
    for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let described = Described::new(resolve(response));
                answers.insert(
                    (path.clone(), method.to_uppercase(), status.clone()),
                    described,
                );
            }
        }
    }
    answers
});

struct Described {
    schema: Validator,
    headers: Vec<String>,
}

impl Described {
    fn new(response: &'static Value) -> Self {
        let headers = response["headers"].as_object().into_iter().flatten();
        Described {
            schema: validator(&response["content"]["application/json"]["schema"]),
            headers: headers
                .filter(|(_, header)| resolve(header)["required"] == true)
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }
}

pub fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT
            .pointer(reference.trim_start_matches('#'))
            .expect("the reference leads somewhere"),
        None => value,
    }
}

/// OpenAPI 3.1 schemas are JSON Schema 2020-12; their references are to the document, so its components come along.
pub fn validator(schema: &Value) -> Validator {
    assert!(schema.is_object(), "every answer has a schema");
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "allOf": [schema],
        "components": DOCUMENT["components"],
    });
    jsonschema::options()
        .should_validate_formats(true)
        .build(&whole)
        .expect("the schema is one")
}

pub fn check(method: &Method, path: &str, answer: &Answer) {
    assert_eq!(
        answer.headers["content-type"], "application/json",
        "{method} {path}: {answer:?}"
    );
    // An answer to HEAD has no body to check.
    if method == Method::HEAD {
        return;
    }
    let status = answer.status.as_u16();
    let path = path.split('?').next().unwrap_or_default();
    // Of several that fit, the one with the fewest placeholders is meant.
    let templates = Operation::ALL
        .iter()
        .flat_map(|operation| operation.paths());
    let template = templates
        .filter(|template| matches(template, path))
        .min_by_key(|template| template.matches('{').count());
    let described = template.as_ref().is_some_and(|template| {
        let here = |operation: &Operation| {
            operation.method() == method && operation.paths().any(|path| path == *template)
        };
        Operation::ALL.iter().any(here)
    });
    if !described {
        // The document says nothing of paths and methods that are not there; the shape is that of every error.
        let expected = if template.is_some() { 405 } else { 404 };
        assert_eq!(status, expected, "{method} {path}: {answer:?}");
        assert!(
            validator(&json!({"$ref": "#/components/schemas/Error"})).is_valid(&answer.json()),
            "{answer:?}"
        );
        return;
    }
    let key = (template.unwrap(), method.to_string(), status.to_string());
    let described = ANSWERS
        .get(&key)
        .unwrap_or_else(|| panic!("openapi.yaml does not have {key:?}: {answer:?}"));
    let errors: Vec<_> = described
        .schema
        .iter_errors(&answer.json())
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{key:?} {answer:?}: {errors:?}");
    for header in &described.headers {
        assert!(
            answer.headers.contains_key(header),
            "{key:?} has no {header}"
        );
    }
}

/// Whether `path` is the template's, `{request_id}` being any one part.
fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(path).all(|(part, actual)| {
            if part.starts_with('{') {
                !actual.is_empty()
            } else {
                *part == actual
            }
        })
}
