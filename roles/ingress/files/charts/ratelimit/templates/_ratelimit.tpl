{{- define "ratelimit.credentials" }}
{{- range $key := list "username" "password" }}
- name: REDIS_{{ upper $key }}
  valueFrom:
    secretKeyRef:
      name: {{ $.values.redis.secret }}
      key: {{ $key }}
{{- end }}
{{- end }}

{{- define "ratelimit.authority" -}}
- name: redis-ca
  mountPath: /run/redis-ca
  readOnly: true
{{- end }}

{{- define "ratelimit.pod" }}
{{- $address := splitList ":" .values.redis.address }}
initContainers:
  # The program ends where Redis does not answer at its start: a new pod's network may not know it yet.
  - name: redis-answers
    image: {{ required "redis.image is empty: give the full reference of an image with redis-cli" .values.redis.image }}
    imagePullPolicy: {{ (include "library.values" . | fromYaml).imagePullPolicy }}
    securityContext:
      {{- include "library.containerSecurityContext" . | nindent 6 }}
    command:
      - sh
      - -c
      - |
        # redis-cli takes it from here: an argument is in the list of processes.
        export REDISCLI_AUTH="$REDIS_PASSWORD"
        until answer=$(timeout 2 redis-cli {{ if .values.redis.caSecret }}--tls --cacert /run/redis-ca/ca.crt {{ end }}-h "$REDIS_HOST" -p "$REDIS_PORT" --user "$REDIS_USERNAME" ping 2>&1) && [ "$answer" = PONG ]; do
            echo "waiting for Redis at $REDIS_HOST:$REDIS_PORT: ${answer:-no answer within 2 s}"
            sleep 0.5
        done
    env:
      {{- include "ratelimit.credentials" . | trim | nindent 6 }}
      - name: REDIS_HOST
        value: {{ first $address | quote }}
      - name: REDIS_PORT
        value: {{ last $address | quote }}
    {{- if .values.redis.caSecret }}
    volumeMounts:
      {{- include "ratelimit.authority" . | nindent 6 }}
    {{- end }}
    {{- include "library.resources" . | trim | nindent 4 }}
containers:
  - name: ratelimit
    {{- include "library.container" . | nindent 4 }}
    command: [ratelimit]
    env:
      # The program takes its password from the environment alone. Only what stands above can be referred to.
      {{- include "ratelimit.credentials" . | trim | nindent 6 }}
      - name: REDIS_AUTH
        value: $(REDIS_USERNAME):$(REDIS_PASSWORD)
      {{- range $name, $value := dict
            "BACKEND_TYPE" "redis"
            "REDIS_SOCKET_TYPE" "tcp"
            "REDIS_TYPE" "SINGLE"
            "REDIS_URL" .values.redis.address
            "REDIS_TIMEOUT" "2s"
            "REDIS_POOL_SIZE" "16"
            "CACHE_KEY_PREFIX" .values.redis.keyPrefix
            "EXPIRATION_JITTER_MAX_SECONDS" "10"
            "LOCAL_CACHE_SIZE_IN_BYTES" "1048576"
            "RUNTIME_ROOT" "/etc"
            "RUNTIME_SUBDIRECTORY" "ratelimit"
            "RUNTIME_WATCH_ROOT" "false"
            "RUNTIME_IGNOREDOTFILES" "true"
            "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED" "true"
            "RESPONSE_DYNAMIC_METADATA" "true"
            "USE_STATSD" "false"
            "USE_PROMETHEUS" "true"
            "PROMETHEUS_ADDR" ":9090"
            "HOST" "127.0.0.1"
            "DEBUG_HOST" "127.0.0.1"
            "GRPC_PORT" "8081"
            "LOG_LEVEL" "warn"
            "LOG_FORMAT" "json" }}
      - name: {{ $name }}
        value: {{ $value | quote }}
      {{- end }}
      {{- if .values.redis.caSecret }}
      - name: REDIS_TLS
        value: "true"
      - name: REDIS_TLS_CACERT
        value: /run/redis-ca/ca.crt
      {{- end }}
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: grpc
        containerPort: 8081
      - name: metrics
        containerPort: 9090
    lifecycle:
      preStop:
        exec:
          # Until every Envoy has noticed that the pod is going.
          command: [sleep, "5"]
    volumeMounts:
      - name: configuration
        mountPath: /etc/ratelimit/config
      {{- if .values.redis.caSecret }}
      {{- include "ratelimit.authority" . | nindent 6 }}
      {{- end }}
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: configuration
    configMap:
      name: ratelimit-configuration
  {{- with .values.redis.caSecret }}
  - name: redis-ca
    secret:
      secretName: {{ . }}
      defaultMode: 0440
  {{- end }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
