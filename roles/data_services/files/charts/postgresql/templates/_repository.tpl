{{- define "postgresql.repositoryContainer" -}}
{{- include "library.container" . }}
env:
  - name: PGBACKREST_CONFIG
    value: /configuration/pgbackrest.conf
  {{- include "library.env" . | indent 2 }}
volumeMounts:
  - name: backup
    mountPath: /backup
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
volumes:
  {{- include "postgresql.repositoryVolumes" . | nindent 2 }}
{{- end }}
