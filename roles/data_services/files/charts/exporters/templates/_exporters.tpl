{{- define "exporters.redisPod" }}
containers:
  - name: redis-exporter
    {{- include "library.container" . | nindent 4 }}
    command: [/redis_exporter]
    args:
      # No target of its own: /scrape names one.
      - --redis.addr=
      - --redis.password-file=/passwords/passwords.json
      - --tls-ca-cert-file=/certificate/ca.crt
      # CONFIG GET would show passwords, and its user must not.
      - --config-command=-
      # A series for each command and bucket, which nobody looks at.
      - --exclude-latency-histogram-metrics
      - --web.listen-address=:9121
    env:
      - name: REDIS_USER
        value: {{ .values.user | quote }}
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: metrics
        containerPort: 9121
    volumeMounts:
      - name: passwords
        mountPath: /passwords
        readOnly: true
      - name: certificate
        mountPath: /certificate
        readOnly: true
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: passwords
    secret:
      secretName: {{ .values.passwordsSecret }}
      items: [{key: passwords.json, path: passwords.json}]
      defaultMode: 0440
  - name: certificate
    secret:
      secretName: {{ .values.caSecret }}
      defaultMode: 0440
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}

{{- define "exporters.postgresqlPod" }}
containers:
  - name: postgresql-exporter
    {{- include "library.container" . | nindent 4 }}
    command: [/bin/postgres_exporter]
    args:
      - --config.file=/configuration/postgres_exporter.yml
      - --web.listen-address=:9187
      - --log.level=warn
    {{- with include "library.env" . }}
    env:
      {{- . | indent 6 }}
    {{- end }}
    ports:
      - name: metrics
        containerPort: 9187
    volumeMounts:
      - name: configuration
        mountPath: /configuration
        readOnly: true
      - name: certificate
        mountPath: /certificate
        readOnly: true
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: configuration
    secret:
      secretName: {{ .values.configurationSecret }}
      items: [{key: postgres_exporter.yml, path: postgres_exporter.yml}]
      defaultMode: 0440
  - name: certificate
    secret:
      secretName: {{ .values.caSecret }}
      defaultMode: 0440
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
