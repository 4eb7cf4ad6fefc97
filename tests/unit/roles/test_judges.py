"""What a role says of a configuration that the program which is asked about it does not accept: nothing is changed."""

from __future__ import annotations

import json

import pytest

from tests.unit.variables.rendering import ROOT, collection_without_cluster, run

RECEIVERS = [{"name": "hook", "type": "webhook", "secret": {"name": "hook", "key": "url"}}]
JUDGES = {
    "ingress": ({"variable": "ingress_envoy_binary"}, "Envoy refuses the edge's configuration", "There is no Envoy"),
    "monitoring": (
        {"variable": "monitoring_amtool_binary", "monitoring_enabled": True, "monitoring_receivers": RECEIVERS},
        "Alertmanager refuses its configuration",
        "There is no amtool",
    ),
}


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    return collection_without_cluster(tmp_path_factory.mktemp("collections"))


def judged(collections, folder, role, program):
    given = dict(JUDGES[role][0])
    given[given.pop("variable")] = program
    options = ("--tags", f"foundation,{role}", "-e", f"platform_images_file={ROOT}/tests/images.json")
    done = run(collections, "site", *options, "-e", json.dumps(given), folder=folder)
    assert done.rc != 0
    assert not [asked for asked in done.asked("policy") if asked["name"] == role]
    return " ".join(done.output.split())


@pytest.mark.parametrize("role", JUDGES)
def test_the_program_s_own_words_are_said(collections, tmp_path, role):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ncat >/dev/null\necho 'line 7: no such field' >&2\nexit 2\n")
    program.chmod(0o755)
    said = judged(collections, tmp_path, role, str(program))
    assert f"{JUDGES[role][1]}, and nothing was changed. Found: line 7: no such field" in said


@pytest.mark.parametrize("role", JUDGES)
def test_one_that_ends_without_reading_has_no_words(collections, tmp_path, role):
    """Whether Ansible still gets rid of the configuration is a race, of which the message must not depend."""
    said = judged(collections, tmp_path, role, "false")
    assert f"{JUDGES[role][1]}, and nothing was changed. Found: it ended without a word" in said


@pytest.mark.parametrize("role", JUDGES)
def test_one_that_cannot_be_started_is_named(collections, tmp_path, role):
    program = tmp_path / "program"
    program.write_text("not executable")
    said = judged(collections, tmp_path, role, str(program))
    assert JUDGES[role][2] in said
    assert f"Found: {program} cannot be started." in said
