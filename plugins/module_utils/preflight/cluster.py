# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cluster has to have beside room."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import ZONE, Workload
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.volumes import (
    DATA_VERSION,
    check_data,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import (
    Object,
    ref_of,
    spoken,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import condition_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import (
    FAIL,
    WARN,
    Finding,
    of_error,
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
DRIVERS = {
    # Kubernetes hands the volumes of its old drivers to these: https://kubernetes.io/docs/concepts/storage/volumes/#csi-migration
    "kubernetes.io/aws-ebs": "ebs.csi.aws.com",
    "kubernetes.io/gce-pd": "pd.csi.storage.gke.io",
    "kubernetes.io/azure-disk": "disk.csi.azure.com",
}
ADVICE = {
    "ebs.csi.aws.com": "install the EKS add-on aws-ebs-csi-driver with a role that may make volumes",
    "pd.csi.storage.gke.io": "turn the cluster's add-on GcePersistentDiskCsiDriver on",
    "disk.csi.azure.com": "turn the cluster's disk CSI driver on",
}
"""The drivers of the clouds, by name. Others need not be announced by a CSIDriver, so nothing is said of them."""

SNAPSHOTS = "snapshot.storage.k8s.io/v1"
AWS_CONTROLLER = {"app.kubernetes.io/name": "aws-load-balancer-controller"}
METRICS_SECONDS = 60
"""How long a metrics-server that is new is waited for: it answers once it has asked every node."""

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


def zones(state: State, named: list[str]) -> Iterator[Finding]:
    """Nodes in each of ``platform_zones``: pods with data are evenly over all of them, or stay pending."""
    # A cluster that grows from nothing has no nodes yet.
    if not named or not state["nodes"]:
        return
    found = {str((node["metadata"].get("labels") or {}).get(ZONE, "")) for node in state["nodes"]} - {""}
    missing = [zone for zone in named if zone not in found]
    if missing:
        there = f"nodes are in {', '.join(sorted(found))}" if found else f"no node has the label {ZONE}"
        yield Finding(
            "zones",
            FAIL,
            f"platform_zones names {', '.join(missing)}, where no node is: {there}",
            "a node in each zone that is named, as pods with data are evenly over all of them",
            "correct platform_zones, or add nodes there",
        )


def storage(
    state: State, workloads: Iterable[Workload], planned: Iterable[Object], cluster: Cluster
) -> Iterator[Finding]:
    """The StorageClasses that volumes name, or the default one, of those there are and those that are made."""
    live = {obj["metadata"]["name"]: obj for obj in state["storage_classes"]}
    # One that is there is left as it is.
    classes = {**_named(planned, "StorageClass"), **live}
    defaults = sorted(
        name for name, obj in classes.items() if (obj["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    )
    asked: dict[str, list[str]] = {}
    for one in workloads:
        for volume in one.volumes:
            asked.setdefault(volume.storage_class, []).append(one.name)
    wrong = False
    used = {}
    for name, whose in sorted(asked.items()):
        if name and name not in classes:
            wrong = True
            yield Finding(
                "storage",
                FAIL,
                f"there is no StorageClass {name}, which {', '.join(sorted(set(whose)))} ask for",
                f"one of {', '.join(sorted(live)) or 'those that you make'}, or one of foundation_storage_classes",
                "name another in the role's *_storage_class, or have it made by foundation_storage_classes",
            )
        elif not name and not defaults:
            wrong = True
            yield Finding(
                "storage",
                FAIL,
                f"no StorageClass is the default, and {', '.join(sorted(set(whose)))} name none",
                f'the annotation {DEFAULT_CLASS}: "true" at one',
                "annotate one, or name one in the roles' *_storage_class",
            )
        else:
            used[name or defaults[0]] = classes[name or defaults[0]]
    drivers: dict[str, str] = {}
    for name, found in used.items():
        provisioner = str(found.get("provisioner"))
        drivers.setdefault(DRIVERS.get(provisioner, provisioner), name)
    for driver, name in sorted(drivers.items()):
        lacking = _lacks_driver(cluster, driver)
        if lacking:
            wrong = True
            yield Finding(
                "storage",
                FAIL,
                f"nobody makes volumes of the class {name}: {lacking}",
                f"the CSI driver {driver} on the nodes",
                ADVICE[driver],
            )
    if not wrong:
        told = ", ".join(sorted(name or f"{defaults[0]} (the default)" for name in asked)) or "no volumes"
        made = sorted(used.keys() - live.keys())
        fixed = sorted(name for name, found in used.items() if not found.get("allowVolumeExpansion"))
        yield passed(
            "storage",
            told
            + (f"; {', '.join(made)} will be made" if made else "")
            + (f"; volumes of {', '.join(fixed)} cannot grow" if fixed else ""),
        )


def data(planned: Iterable[Object], cluster: Cluster) -> Iterator[Finding]:
    """Data that exist, of a version that the program which is asked for cannot read."""
    read = 0
    for obj in planned:
        if DATA_VERSION not in (obj["metadata"].get("annotations") or {}):
            continue
        live = cluster.get(ref_of(obj))
        if live is None:
            continue
        try:
            check_data(spoken(obj), obj, live)
            read += 1
        except PlatformError as error:
            yield of_error("data", error)
    if read:
        yield passed("data", f"{read} workloads read what is on their volumes")


def _named(objects: Iterable[Object], kind: str) -> dict[str, Object]:
    return {obj["metadata"]["name"]: obj for obj in objects if obj.get("kind") == kind}


def _lacks_driver(cluster: Cluster, driver: str) -> str:
    """Why a cloud's driver makes no volumes; nothing of one that does, or that nobody knows."""
    if driver not in ADVICE:
        return ""
    if cluster.get({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "name": driver}) is None:
        return f"there is no CSIDriver {driver}"
    nodes = cluster.list("storage.k8s.io/v1", "CSINode")
    has_it = any(one["name"] == driver for node in nodes for one in node["spec"].get("drivers") or [])
    # A cluster that grows from nothing has no nodes yet.
    return f"the CSIDriver {driver} is on none of {len(nodes)} nodes" if nodes and not has_it else ""


def snapshots(values: Values, planned: Iterable[Object], cluster: Cluster) -> Iterator[Finding]:
    """Whoever makes snapshots of PostgreSQL's volume, and their class."""
    variable = "data_services_postgresql_snapshot_class"
    name = str(values.get(variable) or "")
    if not name or not values.get("data_services_postgresql_enabled"):
        return
    if not cluster.knows(SNAPSHOTS, "VolumeSnapshotClass"):
        yield Finding(
            "snapshots",
            FAIL,
            f"{variable} is {name}, and nobody serves {SNAPSHOTS}",
            "the snapshot controller and its definitions",
            f"install them (EKS: the add-on snapshot-controller), or leave {variable} empty",
        )
        return
    live = sorted(obj["metadata"]["name"] for obj in cluster.list(SNAPSHOTS, "VolumeSnapshotClass"))
    if name not in live and name not in _named(planned, "VolumeSnapshotClass"):
        yield Finding(
            "snapshots",
            FAIL,
            f"there is no VolumeSnapshotClass {name}, which {variable} names",
            f"one of {', '.join(live) or 'those that you make'}, or one of foundation_snapshot_classes",
            f"name another in {variable}, or have it made by foundation_snapshot_classes",
        )
    else:
        yield passed("snapshots", f"{name}{'' if name in live else ' will be made'}")


def balancer(state: State, values: Values, cluster: Cluster) -> Iterator[Finding]:
    """Who makes the load balancer that the edge asks for."""
    kind = values.get("ingress_load_balancer", "none")
    if kind in ("nlb", "alb"):
        lacking = _lacks_aws_controller(state, cluster)
        if lacking:
            yield Finding(
                "load_balancer",
                FAIL,
                f"ingress_load_balancer is {kind}, and {lacking}",
                "the AWS Load Balancer Controller, running",
                "install it with a role that may make load balancers (chart eks/aws-load-balancer-controller), or set "
                "ingress_load_balancer to none and name what stands before the edge by ingress_service_type",
            )
        else:
            yield passed("load_balancer", "the AWS Load Balancer Controller is there")
    elif kind == "gce":
        if _google(state):
            yield passed("load_balancer", "the nodes are Google's, whose controller makes it")
        elif not state["nodes"]:
            yield passed("load_balancer", "there is no node yet by which to know that the cluster is Google's")
        else:
            yield Finding(
                "load_balancer",
                FAIL,
                "ingress_load_balancer is gce, and no node is Google's",
                "a GKE cluster",
                "correct the context (platform_context), or set ingress_load_balancer to what this cluster has",
            )
    else:
        yield passed(
            "load_balancer", f"none is asked for; the Service is of the type {values.get('ingress_service_type')}"
        )


def _lacks_aws_controller(state: State, cluster: Cluster) -> str:
    if not cluster.knows("elbv2.k8s.aws/v1beta1", "TargetGroupBinding"):
        return "nobody serves TargetGroupBinding of elbv2.k8s.aws"
    # One that another chart has labelled otherwise is not known by its labels, and counts by what it serves.
    found = [
        obj for obj in state["deployments"] if AWS_CONTROLLER.items() <= (obj["metadata"].get("labels") or {}).items()
    ]
    if found and not any((obj.get("status") or {}).get("availableReplicas") for obj in found):
        names = ", ".join(f"{obj['metadata']['namespace']}/{obj['metadata']['name']}" for obj in found)
        return f"its controller's Deployment {names} has no pod that is available"
    return ""


def _google(state: State) -> bool:
    return any(str((node.get("spec") or {}).get("providerID", "")).startswith("gce://") for node in state["nodes"])


def metrics(state: State, values: Values, cluster: Cluster, wait_seconds: float = METRICS_SECONDS) -> Iterator[Finding]:
    """Who answers autoscalers: metrics.k8s.io, and that custom.metrics.k8s.io is nobody else's."""
    services = {obj["metadata"]["name"]: obj for obj in state["api_services"]}
    # VERSION.metrics.k8s.io, and not VERSION.custom.metrics.k8s.io.
    resource = sorted(name for name in services if name.partition(".")[2] == "metrics.k8s.io")
    if not resource:
        yield Finding(
            "metrics",
            FAIL,
            "nobody serves metrics.k8s.io: autoscalers would know no CPU and no memory",
            "metrics-server, or the cloud's own",
            "install metrics-server (EKS: the add-on metrics-server)",
        )
    else:
        said = _lacks_answers(services[resource[0]], cluster, wait_seconds)
        if said:
            yield Finding(
                "metrics",
                FAIL,
                f"APIService {resource[0]} does not answer ({said}): autoscalers would know no CPU and no memory",
                "its condition Available to be True",
                "see why the pods behind it are not ready (kubectl -n kube-system get pods)",
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


def _lacks_answers(service: Object, cluster: Cluster, wait_seconds: float) -> str:
    """What an APIService says of itself as long as it is not available."""
    reference = {key: service[key] for key in ("apiVersion", "kind")} | {"name": service["metadata"]["name"]}
    seen = [service]

    def look() -> Object:
        # What was read with all else counts first.
        return seen.pop() if seen else cluster.get(reference) or {}

    def available(found: Object) -> bool:
        return (condition_of(found, "Available") or {}).get("status") == "True"

    found = wait_until(look, wait_seconds, 1, available)
    condition = condition_of(found, "Available") or {}
    told = ": ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key))
    return "" if available(found) else told or "it has no condition Available"


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
    kinds = [
        *(["kube-dns or CoreDNS"] if services & {"kube-dns", "coredns", "rke2-coredns-rke2-coredns"} else []),
        *(["a cache on the nodes"] if "node-local-dns" in names else []),
        *(["Google's Cloud DNS, where it is on"] if _google(state) else []),
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
        lacking = _lacks_keys(cluster, str(namespace), str(name), ["tls.crt", "tls.key"])
        if lacking:
            yield Finding(
                "certificate",
                FAIL,
                lacking,
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
    if values.get("data_services_tls_source") == "cert_manager" and not cluster.knows(
        "cert-manager.io/v1", "Certificate"
    ):
        yield Finding(
            "certificate",
            FAIL,
            "data_services_tls_source is cert_manager, and nobody serves cert-manager.io/v1",
            "cert-manager",
            "install it, or set data_services_tls_source to self_signed",
        )


def secrets(values: Values, cluster: Cluster) -> Iterator[Finding]:
    """Those that the inventory names and its owner makes, beside the edge's certificate."""
    asked = list(_asked_secrets(values))
    wrong = False
    for variable, namespace, name, keys in asked:
        lacking = _lacks_keys(cluster, namespace, name, keys)
        if lacking:
            wrong = True
            yield Finding(
                "secrets",
                FAIL,
                f"{lacking} ({variable})",
                f"it, with {' and '.join(keys)}, as pods wait for it",
                f"kubectl create namespace {namespace}, where it is not there yet; kubectl -n {namespace} create "
                f"secret generic {name} {' '.join(f'--from-file={key}=FILE' for key in keys)}",
            )
    if asked and not wrong:
        yield passed("secrets", ", ".join(sorted({f"{namespace}/{name}" for _who, namespace, name, _keys in asked})))


def _asked_secrets(values: Values) -> Iterator[tuple[str, str, str, list[str]]]:
    """Variable, namespace, name and keys."""
    buckets = [
        (
            "data_services_postgresql_backup_s3",
            "data_services_namespace",
            (values.get("data_services_postgresql_enabled") and values.get("data_services_postgresql_backup"))
            or values.get("data_services_redis_backup"),
        ),
        (
            "logging_elasticsearch_snapshot_s3",
            "logging_namespace",
            values.get("logging_enabled") and values.get("logging_backend") == "elastic",
        ),
    ]
    for variable, namespace, used in buckets:
        bucket = values.get(variable) or {}
        if used and bucket.get("bucket") and bucket.get("secret") and (bucket.get("key_type") or "shared") == "shared":
            yield variable, str(values.get(namespace)), str(bucket["secret"]), ["key", "key-secret"]
    for receiver in values.get("monitoring_receivers") or [] if values.get("monitoring_enabled") else []:
        secret = receiver.get("secret")
        if secret:
            where = f"monitoring_receivers, {receiver.get('name')}"
            yield where, str(values.get("monitoring_namespace")), str(secret["name"]), [str(secret["key"])]


def _lacks_keys(cluster: Cluster, namespace: str, name: str, keys: list[str]) -> str:
    """What of a Secret is missing."""
    secret = cluster.get({"apiVersion": "v1", "kind": "Secret", "name": name, "namespace": namespace})
    has = (secret or {}).get("data") or {}
    missing = [key for key in keys if not has.get(key)]
    if secret is None:
        return f"there is no Secret {namespace}/{name}"
    return f"Secret {namespace}/{name} is without {' and '.join(missing)}" if missing else ""


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
