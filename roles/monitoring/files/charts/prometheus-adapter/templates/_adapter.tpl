{{- define "adapter.pod" }}
containers:
  - name: adapter
    {{- include "library.container" . | nindent 4 }}
    args:
      - --secure-port=6443
      - --tls-cert-file=/run/tls/tls.crt
      - --tls-private-key-file=/run/tls/tls.key
      - --prometheus-url={{ .values.prometheus }}
      - --config=/etc/prometheus-adapter/config.yaml
      # The series are few and always the same; a new pod's is found by its labels, not by this list.
      - --metrics-relist-interval=1m
      - --metrics-max-age=10m
      # Whoever may ask is known to the API server, which passes the question on.
      - --disable-http2
    env:
      - name: GOMEMLIMIT
        valueFrom:
          resourceFieldRef: {resource: limits.memory}
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: https
        containerPort: 6443
    volumeMounts:
      - name: configuration
        mountPath: /etc/prometheus-adapter
      - name: tls
        mountPath: /run/tls
        readOnly: true
      {{- include "library.tokenMount" . | nindent 6 }}
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: configuration
    configMap:
      name: prometheus-adapter-configuration
  - name: tls
    secret:
      secretName: {{ .values.tlsSecret }}
      defaultMode: 0440
  {{- include "library.tokenVolume" . | nindent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
