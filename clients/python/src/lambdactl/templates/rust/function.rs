/// `params` are the call's, `context` the session's. `Value`, `json!` and `serde_json` are in scope.
fn handle(params: Value, _context: Value) -> Result<Value, String> {
    let name = params["name"].as_str().unwrap_or("world");
    Ok(json!({"greeting": format!("Hello, {name}!")}))
}
