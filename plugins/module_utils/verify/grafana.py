# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Grafana lets its administrator in, and reaches what its dashboards show.

Its API: https://grafana.com/docs/grafana/latest/developers/http_api/data_source/
"""

from __future__ import annotations

import base64
import json
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    all_or_error,
    concurrently,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.forward import get_from_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Found, Passed

GRAFANA_SPEC: dict[str, Any] = {
    "type": "dict",
    "options": {
        "namespace": {"type": "str", "required": True},
        "pod": {"type": "str", "default": "grafana-0"},
        "port": {"type": "int", "default": 3000},
        "secret": {"type": "str", "default": "grafana", "no_log": False},
        "sources": {"type": "list", "elements": "str", "required": True},
    },
}

USER, KEY = "admin", "admin-password"


def grafana_sources(cluster: Cluster, options: Object) -> Found:
    """The administrator's password is the Secret's, and each data source is known and answers."""
    grafana = _Grafana(cluster, options)
    known = {source["uid"] for source in grafana.ask("/api/datasources")}
    missing = sorted(set(options["sources"]) - known)
    if missing:
        raise PlatformError(
            "Grafana does not know a data source that its dashboards ask",
            where=grafana.where,
            found=f"{', '.join(sorted(known)) or 'none'}, without {', '.join(missing)}",
            expected=", ".join(options["sources"]),
            fix="run playbooks/site.yml --tags monitoring, and see in the log of Grafana why it did not make it "
            f"(kubectl -n {options['namespace']} logs {options['pod']})",
            reason="monitoring",
        )
    all_or_error("data sources do not answer Grafana", concurrently(grafana.answers, options["sources"]))
    return Passed(f"{USER} may sign in; {', '.join(options['sources'])} answer")


class _Grafana:
    """One server, asked by its administrator."""

    def __init__(self, cluster: Cluster, options: Object) -> None:
        self.cluster, self.options = cluster, options
        self.where = f"Pod {options['namespace']}/{options['pod']}"
        self.secret = f"Secret {options['namespace']}/{options['secret']}"
        login = base64.b64encode(f"{USER}:{self._password()}".encode()).decode()
        self.headers = {"Authorization": f"Basic {login}"}

    def _password(self) -> str:
        ref = {"apiVersion": "v1", "kind": "Secret", "name": self.options["secret"]}
        secret = self.cluster.get({**ref, "namespace": self.options["namespace"]}) or {}
        data = secret.get("data") or {}
        if not data.get(KEY):
            raise PlatformError(
                "the password of Grafana's administrator is not there",
                where=self.secret,
                found=f"the keys {', '.join(sorted(data))}" if secret else "no such Secret",
                expected=f"the key {KEY}",
                fix="run playbooks/site.yml --tags monitoring",
                reason="missing",
            )
        return base64.b64decode(data[KEY]).decode()

    def ask(self, path: str) -> Any:
        """The JSON of the answer to GET path."""
        pod = self.options["namespace"], self.options["pod"], self.options["port"]
        try:
            return json.loads(get_from_pod(self.cluster, *pod, path, headers=self.headers))
        except PlatformError as failure:
            if failure.details.get("status") != 401:
                raise
            raise PlatformError(
                "Grafana does not take the password of its administrator",
                where=f"{self.where}, user {USER}, key {KEY} of {self.secret}",
                found="401 Unauthorized",
                expected="the password with which Grafana first started, or that was set in it since",
                fix="Grafana reads the Secret at its first start alone: write the password that was set into it, or "
                "set that of the Secret with grafana cli admin reset-admin-password --password-from-stdin "
                f"(kubectl -n {self.options['namespace']} exec -i {self.options['pod']} -c grafana)",
                reason="credentials",
            ) from failure

    def answers(self, uid: str) -> None:
        """The data source of that uid does, to Grafana."""
        try:
            found = self.ask(f"/api/datasources/uid/{uid}/health")
            said = "" if found["status"] == "OK" else f"{found['status']}: {found.get('message', '')}"
        except PlatformError as failure:
            if failure.reason != "answer":
                raise
            said = failure.found
        if said:
            raise PlatformError(
                "a data source does not answer Grafana",
                where=f"{self.where}, data source {uid}",
                found=said,
                expected="OK of its health",
                fix="see whether the data source runs, and of a refused login the Secret that Grafana has of it "
                "(postgresql-dashboards; a pod reads it when it starts)",
                reason="monitoring",
            )
