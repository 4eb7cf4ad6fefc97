# Python
id=$(curl -s --cacert .local/ca.crt https://localhost:8443/api/v1/initialize -H 'Language-Title: python-squares' \
  --json '{"context": {"power": 2}, "script_content": "result = sum(n ** context[\"power\"] for n in params[\"numbers\"])"}' | cut -d'"' -f4)
curl -s --cacert .local/ca.crt https://localhost:8443/api/v1/execute/$id --json '{"params": {"numbers": [3, 4, 12]}}'
