{{- define "state.exporter" -}}
command: [python3, /usr/local/lib/kube_state_exporter.py]
env:
  # One arena: what a scrape has taken is given back.
  - {name: MALLOC_ARENA_MAX, value: "1"}
  - {name: PYTHONUNBUFFERED, value: "1"}
  {{- with .values.forbiddenTarget }}
  - {name: FORBIDDEN_TARGET, value: {{ . | quote }}}
  {{- end }}
  {{- include "library.env" . | indent 2 }}
{{- end }}

{{- define "state.pod" }}
{{- $ours := eq .values.program "kube-state-exporter" }}
containers:
  - name: kube-state-metrics
    {{- include "library.container" . | nindent 4 }}
    {{- if $ours }}
    {{- include "state.exporter" . | nindent 4 }}
    args: ["8080"]
    {{- else }}
    args:
      - --port=8080
      - --telemetry-port=8081
      - --use-apiserver-cache
      - --resources={{ include "state.resources" . | fromYaml | values | join " " | replace "[" "" | replace "]" "" | splitList " " | sortAlpha | join "," }}
      - --metric-allowlist={{ .values.series | join "," }}
    {{- with include "library.env" . }}
    env:
      {{- . | indent 6 }}
    {{- end }}
    {{- end }}
    ports:
      - name: metrics
        containerPort: 8080
    volumeMounts:
      {{- include "library.tokenMount" . | nindent 6 }}
      {{- include "library.writableMounts" . | indent 6 }}
  {{- if not $ours }}
  - name: exporter
    image: {{ required "exporterImage is empty: give the full reference of an image of kube-state-exporter" .values.exporterImage }}
    imagePullPolicy: {{ (include "library.values" . | fromYaml).imagePullPolicy }}
    securityContext:
      {{- include "library.containerSecurityContext" . | nindent 6 }}
    {{- include "library.resources" . | trim | nindent 4 }}
    {{- include "state.exporter" . | nindent 4 }}
    args: ["8082", platform_]
    ports:
      - name: own-metrics
        containerPort: 8082
    livenessProbe:
      tcpSocket: {port: own-metrics}
      initialDelaySeconds: 10
      periodSeconds: 60
    volumeMounts:
      {{- include "library.tokenMount" . | nindent 6 }}
  {{- end }}
volumes:
  {{- include "library.tokenVolume" . | nindent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}

{{/* What is listed, by API group. */}}
{{- define "state.resources" -}}
core: [namespaces, nodes, persistentvolumeclaims, pods, resourcequotas]
apps: [daemonsets, deployments, statefulsets]
autoscaling: [horizontalpodautoscalers]
batch: [cronjobs, jobs]
policy: [poddisruptionbudgets]
{{- end }}
