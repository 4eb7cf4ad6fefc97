{{/*
A bucket as pgBackRest reads it, whoever calls that. Takes `s3` (bucket, endpoint, port, region, path, uriStyle, keyType, secret, verifyTls, ca)
and `cipherSecret`. The authority is at /configuration/s3-ca.crt. https://pgbackrest.org/configuration.html#section-repository
*/}}
{{- define "library.bucketConfiguration" -}}
{{- with .s3 -}}
repo1-type=s3
repo1-path={{ .path }}
repo1-s3-bucket={{ .bucket }}
repo1-s3-endpoint={{ .endpoint }}
repo1-s3-region={{ .region }}
repo1-s3-uri-style={{ .uriStyle }}
repo1-s3-key-type={{ .keyType }}
repo1-storage-port={{ int .port }}
repo1-storage-verify-tls={{ ternary "y" "n" .verifyTls }}
{{- if .ca }}
repo1-storage-ca-file=/configuration/s3-ca.crt
{{- end }}
{{- end }}
{{- end -}}

{{/* Its secrets, as entries of `env`: never in the configuration, which is a ConfigMap. */}}
{{- define "library.bucketEnv" -}}
{{- if and .s3.bucket (eq .s3.keyType "shared") }}
- name: PGBACKREST_REPO1_S3_KEY
  valueFrom: {secretKeyRef: {name: {{ .s3.secret }}, key: key}}
- name: PGBACKREST_REPO1_S3_KEY_SECRET
  valueFrom: {secretKeyRef: {name: {{ .s3.secret }}, key: key-secret}}
{{- end }}
{{- with .cipherSecret }}
- name: PGBACKREST_REPO1_CIPHER_PASS
  valueFrom: {secretKeyRef: {name: {{ . }}, key: passphrase}}
{{- end }}
{{- end -}}
