"""The backend elastic of the role logging, as the real Ansible renders it.

No registry has Logstash or Filebeat: the pipeline's patterns are run by Python's re, which reads what they use of
Ruby's syntax in the same way, and Filebeat's tokenizer by a few lines here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.variables.rendering import ROOT, Run, collection_without_cluster, run

BUCKET = {
    "bucket": "lambda-logs",
    "endpoint": "s3.example.com",
    "port": 8443,
    "region": "r",
    "secret": "bucket",
    "addresses": "10.9.0.0/16",
}
GIVEN = {
    "logging_enabled": True,
    "logging_backend": "elastic",
    "logging_accept_elastic_license": True,
    "logging_elasticsearch_snapshot_s3": BUCKET,
    "platform_images_file": str(ROOT / "tests/images.json"),
    "platform_image_registry": "",
    "platform_image_pull_secrets": [{"name": "registry"}],
}
PLANTED = "pl4nted"
UID = "0b6f0d4a-93c1-4d3e-8d57-2f1f2a0c7e11"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Run:
    collections = collection_without_cluster(tmp_path_factory.mktemp("collections"))
    options = ("--tags", "logging", "-e", json.dumps(GIVEN))
    done = run(collections, "site", *options, folder=tmp_path_factory.mktemp("run"), inventory="production-eks")
    assert done.rc == 0, done.output
    return done


@pytest.fixture(scope="module")
def custom(rendered: Run) -> dict[str, Any]:
    """The specs of the operator's custom resources, by kind."""
    (batch,) = [args for args in rendered.asked("policy") if args["name"] == "logging-elastic"]
    return {obj["kind"]: obj["spec"] for obj in batch["objects"]}


@pytest.fixture(scope="module")
def secrets(rendered: Run) -> dict[str, Any]:
    (args,) = rendered.asked("secret")
    return {secret["name"]: secret for secret in args["secrets"]}


@pytest.fixture(scope="module")
def documents(rendered: Run) -> dict[str, Any]:
    (args,) = rendered.asked("elasticsearch")
    return {document["path"]: document.get("body") for document in args["documents"]}


@pytest.fixture(scope="module")
def pipeline(custom: dict[str, Any]) -> str:
    (one,) = custom["Logstash"]["pipelines"]
    return one["config.string"]


def strings(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


@pytest.fixture(scope="module")
def redacted(pipeline: str) -> Any:
    """A line as it is after the pipeline's substitutions."""
    listed = strings(pipeline.partition("gsub => [")[2].partition("\n    ]")[0])
    rules = [
        (field, re.compile(pattern), replacement)
        for field, pattern, replacement in zip(listed[::3], listed[1::3], listed[2::3], strict=True)
    ]
    assert rules
    assert {field for field, _pattern, _replacement in rules} == {"message"}

    def line(text: str) -> str:
        for _field, pattern, replacement in rules:
            text = pattern.sub(replacement, text)
        return text

    return line


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({"authorization": f"Bearer {PLANTED}", "status": 200}),
        json.dumps({"X-API-Key": PLANTED, "Cookie": f"a={PLANTED}; b={PLANTED}", "status": 200}),
        json.dumps({"script": f'print("{PLANTED}")\\n', "params": f"{PLANTED}", "status": 200}),
        json.dumps({"message": json.dumps({"password": f"{PLANTED} and \"{PLANTED}\"", "user": "app"}), "status": 200}),
        json.dumps({"message": f"sent Authorization: Basic {PLANTED}== to the edge", "status": 200}),
        json.dumps({"message": f"GET /?token={PLANTED}&page=2", "status": 200}),
        json.dumps({"message": f"redis://app:{PLANTED}@redis:6379/0 does not answer", "status": 200}),
        f"authorization: bearer {PLANTED}",
        f"Set-Cookie: a={PLANTED}; Path=/; b={PLANTED}",
        f"password={PLANTED} user=app",
        f"curl -H 'X-Api-Key: {PLANTED}' https://edge",
        f"eyJhbGciOi.{PLANTED}.{PLANTED}",
    ],
)  # fmt: skip
def test_a_planted_secret_is_not_in_the_line_and_the_rest_of_it_is(redacted: Any, line: str) -> None:
    after = redacted(line)
    assert PLANTED not in after
    assert "[redacted]" in after
    if line.startswith("{"):
        assert json.loads(after)["status"] == 200
        assert json.loads(after).keys() == json.loads(line).keys()


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(
            {
                "level": "ERROR",
                "message": "script: line 5: context deadline exceeded",
                "request_id": "7b0c",
                "duration_ms": 3.5,
            }
        ),
        "2026-11-30 02:14:59 UTC [12] LOG:  checkpoint complete: wrote 3 buffers",
        "token bucket is full, cookies are off, see https://example.com:8443/path",
    ],
)
def test_a_line_without_secrets_stays_as_it_is(redacted: Any, line: str) -> None:
    assert redacted(line) == line


def test_objects_below_such_a_name_go_too_and_with_them_the_line_itself(pipeline: str) -> None:
    (removed,) = [part for part in re.findall(r"remove_field => \[(.*?)\] \}", pipeline) if "json" in part]
    # Before anything is copied out of it.
    assert {"[json][params]", "[json][authorization]", "[json][script]", "message"} <= set(strings(removed))
    assert (
        pipeline.index("gsub") < pipeline.index("json {") < pipeline.index("[json][params]") < pipeline.index("copy =>")
    )


def test_the_pipeline_has_the_form_that_logstash_reads(pipeline: str) -> None:
    """Balanced outside of strings and comments, with the three sections in their order."""
    bare = re.sub(r"'[^']*'|/[^/\n]*/|#[^\n]*", "", pipeline)
    opened: list[str] = []
    for character in re.findall(r"[{}\[\]]", bare):
        if character in "{[":
            opened.append(character)
        else:
            assert opened, "closed more often than opened"
            assert opened.pop() + character in ("{}", "[]")
    assert not opened
    assert re.findall(r"^(\w+) \{", bare, re.MULTILINE) == ["input", "filter", "output"]
    # The environment's names are those that the pod has.
    assert set(re.findall(r"\$\{(\w+)\}", pipeline)) == {"ELASTICSEARCH_USERNAME", "ELASTICSEARCH_PASSWORD"}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (
            f"/var/log/pods/openfaas-fn_python-runtime-6c5d8-x7k2p_{UID}/python-runtime/0.log",
            {"namespace": "openfaas-fn", "pod": "python-runtime-6c5d8-x7k2p", "uid": UID, "container": "python-runtime",
             "restart": "0"},
        ),
    ],
)  # fmt: skip
def test_a_logs_path_says_whose_it_is(custom: dict[str, Any], path: str, fields: dict[str, str]) -> None:
    config = custom["Beat"]["config"]
    (dissect,) = [processor["dissect"] for processor in config["processors"] if "dissect" in processor]
    # Each key takes what is before the next delimiter (https://www.elastic.co/docs/reference/beats/filebeat/dissect).
    parts = re.split(r"%\{(\w+)\}", dissect["tokenizer"])
    pattern = "".join(f"(?P<{part}>.*?)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    found = re.fullmatch(pattern, path)
    assert found
    assert found.groupdict() == fields
    # What one pod floods is counted by the fields that this makes.
    assert [list(processor) for processor in config["processors"]] == [["dissect"], ["add_fields"], ["rate_limit"]]
    mounts = {
        mount["mountPath"]
        for mount in custom["Beat"]["daemonSet"]["podTemplate"]["spec"]["containers"][0]["volumeMounts"]
    }
    assert mounts == {"/var/log/pods", Path(config["output.logstash"]["ssl"]["key"]).parent.as_posix()}


def test_each_user_has_one_role_and_no_more_than_it_needs(custom: dict[str, Any], secrets: dict[str, Any]) -> None:
    roles = yaml.safe_load(secrets["elasticsearch-roles"]["data"]["roles.yml"])
    users = [secrets[source["secretName"]] for source in custom["Elasticsearch"]["auth"]["fileRealm"]]
    assert [user["data"]["roles"] for user in users] == list(roles)
    assert all(user["random"] == {"password": {}} for user in users)
    assert custom["Elasticsearch"]["auth"]["disableElasticUser"] is True
    assert [entry["privileges"] for entry in roles["logs_writer"]["indices"]] == [["create_doc"]]
    assert "cluster" not in roles["logs_reader"]
    assert not {"all", "manage", "manage_security"} & {
        name for role in roles.values() for name in role.get("cluster", [])
    }
    assert {name for role in roles.values() for entry in role.get("indices", []) for name in entry["names"]} == {
        "logs-platform-*"
    }
    # And Logstash has the writer's login.
    (logstash,) = custom["Logstash"]["podTemplate"]["spec"]["containers"]
    assert {entry["valueFrom"]["secretKeyRef"]["name"] for entry in logstash["env"]} == {"elasticsearch-logs-writer"}


def test_the_stream_that_logstash_writes_is_the_templates_and_ages(pipeline: str, documents: dict[str, Any]) -> None:
    assert list(documents) == [
        "/_ilm/policy/logs-platform", "/_index_template/logs-platform", "/_data_stream/logs-platform-default",
        "/_snapshot/backup", "/_slm/policy/logs-platform",
    ]  # fmt: skip
    written = "-".join(
        re.search(rf"data_stream_{part} => '(\w+)'", pipeline)[1] for part in ("type", "dataset", "namespace")
    )
    assert f"/_data_stream/{written}" in documents
    template = documents["/_index_template/logs-platform"]
    assert template["index_patterns"] == ["logs-platform-*"]
    assert template["template"]["settings"]["index"]["lifecycle"]["name"] == "logs-platform"
    phases = documents["/_ilm/policy/logs-platform"]["policy"]["phases"]
    assert {name: phase["min_age"] for name, phase in phases.items()} == {
        "hot": "0ms",
        "warm": "30d",
        "cold": "60d",
        "delete": "90d",
    }
    assert phases["hot"]["actions"]["rollover"] == {"max_age": "7d", "max_primary_shard_size": "50gb"}


def test_snapshots_go_to_the_bucket_with_its_key_and_nothing_else_reaches_it(
    custom: dict[str, Any], documents: dict[str, Any], rendered: Run
) -> None:
    assert documents["/_snapshot/backup"]["settings"]["bucket"] == "lambda-logs"
    assert documents["/_slm/policy/logs-platform"]["repository"] == "backup"
    (settings,) = custom["Elasticsearch"]["secureSettings"]
    assert settings["secretName"] == "bucket"
    config = custom["Elasticsearch"]["nodeSets"][0]["config"]
    assert config["s3.client.default.endpoint"] == "https://s3.example.com:8443"
    (batch,) = [args for args in rendered.asked("policy") if args["name"] == "logging"]
    reaching = [obj["metadata"]["name"] for obj in batch["objects"] if "10.9.0.0/16" in json.dumps(obj)]
    assert reaching == ["elasticsearch"]


def test_nobody_calls_kibana_and_only_four_call_elasticsearch(rendered: Run) -> None:
    (batch,) = [args for args in rendered.asked("policy") if args["name"] == "logging"]
    policies = {obj["metadata"]["name"]: obj["spec"] for obj in batch["objects"] if obj["kind"] == "NetworkPolicy"}
    assert policies.keys() == {
        "elastic-operator", "elasticsearch", "kibana", "logstash", "filebeat", "elasticsearch-exporter",
    }  # fmt: skip
    assert "ingress" not in policies["kibana"]
    (rule,) = [
        rule for rule in policies["elasticsearch"]["ingress"] if rule["ports"] == [{"protocol": "TCP", "port": 9200}]
    ]
    callers = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]}
    assert callers == {"elastic-operator", "kibana", "logstash", "elasticsearch-exporter"}


def test_prometheus_asks_an_exporter_that_may_look_and_nothing_else(
    rendered: Run, custom: dict[str, Any], secrets: dict[str, Any]
) -> None:
    exporter = rendered.release("elasticsearch-exporter")
    assert exporter["state"] == "present"
    assert exporter["values"]["address"] == "https://logs-es-http.monitoring.svc:9200"
    roles = yaml.safe_load(secrets["elasticsearch-roles"]["data"]["roles.yml"])
    assert roles["logs_metrics"] == {"cluster": ["monitor"]}
    assert {"secretName": "elasticsearch-logs-metrics"} in custom["Elasticsearch"]["auth"]["fileRealm"]
    chart = yaml.safe_load((Path(exporter["chart"]) / "values.yaml").read_text(encoding="utf-8"))
    assert chart["userSecret"] == "elasticsearch-logs-metrics"


def test_every_pod_pulls_with_the_secrets_of_the_inventory(custom: dict[str, Any], rendered: Run) -> None:
    (nodes,) = custom["Elasticsearch"]["nodeSets"]
    of = [nodes, custom["Kibana"], custom["Logstash"], custom["Beat"]["daemonSet"]]
    assert [each["podTemplate"]["spec"]["imagePullSecrets"] for each in of] == [[{"name": "registry"}]] * 4
    assert rendered.release("elastic-operator")["values"]["imagePullSecrets"] == [{"name": "registry"}]


def test_the_operators_image_is_named_in_the_charts_parts(rendered: Run) -> None:
    release = rendered.release("elastic-operator")
    assert release["values"]["image"] == {
        "repository": "docker.elastic.co/eck/eck-operator",
        "tag": "3.5.0",
        "digest": None,
    }
    assert release["version"] == "3.5.0"
    assert [rendered.release(name)["state"] for name in ("victorialogs", "vlagent")] == ["absent", "absent"]
