{{- define "library.image" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- required (printf "image of %s is empty: give the full reference, for instance registry.example/%s@sha256:..." .name .name) $values.image -}}
{{- end -}}

{{/* What Pod Security `restricted` demands of a container, and a read-only root file system. */}}
{{- define "library.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end -}}

{{- define "library.probes" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- range $kind := list "startup" "readiness" "liveness" }}
{{- with get $values.probes $kind }}
{{ $kind }}Probe:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "library.resources" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Entries of `env`, sorted by name. */}}
{{- define "library.env" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- range $name, $value := $values.env }}
- name: {{ $name | quote }}
{{- if kindIs "map" $value }}
  {{- toYaml $value | nindent 2 }}
{{- else }}
  {{- /* Helm reads every number as a float, and a large one would be written as 1.048576e+06. */}}
  value: {{ (and (kindIs "float64" $value) (eq (floor $value) $value)) | ternary (printf "%.0f" $value) (toString $value) | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Entries of `volumeMounts` for the writable paths. */}}
{{- define "library.writableMounts" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- range $name, $path := $values.writable }}
- name: {{ $name }}
  mountPath: {{ $path.mountPath }}
{{- end }}
{{- end -}}

{{/* Entries of `volumes` for the writable paths. */}}
{{- define "library.writableVolumes" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- range $name, $path := $values.writable }}
- name: {{ $name }}
  emptyDir:
    sizeLimit: {{ required (printf "writable.%s.sizeLimit is missing" $name) $path.sizeLimit }}
    {{- with $path.medium }}
    medium: {{ . }}
    {{- end }}
{{- end }}
{{- end -}}

{{/* Entry of `volumeMounts` for the account's token: of the one container that speaks to the API, where no token is mounted by itself. */}}
{{- define "library.tokenMount" -}}
- name: token
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end -}}

{{/* Entry of `volumes` for it, as Kubernetes itself would mount it. */}}
{{- define "library.tokenVolume" -}}
- name: token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end -}}

{{/* Image, pull policy, security context, resources and probes: a container without what differs. */}}
{{- define "library.container" -}}
{{- $values := include "library.values" . | fromYaml -}}
image: {{ include "library.image" . }}
imagePullPolicy: {{ $values.imagePullPolicy }}
securityContext:
  {{- include "library.containerSecurityContext" . | nindent 2 }}
{{- include "library.resources" . }}
{{- include "library.probes" . }}
{{- end -}}
