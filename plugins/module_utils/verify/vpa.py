# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether vertical autoscaling recommends something for what it watches, and whether the API server reaches who changes
pods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import condition_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Found, Passed

VPA_SPEC: dict[str, Any] = {
    "type": "dict",
    "options": {
        "namespace": {"type": "str", "required": True},
        "autoscalers": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "namespace": {"type": "str", "required": True},
                "name": {"type": "str", "required": True},
                "labels": {"type": "dict"},
            },
        },
    },
}

API, KIND = "autoscaling.k8s.io/v1", "VerticalPodAutoscaler"
RECOMMENDATION_SECONDS = 240
"""A recommender that is new reads use each minute, and a pod that is new has some after a minute."""


def vpa_recommendations(cluster: Cluster, options: Object, wait_seconds: float) -> Found:
    """Every VerticalPodAutoscaler of the platform has a recommendation."""
    wanted = {(one["namespace"], one["name"]) for one in options["autoscalers"]}

    def live() -> dict[tuple[str, str], Object]:
        found = (obj for name in sorted({each for each, _name in wanted}) for obj in cluster.list(API, KIND, name))
        return {(obj["metadata"]["namespace"], obj["metadata"]["name"]): obj for obj in found}

    def some(quantifier: Callable[..., bool], seconds: float) -> dict[tuple[str, str], Object]:
        return wait_until(
            live, seconds, pause_seconds=5, done=lambda each: quantifier(_recommended(each.get(key)) for key in wanted)
        )

    found = some(all, wait_seconds)
    if wait_seconds and not any(_recommended(found.get(key)) for key in wanted):
        found = some(any, RECOMMENDATION_SECONDS)
    lacking = sorted(key for key in wanted if not _recommended(found.get(key)))
    if not lacking:
        return Passed(f"{len(wanted)} workloads have one")
    told = ", ".join(f"{namespace}/{name} ({_why(found.get((namespace, name)))})" for namespace, name in lacking[:5])
    more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
    if len(lacking) < len(wanted):
        return Doubtful(
            f"{len(wanted) - len(lacking)} of {len(wanted)} workloads have one",
            f"Nothing is recommended for {told}{more}. A pod that is new has a recommendation after some minutes; of "
            f"others kubectl describe vpa and the log of vpa-recommender in {options['namespace']} say why.",
        )
    raise PlatformError(
        "nothing is recommended for any workload",
        where=f"{len(wanted)} VerticalPodAutoscalers, such as {'/'.join(lacking[0])}",
        found=_why(found.get(lacking[0])),
        expected="status.recommendation in each",
        fix=f"see the log of the recommender: kubectl -n {options['namespace']} logs deploy/vpa-recommender; it needs "
        "metrics.k8s.io (kubectl top pods)",
        reason="missing",
    )


def _recommended(obj: Object | None) -> bool:
    status = (obj or {}).get("status") or {}
    return bool((status.get("recommendation") or {}).get("containerRecommendations"))


def _why(obj: Object | None) -> str:
    """What its conditions say."""
    if obj is None:
        return "not there"
    for kind in ("ConfigUnsupported", "NoPodsMatched", "FetchingHistory"):
        condition = condition_of(obj, kind)
        if condition and condition.get("status") == "True":
            return str(condition.get("message") or kind)
    return "no recommendation yet"


def vpa_webhook(cluster: Cluster, options: Object) -> Found:
    """The API server asks the admission controller: what that refuses, and the definition allows, is refused.

    Offered in a dry run, with a number of pods that upstream's webhook does not take (validation.go).
    """
    namespace = options["autoscalers"][0]["namespace"]
    offered = {
        "apiVersion": API,
        "kind": KIND,
        "metadata": {"name": "platform-verify", "namespace": namespace},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "platform-verify"},
            "updatePolicy": {"updateMode": "Off", "minReplicas": 0},
        },
    }
    try:
        cluster.create(offered, "lambda-microservice-platform-verify", dry_run=True)
    except PlatformError as refusal:
        if "minReplicas" in f"{refusal.what} {refusal.found}":
            return Passed("it refuses what it should")
        raise
    raise PlatformError(
        "the API server gets no answer from the admission controller of vertical autoscaling",
        where=f"Service {options['namespace']}/vpa-admission-controller",
        found="an object that it refuses was taken",
        expected="a refusal, as minReplicas 0 is none",
        fix="see that its pods run and that the API server reaches port 8000 of theirs: new pods get no recommendation "
        f"meanwhile (kubectl -n {options['namespace']} logs deploy/vpa-admission-controller)",
        reason="webhook",
    )
