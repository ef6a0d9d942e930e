{{/* Names and labels. */}}

{{/* Of 41 characters at most: with `-postgresql` and a hash, a StatefulSet makes a label of it, which has 63. */}}
{{- define "fibflow.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 41 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 41 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 41 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "fibflow.operator" -}}{{ include "fibflow.fullname" . }}-operator{{- end -}}

{{- define "fibflow.postgresql" -}}{{ include "fibflow.fullname" . }}-postgresql{{- end -}}

{{- define "fibflow.migrations" -}}{{ include "fibflow.fullname" . }}-migrations{{- end -}}

{{- define "fibflow.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "fibflow.operator" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels of everything; the component, where there is one, is the second of a list: (list . "operator"). */}}
{{- define "fibflow.labels" -}}
{{- $top := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $top.Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
app.kubernetes.io/part-of: fibflow
{{ include "fibflow.selector" . }}
{{- with $top.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fibflow.selector" -}}
{{- $top := index . 0 -}}
app.kubernetes.io/name: {{ default $top.Chart.Name $top.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ $top.Release.Name | quote }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "fibflow.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Which nodes any pod of ours may run on. */}}
{{- define "fibflow.placement" -}}
{{- with .Values.operator.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Restricted pod security; no user is forced, so that OpenShift may choose one. */}}
{{- define "fibflow.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "fibflow.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
