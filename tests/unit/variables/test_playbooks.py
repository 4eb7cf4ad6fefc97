"""With the real Ansible, and no cluster: what the modules are asked, whatever form the variables were given in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import IMAGES
from .rendering import ROOT, Run

Ansible = Callable[..., Run]
TABLE = ("-e", f"platform_images_file={IMAGES}")

ODD = {
    "platform_disposable": False,
    "data_services_postgresql_enabled": False,
    "data_services_postgresql_backup_encrypted": False,
    "ingress_rate_limit_service": False,
    "platform_image_pull_secrets": [{"name": "registry"}],
    "platform_listen_address": "0.0.0.0",  # noqa: S104 - nodes without IPv6
    "ingress_replicas": 5,
    "ingress_http3": True,
    "ingress_tls_names": ["a.example", "b.example"],
    "runtimes_timeout_seconds": 40,
    "runtimes_runtime_class": "kata",
    "runtimes_host_users": False,
    "controller_max_script_bytes": 2097152,
    "controller_redis_confirm_replicas": 1,
    "foundation_writable_root_exceptions": [{"namespace": "ingress", "app": "other", "reason": "a test"}],
}


@pytest.fixture(scope="module")
def typed(collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from .rendering import run

    return run(collections, "site", *TABLE, "-e", json.dumps(ODD), folder=tmp_path_factory.mktemp("typed"))


def test_values_that_are_not_the_defaults_are_used(typed: Run):
    assert typed.rc == 0, typed.output
    assert typed.release("postgresql")["state"] == "absent"
    assert typed.release("ratelimit")["state"] == "absent"
    releases = [release for args in typed.asked("chart") for release in args["releases"]]
    present = [release for release in releases if release.get("state", "present") == "present"]
    assert len(present) > 10
    assert all(release["values"]["library"]["imagePullSecrets"] == [{"name": "registry"}] for release in present)
    assert typed.release("redis")["values"]["library"]["listenAddress"] == ODD["platform_listen_address"]
    for name in ("controller", "python-runtime"):
        assert typed.release(name)["values"]["env"]["HOST"] == ODD["platform_listen_address"]
    assert "address: 0.0.0.0" in typed.release("envoy")["values"]["configuration"]["listeners.yaml"]
    # The local cluster's zones.
    zones = ["local-a", "local-b", "local-c"]
    assert all(release["values"]["library"]["zones"] == zones for release in present)
    for part in ("redis", "sentinel"):
        spread = typed.release("redis")["values"][part]["spread"]
        assert spread == {"zoneWhenUnsatisfiable": "DoNotSchedule", "minDomains": 3}
    envoy = typed.release("envoy")["values"]
    assert (envoy["replicas"], envoy["http3"]) == (5, True)
    # The nested limits: 40 for a script, 42 for the controller, 45 for the edge, and the times that pods have to end.
    assert envoy["terminationGracePeriodSeconds"] == 5 + (45 + 2) + 8
    assert typed.release("controller")["values"]["env"]["RUNTIME_TIMEOUT_SECONDS"] == 40
    assert typed.release("controller")["values"]["terminationGracePeriodSeconds"] == 5 + 40 + 10
    assert typed.release("python-runtime")["values"]["terminationGracePeriodSeconds"] == 55
    python = typed.release("python-runtime")["values"]
    assert (python["runtimeClassName"], python["hostUsers"]) == ("kata", False)
    sizes = typed.release("python-runtime")["values"]["env"]
    # Of a limit of 1600Mi, the local inventory's.
    assert sizes["MAX_CONCURRENCY"] == 4
    assert python["writable"]["tmp"]["sizeLimit"] == "256Mi"
    assert sizes["MAX_SCRIPT_SIZE"] == 2 << 20
    assert sizes["MAX_BODY_BYTES"] > 2 * (4 * (2 << 20)) + 262144
    secrets = {secret["name"] for args in typed.asked("secret") for secret in args["secrets"]}
    assert "redis-drill" not in secrets
    assert not [name for name in secrets if name.startswith("postgresql")]


def test_texts_on_the_command_line_mean_the_same(typed: Run, ansible: Ansible):
    # Ansible looks by itself at the role that the others depend on, and takes no text for a list of dictionaries.
    listed = {"platform_image_pull_secrets"}
    words = [word for name, value in ODD.items() if name not in listed for word in ("-e", f"{name}={_text(value)}")]
    words += ["-e", json.dumps({name: ODD[name] for name in listed})]
    texts = ansible("site", *TABLE, *words)
    assert texts.rc == 0, texts.output
    assert texts.calls == typed.calls


def test_an_inventory_in_ini_means_the_same(typed: Run, ansible: Ansible, tmp_path: Path):
    hosts = (
        "localhost ansible_connection=local\n[all:vars]\nansible_python_interpreter='{{ ansible_playbook_python }}'\n"
    )
    hosts += "".join(f"{name}={_text(value)}\n" for name, value in ODD.items())
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "hosts.ini").write_text(hosts, encoding="utf-8")
    given = folder / "group_vars" / "all"
    given.mkdir(parents=True)
    for file in (ROOT / "inventories/local/group_vars/all").glob("*.yml"):
        # Group variables of a file win over those of the inventory's own text, so what is odd must not be in them.
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        (given / file.name).write_text(
            "".join(line for line in lines if line.split(":")[0] not in ODD), encoding="utf-8"
        )
    (given / "cluster.yml").write_text(f"cluster_state_dir: {ROOT}/.local\n", encoding="utf-8")
    run = ansible("site", *TABLE, inventory=folder)
    assert run.rc == 0, run.output
    assert run.calls == typed.calls


def _text(value: object) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list | dict) else str(value).lower()


def test_all_that_is_wrong_is_named_at_once_and_before_anything(ansible: Ansible):
    run = ansible(
        "site", "--tags", "ingress", "-e", "runtime_max_replicas=5", "-e", "ingress_replicas=few",
        "-e", "data_services_redis_quorum=9", "-e", "platform_images_file=/nowhere.json",
        "-e", "restore_tiem=2026-11-24",
    )  # fmt: skip
    assert run.rc != 0
    for told in (
        "runtime_max_replicas",
        "runtimes_max_replicas",
        "ingress_replicas",
        "data_services_redis_quorum",
        "/nowhere.json",
        "restore_time",
    ):
        assert told in run.output
    assert run.calls == []


def test_what_is_a_playbook_s_own_has_its_type_and_is_there(ansible: Ansible, tmp_path: Path):
    given = ("-e", "verify_enforcement=sometimes", "-e", "verify_wait_seconds=soon")
    run = ansible("verify", *TABLE, *given, inventory=tmp_path)
    assert run.rc != 0
    assert run.calls == []
    for told in ("verify_enforcement", "required", "verify_wait_seconds", "verify_edge_url is missing"):
        assert told in run.output


def test_a_variable_of_the_users_own_can_be_allowed(ansible: Ansible):
    arguments = (*TABLE, "--tags", "no_such_tag", "-e", "cluster_of_mine=1")
    assert ansible("site", *arguments).rc != 0
    allowed = ansible("site", *arguments, "-e", "platform_unknown_variables=allow")
    assert allowed.rc == 0, allowed.output


def test_secrets_are_not_shown(ansible: Ansible):
    run = ansible(
        "site", *TABLE, "--tags", "no_such_tag", "-vvv", "-e", '{"controller_env": {"TOKEN": "not-to-be-seen"}}'
    )
    assert run.rc == 0, run.output
    shown = [line for line in run.output.splitlines() if "not-to-be-seen" in line]
    # Ansible itself shows what the command line gave.
    assert not [line for line in shown if "extra_vars" not in line.lower() and "-e" not in line]


ELSEWHERE = {
    "ingress_namespace": "edge",
    "controller_namespace": "api",
    "runtimes_namespace": "functions",
    "data_services_namespace": "stores",
}
DEFAULT_NAMESPACES = re.compile(
    r'"namespaces?": (?:\[[^]]*)?"(ingress|controller|openfaas-fn|data-services)"'
    r'|[/.](data-services|openfaas-fn)\b|-headless\.controller\b|"(ingress|controller|data-services|openfaas-fn)/'
    r'|"kubernetes.io/metadata.name": "(ingress|controller|openfaas-fn|data-services)"'
)


@pytest.mark.parametrize("playbook", ["site", "verify", "drill"])
def test_the_namespaces_hold_everywhere(playbook: str, ansible: Ansible):
    arguments = ("--skip-tags", "restore") if playbook == "drill" else ()
    run = ansible(playbook, *TABLE, *arguments, "-e", json.dumps(ELSEWHERE))
    assert run.rc == 0, run.output
    assert run.calls
    text = json.dumps(run.calls)
    assert [match.group() for match in DEFAULT_NAMESPACES.finditer(text)] == []
    # Names by which nothing but a namespace is called.
    assert not re.search(r"data-services(?!\")|openfaas-fn", re.sub(r'"name": "data-services"', "", text))
    for namespace in ELSEWHERE.values():
        assert f'"{namespace}"' in text


def test_verify_asks_the_runtimes_that_there_are(ansible: Ansible):
    languages = [{"name": "python"}, {"name": "nodejs", "host_users": True}]
    given = {"runtimes_languages": languages, "runtimes_host_users": False, "runtimes_require_landlock": False}
    run = ansible("verify", *TABLE, "-e", json.dumps(given))
    assert run.rc == 0, run.output
    (asked,) = run.asked("verify")
    assert asked["runtimes"] == {
        "namespace": "openfaas-fn",
        "apps": ["python-runtime", "nodejs-runtime"],
        "accepted": ["landlock"],
        "user_namespaces": ["python-runtime"],
    }


def test_the_languages_bases_reach_the_images(ansible: Ansible):
    default = ansible("images", *TABLE)
    assert default.rc == 0, default.output
    (asked,) = default.asked("image")
    debian = {suite: f"lambda-microservice/debian:{suite}-slim" for suite in ("trixie", "bookworm")}
    languages = {"nodejs": debian["bookworm"], "python": debian["trixie"], "rust": debian["trixie"]}
    assert asked["base_images"] == {**debian, **languages}
    rows = {row["name"]: row for row in asked["images"]}
    assert {name: rows[f"runtime-{name}"]["base"] for name in languages} == {name: name for name in languages}
    given = ("-e", "images_runtime_rust_base=rust:1.67-slim", "-e", "images_runtime_nodejs_base=node:18")
    (asked,) = ansible("images", *TABLE, *given).asked("image")
    assert asked["base_images"] == {**debian, **languages, "nodejs": "node:18", "rust": "rust:1.67-slim"}


def test_some_drills_alone(ansible: Ansible):
    run = ansible("drill", *TABLE, "--tags", "controller")
    assert run.rc == 0, run.output
    (asked,) = run.asked("drill")
    assert asked["drills"] and all("controller" in drill["tags"] for drill in asked["drills"])


def test_a_drill_without_go_and_docker(ansible: Ansible, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANSIBLE_SHOW_CUSTOM_STATS", "1")
    # As in an execution environment. A survey's empty answers are texts and lists without anything in them.
    built = {"drill_generator": "/usr/local/bin/load", "drill_generator_image": "registry.example.com/load:1"}
    given = {**built, "drill_tags": [], "data_services_postgresql_enabled": False}
    run = ansible("drill", *TABLE, "-e", json.dumps(given))
    assert run.rc == 0, run.output
    assert [call["module"] for call in run.calls] == ["drill"]
    (asked,) = run.asked("drill")
    assert (asked["generator"], asked["generator_image"]) == tuple(built.values())
    assert len(asked["drills"]) > 10
    assert artifacts(run) == {"lambda_drill": {"result": "passed", "failed": [], "warned": []}}


def artifacts(run: Run) -> dict[str, object]:
    """What AWX would keep of the run (set_stats)."""
    (shown,) = re.findall(r"RUN: (\{.*\})", run.output)
    return json.loads(shown)


def test_a_role_alone_with_variables_of_its_own_twice(ansible: Ansible, tmp_path: Path):
    book = tmp_path / "book.yml"
    role = "lambda_microservice.platform.runtimes"
    book.write_text(
        json.dumps(
            [
                {
                    "hosts": "localhost",
                    "gather_facts": False,
                    "roles": [
                        {"role": role, "vars": {"runtimes_max_replicas": "4", "runtimes_timeout_seconds": "40"}},
                        {"role": role, "vars": {"runtimes_max_replicas": "5", "runtimes_timeout_seconds": "50"}},
                    ],
                }
            ]
        ),
        encoding="utf-8",
    )
    run = ansible(book, *TABLE)
    assert run.rc == 0, run.output
    made = [args["releases"][0]["values"] for args in run.asked("chart")]
    assert [values["autoscaling"]["maxReplicas"] for values in made] == [4, 5]
    assert [values["terminationGracePeriodSeconds"] for values in made] == [55, 65]


def test_a_language_has_its_own_where_it_says_so(ansible: Ansible, tmp_path: Path):
    book = tmp_path / "book.yml"
    languages = [{"name": "nodejs", "runtime_class": "gvisor", "host_users": True}, {"name": "python"}]
    given = {"runtimes_languages": languages, "runtimes_runtime_class": "kata", "runtimes_host_users": False}
    role = {"role": "lambda_microservice.platform.runtimes", "vars": given}
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "roles": [role]}]), encoding="utf-8")
    run = ansible(book, *TABLE)
    assert run.rc == 0, run.output
    made = {name: run.release(f"{name}-runtime")["values"] for name in ("nodejs", "python")}
    assert {name: (values["runtimeClassName"], values["hostUsers"]) for name, values in made.items()} == {
        "nodejs": ("gvisor", True),
        "python": ("kata", False),
    }


def test_a_role_alone_is_checked(ansible: Ansible, tmp_path: Path):
    book = tmp_path / "book.yml"
    book.write_text(
        json.dumps(
            [{"hosts": "localhost", "gather_facts": False, "roles": ["lambda_microservice.platform.controller"]}]
        ),
        encoding="utf-8",
    )
    run = ansible(book, *TABLE, "-e", "controller_min_replicas=50", "-e", "controler_cpu=1")
    assert run.rc != 0
    assert run.calls == []
    assert "controller_min_replicas 50" in run.output
    assert "controler_cpu" in run.output


@pytest.mark.parametrize(("inventory", "made"), [("production-eks", "gp3"), ("production-gke", "premium-rwo")])
def test_production_has_its_storage_classes_made(inventory: str, made: str, ansible: Ansible):
    run = ansible("site", *TABLE, "--tags", "foundation,ingress", inventory=inventory)
    assert run.rc == 0, run.output
    [storage] = [args for args in run.asked("policy") if args["name"] == "storage"]
    assert [obj["kind"] for obj in storage["objects"]] == ["StorageClass", "VolumeSnapshotClass"]
    assert storage["objects"][0]["metadata"]["name"] == made
    assert (storage["existing"], storage["prune"]) == ("leave", False)
    # The role waits for the balancer's name.
    waited = [workload for args in run.asked("rollout") for workload in args["workloads"]]
    assert {"kind": "Service", "name": "envoy", "namespace": "ingress"} in waited


def test_an_edge_without_a_load_balancer_waits_for_none(ansible: Ansible):
    run = ansible("site", *TABLE, "--tags", "ingress")
    assert run.rc == 0, run.output
    # Who installs a part by its tag is not stopped by what others lack.
    assert "The inventory and the cluster are fit for it" not in run.output
    assert not [each for args in run.asked("rollout") for each in args["workloads"] if each["kind"] == "Service"]


def test_an_alb_is_the_ingress_s(ansible: Ansible):
    run = ansible("site", *TABLE, "--tags", "ingress", "-e", "ingress_load_balancer=alb", inventory="production-eks")
    assert run.rc == 0, run.output
    waited = [workload for args in run.asked("rollout") for workload in args["workloads"]]
    assert {"kind": "Ingress", "name": "envoy", "namespace": "ingress"} in waited
    assert "lambda.example.com have to lead there" in run.output


def test_day_two_asks_for_what_the_command_line_names(ansible: Ansible):
    run = ansible("drift", *TABLE, "-e", "components=controller,ingress", "-e", "drift_fail=no")
    assert run.rc == 0, run.output
    (asked,) = run.asked("drift")
    assert (asked["only"], asked["fail"]) == (["controller", "ingress"], False)
    assert asked["output"].endswith("/.local/drift.json")
    run = ansible("rollback", *TABLE, "-e", "component=controller", "-e", "revision=3")
    assert run.rc == 0, run.output
    # The recorder changes nothing, and what differs in nothing does not go back.
    (asked,) = run.asked("rollback")
    assert (asked["component"], asked["revision"], asked["release"]) == ("controller", 3, "")
    run = ansible("teardown", *TABLE, "-e", "components=openfaas", "-e", "teardown_volumes=openfaas/data-nats-0")
    assert run.rc == 0, run.output
    (asked,) = run.asked("teardown")
    assert (asked["only"], asked["volumes"], asked["definitions"]) == (["openfaas"], ["openfaas/data-nats-0"], False)
    # It is told first, whatever was confirmed.
    assert "confirm" not in asked


def test_day_two_names_what_is_wrong_before_it_looks(ansible: Ansible):
    run = ansible("rollback", *TABLE, "-e", "revision=latest", "-e", "rollback_relase=redis")
    assert run.rc != 0 and run.calls == []
    for told in ("revision", "component is missing", "rollback_release"):
        assert told in run.output


def steps(run: Run) -> list[tuple[str, dict[str, list[str]]]]:
    """What a rotation asks, one after the other: Secrets by what is done with them, and who is waited for."""
    found = []
    for call in run.calls:
        args = call["args"]
        if call["module"] == "secret":
            done = {
                flag: sorted(secret["name"] for secret in args["secrets"] if secret.get(flag))
                for flag in ("rotate", "forget")
            }
            done["switch"] = sorted(s["name"] for s in args["secrets"] if (s.get("certificate") or {}).get("switch"))
            found.append(("secret", {flag: names for flag, names in done.items() if names}))
        elif call["module"] == "settled":
            waited = [*args.get("certificates", []), *args.get("commands", [])]
            found.append(("settled", {"apps": sorted({entry["app"] for entry in waited})}))
    return found


ALONE = (
    "-e",
    "data_services_postgresql_enabled=no",
    "-e",
    "rotate_mounted_seconds=0",
    "-e",
    "ingress_rate_limit_service=no",
)


def test_a_password_is_known_to_redis_before_its_client_has_it_and_forgotten_after(ansible: Ansible):
    run = ansible("rotate", *TABLE, *ALONE, "--tags", "passwords", "-e", "rotate_clients=controller")
    assert run.rc == 0, run.output
    knows = ("settled", {"apps": ["redis", "redis-sentinel"]})
    assert steps(run) == [
        ("secret", {"rotate": ["redis-controller"]}), knows, ("secret", {}),
        ("secret", {"forget": ["redis-controller"]}), knows,
    ]  # fmt: skip


def test_an_authority_is_known_before_it_signs_and_the_one_before_is_forgotten_last(ansible: Ansible):
    run = ansible("rotate", *TABLE, *ALONE, "--tags", "authorities")
    assert run.rc == 0, run.output
    served = ("settled", {"apps": ["redis", "redis-sentinel"]})
    assert steps(run) == [
        ("secret", {"rotate": ["redis-authority", "redis-tls"]}), served,
        ("secret", {"switch": ["redis-authority"]}), served,
        ("secret", {"forget": ["redis-authority"]}), served,
    ]  # fmt: skip


def test_a_new_key_of_secrets_is_known_everywhere_before_it_wraps_any_and_the_one_before_is_forgotten_last(
    ansible: Ansible,
):
    run = ansible("rotate", *TABLE, "--tags", "secrets_key")
    assert run.rc == 0, run.output
    controller = ("settled", {"apps": ["controller"]})
    assert steps(run) == [
        ("secret", {"rotate": ["secrets-key"]}), controller, controller, ("secret", {"forget": ["secrets-key"]}),
    ]  # fmt: skip
    has, wraps = (args["commands"][0]["command"][1] for args in run.asked("settled"))
    assert (has, wraps) == ("has-secrets-key", "rewrap")


def test_what_people_outside_hold_ends_when_that_is_said(ansible: Ansible):
    edge = {"ingress_authentication": "api_key", "ingress_api_key_clients": ["shop"], "ingress_trust_user_id": False}
    given = ("-e", json.dumps(edge), "--tags", "api_keys,edge_authority")
    envoy = ("settled", {"apps": ["envoy"]})
    begun = ansible("rotate", *TABLE, *ALONE, *given)
    assert begun.rc == 0, begun.output
    assert steps(begun) == [
        ("secret", {"rotate": ["envoy-tls-authority"]}), envoy, ("secret", {"rotate": ["ingress-api-keys"]}),
    ]  # fmt: skip
    ended = ansible("rotate", *TABLE, *ALONE, *given, "-e", "rotate_cut_off=yes")
    assert ended.rc == 0, ended.output
    assert steps(ended) == [
        ("secret", {"switch": ["envoy-tls-authority"]}), envoy, ("secret", {"forget": ["envoy-tls-authority"]}), envoy,
        ("secret", {"forget": ["ingress-api-keys"]}),
    ]  # fmt: skip


def test_a_rotation_of_what_is_not_there_changes_nothing(ansible: Ansible):
    theirs = ("--tags", "authorities", "-e", "data_services_tls_source=cert_manager")
    for wrong in (
        theirs,
        ("-e", "rotate_clients=nobody"),
        ("-e", "rotate_tags=password"),
        ("--tags", "api_keys"),
        ("--tags", "secrets_key"),
    ):
        run = ansible("rotate", *TABLE, *ALONE, *wrong)
        assert run.rc != 0 and "Nothing was changed" in run.output and run.calls == [], wrong
