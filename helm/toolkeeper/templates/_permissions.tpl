{{/*
What the operator does on a cluster, and no more: tests/helm runs it under these rules and counts what is refused, and
what is never used.
*/}}

{{/* In every namespace that is watched. */}}
{{- define "toolkeeper.rules" -}}
# The watch and the lists; our finalizer, by a JSON patch that touches nothing else.
- apiGroups: [toolkeeper.dev]
  resources: [toolboxes, mcpservers, agentconnections]
  verbs: [list, watch]
- apiGroups: [toolkeeper.dev]
  resources: [toolboxes, mcpservers]
  verbs: [patch]
- apiGroups: [toolkeeper.dev]
  resources: [toolboxes/status, mcpservers/status, agentconnections/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Where Secrets may be used, and the tokens of agents are kept. RBAC cannot limit a create to names. */}}
{{- define "toolkeeper.secretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create]
{{- end }}

{{/* Where the operator itself runs: the election, the name of the installation, the key of its digests. */}}
{{- define "toolkeeper.ownRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [toolkeeper]
  verbs: [get, update]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [toolkeeper]
  verbs: [get]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [toolkeeper-digests]
  verbs: [get]
{{- end }}

{{/* What the Job before an uninstall does. */}}
{{- define "toolkeeper.retireRules" -}}
- apiGroups: [toolkeeper.dev]
  resources: [toolboxes, mcpservers]
  verbs: [list, patch]
{{- end }}

{{- define "toolkeeper.retireOwnRules" -}}
- apiGroups: [apps]
  resources: [deployments/scale]
  resourceNames: [{{ include "toolkeeper.fullname" . }}]
  verbs: [patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [toolkeeper]
  verbs: [get, update]
{{- end }}

{{/* A namespace's Role and RoleBinding: (dict "root" $ "namespace" … "name" … "rules" … "account" …) */}}
{{- define "toolkeeper.granted" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels: {{- include "toolkeeper.labels" .root | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- . | nindent 4 }}
  {{- end }}
rules: {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels: {{- include "toolkeeper.labels" .root | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- . | nindent 4 }}
  {{- end }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .name | quote }}}
subjects: [{kind: ServiceAccount, name: {{ .account }}, namespace: {{ .root.Release.Namespace }}}]
{{- end }}

{{/* The same for the whole cluster. */}}
{{- define "toolkeeper.grantedEverywhere" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .name }}
  labels: {{- include "toolkeeper.labels" .root | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- . | nindent 4 }}
  {{- end }}
rules: {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .name }}
  labels: {{- include "toolkeeper.labels" .root | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- . | nindent 4 }}
  {{- end }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ .name | quote }}}
subjects: [{kind: ServiceAccount, name: {{ .account }}, namespace: {{ .root.Release.Namespace }}}]
{{- end }}
