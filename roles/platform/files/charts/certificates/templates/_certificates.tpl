{{- define "certificates.pod" }}
restartPolicy: Never
containers:
  - name: certificates
    {{- include "library.container" . | nindent 4 }}
    command: [python3, /code/renew]
    env:
      - name: POD_NAMESPACE
        valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
      - name: CERTIFICATES
        value: {{ .root.Values.certificates | toJson | quote }}
      - name: RENEW
        value: {{ .root.Values.renew | quote }}
      # The code finds its own modules.
      - {name: PYTHONPATH, value: /code}
      - {name: PYTHONDONTWRITEBYTECODE, value: "1"}
      {{- include "library.env" . | indent 6 }}
    volumeMounts:
      - name: code
        mountPath: /code
      {{- include "library.tokenMount" . | nindent 6 }}
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  - name: code
    configMap:
      name: certificates-code
      items:
        {{- $package := "ansible_collections/lambda_microservice/platform/plugins/module_utils" }}
        - {key: renew, path: renew}
        - {key: errors.py, path: {{ $package }}/errors.py}
        - {key: certificate.py, path: {{ $package }}/secret/certificate.py}
  {{- include "library.tokenVolume" . | nindent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
