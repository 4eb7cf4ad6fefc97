# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cluster has to have beside room."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import Workload
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import (
    FAIL,
    WARN,
    Finding,
    passed,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.state import State
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.cluster import (
    CLOCK_SECONDS,
    clock_offsets,
)

Values = dict[str, Any]

PART_OF = ("app.kubernetes.io/part-of", "lambda-microservice-platform")
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
LANDLOCK_KERNEL = (5, 13)
"""https://docs.kernel.org/userspace-api/landlock.html: the first that has it."""

_ENFORCERS = (
    "calico-node",
    "cilium",
    "anetd",
    "antrea-agent",
    "kube-router",
    "weave-net",
    "kindnet",
    "canal",
    "romana-agent",
)
"""DaemonSets of networks that enforce NetworkPolicies (kindnet since kind 0.24)."""

_CGROUP = re.compile(r"^kubelet_cgroup_version(?:\{[^}]*\})? (\d)", re.MULTILINE)


def versions(version: Object, table: Iterable[dict[str, Any]]) -> Iterator[Finding]:
    """The cluster's Kubernetes against the table of what each component needs."""
    said = str(version.get("gitVersion", ""))
    here = _minor(said)
    told = []
    for row in table:
        floor, ceiling, tested = (_minor(row.get(key)) for key in ("floor", "ceiling", "tested"))
        name = row["name"]
        if floor and here < floor:
            yield Finding(
                "versions",
                FAIL,
                f"Kubernetes {said}, and {name} needs {row['floor']}",
                f"{row['floor']} or later",
                f"upgrade the cluster, or do without {name}",
            )
        elif ceiling and here > ceiling:
            yield Finding(
                "versions",
                WARN,
                f"Kubernetes {said}, and {name} is known to work up to {row['ceiling']}",
                f"{row['floor']} to {row['ceiling']}",
                f"try {name} on a cluster of this version before production",
            )
        elif tested and here > tested:
            yield Finding(
                "versions",
                WARN,
                f"Kubernetes {said} is newer than the newest that {name} was tested with, {row['tested']}",
                f"up to {row['tested']}",
                "try it on a cluster of this version before production",
            )
        else:
            told.append(name)
    if told:
        yield passed("versions", f"Kubernetes {said} is right for {', '.join(told)}")


def _minor(text: Any) -> tuple[int, ...]:
    """Major and minor, or nothing."""
    found = re.match(r"v?(\d+)\.(\d+)", str(text or ""))
    return (int(found[1]), int(found[2])) if found else ()


def storage(state: State, workloads: Iterable[Workload], snapshot_class: str, cluster: Cluster) -> Iterator[Finding]:
    """The StorageClasses that volumes name, or the default one."""
    classes = {obj["metadata"]["name"]: obj for obj in state["storage_classes"]}
    defaults = [
        name for name, obj in classes.items() if (obj["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    ]
    asked: dict[str, list[str]] = {}
    for one in workloads:
        for volume in one.volumes:
            asked.setdefault(volume.storage_class, []).append(one.name)
    missing = False
    fixed = []
    for name, whose in sorted(asked.items()):
        if name and name not in classes:
            missing = True
            yield Finding(
                "storage",
                FAIL,
                f"there is no StorageClass {name}, which {', '.join(sorted(set(whose)))} ask for",
                f"one of {', '.join(sorted(classes)) or 'those that you make'}",
                "make the class, or name another in the role's *_storage_class",
            )
        elif not name and not defaults:
            missing = True
            yield Finding(
                "storage",
                FAIL,
                f"no StorageClass is the default, and {', '.join(sorted(set(whose)))} name none",
                f'the annotation {DEFAULT_CLASS}: "true" at one',
                "annotate one, or name one in the roles' *_storage_class",
            )
        else:
            found = classes[name or sorted(defaults)[0]]
            if not found.get("allowVolumeExpansion"):
                fixed.append(found["metadata"]["name"])
    if snapshot_class and cluster.get(_snapshot_class(snapshot_class)) is None:
        missing = True
        yield Finding(
            "storage",
            FAIL,
            f"there is no VolumeSnapshotClass {snapshot_class}",
            "the class of data_services_postgresql_snapshot_class",
            "install the snapshot controller and make the class, or leave "
            "data_services_postgresql_snapshot_class empty",
        )
    if not missing:
        told = ", ".join(sorted(name or f"{defaults[0]} (the default)" for name in asked)) or "no volumes"
        grow = f"; volumes of {', '.join(sorted(set(fixed)))} cannot grow" if fixed else ""
        yield passed("storage", f"{told}{grow}")


def _snapshot_class(name: str) -> Object:
    return {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "name": name}


def balancer(state: State, values: Values, cluster: Cluster) -> Iterator[Finding]:
    """Who makes the load balancer that the edge asks for."""
    kind = values.get("ingress_load_balancer", "none")
    if kind in ("nlb", "alb"):
        if cluster.knows("elbv2.k8s.aws/v1beta1", "TargetGroupBinding"):
            yield passed("load balancer", "the AWS Load Balancer Controller is there")
        else:
            yield Finding(
                "load balancer",
                FAIL,
                f"ingress_load_balancer is {kind}, and nobody serves TargetGroupBinding of elbv2.k8s.aws",
                "the AWS Load Balancer Controller",
                "install it, or set ingress_load_balancer to none",
            )
    elif kind == "gce":
        google = any(
            str((node.get("spec") or {}).get("providerID", "")).startswith("gce://") for node in state["nodes"]
        )
        if google:
            yield passed("load balancer", "the nodes are Google's, whose controller makes it")
        else:
            yield Finding(
                "load balancer",
                FAIL,
                "ingress_load_balancer is gce, and no node is Google's",
                "a GKE cluster",
                "correct the context, or set ingress_load_balancer",
            )
    else:
        yield passed(
            "load balancer", f"none is asked for; the Service is of the type {values.get('ingress_service_type')}"
        )


def metrics(state: State, values: Values) -> Iterator[Finding]:
    """Who answers autoscalers: metrics.k8s.io, and that custom.metrics.k8s.io is nobody else's."""
    services = {obj["metadata"]["name"]: obj for obj in state["api_services"]}
    if not any(name.endswith(".metrics.k8s.io") and name.count(".") == 3 for name in services):
        yield Finding(
            "metrics",
            FAIL,
            "nobody serves metrics.k8s.io: autoscalers would know no CPU and no memory",
            "metrics-server, or the cloud's own",
            "install metrics-server",
        )
    else:
        yield passed("metrics", "metrics.k8s.io is served")
    custom = services.get("v1beta1.custom.metrics.k8s.io") or services.get("v1beta2.custom.metrics.k8s.io")
    wanted = values.get("monitoring_enabled") and (values.get("runtimes_places_percent") or 0) > 0
    place = ((custom or {}).get("spec") or {}).get("service") or {}
    if wanted and custom and place.get("namespace") not in (None, values.get("monitoring_namespace")):
        yield Finding(
            "metrics",
            FAIL,
            f"custom.metrics.k8s.io is served by {place.get('namespace')}/{place.get('name')} already",
            "nobody else: there is one in a cluster",
            "remove it, or scale by CPU alone: runtimes_places_percent: 0",
        )


def admission(cluster: Cluster) -> Iterator[Finding]:
    """Whether the platform's rule about read-only root file systems can be in force."""
    if cluster.knows("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"):
        yield passed("admission", "Pod Security and ValidatingAdmissionPolicies")
    else:
        yield Finding(
            "admission",
            WARN,
            "no ValidatingAdmissionPolicies: pods with a writable root file system are not refused",
            "Kubernetes 1.30 or later",
            "upgrade, or accept it: preflight_ignore: [admission]",
        )


def network(state: State, values: Values, cluster: Cluster) -> Iterator[Finding]:
    """Whether somebody enforces NetworkPolicies, as far as the API can say."""
    names = {obj["metadata"]["name"] for obj in state["daemon_sets"]}
    enforcers = sorted(name for name in names if name in _ENFORCERS)
    if enforcers:
        yield passed("network", f"{', '.join(enforcers)} enforces NetworkPolicies")
    elif "aws-node" in names:
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "amazon-vpc-cni", "namespace": "kube-system"}
        setting = ((cluster.get(reference) or {}).get("data") or {}).get("enable-network-policy-controller")
        if setting == "true":
            yield passed("network", "the VPC CNI enforces NetworkPolicies")
        else:
            yield Finding(
                "network",
                FAIL,
                f"the VPC CNI's enable-network-policy-controller is {setting or 'not set'}: nobody enforces "
                "NetworkPolicies",
                "true",
                "set enableNetworkPolicy in the add-on vpc-cni, or accept it: preflight_ignore: [network]",
            )
    elif values.get("platform_disposable") or values.get("verify_enforcement") == "required":
        yield passed(
            "network", "no network that is known by its name; verify.yml tries whether it enforces NetworkPolicies"
        )
    else:
        yield Finding(
            "network",
            WARN,
            "no network that is known to enforce NetworkPolicies",
            "Calico, Cilium, Dataplane V2, or the VPC CNI with its policies on",
            "turn it on; verify_enforcement: required makes verify.yml fail where they have no effect",
        )


def kernels(state: State, values: Values, cluster: Cluster) -> Iterator[Finding]:
    """Landlock and cgroups, which keep scripts apart."""
    old = {}
    kinds: dict[tuple[str, str], str] = {}
    for node in state["nodes"]:
        info = (node.get("status") or {}).get("nodeInfo") or {}
        kernel = str(info.get("kernelVersion", ""))
        kinds.setdefault((kernel, str(info.get("osImage"))), node["metadata"]["name"])
        if _minor(kernel) and _minor(kernel) < LANDLOCK_KERNEL:
            old[node["metadata"]["name"]] = kernel
    required = values.get("runtimes_require_landlock", True)
    if old:
        told = ", ".join(f"{name} ({kernel})" for name, kernel in old.items())
        yield Finding(
            "landlock",
            FAIL if required else WARN,
            f"nodes whose kernel has no Landlock: {told}",
            "Linux 5.13 or later",
            "use newer node images; runtimes_require_landlock: false lets runtimes start without it",
        )
    elif kinds:
        yield passed(
            "landlock",
            f"kernels that have it: {', '.join(sorted({kernel for kernel, _image in kinds}))}; a runtime looks "
            "when it starts",
        )
    first = [name for name in (_cgroup_version(cluster, node) for node in sorted(kinds.values())[:8]) if name]
    if "1" in first and not values.get("platform_disposable"):
        yield Finding(
            "cgroup",
            WARN,
            "nodes with cgroup v1",
            "cgroup v2, which Kubernetes 1.35 and later ask for",
            "use newer node images",
        )
    elif first:
        yield passed("cgroup", f"version {', '.join(sorted(set(first)))}")


def _cgroup_version(cluster: Cluster, node: str) -> str:
    """The kubelet's own word (KEP-4569), where this user may ask it."""
    try:
        answer = cluster.open("GET", f"/api/v1/nodes/{node}/proxy/metrics", accept="text/plain", timeout_seconds=4)
    except PlatformError:
        return ""
    found = _CGROUP.search(answer.data.decode("utf-8", "replace"))
    return found[1] if found else ""


def dns(state: State) -> Iterator[Finding]:
    """Who answers names, as the policies will find it."""
    services = {
        obj["metadata"]["name"] for obj in state["services"] if obj["metadata"].get("namespace") == "kube-system"
    }
    names = {obj["metadata"]["name"] for obj in state["daemon_sets"]}
    google = any(str((node.get("spec") or {}).get("providerID", "")).startswith("gce://") for node in state["nodes"])
    kinds = [
        *(["kube-dns or CoreDNS"] if services & {"kube-dns", "coredns", "rke2-coredns-rke2-coredns"} else []),
        *(["a cache on the nodes"] if "node-local-dns" in names else []),
        *(["Google's Cloud DNS, where it is on"] if google else []),
    ]
    if kinds:
        yield passed("dns", ", ".join(kinds))
    else:
        yield Finding(
            "dns",
            WARN,
            "no Service kube-dns in kube-system",
            "a DNS that NetworkPolicies can name",
            "name its pods or addresses in foundation_dns_peers",
        )


def clocks(state: State) -> Iterator[Finding]:
    """This machine's clock and the nodes', beside the API server's."""
    if state.clock_offset is not None and abs(state.clock_offset) > CLOCK_SECONDS:
        yield Finding(
            "clock",
            WARN,
            f"this machine's clock is {state.clock_offset:+.0f} s from the API server's",
            f"within {CLOCK_SECONDS:g} s",
            "mend this machine's time service: certificates that it makes would not be valid yet, or end early",
        )
    offsets = clock_offsets(state["leases"])
    wrong = {name: offset for name, offset in offsets.items() if abs(offset) > CLOCK_SECONDS}
    if wrong:
        told = ", ".join(f"{name} {offset:+.0f} s" for name, offset in wrong.items())
        yield Finding(
            "clock",
            WARN,
            f"nodes whose clock is not the API server's: {told}",
            f"within {CLOCK_SECONDS:g} s",
            "mend their time service",
        )
    elif state.clock_offset is None or abs(state.clock_offset) <= CLOCK_SECONDS:
        yield passed("clock", f"this machine and {len(offsets)} nodes agree with the API server")


def certificate(values: Values, cluster: Cluster) -> Iterator[Finding]:
    """Where the edge's certificate comes from."""
    source, namespace = values.get("ingress_tls_source"), values.get("ingress_namespace")
    name = values.get("ingress_tls_secret")
    if source == "secret":
        secret = cluster.get({"apiVersion": "v1", "kind": "Secret", "name": name, "namespace": namespace})
        lacking = sorted({"tls.crt", "tls.key"} - set((secret or {}).get("data") or {}))
        if lacking:
            yield Finding(
                "certificate",
                FAIL,
                f"{'no' if secret is None else 'without ' + ' and '.join(lacking)}: Secret {namespace}/{name}",
                "a Secret of the type kubernetes.io/tls, as ingress_tls_source is secret",
                f"kubectl create namespace {namespace}; kubectl -n {namespace} create secret tls {name} --cert "
                "FILE --key FILE",
            )
        else:
            yield passed("certificate", f"Secret {namespace}/{name} is there")
    elif source == "cert_manager" and not cluster.knows("cert-manager.io/v1", "Certificate"):
        yield Finding(
            "certificate",
            FAIL,
            "ingress_tls_source is cert_manager, and nobody serves cert-manager.io/v1",
            "cert-manager",
            "install it, or take another ingress_tls_source",
        )
    else:
        yield passed("certificate", f"by {source}")
    if values.get("data_services_postgresql_tls_source") == "cert_manager" and not cluster.knows(
        "cert-manager.io/v1", "Certificate"
    ):
        yield Finding(
            "certificate",
            FAIL,
            "data_services_postgresql_tls_source is cert_manager, and nobody serves cert-manager.io/v1",
            "cert-manager",
            "install it, or set data_services_postgresql_tls_source to self_signed",
        )


def connection(cluster: Cluster, values: Values) -> Iterator[Finding]:
    """Whether the API server's certificate is looked at."""
    if cluster.configuration.verify_ssl or cluster.host.startswith("http://"):
        yield passed("connection", f"{cluster.described()}, whose certificate is verified")
    else:
        yield Finding(
            "connection",
            WARN if values.get("platform_disposable") else FAIL,
            f"{cluster.described()}: its certificate is not verified, so anybody between could be it",
            "validate_certs true, with the cluster's authority",
            "give ca_cert (AWX: the credential's certificate authority data) or a kubeconfig",
        )


def foreign(state: State, ours: set[str], planned: set[tuple[str, str]]) -> Iterator[Finding]:
    """Workloads in our namespaces that are not ours."""
    strange = []
    for key in ("deployments", "stateful_sets", "daemon_sets"):
        for obj in state[key]:
            metadata = obj["metadata"]
            namespace, name, labels = metadata.get("namespace"), metadata["name"], metadata.get("labels") or {}
            if namespace not in ours or metadata.get("ownerReferences") or (namespace, name) in planned:
                continue
            if labels.get(PART_OF[0]) != PART_OF[1] and "faas_function" not in labels:
                strange.append(f"{obj['kind']} {namespace}/{name}")
    if strange:
        yield Finding(
            "foreign",
            WARN,
            f"workloads of others in the platform's namespaces: {', '.join(sorted(strange))}",
            "namespaces of the platform alone: its quotas and policies hold for all that is in them",
            "move them to another namespace, or name other namespaces in the roles' *_namespace",
        )
    else:
        yield passed("foreign", f"nothing of others in {len(ours)} namespaces")


def node_ports(state: State, objects: Iterable[Object], ours: set[str]) -> Iterator[Finding]:
    """Node ports that a Service of somebody else has already."""
    taken = {
        (port["nodePort"], port.get("protocol", "TCP")): f"{obj['metadata'].get('namespace')}/{obj['metadata']['name']}"
        for obj in state["services"]
        if obj["metadata"].get("namespace") not in ours
        for port in (obj.get("spec") or {}).get("ports") or []
        if port.get("nodePort")
    }
    for obj in objects:
        if obj.get("kind") != "Service":
            continue
        for port in obj["spec"].get("ports") or []:
            key = (port.get("nodePort"), port.get("protocol", "TCP"))
            if key in taken:
                yield Finding(
                    "ports",
                    FAIL,
                    f"the node port {key[0]} of Service {obj['metadata']['name']} is that of {taken[key]}",
                    "a port that nobody has",
                    "give another one (ingress_https_node_port, ingress_http_node_port), or null",
                )
