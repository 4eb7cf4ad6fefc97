{{- define "redis.haproxyPod" }}
containers:
  - name: haproxy
    {{- include "library.container" . | nindent 4 }}
    command: [haproxy, -db, -f, /configuration/haproxy.cfg]
    env:
      - name: HAPROXY_REDIS_PASSWORD
        valueFrom:
          secretKeyRef:
            name: {{ .root.Values.usersSecret }}
            key: haproxy
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: redis
        containerPort: 6379
      - name: metrics
        containerPort: 8404
    lifecycle:
      preStop:
        exec:
          # HAProxy ends at SIGUSR1, or as upstream's image says at SIGTERM, which cuts every connection at once.
          command: [sh, -c, "sleep {{ int .values.drainSeconds }}; kill -USR1 1; sleep {{ int .values.hardStopSeconds }}"]
    volumeMounts:
      - name: configuration
        mountPath: /configuration
      - name: certificate
        mountPath: /certificate
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: configuration
    configMap:
      name: redis-haproxy
  {{- include "redis.certificateVolume" .root.Values.caSecret | nindent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
