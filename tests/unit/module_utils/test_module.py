"""What a module says before its logic can be read, and what stays hidden in a result."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils import module
from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    hidden_values,
    masked,
    require_python,
)
from hypothesis import given
from hypothesis import strategies as st

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
READ_BY_ANY_PYTHON = [
    *sorted((PLUGINS / "modules").glob("*.py")),
    *(PLUGINS / "module_utils" / name for name in ("module.py", "errors.py", "interruption.py")),
]


def test_an_old_python_is_told_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module.sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit):
        require_python()
    said = json.loads(capsys.readouterr().out)
    assert said["failed"]
    assert "Found: Python 3.9. Expected: Python 3.11 or later" in said["msg"]
    assert sys.executable in said["msg"]


@pytest.mark.parametrize("path", READ_BY_ANY_PYTHON, ids=lambda path: path.name)
def test_what_an_old_python_reads_it_can_read(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        (node.module or "").rpartition("module_utils.")[2]
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and "lambda_microservice" in (node.module or "")
    }
    assert imported <= {"module", "errors", "interruption"}


SPEC = {
    "api_key": {"type": "str", "no_log": True},
    "proxy": {"type": "str"},
    "proxy_headers": {"type": "dict", "options": {"basic_auth": {"type": "str", "no_log": True}}},
    "secrets": {"type": "list", "elements": "dict", "options": {"data": {"type": "dict", "no_log": True}}},
    "kubeconfig": {"type": "raw"},
}
PLAIN = SimpleNamespace(ARGUMENT_SPEC=SPEC)
APART = SimpleNamespace(ARGUMENT_SPEC=SPEC, RESULT_HOLDS_NONE_OF=("secrets",))


def test_of_a_kubeconfig_given_as_data_its_secrets_are_hidden() -> None:
    user = {
        "token": "a-token",
        "password": "a-password",
        "client-key-data": "a-key",
        "client-certificate-data": "a-certificate",
        "auth-provider": {"name": "oidc", "config": {"id-token": "an-id-token", "refresh-token": "again"}},
        "exec": {"command": "login", "args": ["--region", "eu"], "env": [{"name": "LOGIN", "value": "by-heart"}]},
    }
    config = {"clusters": [{"name": "blue"}], "users": [{"name": "me", "user": user}, {"name": "nobody", "user": None}]}
    assert hidden_values(PLAIN, {"kubeconfig": config}, []) == {
        "a-token",
        "a-password",
        "a-key",
        "an-id-token",
        "again",
        "by-heart",
    }
    assert hidden_values(PLAIN, {"kubeconfig": "/home/me/.kube/config"}, []) == set()
    assert hidden_values(PLAIN, {"kubeconfig": {"users": None}}, []) == set()


def test_a_proxys_password_is_hidden() -> None:
    params = {"proxy": "http://me:by-heart@proxy:3128", "proxy_headers": {"basic_auth": "you:too"}, "api_key": None}
    assert hidden_values(APART, params, []) == {"by-heart", "you:too"}


def test_what_a_result_does_not_hold_is_not_looked_for() -> None:
    params = {"api_key": "a-key", "secrets": [{"data": {"user": "controller"}}]}
    assert hidden_values(APART, params, {"a-key", "controller"}) == {"a-key"}
    assert hidden_values(PLAIN, params, {"a-key", "controller"}) == {"a-key", "controller"}


@given(st.booleans(), st.sampled_from(["true", "True", "1", "secret"]))
def test_truth_values_stay_and_texts_go(changed: bool, secret: str) -> None:
    result = masked({"changed": changed, "diff": None, "msg": f"it is {secret}!"}, {secret})
    assert result["changed"] is changed
    assert result["diff"] is None
    assert secret not in result["msg"]
