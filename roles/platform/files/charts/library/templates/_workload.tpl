{{/* A whole Deployment. Takes `pod` and, optionally, `checksums` besides the workload context. */}}
{{- define "library.deployment" -}}
{{- $values := include "library.values" . | fromYaml -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "library.metadata" . | nindent 2 }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: {{ $values.revisionHistoryLimit }}
  minReadySeconds: {{ $values.minReadySeconds }}
  {{- with $values.strategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "library.selectorLabels" . | nindent 6 }}
  template:
    {{- include "library.podTemplate" (merge (dict "revisionLabel" "pod-template-hash") .) | nindent 4 }}
{{- end -}}

{{/* A whole StatefulSet, with its claims. Its pods have names in DNS only where its Service is headless. Takes `dataVersion` too: whose data
its volumes hold, which the module chart compares with the live one's before it changes anything. */}}
{{- define "library.statefulset" -}}
{{- $values := include "library.values" . | fromYaml -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "library.metadata" . | nindent 2 }}
  {{- with .dataVersion }}
  annotations:
    lambda-microservice.platform/data-version: {{ . | quote }}
  {{- end }}
spec:
  serviceName: {{ $values.service.name | default .name }}
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: {{ $values.revisionHistoryLimit }}
  minReadySeconds: {{ $values.minReadySeconds }}
  podManagementPolicy: {{ $values.podManagementPolicy }}
  {{- with $values.strategy }}
  updateStrategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if semverCompare ">=1.27.0-0" .root.Capabilities.KubeVersion.Version }}
  {{- with $values.persistentVolumeClaimRetentionPolicy }}
  persistentVolumeClaimRetentionPolicy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "library.selectorLabels" . | nindent 6 }}
  template:
    {{- include "library.podTemplate" (merge (dict "revisionLabel" "controller-revision-hash") .) | nindent 4 }}
  {{- with $values.persistence }}
  volumeClaimTemplates:
    {{- range $name, $claim := . }}
    - apiVersion: v1
      kind: PersistentVolumeClaim
      metadata:
        name: {{ $name }}
        labels:
          {{- include "library.selectorLabels" $ | nindent 10 }}
      spec:
        accessModes:
          {{- toYaml ($claim.accessModes | default (list "ReadWriteOnce")) | nindent 10 }}
        {{- with $claim.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ required (printf "persistence.%s.size is missing" $name) $claim.size }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* A whole DaemonSet. What stands beside it is its ServiceAccount: a drain leaves its pods where they are, and nobody asks them by a name. */}}
{{- define "library.daemonset" -}}
{{- $context := merge (dict "kind" "DaemonSet") . -}}
{{- $values := include "library.values" $context | fromYaml -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  {{- include "library.metadata" $context | nindent 2 }}
spec:
  revisionHistoryLimit: {{ $values.revisionHistoryLimit }}
  minReadySeconds: {{ $values.minReadySeconds }}
  {{- with $values.strategy }}
  updateStrategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "library.selectorLabels" $context | nindent 6 }}
  template:
    {{- include "library.podTemplate" $context | nindent 4 }}
---
{{ include "library.serviceAccount" $context }}
{{- end -}}

{{/* What stands beside a workload: ServiceAccount, Service, PodDisruptionBudget, HorizontalPodAutoscaler. */}}
{{- define "library.companions" -}}
{{ include "library.serviceAccount" . }}
---
{{ include "library.service" . }}
---
{{ include "library.pdb" . }}
---
{{ include "library.hpa" . }}
{{- end -}}
