"""Values that contradict each other are named before anything is written, and values that fit are not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables import contradictions
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions import quotas
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    Values,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.parameters import (
    OF_THE_CHART,
    PARAMETERS,
    VERSION,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.redis import size
from hypothesis import given
from hypothesis import strategies as st

from .evaluation import OWN, evaluated, found

ROOT = Path(__file__).resolve().parents[3]
CHARTS = ROOT / "roles"
DEFAULT, _ = evaluated()
CLIENT = {"connections": 4, "pool": 2}
REDIS_CLIENT = {"redis": "~a:* +get"}
ELASTIC = {"logging_backend": "elastic", "logging_accept_elastic_license": True}

OURS = {
    name: {"repository": f"localhost:5001/{name}"}
    for name in ("controller", "postgresql", "kube-state-exporter", "openfaas-compatible", "runtime-nodejs")
    + ("runtime-python", "runtime-rust")
}
NO_UPSTREAM = {"platform_upstream_images": False, "platform_image_registry": "", "platform_images": OURS}


def told(**given: Any) -> str:
    return "\n".join(str(error) for error in found(**given))


def changed(**given: Any) -> list[str]:
    """What is found where values of the right types are put over those of the defaults, as they are."""
    return [str(error) for error in contradictions.find({**DEFAULT, **given}, OWN)]


def test_the_defaults_contradict_nothing():
    assert told() == ""


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"data_services_redis_maxmemory": "7gb"}, "data_services_redis_maxmemory 7gb, data_services_redis_memory 8Gi"),
        ({"data_services_redis_maxmemory": "6 GB"}, "data_services_redis_maxmemory is no size"),
        ({"data_services_redis_maxmemory": "200mb"},
         "controller_max_kept_bytes_per_caller 67108864, data_services_redis_maxmemory 200mb"),
        ({"controller_max_kept_bytes_anonymous": 4 * 1024**3}, "controller_max_kept_bytes_anonymous 4294967296"),
        ({"data_services_redis_storage": "5Gi"}, "data_services_redis_storage 5Gi"),
        ({"data_services_redis_storage": "17Gi"}, "a rewrite of the append-only file does not fit"),
        ({"data_services_redis_quorum": 4}, "data_services_redis_quorum 4, data_services_redis_sentinels 3"),
        ({"data_services_redis_quorum": 0}, "data_services_redis_quorum 0"),
        ({"data_services_redis_min_replicas_to_write": 3}, "data_services_redis_min_replicas_to_write 3"),
        ({"controller_redis_confirm_replicas": 3},
         "controller_redis_confirm_replicas 3, data_services_redis_replicas 3"),
        ({"data_services_redis_min_replicas_max_lag_seconds": 3}, "data_services_redis_down_after_milliseconds 2500"),
        *[({"data_services_redis_clients": {name: REDIS_CLIENT}}, f"the client {name} of Redis would take")
          for name in ("haproxy", "pod", "sentinel", "replication", "backup", "restore", "admin", "default", "users")],
        ({"data_services_redis_clients": {"My_App": REDIS_CLIENT}}, "'My_App'"),
        ({"data_services_redis_clients": {"app": {}}}, "the client app of Redis has no rules"),
        ({"data_services_redis_clients": {"app": {"redis": "+get\nuser root on"}}}, "on one line"),
        ({"monitoring_prometheus_retention_size": "50GB"}, "monitoring_prometheus_retention_size 50GB"),
        ({"monitoring_prometheus_retention_size": "50Gi"}, "monitoring_prometheus_retention_size is no size"),
        ({"monitoring_receivers": [{"name": "a", "type": "slack"}]}, "slack without secret"),
        ({"monitoring_receivers": [{"name": "a", "type": "email", "to": "b", "username": "c"}]},
         "email without from, smarthost, secret"),
        ({"monitoring_receivers": [{"name": "a", "type": "webhook", "secret": {"name": "b", "key": "c"}},
                                   {"name": "a", "type": "email", "to": "b", "from": "c", "smarthost": "d:25"}]},
         "a in monitoring_receivers"),
        ({"controller_min_replicas": 11}, "controller_min_replicas 11, controller_max_replicas 10"),
        ({"runtimes_min_replicas": 21}, "runtimes_min_replicas 21, runtimes_max_replicas 20"),
        ({"runtimes_languages": [{"name": "go", "max_replicas": 1, "image": "x"}]},
         "runtimes_languages, go, max_replicas 1"),
        ({"runtimes_languages": [{"name": "go", "image": "x"}] * 2}, "two languages have one name"),
        ({"runtimes_languages": [{"name": "C++", "image": "x"}]}, "a language cannot name its Service"),
        ({"ingress_replicas": 0}, "ingress_replicas leaves no pod"),
        ({"ingress_accept_anonymous": False}, "anybody on the internet may run scripts"),
        ({"ingress_load_balancer": "nlb", "ingress_service_type": "NodePort"}, "a Service of type LoadBalancer"),
        ({"ingress_load_balancer": "alb", "ingress_service_type": "LoadBalancer"}, "a Service of type ClusterIP"),
        ({"ingress_load_balancer": "gce", "ingress_proxy_protocol": True}, "nobody could connect"),
        ({"ingress_https_node_port": 30443, "ingress_http_node_port": 30443}, "two ask for one port of the nodes"),
        ({"ingress_load_balancer": "alb", "ingress_http3": True}, "HTTP/3 would be announced"),
        ({"ingress_load_balancer": "nlb", "ingress_proxy_protocol": True, "ingress_http3": True},
         "HTTP/3 would be announced"),
        ({"controller_runtime_timeout_seconds": 20}, "the controller gives up before the runtime does"),
        ({"ingress_timeout_seconds": 32}, "ingress_timeout_seconds 32, and the controller waits 32 s"),
        ({"runtimes_default_timeout_seconds": 31}, "runtimes_default_timeout_seconds 31, runtimes_timeout_seconds 30"),
        ({"runtimes_timeout_seconds": 4000}, "1 to 3600"),
        ({"ingress_routes": [{"name": "run", "match": {"prefix": "/api/"}, "timeout_seconds": 9}]},
         "ingress_routes, run, timeout_seconds 9"),
        ({"controller_values": {"terminationGracePeriodSeconds": 30}},
         "controller_values.terminationGracePeriodSeconds 30"),
        ({"ingress_values": {"terminationGracePeriodSeconds": 35}}, "ingress_values.terminationGracePeriodSeconds 35"),
        *[({"data_services_postgresql_clients": {name: CLIENT}},
         f"the client {name} of PostgreSQL has a name that is taken")
          for name in ("postgres", "standby", "rewind", "client", "pgbouncer", "lambda", "ca", "tls", "public")],
        ({"data_services_postgresql_clients": {"a" * 62: CLIENT}}, "NAME and NAME_2"),
        ({"data_services_postgresql_clients": {"my_app": CLIENT}}, "'my_app'"),
        ({"data_services_postgresql_clients": {"a": {**CLIENT, "schemas": ["x"]}, "b": {**CLIENT, "schemas": ["x"]}}},
         "a and b"),
        ({"data_services_postgresql_clients": {"a": {**CLIENT, "schemas": ["pg_x"]}}}, "the schema pg_x"),
        ({"data_services_postgresql_parameters": {"wrok_mem": "4MB"}},
         "no parameter wrok_mem.*the nearest is work_mem"),
        ({"data_services_postgresql_parameters": {"max_connections": 10}}, "data_services_postgresql_max_connections"),
        ({"data_services_postgresql_parameters": {"ssl": "off"}}, "the platform sets ssl itself"),
        ({"data_services_postgresql_parameters": {"port": 1}}, "the platform sets port itself"),
        ({"data_services_postgresql_max_connections": 50}, "the connections do not fit into PostgreSQL"),
        ({"data_services_postgresql_memory": "64Mi"}, "PostgreSQL has too little memory"),
        ({"data_services_postgresql_retry_timeout_seconds": 9}, "retry_timeout_seconds 9"),
        ({"data_services_postgresql_ttl_seconds": 10}, "ttl_seconds 10"),
        ({"data_services_postgresql_enabled": False, "controller_database_enabled": True},
         "a PostgreSQL that nobody makes"),
        ({"ingress_namespace": "Edge"}, "ingress_namespace is no name of a namespace"),
        ({"ingress_namespace": "controller"}, "controller_namespace and ingress_namespace are controller"),
        ({"foundation_namespaces": [{"name": "ingress"}]}, "nobody makes the namespace of controller_namespace"),
        ({"foundation_resource_quotas": {"openfass-fn": {"pods": "1"}}},
         "foundation_resource_quotas names a namespace"),
        ({"foundation_resource_quotas": {"ingress": {"pods": "some"}}}, "a quota is no quantity: pods of ingress"),
        ({"foundation_resource_quotas": {"controller": {"requests.cpu": "22"}}},
         "requests.cpu.*Found: 22, and 24 are needed"),
        ({"foundation_resource_quotas": {"runtimes": {"pods": "89"}}}, "Found: 89, and 90 are needed"),
        ({"foundation_resource_quotas": {"openfaas-fn": {"pods": "89"}}}, "Found: 89, and 90 are needed"),
        ({"foundation_resource_quotas": {"data_services": {"requests.storage": "100Gi"}}}, "requests.storage"),
        ({"ingress_memory_limit": "1Gi"}, "ingress_memory 4Gi, ingress_memory_limit 1Gi"),
        ({"runtimes_cpu": "2"}, "runtimes_cpu 2, runtimes_cpu_limit 1"),
        ({"runtimes_script_memory": "3Gi"},
         "what scripts of python may take at once does not fit.* + 1 x 3072Mi (executions)"),
        ({"runtimes_concurrency": 7}, "= 2368Mi, and a memory limit of 2Gi"),
        ({"runtimes_memory_limit": "1Gi", "runtimes_memory": "1Gi"}, "what scripts of rust .* at least 1216Mi"),
        ({"runtimes_languages": [{"name": "rust", "env": {"COMPILE_MEMORY_LIMIT_BYTES": "2Gi"}}]},
         "+ 2048Mi (the compiler)"),
        ({"runtimes_env": {"SCRATCH_LIMIT_BYTES": "64 MB"}}, "SCRATCH_LIMIT_BYTES of a runtime is no quantity"),
        ({"controller_cpu": "two"}, "controller_cpu is no quantity"),
        ({"platform_images_file": "/nowhere/images.json"}, "/nowhere/images.json is not there"),
        ({"platform_image_registry": ""}, "the image controller is ours, and no registry has it"),
        ({"runtimes_languages": [{"name": "go"}]}, "there is no image runtime-go"),
        ({"monitoring_enabled": False, "runtimes_places_percent": 70}, "nobody would tell the autoscalers"),
        ({"logging_backend": "elastic"}, "logging_backend elastic, logging_accept_elastic_license false"),
        ({"openfaas_edition": "pro"}, "openfaas_edition pro, openfaas_accept_license empty"),
        ({"openfaas_function_namespaces": ["shop"]}, "the first namespace of functions is not the runtimes'"),
        ({"openfaas_function_namespaces": ["openfaas-fn", "shop"]}, "foundation_namespaces does not make it"),
        ({"openfaas_function_namespaces": ["openfaas-fn", "controller"]}, "it is that of controller_namespace"),
        ({"openfaas_function_flows": [{"name": "My flow", "to": "world", "ports": [1]}]}, "'My flow'"),
        ({"openfaas_function_flows": [{"name": "api", "to": ["kubernetes-api"], "ports": [443]}]}, "no account there"),
        ({"openfaas_function_flows": [{"name": "a", "to": "world", "ports": [1]}] * 2}, "two ways out have one name"),
        ({"openfaas_nats_max_store": "10Gi"}, "openfaas_nats_storage 10Gi"),
        ({"openfaas_queue_max_bytes": 10 * 1024**3}, "openfaas_queue_max_bytes 10737418240"),
        ({"openfaas_function_timeout_seconds": 31}, "openfaas_function_max_timeout_seconds 30"),
        ({"openfaas_gateway_min_replicas": 7}, "openfaas_gateway_min_replicas 7, openfaas_gateway_max_replicas 6"),
        ({"foundation_resource_quotas": {"openfaas": {"requests.storage": "29Gi"}}}, "29Gi, and 30Gi are needed"),
        ({**ELASTIC, "logging_elasticsearch_warm_days": 60}, "logging_elasticsearch_cold_days 60"),
        ({**ELASTIC, "logging_elasticsearch_rollover_days": 0}, "logging_elasticsearch_rollover_days 0"),
        ({**ELASTIC, "logging_elasticsearch_snapshot_s3": {"bucket": "b", "secret": "s"}}, "without endpoint, region"),
        ({**ELASTIC, **NO_UPSTREAM, "monitoring_grafana_enabled": False},
         "the images of eck-operator, elasticsearch, kibana, logstash, filebeat, .*logging_backend victorialogs"),
        (NO_UPSTREAM, "cannot have the images of grafana.*monitoring_grafana_enabled"),
        ({**ELASTIC, "platform_images": {"elasticsearch": {"digest": f"sha256:{'0' * 64}"}}}, "a digest and no tag"),
    ],
)  # fmt: skip
def test_a_contradiction_is_named_with_what_was_found(wrong: dict[str, Any], names: str):
    errors = found(**wrong)
    text = "\n".join(str(error) for error in errors)
    assert re.search(re.escape(names).replace(r"\.\*", ".*"), text), text
    assert all(error.parts().keys() >= {"what", "found", "expected", "fix"} for error in errors)


@pytest.mark.parametrize(
    "right",
    [
        {"controller_redis_confirm_replicas": 5, "controller_redis_url": "redis://elsewhere.example:6379"},
        {"data_services_redis_replicas": 1},
        {**NO_UPSTREAM, "platform_images": {**OURS, "grafana": {"repository": "localhost:5001/grafana"}}},
        {**NO_UPSTREAM, "platform_images": OURS, "monitoring_grafana_enabled": False},
        # A mirror has copies of all.
        {"platform_upstream_images": False},
        {"data_services_postgresql_enabled": False},
        {"data_services_postgresql_enabled": False, "data_services_postgresql_clients": {"postgres": CLIENT}},
        {"data_services_postgresql_enabled": False, "controller_database_enabled": True, "controller_database_url": "postgresql://db/x",
         "controller_database_primary_url": "postgresql://db/x"},
        {"data_services_postgresql_parameters": {"work_mem": "4MB", "datestyle": "ISO", "pg_stat_statements.max": 100}},
        {"data_services_postgresql_clients": {"a" * 61: CLIENT}},
        {"runtimes_timeout_seconds": 600},
        {"ingress_namespace": "edge", "data_services_namespace": "stores",
         "runtimes_namespace": "fn", "controller_namespace": "api"},
        {"foundation_resource_quotas": {}},
        ELASTIC,
        {"logging_backend": "elastic", "logging_enabled": False},
        {"openfaas_edition": "pro", "openfaas_enabled": False},
        {"platform_image_registry": "", "platform_images_file": str(ROOT / "tests" / "images.json")},
    ],
)  # fmt: skip
def test_what_fits_is_left_alone(right: dict[str, Any]):
    assert told(**right) == ""


ACTS = {"vpa_enabled": True, "vpa_mode": {"redis-haproxy": "InPlaceOrRecreate"}}
LEAST, MOST = {"cpu": "50m", "memory": "32Mi"}, {"cpu": 1, "memory": "64Mi"}
BOUNDS = {"min": LEAST, "max": MOST}


def bounds(**of_haproxy: Any) -> dict[str, Any]:
    return {"vpa_bounds": {"redis-haproxy": of_haproxy}}


HAPROXY = "vpa_bounds.redis-haproxy"


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"vpa_mode": {"redis-proxy": "Off"}}, "no workload of this platform. Found: redis-proxy"),
        ({"vpa_bounds": {"nats": BOUNDS}, "openfaas_enabled": False}, "vpa_bounds names what is no workload"),
        ({"vpa_mode": {"redis-haproxy": "Auto"}}, "vpa_mode.redis-haproxy is no mode. Found: 'Auto'"),
        ({"vpa_mode": {"redis-haproxy": True}}, "vpa_mode.redis-haproxy is no mode. Found: True"),
        ({"vpa_mode": {"controller": "Initial"}, "vpa_bounds": {"controller": BOUNDS}}, "adds pods by cpu and memory"),
        ({"vpa_mode": {"rust-runtime": "Recreate"}, "vpa_bounds": {"rust-runtime": BOUNDS}}, "adds pods by cpu,"),
        (ACTS, f"{HAPROXY} without min.cpu, min.memory, max.cpu, max.memory"),
        ({**ACTS, "vpa_bounds": {"redis-haproxy": {"max": MOST}}}, "without min.cpu, min.memory. Expected"),
        (bounds(min={"cpu": "2 cores"}), f"{HAPROXY}.min.cpu is no quantity. Found: '2 cores'"),
        (bounds(max={"memory": 0}), f"{HAPROXY}.max.memory is no quantity"),
        (bounds(min=MOST, max={"cpu": "999m"}), "the bounds of cpu are the wrong way round. Found: min 1, max 999m"),
        (bounds(least=LEAST), f"{HAPROXY} is no pair of bounds"),
        (bounds(min={"disk": "1Gi"}), f"{HAPROXY}.min names something else than resources"),
        ({"vpa_bounds": {"redis-haproxy": "64Mi"}}, f"{HAPROXY} is no pair of bounds"),
        ({**ACTS, **bounds(**BOUNDS), "foundation_resource_quotas": {"data_services": {"requests.cpu": "22"}}},
         "the quota of the namespace data-services is below what a rolling update needs: requests.cpu"),
        ({"vpa_admission_replicas": 0}, "vpa_admission_replicas leaves no pod"),
    ],
)  # fmt: skip
def test_each_wrong_word_about_vertical_autoscaling_is_one_error(wrong: dict[str, Any], what: str):
    (error,) = found(**{"vpa_enabled": True, **wrong})
    assert what in str(error), error


@pytest.mark.parametrize(
    "right",
    [
        {**ACTS, **bounds(**BOUNDS)},
        # YAML reads Off without quotes as false.
        {"vpa_mode": {"controller": False, "redis": "Off"}},
        {"vpa_bounds": {"redis": {"max": {"memory": "8Gi"}}}},
        # By a figure of Prometheus alone.
        {"vpa_mode": {"python-runtime": "Initial"}, "vpa_bounds": {"python-runtime": BOUNDS},
         "runtimes_cpu_percent": 0},
        # Without the bounds, the quota is enough.
        {"foundation_resource_quotas": {"data_services": {"requests.cpu": "22"}}},
    ],
)  # fmt: skip
def test_what_vertical_autoscaling_may_do(right: dict[str, Any]):
    assert told(**{"vpa_enabled": True, **right}) == ""


def test_without_vertical_autoscaling_nobody_asks_what_it_may_do():
    assert told(vpa_mode={"nobody": "Off"}) == ""


AWS = "service.beta.kubernetes.io/aws-load-balancer-"
INSIDE = [
    {"ingress_service_type": "NodePort"},
    {"ingress_service_type": "ClusterIP"},
    {"ingress_authentication": "api_key"},
    {"ingress_service_annotations": {f"{AWS}scheme": "internal"}},
    {"ingress_service_annotations": {"networking.gke.io/load-balancer-type": "Internal"}},
    {"ingress_service_annotations": {"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}},
    {"ingress_values": {"service": {"annotations": {f"{AWS}scheme": "internal"}}}},
    {"ingress_values": {"service": {"loadBalancerClass": "networking.gke.io/l4-regional-internal"}}},
    {"ingress_load_balancer": "alb", "ingress_load_balancer_internal": True},
    {"ingress_load_balancer": "nlb", "ingress_load_balancer_internal": True},
    {"ingress_load_balancer": "gce", "ingress_load_balancer_internal": True},
]
PUBLIC = [
    {"ingress_service_annotations": {f"{AWS}scheme": "internet-facing", f"{AWS}type": "external"}},
    {"ingress_service_annotations": {"networking.gke.io/load-balancer-type": "External"}},
    {"ingress_service_annotations": {"service.beta.kubernetes.io/azure-load-balancer-internal": "false"}},
    {"ingress_service_annotations": {f"{AWS}scheme": "internal"},
     "ingress_values": {"service": {"annotations": {f"{AWS}scheme": "internet-facing"}}}},
    {"ingress_values": {"service": {"loadBalancerClass": "service.k8s.aws/nlb"}}},
    {"ingress_service_type": "NodePort", "ingress_values": {"service": {"type": "LoadBalancer"}}},
    {"ingress_trust_user_id": True},
    {"ingress_load_balancer": "alb"},
    {"ingress_load_balancer": "nlb"},
    {"ingress_load_balancer": "gce"},
    {"ingress_load_balancer": "nlb", "ingress_load_balancer_internal": True,
     "ingress_service_annotations": {f"{AWS}scheme": "internet-facing"}},
]  # fmt: skip


@pytest.mark.parametrize(("variables", "public"), [(row, False) for row in INSIDE] + [(row, True) for row in PUBLIC])
def test_a_public_edge_asks_who_calls(variables: dict[str, Any], public: bool):
    assert ("anybody on the internet" in told(ingress_accept_anonymous=False, **variables)) == public


def test_all_contradictions_are_named_at_once():
    text = told(
        data_services_redis_quorum=9, controller_min_replicas=99, data_services_postgresql_clients={"postgres": CLIENT}
    )
    for name in ("data_services_redis_quorum", "controller_min_replicas", "the client postgres"):
        assert name in text


def test_a_wrong_value_hides_no_other_contradiction():
    values, wrong = evaluated(data_services_redis_quorum=9, runtimes_timeout_seconds="long")
    errors = wrong + contradictions.find(values, OWN)
    assert [error.reason for error in errors] == ["argument", "contradiction"]


@given(sentinels=st.integers(1, 9), quorum=st.integers(-1, 10))
def test_a_quorum_that_can_be_reached(sentinels: int, quorum: int):
    errors = changed(data_services_redis_sentinels=sentinels, data_services_redis_quorum=quorum)
    assert any("data_services_redis_quorum" in error for error in errors) == (not 1 <= quorum <= sentinels)


@given(memory=st.integers(1, 64), most=st.integers(1, 70_000))
def test_redis_keeps_a_quarter_for_its_copy(memory: int, most: int):
    given_values = {"data_services_redis_memory": f"{memory}Gi", "data_services_redis_maxmemory": f"{most}mb"}
    errors = changed(**given_values, data_services_redis_storage="1Ti", data_services_redis_backup_storage="1Ti")
    assert any("would be killed for its memory" in error for error in errors) == (most > memory * 768)


@given(runtime=st.integers(1, 3600), controller=st.integers(1, 3600), edge=st.integers(1, 4000))
def test_whoever_waits_waits_longer(runtime: int, controller: int, edge: int):
    errors = changed(
        runtimes_timeout_seconds=runtime,
        runtimes_default_timeout_seconds=1,
        controller_runtime_timeout_seconds=controller,
        ingress_timeout_seconds=edge,
    )
    assert any("the controller gives up" in error for error in errors) == (controller < runtime)
    assert any("the edge gives up" in error for error in errors) == (edge <= controller + 2)


@given(replicas=st.integers(1, 50), cpu=st.integers(1, 4000), spare=st.integers(-3, 3))
def test_a_quota_that_has_room_for_an_update(replicas: int, cpu: int, spare: int):
    needed = (replicas + 2) * cpu
    errors = changed(
        controller_min_replicas=1,
        controller_max_replicas=replicas,
        controller_cpu=f"{cpu}m",
        foundation_resource_quotas={"controller": {"requests.cpu": f"{needed + spare}m"}},
        data_services_postgresql_enabled=False,
        controller_database_enabled=False,
    )
    assert any("below what a rolling update needs" in error for error in errors) == (spare < 0)


@given(text=st.from_regex(r"[0-9]{1,6}(b|k|kb|m|mb|g|gb)?", fullmatch=True))
def test_a_size_of_redis(text: str):
    number = int(re.match("[0-9]+", text)[0])
    unit = text.lstrip("0123456789")
    power = "kmg".find(unit[0]) + 1 if unit[:1] in ("k", "m", "g") and unit else 0
    assert size(text) == number * (1024 if unit.endswith("b") else 1000) ** power


def test_the_requests_that_no_variable_says_are_the_charts():
    def of(chart: str) -> Any:
        return yaml.safe_load((CHARTS / f"{chart}/values.yaml").read_text(encoding="utf-8"))

    redis, postgresql = of("data_services/files/charts/redis"), of("data_services/files/charts/postgresql")

    def requests(values: Any) -> tuple[str, str]:
        return values["resources"]["requests"]["cpu"], values["resources"]["requests"]["memory"]

    assert requests(redis["sentinel"]) == quotas.SENTINEL
    assert redis["sentinel"]["persistence"]["data"]["size"] == quotas.SENTINEL_STORAGE
    assert requests(redis["haproxy"]) == quotas.HAPROXY
    assert requests(postgresql["pgbouncer"]) == quotas.PGBOUNCER
    assert requests(postgresql["sidecars"]) == quotas.SIDECAR
    assert requests(postgresql["repository"]) == quotas.REPOSITORY
    assert requests(redis["backup"]) == quotas.REDIS_BACKUP
    assert requests(of("controller/files/charts/controller")["database"]) == quotas.MIGRATIONS
    exporters = of("data_services/files/charts/exporters")
    for one in (exporters["redis"], exporters["postgresql"], postgresql["metrics"]):
        assert requests(one) == quotas.EXPORTER
    workloads = {workload.name: workload for workload in quotas.workloads(Values({**OWN, **DEFAULT}))}
    for chart, name, replicas in (
        ("ingress/files/charts/envoy", "envoy", 3),
        ("ingress/files/charts/ratelimit", "ratelimit", 2),
        ("controller/files/charts/controller", "controller", 10),
        ("runtimes/files/charts/runtime", "nodejs-runtime", 20),
    ):
        surge = of(chart)["strategy"]["rollingUpdate"]["maxSurge"]
        assert workloads[name].added == (surge if isinstance(surge, int) else replicas // 4)


def test_the_parameters_are_those_of_the_image_s_postgresql():
    dockerfile = (ROOT / "images/postgresql/Dockerfile").read_text(encoding="utf-8")
    assert f"\nARG MAJOR={VERSION}\n" in dockerfile
    # A few that came and went: 16 and 17 brought the first, 17 took the last away.
    assert {"summarize_wal", "transaction_timeout", "scram_iterations"} <= PARAMETERS
    assert not {"old_snapshot_threshold", "db_user_namespace", "block_size"} & PARAMETERS
    template = (CHARTS / "data_services/files/charts/postgresql/templates/postgresql-configuration.yaml").read_text(
        encoding="utf-8"
    )
    written = re.search(r"^      parameters:\n((?: {8}.*\n)+)", template, re.MULTILINE)
    assert written is not None
    assert set(re.findall(r"^ {8}([a-z_]+):", written[1], re.MULTILINE)) == OF_THE_CHART
    assert OF_THE_CHART <= PARAMETERS


@pytest.mark.parametrize(
    ("given", "port"),
    [
        ({"platform_extra_flows": [{"from": "reports/app", "to": "controller/controller", "ports": [8080]}]}, 8080),
        ({"platform_extra_flows": [{"from": "ingress/envoy", "to": "10.0.0.0/8", "ports": [8081]}]}, 8081),
        ({"openfaas_callback_hosts": ["*"], "openfaas_callback_ports": [443, 8080]}, 8080),
    ],
)
def test_a_port_of_the_mesh_is_not_for_one_without_an_identity_too(given: dict[str, Any], port: int):
    assert any(f"port {port} is for one who proves who it is" in one for one in changed(mesh_enabled=True, **given))
    assert not any("proves who it is" in one for one in changed(**given))
    own_port = {"platform_extra_flows": [{"from": "reports/app", "to": "controller/controller", "ports": [9090]}]}
    assert not any("proves who it is" in one for one in changed(mesh_enabled=True, **own_port))
