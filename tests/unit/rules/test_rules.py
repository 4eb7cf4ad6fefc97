"""Each alert fires and stays quiet, by promtool; says what a person needs; and stands on series that exist."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ALERTS, ROOT, RULES, rules_of
from .test_series import controllers, runtimes

CASES: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parent / "cases.yaml").read_text(encoding="utf-8")
)
MINUTES = {"m": 1, "h": 60, "d": 1440}


def minutes(duration: str) -> int:
    return int(duration[:-1]) * MINUTES[duration[-1]]


def picked(alert: str, case: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules that a case is about: those of the name, and with the labels that it picks."""
    return [
        rule
        for _path, rule in ALERTS
        if rule["alert"] == alert and case.get("rules", {}).items() <= rule["labels"].items()
    ]


def promtools_test(
    alert: str, at: str, series: dict[str, str | None], expected: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": f"{alert} at {at}",
        "input_series": [
            {"series": name, "values": str(values)} for name, values in series.items() if values is not None
        ],
        "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": expected}],
    }


def title(rule: dict[str, Any], case: dict[str, Any]) -> dict[str, str]:
    """What sloth adds to its own alerts."""
    if "title" not in rule["annotations"]:
        return {}
    which, objective = rule["labels"]["sloth_severity"], case["labels"]["sloth_slo"]
    return {"title": f"({which}) lambda {objective} SLO error budget burn rate is too fast."}


def cases_of(alert: str) -> list[dict[str, Any]]:
    made = []
    for case in CASES[alert]:
        rules = picked(alert, case)
        expected = [
            {
                "exp_labels": {**rule["labels"], **case.get("labels", {})},
                "exp_annotations": {**rule["annotations"], "description": case["description"], **title(rule, case)},
            }
            for rule in rules
        ]
        made.append(promtools_test(alert, case["at"], case["series"], expected))
        wait = min(minutes(rule.get("for", "0m")) for rule in rules)
        if wait:
            made.append(promtools_test(alert, f"{wait - 1}m", case["series"], []))
        for different in case.get("quiet", ()):
            series = {**case["series"], **{name: values for name, values in different.items() if name != "at"}}
            made.append(promtools_test(alert, different.get("at", case["at"]), series, []))
    return made


def rules_for(alert: str) -> dict[str, Any]:
    """The alert and what it may stand on: promtool evaluates every rule that it is given, every minute of a test."""
    rules = [rule for _path, rule in ALERTS if rule["alert"] == alert]
    objectives = {None, *re.findall(r'sloth_id="([^"]+)"', " ".join(rule["expr"] for rule in rules))}
    path = next(path for path, rule in ALERTS if rule["alert"] == alert)
    recorded = [rule for rule in rules_of(path) if "record" in rule]
    recorded = [rule for rule in recorded if rule.get("labels", {}).get("sloth_id") in objectives]
    return {"groups": [{"name": "recorded", "rules": recorded}, {"name": "alerts", "rules": rules}]}


def write_tests(folder: Path, alert: str, tests: list[dict[str, Any]]) -> Path:
    """promtool's file of tests, and the rules beside it."""
    (folder / f"{alert}.rules.yaml").write_text(yaml.safe_dump(rules_for(alert)), encoding="utf-8")
    document = {
        "rule_files": [f"{alert}.rules.yaml"],
        "evaluation_interval": "1m",
        # In any order without it: an alert would see what was recorded now, or a minute ago.
        "group_eval_order": ["recorded", "alerts"],
        "tests": [{"interval": "1m", **test} for test in tests],
    }
    (folder / f"{alert}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder / f"{alert}.yaml"


def promtool_test(promtool: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, "test", "rules", *files], capture_output=True, text=True, timeout=300)


def test_every_alert_fires_and_stays_quiet(promtool: Path, tmp_path: Path) -> None:
    done = promtool_test(promtool, *(write_tests(tmp_path, alert, cases_of(alert)) for alert in CASES))
    assert done.returncode == 0, done.stdout + done.stderr


ADDED_UP = {"PodRestarts": "what each exporter has seen of a container's restarts"}
"""Alerts whose value is of all exporters together, and why."""


def test_an_exporter_whose_pod_is_replaced_changes_nothing(promtool: Path, tmp_path: Path) -> None:
    """Meanwhile two tell of the same object, and so they seem to where Prometheus was away."""
    files = []
    for alert in CASES.keys() - ADDED_UP.keys():
        tests = [test for test in cases_of(alert) if any("kube_" in each["series"] for each in test["input_series"])]
        for test in tests:
            twice = [
                {**each, "series": each["series"].replace("}", f',instance="{instance}",pod="exporter-{instance}"}}')}
                for each in test["input_series"]
                for instance in ("a", "b")
                if "kube_" in each["series"]
            ]
            others = [each for each in test["input_series"] if "kube_" not in each["series"]]
            test["input_series"] = [*others, *twice]
        files += [write_tests(tmp_path, alert, tests)] if tests else []
    assert len(files) > 8
    done = promtool_test(promtool, *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_expectation_would_be_found(promtool: Path, tmp_path: Path) -> None:
    test = cases_of("RedisMemory")[0]
    silent = {**test, "alert_rule_test": [{**test["alert_rule_test"][0], "exp_alerts": []}]}
    assert promtool_test(promtool, write_tests(tmp_path, "RedisMemory", [test])).returncode == 0
    for wrong in (silent, {**test, "input_series": []}):
        assert promtool_test(promtool, write_tests(tmp_path, "RedisMemory", [wrong])).returncode != 0


def test_every_alert_has_a_case_that_fires_and_one_that_is_quiet() -> None:
    assert set(CASES) == {rule["alert"] for _path, rule in ALERTS}
    for alert, cases in CASES.items():
        assert all(picked(alert, case) for case in cases), alert
        assert any(case.get("quiet") for case in cases), alert


def test_promtool_takes_the_rules(promtool: Path) -> None:
    done = subprocess.run([promtool, "check", "rules", *RULES], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path,rule", ALERTS, ids=[rule["alert"] for _path, rule in ALERTS])
def test_an_alert_says_what_a_person_needs(path: Path, rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("P1", "P2", "P3")
    assert re.fullmatch(r"[a-z]+", rule["labels"]["component"])
    annotations = rule["annotations"]
    assert annotations["summary"] and "{{" not in annotations["summary"]
    assert "$value" in annotations["description"]
    assert re.fullmatch(r"docs/runbooks/[A-Za-z]+\.md", annotations["runbook_url"])
    assert (ROOT / annotations["runbook_url"]).is_file()


def test_alerts_have_names_of_their_own() -> None:
    """Only a page and its ticket share one."""
    named = Counter(rule["alert"] for path, rule in ALERTS if path.name != "slo.yaml")
    assert max(named.values()) == 1
    assert not set(named) & {rule["alert"] for path, rule in ALERTS if path.name == "slo.yaml"}


def test_the_index_has_every_alert() -> None:
    """docs/runbooks/README.md: a row for each alert, as the rules are."""
    rows = set()
    for _path, rule in ALERTS:
        annotations = rule["annotations"]
        page = Path(annotations["runbook_url"])
        severity, summary = rule["labels"]["severity"], annotations["summary"]
        rows.add(f"| {rule['alert']} | {severity} | {summary} | [{page.stem}]({page.name}) |")
    index = ROOT / "docs" / "runbooks" / "README.md"
    written = {line for line in index.read_text(encoding="utf-8").splitlines() if re.match(r"\| \w+ \| P\d ", line)}
    assert written == rows
    pages = {path.name for path in index.parent.glob("*.md")} - {"README.md", "Watchdog.md"}
    assert pages == {Path(rule["annotations"]["runbook_url"]).name for _path, rule in ALERTS}


def test_the_rules_of_the_objectives_are_what_their_table_makes(slo: Path) -> None:
    table = (ROOT / "tools" / "slo" / "objectives.yaml").read_bytes()
    made = subprocess.run([slo], input=table, capture_output=True, check=True, timeout=60).stdout
    written = (ROOT / "roles" / "monitoring" / "files" / "rules" / "slo.yaml").read_bytes()
    assert yaml.safe_load(written) == yaml.safe_load(made)


def test_the_pages_name_variables_and_series_that_exist() -> None:
    """What the roles that are here call their variables, and our programs their series."""
    roles = ROOT / "roles"
    variables = {
        name
        for defaults in roles.glob("*/defaults/main.yml")
        for name in yaml.safe_load(defaults.read_text(encoding="utf-8"))
    }
    prefixes = tuple(f"{path.parent.parent.name}_" for path in roles.glob("*/defaults/main.yml"))
    for page in (ROOT / "docs" / "runbooks").glob("*.md"):
        for word in re.findall(r"\b[a-z]+_[a-z0-9_]+\b", page.read_text(encoding="utf-8")):
            assert not word.startswith(prefixes) or word in variables, f"{page.name}: {word}"
            ours = {"lambda_controller": controllers, "lambda_runtime": runtimes}.get("_".join(word.split("_")[:2]))
            assert ours is None or any(name.startswith(word) for name in ours()), f"{page.name}: {word}"
