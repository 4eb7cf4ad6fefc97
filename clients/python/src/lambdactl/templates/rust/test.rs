// cargo test
#![cfg(test)]
use serde_json::{json, Value};

include!("function.rs");

#[test]
fn who_is_named_is_greeted() {
    let answer = handle(json!({"name": "Ada"}), json!({}));
    assert_eq!(answer, Ok(json!({"greeting": "Hello, Ada!"})));
}

#[test]
fn nobody_is_the_world() {
    assert_eq!(handle(json!({}), json!({})), Ok(json!({"greeting": "Hello, world!"})));
}
