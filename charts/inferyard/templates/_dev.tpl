{{/* A database of the chart's own, one pod: (dict "root" $ "which" "redis" "port" 6379 "data" PATH "scratch" (list PATH…)
"args" LIST "env" LIST "probe" LIST "url" TEXT). */}}
{{- define "inferyard.dev" -}}
{{- $root := .root -}}
{{- $values := (index $root.Values .which).dev -}}
{{- $name := printf "%s-%s" (include "inferyard.fullname" $root) .which -}}
apiVersion: v1
kind: Secret
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "inferyard.labels" (list $root .which) | nindent 4 }}
  {{- if $values.persistence.enabled }}
  # What is in the volume knows no other password.
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
data:
  password: {{ .password | quote }}
  url: {{ .url | b64enc | quote }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "inferyard.labels" (list $root .which) | nindent 4 }}
spec:
  selector:
    {{- include "inferyard.selector" (list $root .which) | nindent 4 }}
  ports:
    - name: {{ .which }}
      port: {{ .port }}
      targetPort: {{ .which }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "inferyard.labels" (list $root .which) | nindent 4 }}
spec:
  replicas: 1
  strategy:
    type: Recreate
  selector:
    matchLabels:
      {{- include "inferyard.selector" (list $root .which) | nindent 6 }}
  template:
    metadata:
      {{- with $values.password }}
      annotations:
        inferyard.dev/connections: {{ include "inferyard.changed" (list .) }}
      {{- end }}
      labels:
        {{- include "inferyard.labels" (list $root .which) | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "inferyard.podSecurity" (list $root (int $values.runAsUser)) | nindent 8 }}
      containers:
        - name: {{ .which }}
          image: {{ $values.image | quote }}
          securityContext:
            {{- include "inferyard.containerSecurity" $root | nindent 12 }}
          {{- with .args }}
          args:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          env:
            - name: PASSWORD
              valueFrom:
                secretKeyRef: {name: {{ $name }}, key: password}
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: {{ .which }}
              containerPort: {{ .port }}
          readinessProbe:
            {{- toYaml .probe | nindent 12 }}
            periodSeconds: 2
            timeoutSeconds: 2
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - name: data
              mountPath: {{ .data }}
            {{- range $index, $path := .scratch }}
            - name: scratch-{{ $index }}
              mountPath: {{ $path }}
            {{- end }}
      volumes:
        - name: data
          {{- if $values.persistence.enabled }}
          persistentVolumeClaim:
            claimName: {{ $name }}
          {{- else }}
          emptyDir: {}
          {{- end }}
        {{- range $index, $path := .scratch }}
        - name: scratch-{{ $index }}
          emptyDir: {}
        {{- end }}
{{- if $values.persistence.enabled }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "inferyard.labels" (list $root .which) | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
spec:
  accessModes: [ReadWriteOnce]
  {{- with $values.persistence.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ $values.persistence.size }}
{{- end }}
{{- if $root.Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "inferyard.labels" (list $root .which) | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "inferyard.selector" (list $root .which) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports: [{port: {{ .which }}}]
      from:
        {{- range list "router" "ledger" }}
        - podSelector:
            matchLabels:
              {{- include "inferyard.selector" (list $root .) | nindent 14 }}
        {{- end }}
  egress: []
{{- end }}
{{- end -}}
