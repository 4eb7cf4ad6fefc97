{{- define "exporter.pod" }}
containers:
  - name: elasticsearch-exporter
    {{- include "library.container" . | nindent 4 }}
    args:
      - --es.uri={{ required "address is empty: give that of Elasticsearch, https://HOST:9200" .values.address }}
      - --es.ca=/certificate/ca.crt
      # Of each node, not of the one that answers.
      - --es.all
      - --web.listen-address=:9114
      - --log.level=warn
    env:
      {{- range $variable, $key := dict "ES_USERNAME" "username" "ES_PASSWORD" "password" }}
      - name: {{ $variable }}
        valueFrom: {secretKeyRef: {name: {{ $.values.userSecret }}, key: {{ $key }}}}
      {{- end }}
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: metrics
        containerPort: 9114
    volumeMounts:
      - name: certificate
        mountPath: /certificate
        readOnly: true
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: certificate
    secret:
      secretName: {{ .values.caSecret }}
      items: [{key: ca.crt, path: ca.crt}]
      defaultMode: 0440
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
