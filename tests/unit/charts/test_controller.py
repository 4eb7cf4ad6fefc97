"""The chart controller: the design's numbers, the two Services, passwords as files."""

from __future__ import annotations

import pytest

from .conftest import ROOT, Objects, Render, RenderError

CHART = ROOT / "roles/controller/files/charts/controller"


@pytest.fixture(scope="module")
def objects(render: Render) -> Objects:
    return render(CHART)


def test_the_designs_numbers(objects: Objects) -> None:
    scaler = objects.one("HorizontalPodAutoscaler", "controller")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 10)
    aims = {
        metric["resource"]["name"]: metric["resource"]["target"]["averageUtilization"] for metric in scaler["metrics"]
    }
    assert aims == {"cpu": 70, "memory": 80}
    container = objects.one("Deployment", "controller")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "4Gi"}
    assert container["resources"]["limits"] == {"memory": "4Gi"}


def test_everybody_has_one_address_and_the_edge_has_every_pods(objects: Objects) -> None:
    service, headless = (
        objects.one("Service", "controller")["spec"],
        objects.one("Service", "controller-headless")["spec"],
    )
    assert {port["name"]: port["port"] for port in service["ports"]} == {"http": 8080, "metrics": 9090}
    assert "clusterIP" not in service
    assert headless["clusterIP"] == "None"
    assert [port["port"] for port in headless["ports"]] == [8080]
    assert headless["selector"] == service["selector"]
    # The edge checks them itself; all of them are unready while Redis fails over.
    assert headless["publishNotReadyAddresses"] is True
    assert not service.get("publishNotReadyAddresses")


def test_the_headless_service_can_be_left_out(render: Render) -> None:
    names = [obj["metadata"]["name"] for obj in render(CHART, {"headless": {"enabled": False}}).of("Service")]
    assert names == ["controller"]


def test_passwords_are_files_of_the_group_and_not_environment(render: Render) -> None:
    objects = render(CHART, {"env": {"REDIS_PASSWORD_FILE": "/run/credentials/redis/password", "PORT": 8080}})
    pod = objects.one("Deployment", "controller")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["volumeMounts"] == [{"name": "redis", "mountPath": "/run/credentials/redis", "readOnly": True}]
    assert pod["volumes"] == [{"name": "redis", "secret": {"secretName": "redis-controller", "defaultMode": 0o440}}]
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    assert not any("valueFrom" in entry for entry in container["env"])
    assert {entry["name"]: entry["value"] for entry in container["env"]}["PORT"] == "8080"


def test_readiness_follows_what_the_controller_needs_and_liveness_does_not(objects: Objects) -> None:
    container = objects.one("Deployment", "controller")["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    # A Redis that fails over must not restart every controller.
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["startupProbe"]["httpGet"]["path"] == "/health"


def test_a_pod_ends_after_its_requests(objects: Objects) -> None:
    """5 s until nobody sends more, 35 s for the longest request."""
    assert objects.one("Deployment", "controller")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 5 + 35


def test_a_credential_without_a_path_is_refused(render: Render) -> None:
    with pytest.raises(RenderError, match="mountPath"):
        render(CHART, {"credentials": {"postgresql": {"secret": "x"}}})


def test_the_schema_is_brought_up_to_date_before_the_rollout_and_maintained_after_it(objects: Objects) -> None:
    job, cron = objects.one("Job", "controller-migrations"), objects.one("CronJob", "controller-maintenance")
    account = objects.one("ServiceAccount", "controller-migrations")
    for hook in (job, account):
        assert hook["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert int(account["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0, "the Job's pods need it"
    assert "annotations" not in objects.one("ServiceAccount", "controller-maintenance")["metadata"]
    assert job["spec"]["activeDeadlineSeconds"] < 300, "Helm's own timeout would not say why"
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    for spec, command in ((job["spec"], "migrate"), (cron["spec"]["jobTemplate"]["spec"], "maintain")):
        pod = spec["template"]["spec"]
        [container] = pod["containers"]
        assert container["args"] == [command]
        assert container["image"] == "test/controller:1"
        assert [volume["secret"]["secretName"] for volume in pod["volumes"]] == ["postgresql-migrator"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_without_a_database_there_is_no_job(render: Render) -> None:
    objects = render(CHART, {"database": {"enabled": False}})
    assert not objects.of("Job") and not objects.of("CronJob")


def test_a_schedule_that_is_none_is_refused(render: Render) -> None:
    with pytest.raises(RenderError, match="schedule"):
        render(CHART, {"database": {"maintenance": {"schedule": "hourly"}}})
