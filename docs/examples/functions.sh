# A function by its name: registered, and called without a session; then as OpenFaaS has it, called, and queued with its result kept for an hour.
curl -s --cacert .local/ca.crt https://localhost:8443/api/v1/functions/python-sum -X PUT -H 'X-User-ID: me' --json '{"script_content": "result = sum(params[\"numbers\"])"}'
curl -s --cacert .local/ca.crt https://localhost:8443/api/v1/functions/python-sum -H 'X-User-ID: me' --json '{"params": {"numbers": [3, 4, 12]}}'
curl -s --cacert .local/ca.crt https://localhost:8443/function/python-sum -H 'X-User-ID: me' --json '{"numbers": [3, 4, 12]}'
curl -s --cacert .local/ca.crt https://localhost:8443/async-function/python-sum -H 'X-User-ID: me' --json '{"numbers": [3, 4, 12]}' -D - | grep -i x-call-id
