"""The backend elastic of the role logging: what Elastic's operator makes of what the role applies.

The role itself, by Ansible, and the operator itself, built from upstream's Go module (tools/eck), in a cluster of the
test's own. The operator runs as a process beside it, with the configuration, the certificate and the account that its
pod would have. There are no nodes but their names: pods are made and admitted, and none runs. No registry has
Elasticsearch, Kibana, Logstash or Filebeat.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.free_ports import free_port

from .control_plane import ControlPlane, Program

ROOT = Path(__file__).resolve().parents[2]
MODULE = "github.com/elastic/cloud-on-k8s/v3"
NAMESPACE, AGENTS = "monitoring", "node-agents"
BUCKET = {"bucket": "logs", "endpoint": "s3.example.com", "region": "r", "secret": "bucket"}
ZONES = {"node-1": "a", "node-2": "b", "node-3": "c"}
WEBHOOK = "elastic-operator-webhook"
SECONDS = 120


@pytest.fixture(scope="module")
def eck() -> Path:
    """The operator's program: built once, in about three minutes."""
    subprocess.run([ROOT / "tools/go-programs", "eck", ROOT / ".local/eck"], check=True, timeout=1800)
    return ROOT / ".local/eck/eck"


@pytest.fixture(scope="module")
def chart() -> str:
    """Upstream's chart, as its Go module has it."""
    command = ["go", "mod", "download", "-json", MODULE]
    done = subprocess.run(command, cwd=ROOT / "tools/eck", check=True, timeout=300, capture_output=True, text=True)
    return f"{json.loads(done.stdout)['Dir']}/deploy/eck-operator"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    # The API server reaches a webhook at the addresses behind its Service, as there is nobody to forward.
    plane = ControlPlane("--enable-aggregator-routing=true")
    try:
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="module")
def own(plane: ControlPlane) -> Any:
    """The module's own access to the cluster."""
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

    return Cluster({"kubeconfig": str(plane.kubeconfig)})


@pytest.fixture(scope="module")
def role(plane: ControlPlane, chart: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run the roles foundation and logging, without waiting for pods."""
    folder = tmp_path_factory.mktemp("inventory")
    (folder / "hosts.yml").write_text((ROOT / "inventories/production-eks/hosts.yml").read_text(encoding="utf-8"))
    given = {
        "platform_kubeconfig": str(plane.kubeconfig),
        "platform_images_file": str(ROOT / "tests/images.json"),
        "platform_image_pull_secrets": [{"name": "registry"}],
        "ingress_accept_anonymous": True,
        # Nothing here answers at an address that a cluster would have.
        "platform_api_server_addresses": ["10.0.0.1/32"],
        "foundation_dns_peers": [{"ipBlock": {"cidr": "10.0.0.10/32"}}],
        "logging_backend": "elastic",
        "logging_accept_elastic_license": True,
        "logging_eck_repository": "",
        "logging_eck_chart": chart,
        "logging_elasticsearch_snapshot_s3": BUCKET,
    }

    def run(*options: str, **variables: Any) -> str:
        tags = "foundation,logging_secret,logging_policy,logging_chart"
        command = [
            Path(sys.executable).with_name("ansible-playbook"),
            "-i",
            folder,
            "site.yml",
            "--tags",
            tags,
            *options,
        ]
        done = subprocess.run(
            [*command, "--extra-vars", json.dumps({**given, **variables})],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def applied(own: Any, role: Callable[..., str]) -> None:
    """Three nodes in three zones, as far as the API knows, and all that the role applies."""
    for name, zone in ZONES.items():
        labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone}
        own.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}, "test")
    role()
    metadata = {"name": BUCKET["secret"], "namespace": NAMESPACE}
    key = {"key": "AKIA", "key-secret": "planted"}
    own.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": key}, "test")


def read(
    own: Any, kind: str, name: str, namespace: str = NAMESPACE, api_version: str = "apps/v1"
) -> dict[str, Any] | None:
    return own.get({"apiVersion": api_version, "kind": kind, "name": name, "namespace": namespace})


def until(look: Callable[[], Any], what: str, operator: Program | None = None) -> Any:
    """What it gives once it gives something."""
    ends = time.monotonic() + SECONDS
    while not (found := look()):
        said = operator.log.read_text(encoding="utf-8")[-3000:] if operator else ""
        assert time.monotonic() < ends, f"{what} did not come within {SECONDS} s\n{said}"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def operator(
    own: Any, plane: ControlPlane, eck: Path, applied: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """The operator as its pod would run it, with its account's rights alone."""
    folder = tmp_path_factory.mktemp("operator")
    configuration = read(own, "ConfigMap", "elastic-operator", api_version="v1")
    (folder / "eck.yaml").write_text(configuration["data"]["eck.yaml"], encoding="utf-8")
    secret = read(own, "Secret", WEBHOOK, api_version="v1")
    for name in ("tls.crt", "tls.key"):
        (folder / name).write_bytes(base64.b64decode(secret["data"][name]))
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/elastic-operator/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = own.request("POST", account, body=request)["status"]["token"]
    kubeconfig = yaml.safe_load(plane.kubeconfig.read_text(encoding="utf-8"))
    kubeconfig["users"][0]["user"] = {"token": token}
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig), encoding="utf-8")
    (container,) = read(own, "StatefulSet", "elastic-operator")["spec"]["template"]["spec"]["containers"]
    port = free_port()
    # What its pod would be given, and where it is otherwise here.
    environment = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    environment |= {"KUBECONFIG": str(folder / "kubeconfig"), "OPERATOR_NAMESPACE": NAMESPACE, "POD_IP": "127.0.0.1"}
    environment |= {"WEBHOOK_CERT_DIR": str(folder), "WEBHOOK_PORT": str(port)}
    assigned = [f"{name}={value}" for name, value in environment.items()]
    program = Program(folder / "log", "env", *assigned, eck, "manager", f"--config={folder / 'eck.yaml'}")
    try:
        _lead_the_webhook_to(own, port)
        yield program
    finally:
        program.stop()


def _lead_the_webhook_to(own: Any, port: int) -> None:
    """An EndpointSlice takes no loopback address: this machine's, where it has one."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as anywhere:
        try:
            anywhere.connect(("192.0.2.1", 9))  # TEST-NET-1; nothing is sent
        except OSError:
            return
        address = anywhere.getsockname()[0]
    metadata = {"name": WEBHOOK, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": WEBHOOK}}
    own.apply(
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
            "ports": [{"name": "https", "port": port}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        },
        "test",
    )  # fmt: skip


@pytest.fixture(scope="module")
def elasticsearch(own: Any, operator: Program) -> dict[str, Any]:
    return until(lambda: read(own, "StatefulSet", "logs-es-default"), "Elasticsearch's StatefulSet", operator)


def containers(workload: dict[str, Any]) -> list[dict[str, Any]]:
    pod = workload["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def container(workload: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in containers(workload) if each["name"] == name]
    return found


def pods(own: Any, app: str, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    return own.list("v1", "Pod", namespace, f"app.kubernetes.io/name={app}")


def test_elasticsearch_has_three_nodes_in_three_zones_of_the_designs_size(elasticsearch: dict[str, Any]) -> None:
    assert elasticsearch["spec"]["replicas"] == 3
    node = container(elasticsearch, "elasticsearch")
    assert node["image"] == "docker.elastic.co/elasticsearch/elasticsearch:9.4.3"
    assert node["resources"]["requests"] == {"cpu": "4", "memory": "16Gi"}
    assert node["resources"]["limits"]["memory"] == "16Gi"
    (claim,) = elasticsearch["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"] == {"storage": "100Gi"}
    spread = elasticsearch["spec"]["template"]["spec"]["topologySpreadConstraints"]
    zones = [each for each in spread if each["topologyKey"] == "topology.kubernetes.io/zone"]
    assert [(each["maxSkew"], each["whenUnsatisfiable"]) for each in zones] == [(1, "DoNotSchedule")]


def test_its_configuration_keeps_copies_in_other_zones_and_maps_no_files(
    own: Any, elasticsearch: dict[str, Any]
) -> None:
    secret = read(own, "Secret", "logs-es-default-es-config", api_version="v1")
    settings = yaml.safe_load(base64.b64decode(secret["data"]["elasticsearch.yml"]))
    assert settings["node"]["store"]["allow_mmap"] is False
    assert "zone" in settings["cluster"]["routing"]["allocation"]["awareness"]["attributes"]
    security = settings["xpack"]["security"]
    assert [str(security[layer]["ssl"]["enabled"]).lower() for layer in ("http", "transport")] == ["true", "true"]
    # No init container touches the node's kernel (vm.max_map_count).
    assert "max_map_count" not in json.dumps(elasticsearch)
    assert not any(each["securityContext"].get("privileged") for each in containers(elasticsearch))
    # The bucket's key is put where Elasticsearch reads it.
    assert container(elasticsearch, "elastic-internal-init-keystore")["securityContext"]["capabilities"] == {
        "drop": ["ALL"]
    }


def test_the_operator_takes_the_roles_users_and_no_superuser(own: Any, elasticsearch: dict[str, Any]) -> None:
    secret = read(own, "Secret", "logs-es-xpack-file-realm", api_version="v1")
    files = {name: base64.b64decode(content).decode() for name, content in secret["data"].items()}
    of_users = dict(line.split(":") for line in files["users_roles"].splitlines() if line)
    assert {role: of_users[role] for role in ("logs_writer", "logs_reader", "platform")} == {
        "logs_writer": "logs_writer", "logs_reader": "logs_reader", "platform": "platform",
    }  # fmt: skip
    assert yaml.safe_load(files["roles.yml"])["logs_writer"]["indices"] == [
        {"names": ["logs-platform-*"], "privileges": ["create_doc"]}
    ]
    assert "elastic" not in [line.partition(":")[0] for line in files["users"].splitlines()]


def test_the_certificate_is_good_for_the_name_that_the_module_asks_for(own: Any, elasticsearch: dict[str, Any]) -> None:
    from cryptography import x509

    secret = read(own, "Secret", "logs-es-http-certs-internal", api_version="v1")
    certificate = x509.load_pem_x509_certificates(base64.b64decode(secret["data"]["tls.crt"]))[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", f"logs-es-http.{NAMESPACE}.svc"} <= set(names.get_values_for_type(x509.DNSName))


def test_every_pod_is_admitted_where_pod_security_is_restricted(
    own: Any, operator: Program, elasticsearch: dict[str, Any]
) -> None:
    for app, count in (("elastic-operator", 1), ("elasticsearch", 3), ("logstash", 2), ("kibana", 1)):
        until(lambda app=app, count=count: len(pods(own, app)) == count, f"{count} pods of {app}", operator)
    namespace = read(own, "Namespace", NAMESPACE, "", "v1")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for app in ("elasticsearch", "logstash", "kibana"):
        for pod in pods(own, app):
            assert pod["spec"]["automountServiceAccountToken"] is False, app
            assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}], app


def test_filebeat_is_on_every_node_and_only_its_namespace_is_privileged(own: Any, operator: Program) -> None:
    until(lambda: len(pods(own, "filebeat", AGENTS)) == len(ZONES), "a Filebeat on every node", operator)
    daemon_set = read(own, "DaemonSet", "filebeat-beat-filebeat", AGENTS)
    assert [each["name"] for each in containers(daemon_set)] == ["filebeat"]
    filebeat = container(daemon_set, "filebeat")
    assert filebeat["securityContext"]["readOnlyRootFilesystem"] is True
    assert filebeat["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    paths = {
        each["hostPath"]["path"] for each in daemon_set["spec"]["template"]["spec"]["volumes"] if "hostPath" in each
    }
    assert paths == {"/var/log/pods", f"/var/lib/{AGENTS}/filebeat/filebeat-data"}
    secret = read(own, "Secret", "filebeat-beat-filebeat-config", AGENTS, "v1")
    settings = yaml.safe_load(base64.b64decode(secret["data"]["beat.yml"]))
    assert settings["queue"]["disk"]["max_size"] == "2GiB"
    assert settings["output"].keys() == {"logstash"}


def test_logstash_and_kibana_are_what_was_asked_for(own: Any, operator: Program) -> None:
    logstash = until(lambda: read(own, "StatefulSet", "logs-ls"), "Logstash's StatefulSet", operator)
    assert logstash["spec"]["replicas"] == 2
    assert container(logstash, "logstash")["resources"]["requests"] == {"cpu": "1", "memory": "2Gi"}
    secret = read(own, "Secret", "logs-ls-pipeline", api_version="v1")
    (pipeline,) = yaml.safe_load(base64.b64decode(secret["data"]["pipelines.yml"]))
    assert "${ELASTICSEARCH_PASSWORD}" in pipeline["config.string"]
    assert "gsub" in pipeline["config.string"]
    service = read(own, "Service", "logs-ls-beats", api_version="v1")
    assert [port["port"] for port in service["spec"]["ports"]] == [5044]
    kibana = until(lambda: read(own, "Deployment", "logs-kb"), "Kibana's Deployment", operator)
    assert kibana["spec"]["replicas"] == 1
    assert container(kibana, "kibana")["resources"]["limits"]["memory"] == "2Gi"


def test_the_webhook_refuses_what_the_operator_could_not_do(
    own: Any, operator: Program, elasticsearch: dict[str, Any]
) -> None:
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

    if read(own, "EndpointSlice", WEBHOOK, api_version="discovery.k8s.io/v1") is None:
        pytest.skip("this machine has no address but the loopback's, which no EndpointSlice takes")
    wrong = read(own, "Elasticsearch", "logs", api_version="elasticsearch.k8s.elastic.co/v1")
    changed = {
        "apiVersion": wrong["apiVersion"],
        "kind": wrong["kind"],
        "metadata": {"name": "logs", "namespace": NAMESPACE},
    }
    changed["spec"] = {"version": "8.0.0", "nodeSets": wrong["spec"]["nodeSets"]}
    with pytest.raises(PlatformError, match=r"(?i)downgrade"):
        own.apply(changed, "test", dry_run=True)


def test_the_operator_has_all_the_rights_that_it_uses_and_none_over_other_secrets(
    own: Any, operator: Program, elasticsearch: dict[str, Any]
) -> None:
    assert "forbidden" not in operator.log.read_text(encoding="utf-8").lower()
    account = f"system:serviceaccount:{NAMESPACE}:elastic-operator"

    def may(verb: str, resource: str, namespace: str) -> bool:
        asked = {"user": account, "resourceAttributes": {"verb": verb, "resource": resource, "namespace": namespace}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked}
        answer = own.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=review)
        return bool(answer["status"]["allowed"])

    assert may("list", "nodes", "")
    assert may("get", "secrets", NAMESPACE)
    assert not may("get", "secrets", "data-services")
    assert not may("list", "secrets", "")


def test_another_run_changes_nothing_and_another_backend_leaves_only_the_volumes(
    own: Any, role: Callable[..., str], operator: Program, elasticsearch: dict[str, Any]
) -> None:
    again = role("--diff")
    assert "changed=0" in again, again
    claims = {claim["metadata"]["name"] for claim in own.list("v1", "PersistentVolumeClaim", NAMESPACE)}
    assert {f"elasticsearch-data-logs-es-default-{number}" for number in range(3)} <= claims
    role(logging_enabled=False)
    until(lambda: read(own, "StatefulSet", "logs-es-default") is None, "the end of Elasticsearch", operator)
    until(lambda: not pods(own, "filebeat", AGENTS), "the end of Filebeat", operator)
    assert read(own, "StatefulSet", "elastic-operator") is None
    left = {claim["metadata"]["name"] for claim in own.list("v1", "PersistentVolumeClaim", NAMESPACE)}
    assert left == claims
