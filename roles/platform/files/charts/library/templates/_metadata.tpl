{{/*
The workload context that every helper takes:
  root       the chart's $
  name       name of the workload: its objects, and app.kubernetes.io/name
  component  its part in the platform
  values     its values, over those of the library chart
*/}}

{{/* The workload's values over the library's defaults, as YAML. */}}
{{- define "library.values" -}}
{{- mergeOverwrite (deepCopy .root.Values.library) (omit .values "library" "global" | deepCopy) | toYaml -}}
{{- end -}}

{{/* Labels that never change in the life of a workload: selectors, spread and budgets use them. */}}
{{- define "library.selectorLabels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "library.labels" -}}
{{ include "library.selectorLabels" . }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: lambda-microservice-platform
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | default .root.Chart.Version | quote }}
{{- end -}}

{{/* metadata of an object: name, namespace, labels. Takes `suffix` too. */}}
{{- define "library.metadata" -}}
name: {{ .name }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "library.labels" . | nindent 2 }}
{{- end -}}

{{/* Annotations that change, and so restart the pods, when one of the `checksums` templates renders differently. */}}
{{- define "library.checksums" -}}
{{- $root := .root -}}
{{- range .checksums }}
checksum/{{ trimSuffix ".yaml" . }}: {{ include (printf "%s/%s" $root.Template.BasePath .) $root | sha256sum | quote }}
{{- end -}}
{{- end -}}
