{{- define "envoy.pod" }}
# One lookup a name instead of one for each search domain: an upstream's address is a full name, or one of this namespace.
dnsConfig:
  options:
    - {name: ndots, value: "1"}
containers:
  - name: envoy
    {{- include "library.container" . | nindent 4 }}
    command:
      - envoy
      - --config-path
      - /etc/envoy/bootstrap/envoy.yaml
      - --concurrency
      - {{ .values.concurrency | int | quote }}
      # One process a pod: Kubernetes replaces pods, Envoy need not replace itself.
      - --disable-hot-restart
    env:
      - name: PROPAGATION_SECONDS
        value: {{ .values.drain.propagationSeconds | int | quote }}
      - name: REQUEST_SECONDS
        value: {{ .values.drain.requestSeconds | int | quote }}
      - name: LEAVE_FIRST
        value: {{ .values.drain.leaveFirst | quote }}
      - name: TELL_SECONDS
        value: {{ .values.drain.tellSeconds | int | quote }}
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: https
        containerPort: 8443
      {{- if .values.http3 }}
      - name: https-udp
        containerPort: 8443
        protocol: UDP
      {{- end }}
      - name: http
        containerPort: 8080
      - name: metrics
        containerPort: 9090
    lifecycle:
      preStop:
        exec:
          command: [bash, /etc/envoy/bootstrap/drain]
    volumeMounts:
      - name: bootstrap
        mountPath: /etc/envoy/bootstrap
      - name: configuration
        mountPath: /etc/envoy/configuration
      - name: certificate
        mountPath: /etc/envoy/certificate
      {{- if .values.apiKeySecret }}
      - name: api-keys
        mountPath: /etc/envoy/api-keys
      {{- end }}
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: bootstrap
    configMap:
      name: envoy-bootstrap
  - name: configuration
    configMap:
      name: envoy-configuration
  - name: certificate
    secret:
      secretName: {{ .values.certificateSecret }}
      defaultMode: 0440
  {{- with .values.apiKeySecret }}
  - name: api-keys
    secret:
      secretName: {{ . }}
      defaultMode: 0440
      # Its other keys are those that people hand to the clients.
      items:
        - {key: api-keys.yaml, path: api-keys.yaml}
  {{- end }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
