{{- define "toolkeeper.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Leaves room for the longest suffix. */}}
{{- define "toolkeeper.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "toolkeeper.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "toolkeeper.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Cluster-wide objects of two releases of one name, in two namespaces, are apart. */}}
{{- define "toolkeeper.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "toolkeeper.fullname" .) }}
{{- end }}

{{- define "toolkeeper.selectorLabels" -}}
app.kubernetes.io/name: {{ include "toolkeeper.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "toolkeeper.labels" -}}
{{ include "toolkeeper.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "toolkeeper.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "toolkeeper.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name the account to use, or let the chart create one (serviceAccount.create)" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "toolkeeper.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* The options that say which objects are meant. */}}
{{- define "toolkeeper.namespaceOptions" -}}
{{- range .Values.watch.namespaces }}
- --namespace={{ . }}
{{- end }}
{{- end }}

{{/* What a container of ours needs to run as it must. */}}
{{- define "toolkeeper.environment" -}}
- name: TOOLKEEPER_OPERATOR_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: TOOLKEEPER_IDENTITY
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
