{{/* Metrics, for those who scrape. */}}
{{- define "inferyard.fromScrapers" -}}
- ports: [{port: metrics}]
  from:
    {{- .Values.networkPolicy.scrapers | default (list (dict "namespaceSelector" dict)) | toYaml | nindent 4 }}
{{- end -}}

{{/* Names, and the API server: its address is not known here, only its ports. */}}
{{- define "inferyard.toBasics" -}}
{{ include "inferyard.toNames" . }}
- ports:
    {{- range .Values.networkPolicy.apiServerPorts }}
    - port: {{ . }}
    {{- end }}
{{- end -}}

{{- define "inferyard.toNames" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}

{{/* Workers, in all namespaces that may have some. */}}
{{- define "inferyard.toWorkers" -}}
- ports: [{port: 50051}]
  to:
    - namespaceSelector:
        {{- if .Values.clusterScope }} {}
        {{- else }}
        matchExpressions:
          - key: kubernetes.io/metadata.name
            operator: In
            values: {{ include "inferyard.namespaces" . }}
        {{- end }}
      podSelector:
        matchLabels:
          app.kubernetes.io/name: inferyard-worker
{{- end -}}

{{/* A database: (list $ "redis"). Where it is the chart's own, nothing else. */}}
{{- define "inferyard.toDatabase" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
- ports:
    {{- range $values.ports }}
    - port: {{ . }}
    {{- end }}
  {{- if $values.dev.enabled }}
  to:
    - podSelector:
        matchLabels:
          {{- include "inferyard.selector" . | nindent 10 }}
  {{- end }}
{{- end -}}

{{/* The collector of traces, by the port of its URL. */}}
{{- define "inferyard.toTraces" -}}
{{- with .Values.tracing.otlpEndpoint }}
{{- $host := (urlParse .).host }}
- ports:
    - port: {{ regexFind "[0-9]+$" (regexFind ":[0-9]+$" $host) | default (ternary "443" "80" (hasPrefix "https:" .)) }}
{{- end }}
{{- end -}}
