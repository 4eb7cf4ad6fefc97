{{- define "runtime.pod" }}
containers:
  - name: runtime
    {{- include "library.container" . | nindent 4 }}
    env:
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: http
        containerPort: 8080
      - name: metrics
        containerPort: 9090
    volumeMounts:
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
