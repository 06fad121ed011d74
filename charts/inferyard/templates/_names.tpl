{{/* The prefix of all names. */}}
{{- define "inferyard.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What pods of a component are selected by: (list $ "router"). Workers are `inferyard-worker` in the same way. */}}
{{- define "inferyard.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: inferyard-{{ index . 1 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end -}}

{{/* The labels of everything: (list $ "router"). */}}
{{- define "inferyard.labels" -}}
{{- $root := index . 0 -}}
{{ include "inferyard.selector" . }}
app.kubernetes.io/part-of: inferyard
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image as one text: (dict "image" .Values.image "tag" "1.2.3"). */}}
{{- define "inferyard.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end -}}
{{- end -}}

{{/* The service account of a component: (list $ "router"). */}}
{{- define "inferyard.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $account := (index $root.Values (index . 1)).serviceAccount -}}
{{- if $account.name -}}
{{ $account.name }}
{{- else if $account.create -}}
{{ include "inferyard.fullname" $root }}-{{ index . 1 }}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* The namespaces that are watched, as a JSON list. */}}
{{- define "inferyard.namespaces" -}}
{{- .Values.watchNamespaces | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}

{{/* The namespaces of the platform, as a JSON list. */}}
{{- define "inferyard.platformNamespaces" -}}
{{- $watched := include "inferyard.namespaces" . | fromJsonArray -}}
{{- $only := and (not .Values.clusterScope) (eq (len $watched) 1) -}}
{{- .Values.platformNamespaces | default (ternary $watched (list .Release.Namespace) $only) | toJson -}}
{{- end -}}

{{/* Where the store of limits is: "true" if there is Redis. */}}
{{- define "inferyard.hasRedis" -}}
{{- if or .Values.redis.url .Values.redis.existingSecret.name .Values.redis.dev.enabled }}true{{ end -}}
{{- end -}}

{{- define "inferyard.hasPostgres" -}}
{{- if or .Values.postgres.url .Values.postgres.existingSecret.name .Values.postgres.dev.enabled }}true{{ end -}}
{{- end -}}

{{/* The SQLite file is in a volume that only one pod at a time may write. */}}
{{- define "inferyard.keepsSqlite" -}}
{{- if and (not (include "inferyard.hasPostgres" .)) (or .Values.sqlite.persistence.enabled .Values.sqlite.persistence.existingClaim) }}true{{ end -}}
{{- end -}}

{{- define "inferyard.hasAdminKey" -}}
{{- if or .Values.adminKey.generate .Values.adminKey.existingSecret.name }}true{{ end -}}
{{- end -}}

{{/* More than one router at the same time. */}}
{{- define "inferyard.hasManyRouters" -}}
{{- if .Values.router.autoscaling.enabled -}}
{{- if gt (int .Values.router.autoscaling.minReplicas) 1 }}true{{ end -}}
{{- else if gt (int .Values.router.replicas) 1 -}}
true
{{- end -}}
{{- end -}}

{{- define "inferyard.servicePort" -}}
{{- .Values.router.service.port | default (ternary 443 80 .Values.router.tls.enabled) -}}
{{- end -}}

{{- define "inferyard.tlsSecret" -}}
{{- .Values.router.tls.existingSecret | default (printf "%s-router-tls" (include "inferyard.fullname" .)) -}}
{{- end -}}

{{/* A duration of the command line in seconds, rounded up. */}}
{{- define "inferyard.seconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexFind "[a-z]*$" . -}}
{{- if eq $unit "ms" -}}
{{- div (add $number 999) 1000 -}}
{{- else -}}
{{- mul $number (get (dict "" 1 "s" 1 "m" 60 "h" 3600 "d" 86400) $unit) -}}
{{- end -}}
{{- end -}}

{{/* A generated value that stays what it was: (dict "root" $ "name" SECRET "key" KEY "length" 40), base64. */}}
{{- define "inferyard.kept" -}}
{{- $there := lookup "v1" "Secret" .root.Release.Namespace .name | default dict -}}
{{- $data := get $there "data" | default dict -}}
{{- if hasKey $data .key -}}
{{- get $data .key -}}
{{- else -}}
{{- printf "%s%s" (.prefix | default "") (randAlphaNum (int .length)) | b64enc -}}
{{- end -}}
{{- end -}}

{{/* Eight digits tell that a text has changed, and too little to guess it by. */}}
{{- define "inferyard.changed" -}}
{{- . | toJson | sha256sum | trunc 8 | quote -}}
{{- end -}}
