{{- define "library.serviceAccount" -}}
{{- $values := include "library.values" . | fromYaml -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "library.metadata" . | nindent 2 }}
  {{- with $values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: {{ $values.serviceAccount.automountToken }}
{{- end -}}

{{/*
A Service of the workload: `service` of the context where given (for a second one), else that of its values.
`selector` of the context narrows it to some of the pods.
*/}}
{{- define "library.service" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- $service := $values.service -}}
{{- if hasKey . "service" -}}
{{- $service = mergeOverwrite (deepCopy .root.Values.library.service) (deepCopy .service) -}}
{{- end -}}
{{- $meshed := not (empty (include "library.meshed" .)) -}}
{{- if and $service.enabled $service.ports -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $service.name | default .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "library.labels" . | nindent 4 }}
  {{- with $service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $service.type }}
  {{- with $service.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  {{- if $service.headless }}
  clusterIP: None
  {{- end }}
  {{- if $service.publishNotReadyAddresses }}
  publishNotReadyAddresses: true
  {{- end }}
  {{- if ne $service.type "ClusterIP" }}
  {{- with $service.externalTrafficPolicy }}
  externalTrafficPolicy: {{ . }}
  {{- end }}
  {{- end }}
  {{- if eq $service.type "LoadBalancer" }}
  {{- with $service.loadBalancerClass }}
  loadBalancerClass: {{ . }}
  {{- end }}
  {{- with $service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  selector:
    {{- include "library.selectorLabels" . | nindent 4 }}
    {{- with .selector }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    {{- range $name, $port := $service.ports }}
    - name: {{ $name }}
      port: {{ $port.port }}
      targetPort: {{ $port.targetPort | default $name }}
      {{- if and $port.nodePort (ne $service.type "ClusterIP") }}
      nodePort: {{ $port.nodePort }}
      {{- end }}
      {{- /* A proxy that does not know waits for the client's first bytes, and the server's may come first. */}}
      {{- with $port.appProtocol | default ($meshed | ternary "tcp" "") }}
      appProtocol: {{ . }}
      {{- end }}
      {{- with $port.protocol }}
      protocol: {{ . }}
      {{- end }}
    {{- end }}
{{- end -}}
{{- end -}}

{{- define "library.pdb" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- $pdb := $values.pdb -}}
{{- if $pdb.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "library.metadata" . | nindent 2 }}
spec:
  {{- if kindIs "invalid" $pdb.minAvailable }}
  maxUnavailable: {{ $pdb.maxUnavailable }}
  {{- else }}
  minAvailable: {{ $pdb.minAvailable }}
  {{- end }}
  {{- /* On by default since 1.27. */}}
  {{- if semverCompare ">=1.27.0-0" .root.Capabilities.KubeVersion.Version }}
  {{- with $pdb.unhealthyPodEvictionPolicy }}
  unhealthyPodEvictionPolicy: {{ . }}
  {{- end }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "library.selectorLabels" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{/*
autoscaling/v2 for the workload; `kind` of the context, Deployment where absent. `container` is its program's, the workload's name where
absent.
*/}}
{{- define "library.hpa" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- $autoscaling := $values.autoscaling -}}
{{- if $autoscaling.enabled -}}
{{- /* An older API server does not know it, and counts the proxy with the rest. */ -}}
{{- $ofContainer := and (include "library.meshed" .) (semverCompare ">=1.30.0-0" .root.Capabilities.KubeVersion.Version) -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "library.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .kind | default "Deployment" }}
    name: {{ .name }}
  minReplicas: {{ $autoscaling.minReplicas }}
  maxReplicas: {{ $autoscaling.maxReplicas }}
  metrics:
    {{- range $resource, $percent := dict "cpu" $autoscaling.cpuPercent "memory" $autoscaling.memoryPercent }}
    {{- if and $percent $ofContainer }}
    # Of the program alone: its proxy's use says nothing of it.
    - type: ContainerResource
      containerResource:
        name: {{ $resource }}
        container: {{ $.container | default $.name }}
        target:
          type: Utilization
          averageUtilization: {{ $percent }}
    {{- else if $percent }}
    - type: Resource
      resource:
        name: {{ $resource }}
        target:
          type: Utilization
          averageUtilization: {{ $percent }}
    {{- end }}
    {{- end }}
    {{- with $autoscaling.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $autoscaling.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}
