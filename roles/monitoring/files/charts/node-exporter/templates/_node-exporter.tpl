{{- define "node-exporter.pod" }}
containers:
  - name: node-exporter
    {{- include "library.container" . | nindent 4 }}
    command: [/bin/node_exporter]
    args:
      - --path.procfs=/host/proc
      - --path.sysfs=/host/sys
      - --path.rootfs=/host/root
      - --web.listen-address=:9100
      - --log.level=warn
      - --collector.filesystem.mount-points-exclude={{ .values.mountPointsExclude }}
      - --collector.disable-defaults
      {{- range .values.collectors }}
      - --collector.{{ . }}
      {{- end }}
    {{- with include "library.env" . }}
    env:
      {{- . | indent 6 }}
    {{- end }}
    ports:
      - name: metrics
        containerPort: 9100
    volumeMounts:
      {{- range $name, $_ := dict "proc" "" "sys" "" "root" "" }}
      - name: {{ $name }}
        mountPath: /host/{{ $name }}
        readOnly: true
        # What the node mounts later is seen too.
        mountPropagation: HostToContainer
      {{- end }}
volumes:
  {{- range $name, $path := dict "proc" "/proc" "sys" "/sys" "root" "/" }}
  - name: {{ $name }}
    hostPath: {path: {{ $path }}, type: Directory}
  {{- end }}
{{- end }}
