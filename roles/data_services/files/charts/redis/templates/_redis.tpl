{{/* What the scripts need to know of the other pods, besides the variables of their Services. */}}
{{- define "redis.topologyEnv" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: REDIS_COUNT
  value: {{ .Values.redis.replicas | quote }}
- name: SENTINEL_COUNT
  value: {{ .Values.sentinel.replicas | quote }}
- name: MASTER_NAME
  value: {{ .Values.masterName | quote }}
- name: QUORUM
  value: {{ .Values.sentinel.quorum | quote }}
{{- end }}

{{/* The scripts, and of the passwords those that `keys` names, no others. */}}
{{- define "redis.scriptVolumes" -}}
- name: scripts
  configMap:
    name: redis-scripts
    # Sentinel runs one of them itself.
    defaultMode: 0555
- name: users
  secret:
    secretName: {{ .root.Values.usersSecret }}
    defaultMode: 0440
    items:
      {{- range .keys }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}

{{/* The certificate that servers and Sentinels share, or for a client the authority's alone. */}}
{{- define "redis.certificateVolume" -}}
- name: certificate
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}

{{- define "redis.scriptMounts" -}}
- name: scripts
  mountPath: /scripts
- name: users
  mountPath: /users
- name: certificate
  mountPath: /certificate
- name: data
  mountPath: /data
{{- end }}

{{- define "redis.pod" }}
containers:
  - name: redis
    {{- include "library.container" . | nindent 4 }}
    command: [sh, /scripts/start-redis]
    env:
      {{- include "redis.topologyEnv" .root | nindent 6 }}
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: redis
        containerPort: 6379
    lifecycle:
      preStop:
        exec:
          command: [sh, /scripts/hand-over]
    volumeMounts:
      {{- include "redis.scriptMounts" . | nindent 6 }}
      - name: configuration
        mountPath: /configuration
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  {{- include "redis.scriptVolumes" (dict "root" .root "keys" (list "users.acl" "replication" "pod")) | nindent 2 }}
  {{- include "redis.certificateVolume" .root.Values.certificateSecret | nindent 2 }}
  - name: configuration
    configMap:
      name: redis-configuration
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}

{{/* A Service for each pod of a StatefulSet: an address that stays when the pod moves. */}}
{{- define "redis.podServices" -}}
{{- range $ordinal := until (int .values.replicas) }}
{{- $pod := printf "%s-%d" $.name $ordinal }}
---
{{ include "library.service" (merge (dict
     "service" (dict "name" $pod "publishNotReadyAddresses" true "ports" $.values.service.ports)
     "selector" (dict "statefulset.kubernetes.io/pod-name" $pod)) $) }}
{{- end }}
{{- end }}
