"""The chart grafana: what it shows, whom it asks, and that it calls nobody else."""

from __future__ import annotations

import configparser
import json
import shutil
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, Manifest, Objects, Render, RenderError

CHART = ROOT / "roles/monitoring/files/charts/grafana"
DASHBOARDS = sorted(path.name for path in (ROOT / "roles/monitoring/files/dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def objects(render: Render) -> Objects:
    return render(CHART)


def pod(objects: Objects) -> Manifest:
    return objects.one("StatefulSet", "grafana")["spec"]["template"]["spec"]


def configuration(objects: Objects) -> dict[str, str]:
    return objects.one("ConfigMap", "grafana-configuration")["data"]


def test_every_dashboard_is_there_and_one_is_the_first(objects: Objects) -> None:
    shown = objects.one("ConfigMap", "grafana-dashboards")["data"]
    assert sorted(shown) == DASHBOARDS and len(DASHBOARDS) == 8
    home = settings(objects)["dashboards"]["default_home_dashboard_path"]
    assert home.removeprefix("/etc/dashboards/") in shown
    # What Kubernetes takes as one object.
    assert len(json.dumps(shown)) < 900_000


def settings(objects: Objects) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(configuration(objects)["grafana.ini"])
    return parser


def test_panels_and_data_sources_agree(objects: Objects, render: Render) -> None:
    for rendered, expected in ((objects, {"prometheus", "postgresql"}), (without(render), {"prometheus"})):
        sources = yaml.safe_load(configuration(rendered)["datasources.yaml"])["datasources"]
        known = {source["uid"]: source["type"] for source in sources}
        assert set(known) == expected
        asked = {
            (panel["datasource"]["uid"], panel["datasource"]["type"])
            for text in rendered.one("ConfigMap", "grafana-dashboards")["data"].values()
            for panel in json.loads(text)["panels"]
        }
        assert asked == set(known.items())


def without(render: Render) -> Objects:
    return render(CHART, {"postgresql": {"address": ""}})


def test_nobody_is_let_in_without_a_password_and_nobody_is_called(objects: Objects) -> None:
    set_to = settings(objects)
    assert set_to["auth.anonymous"]["enabled"] == "false" and set_to["users"]["allow_sign_up"] == "false"
    for name in ("reporting_enabled", "check_for_updates", "check_for_plugin_updates", "feedback_links_enabled"):
        assert set_to["analytics"][name] == "false"
    assert set_to["security"]["disable_gravatar"] == "true"
    assert set_to["plugins"]["preinstall_disabled"] == "true"
    assert set_to["news"]["news_feed_enabled"] == "false"


def test_passwords_are_files_of_secrets(objects: Objects, render: Render) -> None:
    security = settings(objects)["security"]
    assert security["admin_password"] == "$__file{/etc/secrets/admin-password}"
    assert security["secret_key"] == "$__file{/etc/secrets/secret-key}"
    source = yaml.safe_load(configuration(objects)["datasources.yaml"])["datasources"][1]
    assert source["secureJsonData"] == {"password": "$__file{/etc/secrets/password}"}
    assert source["jsonData"]["sslmode"] == "verify-full"
    (secrets,) = [volume for volume in pod(objects)["volumes"] if volume["name"] == "secrets"]
    names = [entry["secret"]["name"] for entry in secrets["projected"]["sources"]]
    assert names == ["grafana", "postgresql-dashboards", "postgresql-ca"]
    (secrets,) = [volume for volume in pod(without(render))["volumes"] if volume["name"] == "secrets"]
    assert [entry["secret"]["name"] for entry in secrets["projected"]["sources"]] == ["grafana"]


def test_the_designs_size(objects: Objects) -> None:
    grafana = objects.one("StatefulSet", "grafana")["spec"]
    assert grafana["replicas"] == 1
    (claim,) = grafana["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "10Gi"
    assert pod(objects)["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "2Gi"}


def test_a_second_replica_is_refused(render: Render) -> None:
    with pytest.raises(RenderError, match="replicas"):
        render(CHART, {"replicas": 2})


def test_a_new_dashboard_or_setting_restarts_it(objects: Objects, render: Render) -> None:
    def checksums(found: Objects) -> Manifest:
        annotations = found.one("StatefulSet", "grafana")["spec"]["template"]["metadata"]["annotations"]
        return {name: value for name, value in annotations.items() if name.startswith("checksum/")}

    assert set(checksums(objects)) == {"checksum/configuration", "checksum/dashboards"}
    assert checksums(render(CHART, {"prometheus": {"intervalSeconds": 30}})) != checksums(objects)


def test_a_panel_of_an_unknown_data_source_is_refused(render: Render, tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "grafana")
    board = tmp_path / "grafana" / "dashboards" / "redis.json"
    board.write_text(
        board.read_text(encoding="utf-8").replace('"uid": "prometheus"', '"uid": "loki"'), encoding="utf-8"
    )
    with pytest.raises(RenderError, match=r"redis.json: the panel .* asks the data source .*loki.*, which is none of"):
        render(tmp_path / "grafana")
