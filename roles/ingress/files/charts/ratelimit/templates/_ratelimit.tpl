{{- define "ratelimit.pod" }}
containers:
  - name: ratelimit
    {{- include "library.container" . | nindent 4 }}
    command: [ratelimit]
    env:
      # The program takes its password from the environment alone. Only what stands above can be referred to.
      {{- range $key := list "username" "password" }}
      - name: REDIS_{{ upper $key }}
        valueFrom:
          secretKeyRef:
            name: {{ $.values.redis.secret }}
            key: {{ $key }}
      {{- end }}
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
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: configuration
    configMap:
      name: ratelimit-configuration
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
