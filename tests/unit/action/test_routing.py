"""A module is run by the action plugin that meta/runtime.yml names, which goes before one of the module's own name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ACTIONS = {path.stem for path in (ROOT / "plugins/action").glob("*.py")}
RUNTIME = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
ROUTES = {name: route["action_plugin"] for name, route in RUNTIME["plugin_routing"]["modules"].items()}


@pytest.mark.parametrize("path", sorted((ROOT / "plugins/modules").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_has_one_action_plugin(path: Path) -> None:
    named = ROUTES.get(path.stem, "").rpartition(".")[2]
    assert named in ACTIONS if named else path.stem in ACTIONS
    assert not (named and path.stem in ACTIONS), f"plugins/action/{path.stem}.py would never run"
