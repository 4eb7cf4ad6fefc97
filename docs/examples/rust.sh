# Rust, compiled at its first execution
id=$(curl -s --cacert .local/ca.crt https://localhost:8443/api/v1/initialize -H 'Language-Title: rust-words' \
  --json '{"script_content": "fn handle(params: Value, _: Value) -> Result<Value, String> { Ok(params[\"text\"].as_str().ok_or(\"no text\")?.split_whitespace().count().into()) }"}' | cut -d'"' -f4)
curl -s --cacert .local/ca.crt https://localhost:8443/api/v1/execute/$id --json '{"params": {"text": "to be or not to be"}}'
