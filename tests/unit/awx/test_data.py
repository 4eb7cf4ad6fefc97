"""The data for AWX have the collection's forms, name what there is, and need no file that the project has not."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from dateutil.rrule import rrulestr
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .data import ENVIRONMENTS, FORMS, LISTS, PLAY, ROOT, SITE, environment, questions, shared

TRACKED = set(subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def items(variables: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object with the name of its form, the parts of objects too."""
    for name in LISTS:
        for item in variables.get(name, []):
            yield name, item
            if item.get("survey_spec"):
                yield "survey_spec", item["survey_spec"]
                yield from (("spec", question) for question in questions(item))
            for node in item.get("simplified_workflow_nodes", []):
                yield "simplified_workflow_nodes", node
                if "approval_node" in node:
                    yield "approval_node", node["approval_node"]


@pytest.mark.parametrize("variables", [shared(), *map(environment, ENVIRONMENTS)], ids=["shared", *ENVIRONMENTS])
def test_the_data_have_the_collection_s_forms(variables: dict[str, Any]) -> None:
    met = list(items(variables))
    assert len(met) > 5
    for form, item in met:
        assert set(item) <= set(FORMS[form]["fields"].split()), (form, item.get("name"))
        assert [field for field in FORMS[form]["required"] if item.get(field) in (None, [])] == [], (form, item)
    # Nothing is left of a template of ours; those of AWX are in injectors and extra_vars alone.
    text = json.dumps([{**item, "injectors": 0, "extra_vars": 0} for form, item in met if form in LISTS])
    assert "{{" not in text.replace(json.dumps(SITE["awx_registry"]["password"])[1:-1], "")


def test_every_variable_is_handled_by_a_role_and_after_what_it_needs() -> None:
    for variables, roles in ((shared(), "awx_shared_roles"), (environment(), "awx_environment_roles")):
        handled = [row["var"] for row in variables[roles]]
        assert {name for name in variables if name in LISTS} == set(handled)
        assert all(re.fullmatch(r"controller_\w+", row["role"]) for row in variables[roles])
    order = [row["role"] for row in environment()["awx_environment_roles"]]
    needs = ["controller_credentials", "controller_inventories", "controller_inventory_sources"]
    needs += ["controller_job_templates", "controller_workflow_job_templates", "controller_schedules"]
    assert [role for role in order if role in needs] == needs


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_is_named_is_there(name: str) -> None:
    common, own = shared(), environment(name)
    names = {key: {item["name"] for item in own.get(key, []) + common.get(key, [])} for key in LISTS}
    types = names["controller_credential_types"] | {
        "OpenShift or Kubernetes API Bearer Token",
        "Container Registry",
    }
    credentials = own["controller_credentials"] + common["controller_credentials"]
    assert {each["credential_type"] for each in credentials} <= types
    for template in own["controller_templates"]:
        assert set(template["credentials"]) <= names["controller_credentials"]
        assert template["inventory"] in names["controller_inventories"]
        assert template["project"] in names["controller_projects"]
        assert template["execution_environment"] in names["controller_execution_environments"]
        assert set(template["notification_templates_error"]) <= names["controller_notifications"]
    for schedule in own["controller_schedules"]:
        assert schedule["unified_job_template"] in names["controller_templates"]
        start, rule = schedule["rrule"].split(" ")
        assert rrulestr(f"{start}\n{rule}").after(rrulestr(f"{start}\n{rule}")[0]) is not None
    for workflow in own["controller_workflows"]:
        nodes = {node["identifier"]: node for node in workflow["simplified_workflow_nodes"]}
        for node in nodes.values():
            assert ("unified_job_template" in node) != ("approval_node" in node)
            assert node.get("unified_job_template", min(names["controller_templates"])) in names["controller_templates"]
            for links in ("success_nodes", "failure_nodes", "always_nodes"):
                assert set(node.get(links, [])) <= nodes.keys()


def test_without_a_registry_of_one_s_own_nothing_names_its_credentials() -> None:
    common, own = shared(awx_registry={}), environment(awx_registry={})
    assert common["controller_credentials"] == []
    assert common["controller_execution_environments"][0]["credential"] == ""
    assert "Lambda platform charts" not in own["controller_templates"][0]["credentials"]


def test_no_job_needs_a_file_that_the_project_has_not() -> None:
    for name in ENVIRONMENTS:
        variables = environment(name)
        for source in variables["controller_inventory_sources"]:
            assert source["source_path"] in TRACKED
        for template in variables["controller_templates"]:
            assert template["playbook"] in TRACKED
            play = yaml.safe_load((ROOT / template["playbook"]).read_text(encoding="utf-8"))[0]
            # Else AWX does not offer it as a playbook.
            assert "hosts" in play
            # Docker, kind and a checkout's Go programs are in no execution environment.
            assert template["playbook"] not in ("playbooks/images.yml", "playbooks/cluster.yml")


def test_what_stands_beside_an_inventory_is_named_in_another_way() -> None:
    # A job's inventory is written by AWX, into a folder of its own.
    for name in ENVIRONMENTS:
        text = "\n".join(path.read_text() for path in (ROOT / "inventories" / name).rglob("*.yml"))
        beside = set(re.findall(r"^(\w+):.*inventory_(?:dir|file)", text, re.MULTILINE))
        for template in environment(name)["controller_templates"]:
            assert beside <= template["extra_vars"].keys(), template["name"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_an_inventory_reads_of_its_environment_comes_from_a_credential(name: str) -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "inventories" / name).rglob("*.yml"))
    read = set(re.findall(r"lookup\('ansible.builtin.env', '(\w+)'\)", text))
    (edge,) = [kind for kind in shared()["controller_credential_types"] if kind["name"] == "Lambda platform edge"]
    assert read <= edge["injectors"]["env"].keys()


def test_a_credential_becomes_what_helm_reads() -> None:
    (registry,) = [kind for kind in shared()["controller_credential_types"] if "registry" in kind["name"]]
    given = {"host": "registry.example.com", "username": "u", "password": 'a"b\\c}}'}
    # As AWX renders injectors.
    written = ImmutableSandboxedEnvironment().from_string(registry["injectors"]["file"]["template"]).render(**given)
    assert json.loads(written) == {"auths": {given["host"]: {key: given[key] for key in ("username", "password")}}}


def test_an_unanswered_edge_credential_is_an_empty_text() -> None:
    (edge,) = [kind for kind in shared()["controller_credential_types"] if kind["name"] == "Lambda platform edge"]
    written = edge["injectors"]["env"].values()
    assert {ImmutableSandboxedEnvironment().from_string(text).render() for text in written} == {""}


def test_the_cluster_s_certificate_is_always_given() -> None:
    # Without it AWX sets K8S_AUTH_VERIFY_SSL to False.
    (cluster,) = [each for each in environment()["controller_credentials"] if each["name"].endswith("cluster")]
    assert cluster["inputs"]["verify_ssl"] is True
    assert cluster["inputs"]["ssl_ca_cert"] == "c"


def test_the_image_of_the_jobs_is_of_this_version() -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    image = PLAY["vars"]["awx_execution_environment_image"]
    navigator = yaml.safe_load((ROOT / "ansible-navigator.yml").read_text(encoding="utf-8"))["ansible-navigator"]
    definition = yaml.safe_load((ROOT / "execution-environment.yml").read_text(encoding="utf-8"))
    assert image.endswith(f":{version}")
    assert navigator["execution-environment"]["image"] == image
    assert definition["options"]["tags"] == [f"execution-environment:{version}"]
