{{/* The metadata of a pod: (list $ "router" ANNOTATIONS). No version of the chart is in it: that alone restarts nothing. */}}
{{- define "inferyard.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- with merge dict $values.podAnnotations (index . 2) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
labels:
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "inferyard.selector" (list $root (index . 1)) | nindent 2 }}
  app.kubernetes.io/part-of: inferyard
{{- end -}}

{{/* What the `restricted` standard asks of a pod: (list $ USER); no user: that of values. Where values leave users to the
platform, all pods do. */}}
{{- define "inferyard.podSecurity" -}}
{{- $given := (index . 0).Values.podSecurityContext -}}
{{- $own := dict -}}
{{- range $field := list "runAsUser" "runAsGroup" "fsGroup" -}}
{{- if and (index $ 1) (hasKey $given $field) -}}
{{- $_ := set $own $field (index $ 1) -}}
{{- end -}}
{{- end -}}
{{- $restricted := dict "runAsNonRoot" true "fsGroupChangePolicy" "OnRootMismatch" "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- mergeOverwrite $restricted (deepCopy $given) $own | toYaml -}}
{{- end -}}

{{/* What it asks of a container. */}}
{{- define "inferyard.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{/* Where pods of a component run, and as whom: (list $ "router" NEEDS-THE-API). */}}
{{- define "inferyard.podSettings" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
serviceAccountName: {{ include "inferyard.serviceAccount" . }}
automountServiceAccountToken: {{ index . 2 }}
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "inferyard.podSecurity" (list $root 0) | nindent 2 }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.topologySpread }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "inferyard.selector" (list $root (index $ 1)) | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The image and security of a container of Inferyard: $. */}}
{{- define "inferyard.container" -}}
image: {{ include "inferyard.image" (dict "image" .Values.image "tag" .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "inferyard.containerSecurity" . | nindent 2 }}
{{- end -}}

{{/* How a process logs and traces. */}}
{{- define "inferyard.logArgs" -}}
- --log={{ .Values.logging.level }}
- --log-format={{ .Values.logging.format }}
{{- with .Values.tracing.otlpEndpoint }}
- --otlp-endpoint={{ . }}
{{- end }}
{{- end -}}

{{/* Which namespaces a process watches. The operator watches all where none is named. */}}
{{- define "inferyard.namespaceArgs" -}}
{{- if not .Values.clusterScope }}
{{- range include "inferyard.namespaces" . | fromJsonArray }}
- --namespace={{ . }}
{{- end }}
{{- end }}
{{- range include "inferyard.platformNamespaces" . | fromJsonArray }}
- --platform-namespace={{ . }}
{{- end }}
{{- end -}}

{{/* Environment variable with the URL of a database: (list $ "redis"). */}}
{{- define "inferyard.urlEnv" -}}
{{- $root := index . 0 -}}
{{- $which := index . 1 -}}
{{- $values := index $root.Values $which -}}
{{- $given := $values.existingSecret -}}
valueFrom:
  secretKeyRef:
    name: {{ $given.name | default (printf "%s-%s" (include "inferyard.fullname" $root) $which) }}
    key: {{ ternary $given.key "url" (ne $given.name "") }}
{{- end -}}

{{/* Environment variable with the hash of the admin key, for --admin-key-hash=$(…). */}}
{{- define "inferyard.adminEnv" -}}
{{- if include "inferyard.hasAdminKey" . }}
- name: ADMIN_KEY_HASH
  valueFrom:
    secretKeyRef:
      name: {{ .Values.adminKey.existingSecret.name | default (printf "%s-admin-key" (include "inferyard.fullname" .)) }}
      key: {{ ternary .Values.adminKey.existingSecret.key "admin-key-sha256" (ne .Values.adminKey.existingSecret.name "") }}
{{- end }}
{{- end -}}

{{- define "inferyard.adminArgs" -}}
{{- if include "inferyard.hasAdminKey" . }}
- --admin-key-hash=$(ADMIN_KEY_HASH)
{{- end }}
{{- range .Values.adminKey.hashes }}
- --admin-key-hash={{ . }}
{{- end }}
{{- end -}}

{{/* The authority of Redis' certificate. */}}
{{- define "inferyard.redisEnv" -}}
- name: INFERYARD_REDIS
  {{- include "inferyard.urlEnv" (list . "redis") | nindent 2 }}
{{- if .Values.redis.ca.secretName }}
- name: INFERYARD_REDIS_CA
  value: /etc/inferyard/redis-ca/{{ .Values.redis.ca.key }}
{{- end }}
{{- end -}}

{{- define "inferyard.redisMounts" -}}
{{- if .Values.redis.ca.secretName }}
- name: redis-ca
  mountPath: /etc/inferyard/redis-ca
  readOnly: true
{{- end }}
{{- end -}}

{{- define "inferyard.redisVolumes" -}}
{{- if .Values.redis.ca.secretName }}
- name: redis-ca
  secret:
    secretName: {{ .Values.redis.ca.secretName }}
    items: [{key: {{ .Values.redis.ca.key }}, path: {{ .Values.redis.ca.key }}}]
{{- end }}
{{- end -}}

{{/* Where the SQLite file is. */}}
{{- define "inferyard.sqliteVolume" -}}
- name: sqlite
  {{- if include "inferyard.keepsSqlite" . }}
  persistentVolumeClaim:
    claimName: {{ .Values.sqlite.persistence.existingClaim | default (printf "%s-sqlite" (include "inferyard.fullname" .)) }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end -}}

{{/* Two processes must not write the same SQLite file; otherwise the new pod is there before the old one goes. */}}
{{- define "inferyard.strategy" -}}
{{- if . -}}
type: Recreate
{{- else -}}
type: RollingUpdate
rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
{{- end -}}
{{- end -}}

{{/* A budget: (list $ "router"). A pod that does not work must not hold up a drain. */}}
{{- define "inferyard.budget" -}}
{{- $root := index . 0 -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "inferyard.fullname" $root }}-{{ index . 1 }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "inferyard.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "inferyard.selector" . | nindent 6 }}
{{- end -}}

{{/* A service account: (list $ "router"). Pods that need its token ask for it themselves. */}}
{{- define "inferyard.account" -}}
{{- $root := index . 0 -}}
{{- $account := (index $root.Values (index . 1)).serviceAccount -}}
{{- if $account.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "inferyard.serviceAccount" . }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "inferyard.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}
