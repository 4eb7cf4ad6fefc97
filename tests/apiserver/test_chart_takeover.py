"""A release that another helm has in hand is waited for while it may live, and taken over when it cannot."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import chart
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import process
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release

from .small_chart import SmallChart

ELSEWHERE = "000000000000.1.1"
"""A process of another machine."""


@pytest.fixture
def bring(tmp_path, kubeconfig, namespace):
    """Run the module: its result, what it said, and how many seconds it took."""
    small = SmallChart(tmp_path, kubeconfig, namespace)

    def run(pending_grace_seconds=1, check=False, **spec):
        arguments = {**small.arguments(**spec), "pending_grace_seconds": pending_grace_seconds}
        validated = ArgumentSpecValidator(chart.ARGUMENT_SPEC).validate(arguments)
        assert not validated.error_messages
        said, began = [], time.monotonic()
        result = chart.run(validated.validated_parameters, check_mode=check, progress=said.append)
        return result, "\n".join(said), time.monotonic() - began

    return run


@pytest.fixture
def in_hand(bring, cluster, namespace):
    """Install, then make the record say that a process has the release in hand."""
    bring()

    def make(run, status="pending-upgrade"):
        newest = helm_release.histories(cluster, namespace, ["w"])["w"][0]
        record = helm_release.read(cluster, newest).record
        record = {**record, "info": {**record["info"], "status": status}}
        labels = {"status": status, helm_release.RUN_LABEL: run}
        body = {"metadata": {"labels": labels}, "data": {"release": helm_release.encode(record)}}
        cluster.patch(newest.ref, body, "helm")
        return newest

    return make


@pytest.fixture
def living():
    """The name of a run of this machine that lives."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield "%s.%d.%s" % (process.this_run().split(".")[0], child.pid, process._state(child.pid)[1])
    child.communicate()


@pytest.mark.parametrize("status", ["pending-upgrade", "uninstalling"])
def test_what_another_machine_does_is_given_the_time_of_a_hook(bring, in_hand, status) -> None:
    in_hand(ELSEWHERE, status)
    result, said, seconds = bring(pending_grace_seconds=1, timeout_seconds=5)
    assert result["releases"][0]["changed"] and seconds >= 4
    assert "whether another helm is at work is unknown" in said
    assert bring()[0]["releases"][0]["action"] == "unchanged"


def test_a_grace_that_is_longer_counts(bring, in_hand) -> None:
    in_hand(ELSEWHERE)
    assert bring(pending_grace_seconds=6, timeout_seconds=1)[2] >= 5


@pytest.mark.parametrize("status", ["pending-install", "uninstalling"])
def test_a_process_that_has_ended_is_not_waited_for(bring, in_hand, status) -> None:
    in_hand("%s.999999999.1" % process.this_run().split(".")[0], status)
    result, _said, seconds = bring(pending_grace_seconds=300, timeout_seconds=300)
    assert result["releases"][0]["changed"] and seconds < 60


@pytest.mark.parametrize("behind", [-600, 600])
def test_the_clock_of_neither_side_matters(bring, in_hand, monkeypatch, behind) -> None:
    """The API server's own time is taken, and where that is of no use what was watched here."""
    look = helm_release.look

    def looked(cluster, revision):
        current, now = look(cluster, revision)
        return current, now - timedelta(seconds=behind) if behind > 0 else None

    monkeypatch.setattr(helm_release, "look", looked)
    in_hand(ELSEWHERE)
    result, _said, seconds = bring(timeout_seconds=4)
    assert result["releases"][0]["action"] == "upgraded" and seconds >= 4


def test_a_record_that_is_still_written_is_of_somebody_who_lives(bring, in_hand, cluster, namespace) -> None:
    newest = in_hand(ELSEWHERE)
    over = threading.Event()

    def write():
        number = 0
        while not over.wait(0.5):
            number += 1
            cluster.patch(newest.ref, {"metadata": {"annotations": {"n": str(number)}}}, "somebody")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result, _said, _seconds = bring(timeout_seconds=3)
    finally:
        over.set()
        writer.join()
    assert result["reason"] == "busy" and "whether its process still runs is unknown" in result["found"]
    assert helm_release.histories(cluster, namespace, ["w"])["w"][0].status == "pending-upgrade"


def test_a_process_that_lives_here_is_named_so(bring, in_hand, living) -> None:
    in_hand(living)
    result, said, seconds = bring(timeout_seconds=2)
    assert result["reason"] == "busy" and "its process still runs" in result["found"]
    assert "another helm is at work" in said and seconds >= 2


def test_who_waited_goes_on_from_what_the_other_did(bring, in_hand, living, cluster) -> None:
    newest = in_hand(living)
    release = helm_release.read(cluster, newest)
    record = {**release.record, "info": {**release.record["info"], "status": "deployed"}}
    body = {"metadata": {"labels": {"status": "deployed"}}, "data": {"release": helm_release.encode(record)}}
    timer = threading.Timer(2, cluster.patch, (newest.ref, body, "helm"))
    timer.start()
    result, _said, _seconds = bring(timeout_seconds=60)
    timer.join()
    assert result["releases"][0]["action"] == "unchanged"


def test_check_mode_does_not_wait(bring, in_hand) -> None:
    in_hand(ELSEWHERE)
    result, _said, seconds = bring(check=True, timeout_seconds=300)
    assert result["releases"][0]["action"] == "upgraded" and seconds < 60
