{{/* A quantity of Kubernetes, times a percentage, as VictoriaLogs reads sizes: 50Gi, 80 -> 40GiB. */}}
{{- define "victorialogs.share" -}}
{{- $number := regexFind "^[0-9.]+" (toString .size) | float64 -}}
{{- $unit := regexFind "[A-Za-z]+$" (toString .size) -}}
{{- printf "%v%s" (round (divf (mulf $number .percent) 100) 3) (ternary "" (printf "%sB" $unit) (eq $unit "")) -}}
{{- end -}}

{{- define "victorialogs.pod" }}
containers:
  - name: victorialogs
    {{- include "library.container" . | nindent 4 }}
    args:
      - -httpListenAddr=:9428
      # Beside IPv4, to listen and to connect.
      - -enableTCP6
      - -storageDataPath=/data
      - -retentionPeriod={{ int .values.retentionDays }}d
      - -retention.maxDiskSpaceUsageBytes={{ include "victorialogs.share" (dict "size" .values.persistence.data.size "percent" .values.diskPercent) }}
      # Beyond, lines are refused and stay with the agents.
      - -storage.minFreeDiskSpaceBytes=100MB
      # A line of JSON without a message is its fields; both programs would write one of their own into it.
      - -defaultMsgValue=
      - -loggerFormat=json
    {{- with include "library.env" . }}
    env:
      {{- . | indent 6 }}
    {{- end }}
    ports:
      - name: http
        containerPort: 9428
    volumeMounts:
      - name: data
        mountPath: /data
      {{- include "library.writableMounts" . | indent 6 }}
{{- with include "library.writableVolumes" . }}
volumes:
  {{- . | indent 2 }}
{{- end }}
{{- end }}
