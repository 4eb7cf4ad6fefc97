{{/*
A Job's spec around a pod template whose `pod` sets restartPolicy. Takes `backoffLimit` and `activeDeadlineSeconds` besides the
workload context.
*/}}
{{- define "library.jobSpec" -}}
backoffLimit: {{ int .backoffLimit }}
activeDeadlineSeconds: {{ int .activeDeadlineSeconds }}
template:
  {{- include "library.podTemplate" (merge (dict "job" true) .) | nindent 2 }}
{{- end -}}

{{/* A CronJob whose runs never overlap. Takes `schedule` and, optionally, `suspend` besides what a Job takes. */}}
{{- define "library.cronJob" -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  {{- include "library.metadata" . | nindent 2 }}
spec:
  schedule: {{ .schedule | quote }}
  {{- if .suspend }}
  suspend: true
  {{- end }}
  concurrencyPolicy: Forbid
  # A run that was missed, as while the control plane was away, is made up for until then.
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    metadata:
      labels:
        {{- include "library.labels" . | nindent 8 }}
    spec:
      {{- include "library.jobSpec" . | nindent 6 }}
{{- end -}}
