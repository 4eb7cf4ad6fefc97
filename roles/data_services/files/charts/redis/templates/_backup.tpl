{{- define "redis.backupMounts" -}}
- name: scripts
  mountPath: /scripts
- name: users
  mountPath: /users
- name: certificate
  mountPath: /certificate
{{- end }}

{{- define "redis.backupPod" }}
restartPolicy: Never
containers:
  - name: backup
    {{- include "library.container" . | nindent 4 }}
    command: [sh, /scripts/backup]
    env:
      {{- include "redis.topologyEnv" .root | nindent 6 }}
      - name: REDIS_USER
        value: backup
      - name: RETENTION_DAYS
        value: {{ .values.retentionDays | int | quote }}
      {{- include "library.env" . | indent 6 }}
    volumeMounts:
      {{- include "redis.backupMounts" . | nindent 6 }}
      - name: backup
        mountPath: /backup
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  {{- include "redis.scriptVolumes" (dict "root" .root "keys" (list "backup")) | nindent 2 }}
  {{- include "redis.certificateVolume" .root.Values.caSecret | nindent 2 }}
  - name: backup
    persistentVolumeClaim:
      claimName: redis-backup
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}

{{- define "redis.restorePod" }}
restartPolicy: Never
containers:
  - name: restore
    {{- include "library.container" . | nindent 4 }}
    command: [sh, /scripts/restore]
    env:
      {{- include "redis.topologyEnv" .root | nindent 6 }}
      - name: POD_IP
        valueFrom:
          fieldRef:
            fieldPath: status.podIP
      # Each step may take as long.
      - name: RESTORE_SECONDS
        value: {{ .values.stepSeconds | int | quote }}
      - name: RESTORE_COPY
        valueFrom:
          fieldRef:
            fieldPath: metadata.annotations['redis-restore/copy']
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: redis
        containerPort: 6379
    volumeMounts:
      {{- include "redis.backupMounts" . | nindent 6 }}
      - name: backup
        mountPath: /backup
        readOnly: true
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  {{- include "redis.scriptVolumes" (dict "root" .root "keys" (list "users.acl" "pod" "restore")) | nindent 2 }}
  {{- include "redis.certificateVolume" .root.Values.certificateSecret | nindent 2 }}
  - name: backup
    persistentVolumeClaim:
      claimName: redis-backup
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
