{{- define "controller.pod" }}
containers:
  - name: controller
    {{- include "library.container" . | nindent 4 }}
    env:
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: http
        containerPort: 8080
      - name: metrics
        containerPort: 9090
    volumeMounts:
      {{- range $name, $credential := .values.credentials }}
      - name: {{ $name }}
        mountPath: {{ $credential.mountPath }}
        readOnly: true
      {{- end }}
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  {{- range $name, $credential := .values.credentials }}
  - name: {{ $name }}
    secret:
      secretName: {{ $credential.secret }}
      defaultMode: 0440
  {{- end }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
