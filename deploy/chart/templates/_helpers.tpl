{{- /* What never changes, for selectors and pods. */}}
{{- define "ksched.selector" -}}
app.kubernetes.io/name: ksched
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Of all objects, and what follows it fits into the 63 characters of a name. */}}
{{- define "ksched.name" -}}
{{ .Release.Name | trunc 43 | trimSuffix "-" }}-ksched
{{- end }}

{{- /* A size in MiB: as `memory.limit` has it (256MiB) or as Kubernetes has it (512Mi, 1G, 536870912). */}}
{{- define "ksched.mebibytes" -}}
{{- $bytes := dict "" 1 "K" 1000 "Ki" 1024 "M" 1000000 "Mi" 1048576 "G" 1000000000 "Gi" 1073741824 "T" 1000000000000 "Ti" 1099511627776 }}
{{- $unit := . | toString | regexFind "[A-Za-z]*$" | trimSuffix "B" | title }}
{{- if hasKey $bytes $unit }}{{ divf (mulf (. | toString | regexFind "^[0-9.]+" | float64) (get $bytes $unit | float64)) 1048576 | floor | int64 }}{{ end }}
{{- end }}

{{- define "ksched.labels" -}}
{{ include "ksched.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "ksched.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "ksched.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "ksched.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
