{{- define "library.podSecurityContext" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- /* An agent of a node may say that it is root; Pod Security refuses it everywhere but in the agents' namespace. */ -}}
{{ mergeOverwrite (dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault")) $values.securityContext | toYaml }}
{{- end -}}

{{- define "library.topologySpreadConstraints" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- $spread := $values.spread -}}
{{- $context := . -}}
{{- range $key, $wanted := dict "topology.kubernetes.io/zone" $spread.zone "kubernetes.io/hostname" $spread.host }}
{{- if $wanted }}
{{- $ofZones := and (eq $key "topology.kubernetes.io/zone") $spread.zoneWhenUnsatisfiable }}
{{- $how := $ofZones | default $spread.whenUnsatisfiable }}
{{- $asks := semverCompare ">=1.27.0-0" $context.root.Capabilities.KubeVersion.Version }}
{{- /* Without the fields below a zone that is cordoned, and pods of the old revision, would keep pods without data from every other zone. */}}
{{- if and $ofZones (not $asks) (not $spread.minDomains) }}
{{- $how = "ScheduleAnyway" }}
{{- end }}
- topologyKey: {{ $key }}
  maxSkew: {{ $spread.maxSkew }}
  whenUnsatisfiable: {{ $how }}
  labelSelector:
    matchLabels:
      {{- include "library.selectorLabels" $context | nindent 6 }}
  {{- /* On by default since 1.27; an older API server would drop the fields silently. */}}
  {{- if $asks }}
  {{- if eq $how "DoNotSchedule" }}
  {{- with $spread.minDomains }}
  minDomains: {{ . }}
  {{- end }}
  {{- /* A zone whose nodes are all cordoned or unreachable is none: the others take its pods. */}}
  nodeTaintsPolicy: Honor
  {{- end }}
  {{- /* A StatefulSet's pods are gone before others take their places, in which their volumes are: those of the new revision alone would
     not be even on the way, and one would stay pending. */}}
  {{- if not (and (eq $how "DoNotSchedule") (eq ($context.revisionLabel | default "") "controller-revision-hash")) }}
  {{- with $context.revisionLabel }}
  matchLabelKeys:
    - {{ . }}
  {{- end }}
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "library.affinity" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- $affinity := $values.affinity | default (include "library.antiAffinity" . | fromYaml) -}}
{{- /* A DaemonSet's pods are on every node. */ -}}
{{- if and $values.zones (ne (.kind | default "") "DaemonSet") -}}
{{- $here := dict "key" "topology.kubernetes.io/zone" "operator" "In" "values" $values.zones -}}
{{- $nodes := $affinity.nodeAffinity | default dict -}}
{{- $required := $nodes.requiredDuringSchedulingIgnoredDuringExecution | default (dict "nodeSelectorTerms" (list dict)) -}}
{{- /* One of the terms is enough, and all of a term has to hold. */ -}}
{{- $terms := list -}}
{{- range $required.nodeSelectorTerms -}}
{{- $terms = append $terms (merge (dict "matchExpressions" (append (.matchExpressions | default list) $here)) .) -}}
{{- end -}}
{{- $nodes = merge (dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms)) $nodes -}}
{{- $affinity = merge (dict "nodeAffinity" $nodes) $affinity -}}
{{- end -}}
{{- with $affinity }}
{{- toYaml . }}
{{- end }}
{{- end -}}

{{- define "library.antiAffinity" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- if eq $values.antiAffinity "required" -}}
podAntiAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "library.selectorLabels" . | nindent 10 }}
{{- else if eq $values.antiAffinity "preferred" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "library.selectorLabels" . | nindent 12 }}
{{- end }}
{{- end -}}

{{- define "library.tolerations" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- $taints := list "node.kubernetes.io/not-ready" "node.kubernetes.io/unreachable" -}}
{{- /* A DaemonSet's pods, `kind` of the context, could go nowhere else: Kubernetes lets them tolerate both without an end. */ -}}
{{- range $taint := (eq (.kind | default "") "DaemonSet") | ternary list $taints }}
- key: {{ $taint }}
  operator: Exists
  effect: NoExecute
  tolerationSeconds: {{ $values.nodeFailureTolerationSeconds }}
{{- end }}
{{- with $values.tolerations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Everything of a pod's spec that is not containers and volumes. */}}
{{- define "library.podSpec" -}}
{{- $values := include "library.values" . | fromYaml -}}
serviceAccountName: {{ .name }}
automountServiceAccountToken: {{ $values.serviceAccount.automountToken }}
{{- /* Service variables of a namespace shared by many workloads can shadow a program's own settings. */}}
enableServiceLinks: {{ $values.serviceLinks }}
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- if not $values.hostUsers }}
{{- /* An API server that does not know the field drops it, and nobody would notice. */}}
{{- if semverCompare "<1.30.0-0" .root.Capabilities.KubeVersion.Version }}
{{- fail (printf "%s cannot have a user namespace of its own. Found: hostUsers false on Kubernetes %s. Expected: 1.30 or later, which knows it by default from 1.33 on. To do: leave hostUsers true, or upgrade the cluster." .name .root.Capabilities.KubeVersion.Version) }}
{{- end }}
hostUsers: false
{{- end }}
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
securityContext:
  {{- include "library.podSecurityContext" . | nindent 2 }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "library.affinity" . }}
affinity:
  {{- . | nindent 2 }}
{{- end }}
{{- with include "library.topologySpreadConstraints" . }}
topologySpreadConstraints:
  {{- . | trim | nindent 2 }}
{{- end }}
tolerations:
  {{- include "library.tolerations" . | trim | nindent 2 }}
{{- end -}}

{{/*
What a node autoscaler may do to the pod by itself: cluster-autoscaler keeps a node whose pods have files of their own there, unless they
are named as scratch. https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md, https://karpenter.sh/docs/concepts/disruption/
*/}}
{{- define "library.eviction" -}}
{{- $values := include "library.values" . | fromYaml -}}
{{- if ne (.kind | default "") "DaemonSet" }}
{{- if or .job (not $values.evictable) }}
cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
karpenter.sh/do-not-disrupt: "true"
{{- else }}
{{- $scratch := list }}
{{- range $name, $path := $values.writable }}
{{- if ne ($path.medium | default "") "Memory" }}{{ $scratch = append $scratch $name }}{{ end }}
{{- end }}
{{- if include "library.meshed" . }}
{{- $scratch = concat $scratch (list "workload-socket" "credential-socket" "workload-certs" "istio-data") }}
{{- end }}
{{- with $scratch }}
cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes: {{ join "," . }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The workload's row in `mesh.workloads`, as JSON; nothing where it has no proxy. */}}
{{- define "library.meshed" -}}
{{- $mesh := (include "library.values" . | fromYaml).mesh -}}
{{- with dig "workloads" (printf "%s/%s" .root.Release.Namespace .name) dict $mesh }}{{ toJson . }}{{ end -}}
{{- end -}}

{{/*
What the proxy's injector reads: https://istio.io/latest/docs/reference/config/annotations/. All four of its resources, as one of them
takes away the mesh's own for the others.
*/}}
{{- define "library.proxy" -}}
{{- if include "library.meshed" . }}
{{- $past := include "library.meshed" . | fromJson }}
{{- $proxy := (include "library.values" . | fromYaml).mesh.proxy }}
sidecar.istio.io/proxyCPU: {{ $proxy.cpu | quote }}
sidecar.istio.io/proxyCPULimit: {{ $proxy.cpuLimit | quote }}
sidecar.istio.io/proxyMemory: {{ $proxy.memory | quote }}
sidecar.istio.io/proxyMemoryLimit: {{ $proxy.memoryLimit | quote }}
{{- with $past.inbound }}
traffic.sidecar.istio.io/excludeInboundPorts: {{ join "," . | quote }}
{{- end }}
{{- with $past.outbound }}
traffic.sidecar.istio.io/excludeOutboundPorts: {{ join "," . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A pod template; `pod` names the chart's template that renders containers and volumes. */}}
{{- define "library.podTemplate" -}}
{{- $values := include "library.values" . | fromYaml -}}
metadata:
  labels:
    {{- include "library.labels" . | nindent 4 }}
    {{- if include "library.meshed" . }}
    sidecar.istio.io/inject: "true"
    {{- end }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- $own := printf "%s\n%s\n%s" (include "library.checksums" .) (include "library.eviction" .) (include "library.proxy" .) | fromYaml }}
  {{- with mergeOverwrite $own $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "library.podSpec" . | nindent 2 }}
  {{- include .pod . | trim | nindent 2 }}
{{- end -}}
