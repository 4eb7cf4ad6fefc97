{{- define "grafana.pod" }}
containers:
  - name: grafana
    {{- include "library.container" . | nindent 4 }}
    env:
      {{- include "library.env" . | indent 6 }}
      - name: GF_PATHS_CONFIG
        value: /etc/grafana/grafana.ini
      - name: GF_PATHS_PROVISIONING
        value: /etc/grafana/provisioning
    ports:
      - name: http
        containerPort: 3000
    volumeMounts:
      - name: data
        mountPath: /var/lib/grafana
      - name: configuration
        mountPath: /etc/grafana
      - name: dashboards
        mountPath: /etc/dashboards
      - name: secrets
        mountPath: /etc/secrets
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: configuration
    configMap:
      name: grafana-configuration
      items:
        - key: grafana.ini
          path: grafana.ini
        - key: datasources.yaml
          path: provisioning/datasources/datasources.yaml
        - key: dashboards.yaml
          path: provisioning/dashboards/dashboards.yaml
  - name: dashboards
    configMap:
      name: grafana-dashboards
  - name: secrets
    projected:
      sources:
        - secret:
            name: {{ .values.secret }}
        {{- if .values.postgresql.address }}
        - secret:
            name: {{ .values.postgresql.secret }}
        - secret:
            name: {{ .values.postgresql.authority }}
            items:
              - key: ca.crt
                path: ca.crt
        {{- end }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
