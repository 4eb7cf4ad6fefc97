{{- define "openfaas.credentialMounts" -}}
{{- range $name, $credential := .values.credentials }}
- name: {{ $name }}
  mountPath: {{ $credential.mountPath }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "openfaas.credentialVolumes" -}}
{{- range $name, $credential := .values.credentials }}
- name: {{ $name }}
  secret:
    secretName: {{ $credential.secret }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{- define "gateway.pod" }}
containers:
  - name: gateway
    {{- include "library.container" . | nindent 4 }}
    command: [/gateway]
    env:
      - name: FUNCTION_POLICY_FILE
        value: /etc/gateway/policy.json
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: http
        containerPort: 8080
      - name: metrics
        containerPort: 9090
    volumeMounts:
      - name: functions
        mountPath: /etc/gateway
        readOnly: true
      {{- include "library.tokenMount" . | nindent 6 }}
      {{- include "openfaas.credentialMounts" . | indent 6 }}
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: functions
    configMap:
      name: gateway-functions
  {{- include "library.tokenVolume" . | nindent 2 }}
  {{- include "openfaas.credentialVolumes" . | indent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}

{{- define "queue-worker.pod" }}
containers:
  - name: queue-worker
    {{- include "library.container" . | nindent 4 }}
    command: [/queue-worker]
    env:
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: metrics
        containerPort: 9090
    volumeMounts:
      {{- include "openfaas.credentialMounts" . | indent 6 }}
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  {{- include "openfaas.credentialVolumes" . | indent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
