"""A small chart, and a run of the module on it: what the tests with nodes and without them share."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import chart
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

ROOT = Path(__file__).resolve().parents[2]

TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: w}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {x: w}}
  template:
    metadata: {labels: {x: w}}
    spec:
      containers:
        - name: c
          image: registry.invalid/none:1
          env: [{name: E, value: ""}]
          resources: {requests: {cpu: 0001m, memory: 1024Ki}}
---
apiVersion: v1
kind: Service
metadata: {name: w}
spec: {selector: {x: w}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Secret
metadata: {name: w}
stringData: {k: {{ .Values.secret | quote }}}
{{- if .Values.broken }}
{{ .Values.nope.foo }}
{{- end }}
{{- with .Values.volume }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: v}
spec:
  serviceName: v
  selector: {matchLabels: {x: v}}
  template:
    metadata: {labels: {x: v}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: c
          image: {{ $.Values.image | quote }}
          command: [sleep, infinity]
          volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ .class }}
        resources: {requests: {storage: {{ .size }}}}
{{- end }}
{{- if .Values.hook }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: before
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: {{ .Values.image | quote }}, command: [sh, -c, {{ .Values.hook | quote }}]}]
{{- end }}
"""


def helm() -> str:
    """The helm program: $HELM, the one under .local/bin, or the one in PATH."""
    found = os.environ.get("HELM") or shutil.which(str(ROOT / ".local" / "bin" / "helm")) or shutil.which("helm")
    assert found, "no helm: set HELM"
    return found


class SmallChart:
    """The chart in a folder, as the release ``w`` of a namespace. A call runs the module and gives its entry."""

    def __init__(self, folder: Path, kubeconfig: str, namespace: str) -> None:
        self.folder = folder / "w"
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        (self.folder / "templates").mkdir(parents=True)
        (self.folder / "Chart.yaml").write_text("{apiVersion: v2, name: w, version: 0.1.0}\n")
        (self.folder / "values.yaml").write_text("{replicas: 0, secret: first-secret-value}\n")
        schema = {"properties": {"replicas": {"type": "integer"}}}
        (self.folder / "values.schema.json").write_text(json.dumps(schema))
        (self.folder / "templates" / "all.yaml").write_text(TEMPLATE)

    def arguments(self, values: Any = None, auth: Any = None, **spec: Any) -> dict[str, Any]:
        """The module's arguments, before they are validated."""
        spec = {"name": "w", "namespace": self.namespace, "chart": str(self.folder), "values": values or {}, **spec}
        return {"releases": [spec], "helm_binary": helm(), **(auth or {"kubeconfig": self.kubeconfig})}

    def __call__(self, values: Any = None, check: bool = False, auth: Any = None, **spec: Any) -> dict[str, Any]:
        """The entry of the release, with the diff in it."""
        validated = ArgumentSpecValidator(chart.ARGUMENT_SPEC).validate(self.arguments(values, auth, **spec))
        assert not validated.error_messages
        result = chart.run(validated.validated_parameters, check_mode=check, diff=True)
        if result.get("failed"):
            raise PlatformError(result["what"], where=result["where"], found=result["found"], reason=result["reason"])
        return {**result["releases"][0], "diff": result.get("diff", [])}
