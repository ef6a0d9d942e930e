{{/* Where the database is, and whose address is in which Secret. */}}

{{/* The Secret with the operator's address, and its key. */}}
{{- define "fibflow.databaseSecret" -}}
{{- default (printf "%s-database" (include "fibflow.operator" .)) .Values.database.existingSecret -}}
{{- end -}}

{{- define "fibflow.databaseKey" -}}
{{- if .Values.database.existingSecret }}{{ .Values.database.keys.operator }}{{ else }}dsn{{ end -}}
{{- end -}}

{{/* The Secret with the address for migrations: a hook of its own where the chart makes it. */}}
{{- define "fibflow.migrationsSecret" -}}
{{- if .Values.database.existingSecret -}}
{{- .Values.database.existingSecret -}}
{{- else if .Values.postgresql.enabled -}}
{{- include "fibflow.databaseSecret" . -}}
{{- else -}}
{{- include "fibflow.migrations" . -}}
{{- end -}}
{{- end -}}

{{- define "fibflow.migrationsKey" -}}
{{- if .Values.database.existingSecret }}{{ .Values.database.keys.migrations }}{{ else }}dsn{{ end -}}
{{- end -}}

{{/* The address for a role: (list . "operator"); a role without a user of its own is the operator's. */}}
{{- define "fibflow.dsn" -}}
{{- $top := index . 0 -}}
{{- $database := $top.Values.database -}}
{{- if $top.Values.postgresql.enabled -}}
{{- $host := printf "%s.%s.svc" (include "fibflow.postgresql" $top) $top.Release.Namespace -}}
postgresql://fibflow:{{ include "fibflow.escaped" (include "fibflow.password" $top) }}@{{ $host }}:5432/fibflow
{{- else -}}
{{- $role := index $database (index . 1) -}}
{{- if not $role.user }}{{ $role = $database.operator }}{{ end -}}
{{- $who := include "fibflow.escaped" $role.user -}}
{{- if $role.password }}{{ $who = printf "%s:%s" $who (include "fibflow.escaped" $role.password) }}{{ end -}}
{{- $where := printf "%s:%d/%s" $database.host (int $database.port) (include "fibflow.escaped" $database.name) -}}
postgresql://{{ $who }}@{{ $where }}?sslmode={{ $database.sslmode }}
{{- end -}}
{{- end -}}

{{- define "fibflow.escaped" -}}{{ urlquery . | replace "+" "%20" }}{{- end -}}

{{/* The built-in database's password: as given, else as it was drawn before, else drawn now; one in one rendering. */}}
{{- define "fibflow.password" -}}
{{- if .Values.postgresql.password -}}
{{- .Values.postgresql.password -}}
{{- else -}}
{{- if not (hasKey .Release "fibflowPassword") -}}
{{- $stored := lookup "v1" "Secret" .Release.Namespace (include "fibflow.postgresql" .) -}}
{{- $drawn := randAlphaNum 32 -}}
{{- with $stored }}{{ $drawn = index .data "password" | b64dec }}{{ end -}}
{{- $_ := set .Release "fibflowPassword" $drawn -}}
{{- end -}}
{{- .Release.fibflowPassword -}}
{{- end -}}
{{- end -}}

{{/* By whom the database's certificate must be signed, as libpq is told: a variable, and its file. */}}
{{- define "fibflow.caVariable" -}}
{{- if .Values.database.ca.secret -}}
- {name: PGSSLROOTCERT, value: /etc/fibflow/ca.crt}
{{- end -}}
{{- end -}}

{{- define "fibflow.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.database.ca.secret }}
- {name: ca, mountPath: /etc/fibflow, readOnly: true}
{{- end -}}
{{- end -}}

{{- define "fibflow.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with .Values.database.ca }}
{{- if .secret }}
- name: ca
  secret:
    secretName: {{ .secret | quote }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end }}
{{- end -}}
{{- end -}}

{{/* The namespaces where workers find their Secret. */}}
{{- define "fibflow.workerNamespaces" -}}
{{- toJson (default (default (list .Release.Namespace) .Values.watchNamespaces) .Values.database.workers.namespaces) -}}
{{- end -}}

{{/* The container that migrates, in a Job or before the operator. */}}
{{- define "fibflow.migrate" -}}
name: migrate
image: {{ include "fibflow.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [python, -m, fibflow, migrate]
args: [--wait, {{ .Values.migrations.waitSeconds | quote }}, --installation, {{ include "fibflow.installation" . | quote }}]
env:
  - name: FIBFLOW_DATABASE
    valueFrom:
      secretKeyRef:
        name: {{ include "fibflow.migrationsSecret" . | quote }}
        key: {{ include "fibflow.migrationsKey" . | quote }}
  {{- include "fibflow.caVariable" . | nindent 2 }}
  {{- if not .Values.postgresql.enabled }}
  # The operator's role is looked at before there is an operator.
  - name: FIBFLOW_CHECKING
    valueFrom:
      secretKeyRef:
        name: {{ include "fibflow.migrationsSecret" . | quote }}
        key: {{ if .Values.database.existingSecret }}{{ include "fibflow.databaseKey" . | quote }}{{ else }}operator{{ end }}
  {{- end }}
resources: {{ toYaml .Values.migrations.resources | nindent 2 }}
securityContext: {{ include "fibflow.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts: {{ include "fibflow.mounts" . | nindent 2 }}
{{- end -}}

{{/* What the database is marked with. */}}
{{- define "fibflow.installation" -}}
{{- default (printf "%s/%s" .Release.Namespace .Release.Name) .Values.installationId -}}
{{- end -}}
