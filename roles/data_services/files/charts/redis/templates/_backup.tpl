{{- define "redis.backupMounts" -}}
- name: scripts
  mountPath: /scripts
- name: users
  mountPath: /users
- name: certificate
  mountPath: /certificate
{{- end }}

{{/* pgBackRest's program with the bucket: the part of a Job that brings copies there, or one back. Takes `command`. */}}
{{- define "redis.bucketContainer" -}}
- name: bucket
  image: {{ required "backup.bucketImage is empty: give the full reference of an image of pgBackRest" .root.Values.backup.bucketImage }}
  imagePullPolicy: {{ (include "library.values" . | fromYaml).imagePullPolicy }}
  securityContext:
    {{- include "library.containerSecurityContext" . | nindent 4 }}
  resources:
    {{- toYaml .root.Values.backup.resources | nindent 4 }}
  command: {{ .command | toJson }}
  env:
    - name: PGBACKREST_CONFIG
      value: /configuration/pgbackrest.conf
    - name: RETENTION_DAYS
      value: {{ .root.Values.backup.retentionDays | int | quote }}
    {{- include "library.bucketEnv" .root.Values.backup | indent 4 }}
    {{- with .root.Values.backup.cipherSecret }}
    # What is no backup of PostgreSQL's is read with the passphrase itself.
    - name: PGBACKREST_CIPHER_PASS
      valueFrom: {secretKeyRef: {name: {{ . }}, key: passphrase}}
    {{- end }}
    {{- with .copy }}
    - name: RESTORE_COPY
      {{- toYaml . | nindent 6 }}
    {{- end }}
  volumeMounts:
    - name: bucket
      mountPath: /configuration
    - name: backup
      mountPath: /backup
    {{- include "library.writableMounts" . | indent 4 }}
{{- end }}

{{- define "redis.backupPod" }}
{{- $bucket := .root.Values.backup.s3.bucket }}
restartPolicy: Never
# With a bucket the copy is made first, and then brought there.
{{ ternary "initContainers" "containers" (not (empty $bucket)) }}:
  - name: backup
    {{- include "library.container" . | nindent 4 }}
    {{- if $bucket }}
    # Once a Job: another pod of it, as the bucket was away, brings there what the first one copied.
    command: [sh, -c, 'last=/backup/.job; [ "$(cat $last 2>/dev/null)" = "$JOB" ] || { sh /scripts/backup && echo "$JOB" > $last; }']
    {{- else }}
    command: [sh, /scripts/backup]
    {{- end }}
    env:
      {{- if $bucket }}
      - name: JOB
        valueFrom: {fieldRef: {fieldPath: "metadata.labels['job-name']"}}
      {{- end }}
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
{{- if $bucket }}
containers:
  {{- include "redis.bucketContainer" (merge (dict "command" (list "sh" "/configuration/store")) .) | nindent 2 }}
{{- end }}
volumes:
  {{- include "redis.bucketVolume" . | nindent 2 }}
  {{- include "redis.scriptVolumes" (dict "root" .root "keys" (list "backup")) | nindent 2 }}
  {{- include "redis.certificateVolume" .root.Values.caSecret | nindent 2 }}
  - name: backup
    persistentVolumeClaim:
      claimName: redis-backup
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}

{{- define "redis.bucketVolume" -}}
{{- if .root.Values.backup.s3.bucket }}
- name: bucket
  configMap:
    name: redis-bucket
{{- end }}
{{- end }}

{{- define "redis.restorePod" }}
restartPolicy: Never
{{- if .root.Values.backup.s3.bucket }}
# A copy that the volume lacks, as that of a new cluster does.
initContainers:
  {{- $copy := dict "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.annotations['redis-restore/copy']")) }}
  {{- include "redis.bucketContainer" (merge (dict "command" (list "sh" "/configuration/store" "fetch") "copy" $copy) .) | nindent 2 }}
{{- end }}
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
  {{- include "redis.bucketVolume" . | nindent 2 }}
  {{- include "redis.scriptVolumes" (dict "root" .root "keys" (list "users.acl" "pod" "restore")) | nindent 2 }}
  {{- include "redis.certificateVolume" .root.Values.certificateSecret | nindent 2 }}
  - name: backup
    persistentVolumeClaim:
      claimName: redis-backup
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
