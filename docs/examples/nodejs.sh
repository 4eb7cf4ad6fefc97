# Node.js: start a session, keep its id, execute it.
id=$(curl -s --cacert .local/ca.crt https://localhost:8443/api/v1/initialize -H 'Language-Title: nodejs-greet' \
  --json '{"context": {"greeting": "Hello"}, "script_content": "return `${context.greeting}, ${params.name}!`"}' | cut -d'"' -f4)
curl -s --cacert .local/ca.crt https://localhost:8443/api/v1/execute/$id --json '{"params": {"name": "Node.js"}}'
