{{- /* Made by `inhouse render` from inhouse.yaml: change that file, not this one. */ -}}

{{- define "inhouse.chart" -}}
{{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "inhouse.image" -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "inhouse.secretName" -}}
{{ .Values.secretName | default (printf "%s-secrets" .Release.Name) }}
{{- end }}

{{- define "inhouse.config" -}}
{{ .text | replace "$(RELEASE_NAMESPACE)" .release.Namespace | replace "$(RELEASE_NAME)" .release.Name }}
{{- end }}
