{{- define "vpa.recommenderPod" }}
containers:
  - name: recommender
    {{- include "library.container" . | nindent 4 }}
    args:
      - --v=2
      - --address=:8942
      # Pods without a VerticalPodAutoscaler need no memory here.
      - --memory-saver=true
      - --pod-recommendation-min-cpu-millicores={{ .values.minimumCpuMillicores }}
      - --pod-recommendation-min-memory-mb={{ .values.minimumMemoryMebibytes }}
    {{- include "vpa.rest" (dict "context" . "port" 8942) | indent 4 }}
{{- include "vpa.volumes" . }}
{{- end }}

{{- define "vpa.updaterPod" }}
containers:
  - name: updater
    {{- include "library.container" . | nindent 4 }}
    args:
      - --v=2
      - --address=:8943
    {{- include "vpa.rest" (dict "context" . "port" 8943) | indent 4 }}
{{- include "vpa.volumes" . }}
{{- end }}

{{- define "vpa.admissionPod" }}
containers:
  - name: admission-controller
    {{- include "library.container" . | nindent 4 }}
    args:
      - --v=2
      - --address=:8944
      - --port=8000
      # Its registration is an object of the role's, for the namespaces where it is wanted: it needs no right to write one.
      - --register-webhook=false
      - --tls-cert-file=/run/tls/tls.crt
      - --tls-private-key=/run/tls/tls.key
      - --reload-cert=true
    {{- include "vpa.rest" (dict "context" . "port" 8944 "webhook" 8000 "tls" true) | indent 4 }}
{{- include "vpa.volumes" . }}
  - name: tls
    secret:
      secretName: {{ .values.tlsSecret }}
      defaultMode: 0440
{{- end }}

{{- define "vpa.rest" }}
env:
  # Whose Lease tells the updater that the admission controller is there.
  - name: NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  {{- include "library.env" .context | indent 2 }}
ports:
  - name: metrics
    containerPort: {{ .port }}
  {{- with .webhook }}
  - name: webhook
    containerPort: {{ . }}
  {{- end }}
volumeMounts:
  {{- include "library.tokenMount" .context | nindent 2 }}
  {{- if .tls }}
  - name: tls
    mountPath: /run/tls
    readOnly: true
  {{- end }}
  {{- include "library.writableMounts" .context | indent 2 }}
{{- end }}

{{- define "vpa.volumes" }}
volumes:
  {{- include "library.tokenVolume" . | nindent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
