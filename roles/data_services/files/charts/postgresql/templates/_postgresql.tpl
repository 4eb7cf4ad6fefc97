{{/* A certificate's Secret as a volume that PostgreSQL accepts: owned by root, read by the group. */}}
{{- define "postgresql.certificateVolume" -}}
- name: certificate
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}

{{- define "postgresql.memberMounts" -}}
- name: data
  mountPath: /var/lib/postgresql/data
- name: configuration
  mountPath: /configuration
- name: scripts
  mountPath: /scripts
- name: certificate
  mountPath: /certificate
{{ include "library.writableMounts" . | trim }}
{{- end }}

{{- define "postgresql.pgbackrestEnvironment" }}
{{- if .root.Values.repository.enabled }}
- name: PGBACKREST_CONFIG
  value: /configuration/pgbackrest.conf
- name: PGBACKREST_STANZA
  value: {{ .root.Values.database }}
{{- end }}
{{- end }}

{{/* A container beside PostgreSQL: its image and its mounts, with resources of its own. */}}
{{- define "postgresql.sidecar" -}}
image: {{ include "library.image" . }}
imagePullPolicy: {{ (include "library.values" . | fromYaml).imagePullPolicy }}
securityContext:
  {{- include "library.containerSecurityContext" . | nindent 2 }}
resources:
  {{- toYaml .root.Values.sidecars.resources | nindent 2 }}
{{- end }}

{{- define "postgresql.pod" }}
# A name is asked for often when a node is gone, and the DNS server that is asked may be on it.
dnsConfig:
  options:
    - {name: timeout, value: "1"}
    - {name: attempts, value: "3"}
containers:
  - name: postgresql
    {{- include "library.container" . | nindent 4 }}
    command: [sh, /scripts/start-postgresql]
    env:
      - name: PG_MAJOR
        value: {{ .values.version | quote }}
      - name: POD_NAME
        valueFrom: {fieldRef: {fieldPath: metadata.name}}
      - name: PATRONI_NAME
        value: $(POD_NAME)
      - name: PATRONI_KUBERNETES_POD_IP
        valueFrom: {fieldRef: {fieldPath: status.podIP}}
      - name: PATRONI_POSTGRESQL_CONNECT_ADDRESS
        value: $(POD_NAME).{{ .name }}:5432
      - name: PATRONI_RESTAPI_CONNECT_ADDRESS
        value: $(POD_NAME).{{ .name }}:8008
      {{- include "postgresql.pgbackrestEnvironment" . | indent 6 }}
      {{- include "library.env" . | indent 6 }}
    ports:
      - name: postgresql
        containerPort: 5432
      - name: patroni
        containerPort: 8008
    lifecycle:
      preStop:
        exec:
          command: [python3, /scripts/member, hand-over]
    volumeMounts:
      {{- include "postgresql.memberMounts" . | nindent 6 }}
      - name: upgrade
        mountPath: /upgrade
      # Patroni keeps the leader's lock in the API; nothing else in the pod sees the token.
      {{- include "library.tokenMount" . | nindent 6 }}
  - name: steward
    {{- include "postgresql.sidecar" . | nindent 4 }}
    command: [sh, /scripts/steward]
    env:
      - name: POD_NAME
        valueFrom: {fieldRef: {fieldPath: metadata.name}}
      {{- include "postgresql.pgbackrestEnvironment" . | indent 6 }}
    startupProbe:
      exec: {command: [test, -e, /tmp/steward.alive]}
      periodSeconds: 5
    livenessProbe:
      exec: {command: [sh, /scripts/steward, alive]}
      periodSeconds: 120
      timeoutSeconds: 5
    volumeMounts:
      {{- include "postgresql.memberMounts" . | nindent 6 }}
      - name: roles
        mountPath: /roles
      - name: settings
        mountPath: /settings
  {{- if .root.Values.repository.enabled }}
  - name: backup
    {{- include "postgresql.sidecar" . | nindent 4 }}
    command: [sh, /scripts/reloading, pgbackrest, server, --config=/configuration/pgbackrest.conf]
    ports:
      - name: pgbackrest
        containerPort: 8432
    startupProbe:
      tcpSocket: {port: pgbackrest}
      periodSeconds: 5
    livenessProbe:
      tcpSocket: {port: pgbackrest}
      periodSeconds: 60
    volumeMounts:
      {{- include "postgresql.memberMounts" . | nindent 6 }}
  {{- end }}
volumes:
  - name: configuration
    projected:
      sources:
        - configMap:
            name: postgresql-configuration
        - configMap:
            name: postgresql-settings
            items: [{key: dcs.yml, path: dcs.yml}]
        # playbooks/restore.yml makes it, and takes it away again: what a cluster that does not exist yet begins with.
        - configMap:
            name: postgresql-restore
            optional: true
  - name: scripts
    configMap:
      name: postgresql-scripts
  # playbooks/upgrade-postgresql.yml makes it, and takes it away again.
  - name: upgrade
    configMap:
      name: postgresql-upgrade
      optional: true
  - name: settings
    configMap:
      name: postgresql-settings
  - name: roles
    secret:
      secretName: {{ .root.Values.secrets.roles }}
      defaultMode: 0440
  {{- include "postgresql.certificateVolume" .root.Values.secrets.postgresql | nindent 2 }}
  {{- include "library.tokenVolume" . | nindent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}

{{/* What the exporters beside the programs have in common. Takes `port`. None is asked whether it is ready: that it is not must never take
what it measures out of its Service. */}}
{{- define "postgresql.exporter" -}}
imagePullPolicy: {{ (include "library.values" . | fromYaml).imagePullPolicy }}
securityContext:
  {{- include "library.containerSecurityContext" . | nindent 2 }}
resources:
  {{- toYaml .root.Values.metrics.resources | nindent 2 }}
ports:
  - name: metrics
    containerPort: {{ .port }}
livenessProbe:
  tcpSocket: {port: metrics}
  initialDelaySeconds: 10
  periodSeconds: 60
{{- end }}

{{/* Memory and processors as Go counts them: it collects more often, and is smaller. */}}
{{- define "postgresql.exporterEnvironment" -}}
- {name: GOMEMLIMIT, value: 24MiB}
- {name: GOGC, value: "50"}
- {name: GOMAXPROCS, value: "1"}
{{- end }}

{{- define "postgresql.pgbouncerPod" }}
containers:
  - name: pgbouncer
    {{- include "library.container" . | nindent 4 }}
    command: [sh, /scripts/reloading, pgbouncer, /configuration/pgbouncer.ini]
    {{- with include "library.env" . }}
    env:
      {{- . | indent 6 }}
    {{- end }}
    ports:
      - name: pgbouncer
        containerPort: 6432
    lifecycle:
      preStop:
        exec:
          # Its address leaves the Service; then SIGINT lets the transactions that run end, and closes the rest.
          command: [sh, -c, "sleep {{ int .values.drainSeconds }}; kill -INT 1; sleep 20"]
    volumeMounts:
      - name: configuration
        mountPath: /configuration
      - name: scripts
        mountPath: /scripts
      - name: users
        mountPath: /users
      - name: certificate
        mountPath: /certificate
      {{- include "library.writableMounts" . | indent 6 }}
  {{- with .root.Values.metrics }}
  {{- if .enabled }}
  - name: exporter
    image: {{ required "metrics.pgbouncerImage is empty: give the full reference of an image of pgbouncer_exporter" .pgbouncerImage }}
    {{- include "postgresql.exporter" (merge (dict "port" 9127) $) | nindent 4 }}
    # It ends where PgBouncer does not answer at its start, and a container that is down would take the pod out of its Service.
    command:
      - sh
      - -c
      - |
        trap 'kill $!; exit 0' TERM
        until /bin/pgbouncer_exporter --web.listen-address=:9127 --log.level=warn & wait $!; do
          sleep 2 & wait $!
        done
    env:
      # Neither an argument nor a file: the program takes it from here alone.
      - name: PGBOUNCER_EXPORTER_CONNECTION_STRING
        valueFrom: {secretKeyRef: {name: {{ .pgbouncerSecret }}, key: url}}
      {{- include "postgresql.exporterEnvironment" $ | nindent 6 }}
    volumeMounts:
      - name: certificate
        mountPath: /certificate
        readOnly: true
  {{- end }}
  {{- end }}
volumes:
  - name: configuration
    configMap:
      name: pgbouncer-configuration
  - name: scripts
    configMap:
      name: postgresql-scripts
      items: [{key: reloading, path: reloading}]
  - name: users
    secret:
      secretName: {{ .root.Values.secrets.pgbouncerUsers }}
      defaultMode: 0440
  {{- include "postgresql.certificateVolume" .root.Values.secrets.pgbouncer | nindent 2 }}
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
