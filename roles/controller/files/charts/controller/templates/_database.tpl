{{/* The controller's own program as another command, with the credentials of the schema's owner. Takes `command`. */}}
{{- define "controller.databasePod" }}
restartPolicy: Never
containers:
  - name: {{ .command }}
    {{- include "library.container" . | nindent 4 }}
    args: [{{ .command }}]
    env:
      {{- include "library.env" . | indent 6 }}
    volumeMounts:
      {{- range $name, $credential := .values.credentials }}
      - name: {{ $name }}
        mountPath: {{ $credential.mountPath }}
        readOnly: true
      {{- end }}
volumes:
  {{- range $name, $credential := .values.credentials }}
  - name: {{ $name }}
    secret:
      secretName: {{ $credential.secret }}
      defaultMode: 0440
  {{- end }}
{{- end }}
