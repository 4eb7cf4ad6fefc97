{{- define "postgresql.repositoryContainer" -}}
{{- include "library.container" . }}
{{- include "postgresql.repositoryAccess" . }}
{{- end }}

{{/* What a program needs that calls pgBackRest for the repository: its environment and its files. */}}
{{- define "postgresql.repositoryAccess" }}
env:
  - name: PGBACKREST_CONFIG
    value: /configuration/pgbackrest.conf
  - name: PG_MAJOR
    value: {{ .root.Values.postgresql.version | quote }}
  {{- include "library.bucketEnv" .root.Values.repository | indent 2 }}
  {{- if .exporter }}
  {{- include "postgresql.exporterEnvironment" . | nindent 2 }}
  {{- end }}
  {{- include "library.env" . | indent 2 }}
volumeMounts:
  {{- if not .root.Values.repository.s3.bucket }}
  - name: backup
    mountPath: /backup
  {{- end }}
  - name: configuration
    mountPath: /configuration
  - name: scripts
    mountPath: /scripts
  - name: certificate
    mountPath: /certificate
  {{- include "library.writableMounts" . | indent 2 }}
{{- end }}

{{- define "postgresql.repositoryVolumes" -}}
- name: configuration
  configMap:
    name: postgresql-repository
- name: scripts
  configMap:
    name: postgresql-scripts
{{ include "postgresql.certificateVolume" .root.Values.secrets.repository }}
{{- include "library.writableVolumes" . }}
{{- end }}

{{- define "postgresql.repositoryPod" }}
containers:
  - name: repository
    {{- include "postgresql.repositoryContainer" . | nindent 4 }}
    command: [python3, -u, /scripts/repository]
    ports:
      - name: pgbackrest
        containerPort: 8432
  {{- if .root.Values.metrics.enabled }}
  - name: exporter
    image: {{ include "library.image" . }}
    {{- include "postgresql.exporter" (merge (dict "port" 9854) .) | nindent 4 }}
    # It calls `pgbackrest info` every minute, and is asked for what it found.
    command: [prometheus-pgbackrest-exporter]
    args: ["--web.listen-address=:9854", --collect.interval=60, --log.level=warn]
    {{- include "postgresql.repositoryAccess" (merge (dict "exporter" true) .) | nindent 4 }}
  {{- end }}
volumes:
  {{- include "postgresql.repositoryVolumes" . | nindent 2 }}
{{- end }}
