{{/* What is refused before anything is installed, in the order in which it is looked at. */}}
{{- define "fibflow.check" -}}
{{- include "fibflow.checkName" . -}}
{{- include "fibflow.checkRights" . -}}
{{- include "fibflow.checkDatabase" . -}}
{{- include "fibflow.checkRead" . -}}
{{- include "fibflow.checkUsers" . -}}
{{- include "fibflow.checkCluster" . -}}
{{- end -}}

{{/* What cannot be: a release's name that is none for a Service. */}}
{{- define "fibflow.checkName" -}}
{{- if not (regexMatch "^[a-z][-a-z0-9]*$" (include "fibflow.fullname" .)) -}}
{{- fail (printf "\nNo Service may be named %s: names begin with a letter and have no dots. Set fullnameOverride." (include "fibflow.operator" .)) -}}
{{- end -}}
{{- end -}}

{{/* What should not be: the operator's rights in the hands of every pod that names no ServiceAccount. */}}
{{- define "fibflow.checkRights" -}}
{{- if and .Values.rbac.create (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "\nSet serviceAccount.name: without it, every pod of the namespace that names none would have the operator's rights." -}}
{{- end -}}
{{- end -}}

{{/* What cannot be: no database, or two. */}}
{{- define "fibflow.checkDatabase" -}}
{{- $given := 0 -}}
{{- range list .Values.database.existingSecret .Values.database.host .Values.postgresql.enabled -}}
{{- if . }}{{ $given = add $given 1 }}{{ end -}}
{{- end -}}
{{- if eq $given 0 -}}
{{- fail "\nfibflow needs a PostgreSQL. Set one of\n  database.existingSecret   a Secret with its address\n  database.host             and the values beside it\n  postgresql.enabled=true   to try things out" -}}
{{- end -}}
{{- if gt $given 1 -}}
{{- fail "\nSet only one of database.existingSecret, database.host and postgresql.enabled: which database is meant?" -}}
{{- end -}}
{{- end -}}

{{/* Beside which database a value is read at all; the defaults are those of values.yaml. */}}
{{- define "fibflow.readBeside" -}}
keys.operator:       {default: dsn, beside: [database.existingSecret]}
keys.migrations:     {default: dsn, beside: [database.existingSecret]}
port:                {default: 5432, beside: [database.existingSecret, database.host]}
name:                {default: fibflow, beside: [database.host]}
sslmode:             {default: prefer, beside: [database.host]}
operator.user:       {default: fibflow, beside: [database.host]}
operator.password:   {default: "", beside: [database.host]}
migrations.user:     {default: "", beside: [database.host]}
migrations.password: {default: "", beside: [database.host]}
workers.user:        {default: "", beside: [database.host]}
workers.password:    {default: "", beside: [database.host]}
workers.namespaces:  {default: [], beside: [database.host, postgresql.enabled]}
{{- end -}}

{{/* What cannot be meant: a value that nobody reads. */}}
{{- define "fibflow.checkRead" -}}
{{- $database := .Values.database -}}
{{- $chosen := "database.host" -}}
{{- if $database.existingSecret }}{{ $chosen = "database.existingSecret" }}{{ end -}}
{{- if .Values.postgresql.enabled }}{{ $chosen = "postgresql.enabled" }}{{ end -}}
{{- $unread := list -}}
{{- range $path, $rule := include "fibflow.readBeside" . | fromYaml -}}
{{- $value := $database -}}
{{- range splitList "." $path }}{{ $value = index $value . }}{{ end -}}
{{- if and (ne (toString $value) (toString $rule.default)) (not (has $chosen $rule.beside)) -}}
{{- $unread = append $unread (printf "database.%s" $path) -}}
{{- end -}}
{{- end -}}
{{- with $unread -}}
{{- fail (printf "\nNobody reads %s beside %s. Leave one or the other out." (join ", " .) $chosen) -}}
{{- end -}}
{{- end -}}

{{/* Nor a password of nobody: a role without a user is the operator's, password and all. */}}
{{- define "fibflow.checkUsers" -}}
{{- range $name, $role := pick .Values.database "migrations" "workers" -}}
{{- if and $role.password (not $role.user) -}}
{{- fail (printf "\nNobody reads database.%s.password without database.%s.user. Set the user, or leave the password out." $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What is not there yet. Where Helm asks no cluster, as for `helm template`, or makes the namespace itself, nothing is known. */}}
{{- define "fibflow.checkCluster" -}}
{{- $database := .Values.database -}}
{{- $named := or .Values.watchNamespaces $database.workers.namespaces $database.existingSecret $database.ca.secret -}}
{{- if and $named (lookup "v1" "Namespace" "" .Release.Namespace) -}}
{{- range .Values.watchNamespaces }}{{ include "fibflow.checkNamespace" (list "watchNamespaces" .) }}{{ end -}}
{{- range $database.workers.namespaces }}{{ include "fibflow.checkNamespace" (list "database.workers.namespaces" .) }}{{ end -}}
{{- with $database.existingSecret -}}
{{- include "fibflow.checkSecret" (list $ "database.existingSecret" . "database.keys.operator" $database.keys.operator) -}}
{{- if $.Values.migrations.enabled -}}
{{- include "fibflow.checkSecret" (list $ "database.existingSecret" . "database.keys.migrations" $database.keys.migrations) -}}
{{- end -}}
{{- end -}}
{{- with $database.ca.secret -}}
{{- include "fibflow.checkSecret" (list $ "database.ca.secret" . "database.ca.key" $database.ca.key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* (list "the value's path" "namespace") */}}
{{- define "fibflow.checkNamespace" -}}
{{- $path := index . 0 -}}
{{- $namespace := index . 1 -}}
{{- if not (lookup "v1" "Namespace" "" $namespace) -}}
{{- fail (printf "\n%s names %s, and there is no such namespace. Make it first: kubectl create namespace %s" $path $namespace $namespace) -}}
{{- end -}}
{{- end -}}

{{/* (list . "the value's path" "Secret" "the key's path" "key") */}}
{{- define "fibflow.checkSecret" -}}
{{- $namespace := (index . 0).Release.Namespace -}}
{{- $name := index . 2 -}}
{{- $key := index . 4 -}}
{{- $found := lookup "v1" "Secret" $namespace $name -}}
{{- if not $found -}}
{{- fail (printf "\n%s names %s, and there is no such Secret in %s. Make it first: kubectl create secret generic %s --namespace %s --from-literal=%s=…" (index . 1) $name $namespace $name $namespace $key) -}}
{{- end -}}
{{- if not (hasKey (default dict $found.data) $key) -}}
{{- fail (printf "\nThe Secret %s in %s has no key %s, which %s names. It has: %s." $name $namespace $key (index . 3) (default "none" (keys (default dict $found.data) | sortAlpha | join ", "))) -}}
{{- end -}}
{{- end -}}
