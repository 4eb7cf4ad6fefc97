{{- define "vlagent.pod" }}
containers:
  - name: vlagent
    {{- include "library.container" . | nindent 4 }}
    args:
      - -httpListenAddr=:9429
      # Beside IPv4, to listen and to connect.
      - -enableTCP6
      - -kubernetesCollector
      # Namespace, pod, container and node say whose a line is; labels would be in each line once more.
      - -kubernetesCollector.includePodLabels=false
      # A line of JSON without a message is its fields.
      - -defaultMsgValue=
      - -tmpDataPath={{ .values.directory }}
      - -remoteWrite.url={{ required "store is empty: give the address of the logs' store" .values.store }}
      # 2Gi -> 2GiB, as the program reads sizes.
      - -remoteWrite.maxDiskUsagePerURL={{ regexReplaceAll "([KMGT]i?)$" (toString .values.buffer) "${1}B" }}
      # A store that is back gets its lines soon.
      - -remoteWrite.retryMaxTime=10s
      # Small blocks, and a hundred of them in memory before the disk is used: what the agent needs stays within its limit.
      - -remoteWrite.queues=2
      - -remoteWrite.maxBlockSize=1MiB
      - -memory.allowedBytes=1MB
      - -loggerFormat=json
    {{- with include "library.env" . }}
    env:
      {{- . | indent 6 }}
    {{- end }}
    ports:
      - name: http
        containerPort: 9429
    volumeMounts:
      - name: logs
        mountPath: /var/log
        readOnly: true
      - name: place
        mountPath: {{ .values.directory }}
      {{- include "library.tokenMount" . | nindent 6 }}
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  # The files in /var/log/containers are links to those in /var/log/pods.
  - name: logs
    hostPath: {path: /var/log, type: Directory}
  - name: place
    hostPath: {path: {{ .values.directory }}, type: DirectoryOrCreate}
  {{- include "library.tokenVolume" . | nindent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
