{{- define "postgresql.snapshotPod" }}
restartPolicy: Never
containers:
  - name: snapshot
    {{- include "library.container" . | nindent 4 }}
    command: [python3, /scripts/snapshot]
    env:
      - name: POD_NAMESPACE
        valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
      - name: SNAPSHOT_CLASS
        value: {{ .values.class | quote }}
      - name: READY_SECONDS
        value: {{ .values.readySeconds | int | quote }}
      - name: RETENTION_DAYS
        value: {{ .values.retentionDays | int | quote }}
      {{- include "library.env" . | indent 6 }}
    volumeMounts:
      - name: scripts
        mountPath: /scripts
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: scripts
    configMap:
      name: postgresql-snapshot
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
