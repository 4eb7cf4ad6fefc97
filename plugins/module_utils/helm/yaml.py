# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML as Go reads it: what Helm and Kubernetes see in a text, written so that they see the same again."""

from __future__ import annotations

import re
from typing import Any

try:
    import yaml
    from yaml import YAMLError
except ImportError:  # the module itself reports what is missing, see Cluster
    yaml = None  # type: ignore[assignment]
    YAMLError = ValueError  # type: ignore[assignment,misc]

if yaml is not None:
    _LOADER_BASE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    _DUMPER_BASE = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class _Loader(_LOADER_BASE):  # type: ignore[misc,valid-type]
        """sigs.k8s.io/yaml, which Helm and Kubernetes use, has neither dates nor base-60 numbers, but has 1e3 and the
        booleans y and n.
        """

        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":bool", ":null", ":merge"))]
            for first, resolvers in _LOADER_BASE.yaml_implicit_resolvers.items()
        }

    _INT = re.compile(r"^[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$")
    _FLOAT = re.compile(r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")

    def _read_as_go(yaml_class: Any) -> None:
        """What is no text for Go. For a dumper: what it has to quote to make it one."""
        yaml_class.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
        yaml_class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
        yaml_class.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))

    _read_as_go(_Loader)

    def _construct_bool(loader: Any, node: Any) -> bool:
        return loader.construct_scalar(node).lower() in ("y", "yes", "on", "true")

    _Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)

    def _construct_int(loader: Any, node: Any) -> int | str:
        text = loader.construct_scalar(node).replace("_", "")
        digits = text.lstrip("-+")
        try:
            return int(text, 8 if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit() else 0)
        except ValueError:  # a prefix without digits is a text
            return loader.construct_scalar(node)

    def _construct_float(loader: Any, node: Any) -> float:
        text = loader.construct_scalar(node)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))

    _Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
    _Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)

    class _Dumper(_DUMPER_BASE):  # type: ignore[misc,valid-type]
        """Texts of several lines as blocks: a diff of a configuration file must show lines."""

        def ignore_aliases(self, data: Any) -> bool:
            """An anchor in a diff would only confuse."""
            return True

    def _represent_text(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    _Dumper.add_representer(str, _represent_text)
    _read_as_go(_Dumper)


def to_yaml(obj: Any) -> str:
    """YAML with sorted keys, so that two equal objects give equal text."""
    return yaml.dump(obj, Dumper=_Dumper, default_flow_style=False, sort_keys=True, width=160, allow_unicode=True)


def from_yaml(text: str) -> Any:
    """The value that Helm would read. Raises yaml.YAMLError."""
    return _with_text_keys(yaml.load(text, Loader=_Loader))


def _with_text_keys(value: Any) -> Any:
    """JSON, into which Helm turns its YAML, has only texts as keys: ``n:`` becomes ``"false":``."""
    if isinstance(value, dict):
        return {_key_text(name): _with_text_keys(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_text_keys(item) for item in value]
    return value


def _key_text(name: Any) -> str:
    return str(name).lower() if isinstance(name, bool) else "null" if name is None else str(name)


def yaml_error(error: YAMLError) -> str:
    """What is wrong and where, without the lines themselves: they may be a Secret's."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return "line %d, column %d: %s" % (mark.line + 1, mark.column + 1, problem) if mark else str(problem)
