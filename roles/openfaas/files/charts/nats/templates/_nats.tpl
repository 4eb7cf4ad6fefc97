{{- define "nats.pod" }}
containers:
  - name: nats
    {{- include "library.container" . | nindent 4 }}
    args: [--config, /etc/nats/nats.conf]
    env:
      - name: POD_NAME
        valueFrom:
          fieldRef:
            fieldPath: metadata.name
      - name: GOMEMLIMIT
        valueFrom:
          resourceFieldRef: {resource: limits.memory}
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: client
        containerPort: 4222
      - name: routes
        containerPort: 6222
      - name: monitor
        containerPort: 8222
    volumeMounts:
      - name: configuration
        mountPath: /etc/nats
        readOnly: true
      - name: data
        mountPath: /data
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  # Of both in one folder: a file names another beside it alone.
  - name: configuration
    projected:
      defaultMode: 0440
      sources:
        - configMap: {name: nats-configuration}
        - secret: {name: {{ .values.credentialsSecret }}}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
