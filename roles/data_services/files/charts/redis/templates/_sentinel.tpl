{{- define "redis.sentinelPod" }}
containers:
  - name: sentinel
    {{- include "library.container" . | nindent 4 }}
    command: [sh, /scripts/start-sentinel]
    env:
      {{- include "redis.topologyEnv" .root | nindent 6 }}
      - name: DOWN_AFTER_MILLISECONDS
        value: {{ .values.downAfterMilliseconds | int | quote }}
      - name: FAILOVER_TIMEOUT_MILLISECONDS
        value: {{ .values.failoverTimeoutMilliseconds | int | quote }}
      - name: PARALLEL_SYNCS
        value: {{ .values.parallelSyncs | quote }}
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: sentinel
        containerPort: 26379
    volumeMounts:
      {{- include "redis.scriptMounts" . | nindent 6 }}
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  {{- include "redis.scriptVolumes" (dict "root" .root "keys" (list "sentinel-users.acl" "sentinel" "pod")) | nindent 2 }}
  {{- include "redis.certificateVolume" .root.Values.certificateSecret | nindent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
