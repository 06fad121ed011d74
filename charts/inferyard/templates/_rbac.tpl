{{/* The metadata of a role and its binding: (list $ "router" NAMESPACE); no namespace: of the cluster. A name of the
cluster is told apart from that of the same release elsewhere. */}}
{{- define "inferyard.roleMetadata" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s" (include "inferyard.fullname" $root) (index . 1) -}}
{{- if index . 2 -}}
name: {{ $name }}
namespace: {{ index . 2 }}
{{- else -}}
name: {{ $root.Release.Namespace }}-{{ $name }}
{{- end }}
labels:
  {{- include "inferyard.labels" (list $root (index . 1)) | nindent 2 }}
{{- end -}}

{{/* Gives a role to the component's account: (list $ "router" NAMESPACE). */}}
{{- define "inferyard.binding" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s" (include "inferyard.fullname" $root) (index . 1) -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "RoleBinding" "ClusterRoleBinding" (ne (index . 2) "") }}
metadata:
  {{- include "inferyard.roleMetadata" . | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  {{- if index . 2 }}
  kind: Role
  name: {{ $name }}
  {{- else }}
  kind: ClusterRole
  name: {{ $root.Release.Namespace }}-{{ $name }}
  {{- end }}
subjects:
  - kind: ServiceAccount
    name: {{ include "inferyard.serviceAccount" (list $root (splitList "-" (index . 1) | first)) }}
    namespace: {{ $root.Release.Namespace }}
{{- end -}}
