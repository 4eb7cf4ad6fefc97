# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: the table that playbooks/images.yml wrote, and a registry for those that are ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    NotChecked,
    Values,
    contradiction,
    deep,
)

_LOGGING = {
    "victorialogs": ("victorialogs", "vlagent"),
    "elastic": ("eck-operator", "elasticsearch", "kibana", "logstash", "filebeat", "elasticsearch-exporter"),
}
_VPA = ("vpa-recommender", "vpa-updater", "vpa-admission-controller")
_MESH = ("istio-pilot", "istio-proxyv2", "istio-cni")
# What playbooks/images.yml does not build, or not unless it is wanted, and what to do without it.
_UPSTREAMS_ALONE = (
    (
        ("grafana",),
        "does not build",
        "set monitoring_grafana_enabled to false: make dashboards draws the same dashboards",
    ),
    (_LOGGING["elastic"], "does not build", "take logging_backend victorialogs"),
    (_VPA, "has not built", "run playbooks/images.yml with vpa_enabled true, which builds them too"),
    (
        ("kiali",),
        "does not build",
        "set mesh_kiali_enabled to false: playbooks/verify.yml looks at the mesh without it",
    ),
    (_MESH, "has not built", "run playbooks/images.yml with mesh_enabled true, which builds them too"),
)


def _built(values: Values) -> dict[str, Any]:
    path = values["platform_images_file"]
    if not path:
        return {}
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise NotChecked(path) from cause
    if not isinstance(table, dict):
        raise NotChecked(path)
    return table


def _file(values: Values) -> Iterator[PlatformError]:
    path = values["platform_images_file"]
    try:
        _built(values)
    except NotChecked:
        yield contradiction(
            "platform_images_file names no table of images",
            f"{path} is {'no JSON of image names' if Path(path).exists() else 'not there'}",
            "the file that playbooks/images.yml writes",
            "run playbooks/images.yml, or correct platform_images_file; empty is none",
        )


def _registry(values: Values) -> Iterator[PlatformError]:
    table = {**values["__platform_images"], **_built(values)}
    changes, mirror = values["platform_images"], values["platform_image_registry"]
    for name in _needed(values):
        if name not in table and name not in changes:
            yield contradiction(
                f"there is no image {name}",
                f"platform_images_file and platform_images have {', '.join(sorted(table))}",
                f"{name} among them", "name it in platform_images, or the language's image in runtimes_languages",
            )  # fmt: skip
            continue
        repository = str(deep(changes, name, "repository") or deep(table, name, "repository"))
        if not mirror and not parse(repository).host:
            yield contradiction(
                f"the image {name} is ours, and no registry has it",
                f"{repository}, without a registry",
                "a reference such as registry.example.com/lambda/" + name,
                "run playbooks/images.yml and name its table in platform_images_file, or set platform_images or "
                "platform_image_registry",
            )


def _upstream(values: Values) -> Iterator[PlatformError]:
    if values["platform_upstream_images"] or values["platform_image_registry"]:
        return
    needed = set(_needed(values)) - values["platform_images"].keys() - _built(values).keys()
    for names, why, instead in _UPSTREAMS_ALONE:
        if lacking := [name for name in names if name in needed]:
            yield contradiction(
                f"this cluster cannot have the images of {', '.join(lacking)}",
                f"platform_upstream_images false, and playbooks/images.yml {why} them",
                "images that its nodes can pull",
                f"{instead}; or name copies of them in platform_images, or set platform_upstream_images to true where "
                "the nodes reach upstream's registries",
            )


def _needed(values: Values) -> Iterator[str]:
    """What the roles run, except where a variable names another image."""
    if not values["controller_image"]:
        yield "controller"
    for language in values["runtimes_languages"]:
        if not language.get("image"):
            yield f"runtime-{language['name']}"
    if values["data_services_postgresql_enabled"]:
        yield "postgresql"
    yield from ("redis", "haproxy", "envoy")
    if values["ingress_rate_limit_service"]:
        yield "ratelimit"
    if values["monitoring_enabled"]:
        yield from ("prometheus-operator", "prometheus-config-reloader", "prometheus", "alertmanager", "node-exporter")
        yield from ("kube-state-metrics", "kube-state-exporter")
        if values["monitoring_grafana_enabled"]:
            yield "grafana"
        if values["runtimes_places_percent"]:
            yield "prometheus-adapter"
    if values["logging_enabled"]:
        yield from _LOGGING[values["logging_backend"]]
    if values["openfaas_enabled"]:
        yield from ("openfaas-compatible", "nats")
    if values["vpa_enabled"]:
        yield from _VPA
    if values["mesh_enabled"]:
        yield from _MESH
        if values["mesh_kiali_enabled"]:
            yield "kiali"


CHECKS = (_file, _registry, _upstream)
