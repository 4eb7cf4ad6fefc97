"""Every question is what the variable's specification says, and every answer is one that the playbooks take."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.preflight import (
    CHECKS,
    NEVER_IGNORED,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import convert

from tests.unit.variables.evaluation import DEFAULTS, KNOWN, PLAYBOOKS, ROLES

from .data import ROOT, answer, environment, questions

TEMPLATES = environment()["controller_templates"]
QUESTIONS = {
    f"{template['name'].removeprefix('staging: ')}: {question['variable']}": question
    for template in TEMPLATES
    for question in questions(template)
}
OWNERS = {name: role for role in [*ROLES, *PLAYBOOKS] for name in role.options}
TYPES = {
    ("bool", False): {"multiplechoice"},
    ("str", True): {"multiplechoice"},
    ("str", False): {"text", "textarea"},
    ("path", False): {"text"},
    ("int", False): {"integer"},
    ("float", False): {"float"},
    ("list", False): {"multiselect", "text"},
}
"""What a question may be, by the option's type and whether it has choices."""

each = pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())


def test_there_are_surveys() -> None:
    assert len(QUESTIONS) > 15
    assert {template["name"].removeprefix("staging: ") for template in TEMPLATES if questions(template)} >= {
        "site", "preflight", "verify", "capacity", "restore", "rotate", "drill", "drift", "rollback", "teardown",
    }  # fmt: skip


@each
def test_a_question_is_what_the_specification_says(question: dict[str, Any]) -> None:
    name = question["variable"]
    option = KNOWN[name]
    kind, choices = option.get("type", "str"), option.get("choices")
    assert question["type"] in TYPES[kind, choices is not None or (kind == "str" and name in CHOICES)]
    if kind == "bool":
        assert question["choices"] == ["true", "false"]
    elif choices is not None:
        assert question["choices"] == choices
    elif question["type"] in ("multiselect", "multiplechoice"):
        assert question["choices"] == list(CHOICES[name])
    else:
        assert "choices" not in question
    assert not option.get("no_log")
    assert option.get("required", False) <= question["required"]


@each
def test_a_default_is_the_variable_s_and_not_over_the_inventory(question: dict[str, Any]) -> None:
    name = question["variable"]
    default = DEFAULTS.get(name, KNOWN[name].get("default"))
    # A default of a survey is an extra variable, which beats whatever the inventory says.
    if not name.startswith(THIS_RUN):
        assert "default" not in question
    elif "default" in question and name not in SAFER:
        # Of no default, an empty text.
        assert _converted(question, question["default"]) == (default if default is not None else [])
    if question.get("default") not in (None, "") and question["type"] == "multiplechoice":
        assert question["default"] in question["choices"]


@each
def test_the_bounds_are_a_number_s_or_a_text_s_length(question: dict[str, Any]) -> None:
    if question["type"] in ("multiplechoice", "multiselect"):
        assert not {"min", "max"} & question.keys()
        return
    assert 0 <= question["min"] < question["max"]
    given = answer(question)
    if question["type"] in ("integer", "float"):
        assert given is None or question["min"] <= given <= question["max"]
        for bound in ("min", "max"):
            assert _converted(question, question[bound]) == question[bound]
    else:
        # A text that must be given has a character at least.
        assert question["min"] > 0 if question["required"] else question["min"] == 0
        assert len(given) <= question["max"]


@each
def test_every_answer_is_taken(question: dict[str, Any]) -> None:
    unanswered = answer(question)
    if unanswered is not None and not question["required"]:
        assert _converted(question, unanswered) in ("", [])
    if question["type"] == "multiplechoice":
        assert len({_converted(question, choice) for choice in question["choices"]}) == len(question["choices"])
    if question["type"] == "multiselect":
        assert _converted(question, question["choices"]) == question["choices"]


def test_what_runs_unattended_has_all_its_answers() -> None:
    variables = environment()
    by_name = {template["name"]: template for template in TEMPLATES}
    nodes = [node for flow in variables["controller_workflows"] for node in flow["simplified_workflow_nodes"]]
    unattended = variables["controller_schedules"] + [node for node in nodes if "unified_job_template" in node]
    assert len(unattended) > 4
    for job in unattended:
        asked = {question["variable"]: question for question in questions(by_name[job["unified_job_template"]])}
        given = job.get("extra_data", {})
        assert given.keys() <= asked.keys()
        for name, question in asked.items():
            assert name in given or not question["required"] or answer(question) not in (None, "")
            if "choices" in question and name in given:
                assert given[name] in question["choices"]


def test_nobody_s_data_go_by_a_schedule_or_by_default() -> None:
    variables = environment()
    for question in QUESTIONS.values():
        if question["variable"].endswith("_confirm"):
            assert question["required"] and question.get("default", "false") == "false"
    for schedule in variables["controller_schedules"]:
        assert schedule.get("extra_data", {}).get("restore_confirm", "false") == "false"
        if schedule["unified_job_template"].endswith(": restore"):
            assert schedule["extra_data"]["restore_beside"] == "true"


def _converted(question: dict[str, Any], value: Any) -> Any:
    converted, error = convert(OWNERS[question["variable"]], question["variable"], value)
    assert error is None, str(error)
    return converted


_FILE = yaml.safe_load((ROOT / "playbooks/vars/drills.yml").read_text(encoding="utf-8"))
_DRILLS = _FILE["drill_table"] + _FILE["__drill_openfaas_table"]
_SITE = yaml.safe_load((ROOT / "playbooks/site.yml").read_text(encoding="utf-8"))[0]["tasks"]
_COMPONENTS = list(
    dict.fromkeys(  # the mesh begins and ends it
        task["ansible.builtin.import_role"]["name"].rpartition(".")[2]
        for task in _SITE
        if "ansible.builtin.import_role" in task
    )
)
CHOICES = {
    "components": _COMPONENTS,
    "component": _COMPONENTS,
    "preflight_ignore_also": [check for check in CHECKS if check not in NEVER_IGNORED],
    "rotate_tags": [
        "passwords",
        "certificates",
        "authorities",
        "secrets_key",
        "edge_authority",
        "api_keys",
        "mesh_authority",
    ],
    "drill_tags": sorted({tag for row in _DRILLS for tag in row["tags"]} | {"restore"}),
}
"""Of lists, which have no choices in a specification: what the modules take."""

THIS_RUN = (
    "capacity_", "component", "drift_", "drill_", "preflight_ignore_also", "restore_", "revision", "rollback_",
    "rotate_", "teardown_", "upgrade_",
)  # fmt: skip
"""Variables that speak of one run, and of no environment."""

SAFER = {"restore_beside"}
"""Where a survey's default is another than the playbook's, since a job asks nobody again."""
