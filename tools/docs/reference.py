"""The reference, out of what the programs themselves read: argument_specs, ansible-doc, playbooks and rules.

Every variable, playbook and alert is a heading, so that the site's search leads to it by its name.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "lambda_microservice.platform"
# As ansible-doc's markup is written; a bracket that belongs to a text is escaped.
_MARKUP = re.compile(r"\b([BCEIMOPRUV])\(((?:\\.|[^\\)])*)\)|\bL\(([^,)]+),\s*([^)]+)\)")
_KINDS = {"module": "Modules", "filter": "Filters", "lookup": "Lookups"}


def pages() -> dict[str, str]:
    """Each page's text by its path below the site's root."""
    roles = sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))
    specifications = {path.parents[1].name: _specified(path)["main"]["options"] for path in roles}
    playbooks = _specified(ROOT / "playbooks/meta/argument_specs.yml")
    # Several playbooks may have one: it stands once.
    specifications["playbooks"] = {
        name: option for part in playbooks.values() for name, option in part["options"].items()
    }
    places = {name: page for page, options in specifications.items() for name in options}
    made = {f"reference/variables/{page}.md": _variables(page, one, places) for page, one in specifications.items()}
    made["reference/variables/index.md"] = _all_variables(specifications)
    made["reference/playbooks.md"] = _playbooks(playbooks, places)
    made["reference/alerts.md"] = _alerts()
    plugins = documented()
    for kind, title in _KINDS.items():
        made[f"reference/{kind}s.md"] = _plugins(title, plugins[kind])
    made["reference/index.md"] = _index(specifications, made)
    # A name leads to its own place before the pages that speak of it.
    head = "---\nsearch: {boost: 3}\n---\n"
    return {name: text if text.startswith("---") else head + text for name, text in made.items()}


def _specified(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]


# Texts


def plain(text: str) -> str:
    """A text in which Markdown sees nothing of its own."""
    return re.sub(r"([\\`*_\[\]<|])", r"\\\1", text).replace("\\<", "&lt;")


def code(text: str) -> str:
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


def prose(text: str, places: dict[str, str] | None = None) -> str:
    """A line of ansible-doc's markup as Markdown. Variables that have a heading lead there."""
    made, end = [], 0
    for match in _MARKUP.finditer(text):
        made.append(_linked(text[end : match.start()], places or {}))
        end = match.end()
        letter, inner, shown, address = match.groups()
        if shown:
            made.append(f"[{plain(shown)}]({address})")
        elif letter in "BI":
            made.append(f"*{plain(inner)}*")
        elif letter == "U":
            made.append(f"<{inner}>")
        elif letter == "M" and inner.startswith(f"{COLLECTION}."):
            name = inner.removeprefix(f"{COLLECTION}.")
            made.append(f"[`{name}`](/reference/modules.md#{name})")
        else:
            made.append(code(re.sub(r"\\(.)", r"\1", inner.split("#", 1)[0] if letter == "P" else inner)))
    return "".join([*made, _linked(text[end:], places or {})])


def _linked(text: str, places: dict[str, str]) -> str:
    parts = re.split(r"\b([a-z]+(?:_[a-z0-9]+)+)\b", text)
    return "".join(
        f"[`{part}`](/reference/variables/{places[part]}.md#{part})"
        if part in places
        else (code(part) if number % 2 else plain(part))
        for number, part in enumerate(parts)
    )


def paragraphs(description: Any, places: dict[str, str] | None = None) -> str:
    lines = description if isinstance(description, list) else [description]
    return "\n\n".join(prose(str(line), places) for line in lines if line)


def value(given: Any) -> str:
    """As an inventory would have it, on one line."""
    if isinstance(given, str):
        return given if given else '""'
    return json.dumps(given, ensure_ascii=False)


def heading(level: int, name: str) -> str:
    return f"{'#' * level} {plain(name)} {{ #{re.sub(r'[^A-Za-z0-9_]+', '-', name).strip('-')} }}"


# Variables


def _variables(page: str, options: dict[str, Any], places: dict[str, str]) -> str:
    if page == "playbooks":
        top = "# Variables of the playbooks\n\nWhich playbook has which: [Playbooks](/reference/playbooks.md).\n"
    else:
        role = f"[roles/{plain(page)}](/roles/{page}/README.md)"
        top = f"# Variables of {plain(page)}\n\nThe role and how it behaves: {role}.\n"
    return "\n".join([top, *(_variable(name, option, places) for name, option in options.items())])


def _variable(name: str, option: dict[str, Any], places: dict[str, str]) -> str:
    lines = [heading(2, name), "", _facts(option), "", paragraphs(option.get("description", ""), places), ""]
    if "options" in option:
        lines += [*_rows(option["options"], places), ""]
    return "\n".join(lines)


def _facts(option: dict[str, Any]) -> str:
    kind = option.get("type", "str")
    facts = [f"{kind} of {option['elements']}" if "elements" in option else kind]
    if option.get("required"):
        facts.append("**required**")
    elif option.get("default") is not None:
        facts.append(f"default {code(value(option['default']))}")
    if "choices" in option:
        facts.append("one of " + ", ".join(code(value(choice)) for choice in option["choices"]))
    if option.get("no_log"):
        facts.append("a secret, never shown")
    return " · ".join(facts)


def _rows(options: dict[str, Any], places: dict[str, str], head: str = "field") -> list[str]:
    """A table of what has options of its own below it, each named by its whole path."""
    return [f"| {head} | | |", "| --- | --- | --- |", *_cells(options, places, "")]


def _cells(options: dict[str, Any], places: dict[str, str], before: str) -> Iterator[str]:
    for name, option in options.items():
        # A pipe would end the cell, in code as well.
        words = (_facts(option), paragraphs(option.get("description", ""), places).replace("\n\n", " "))
        facts, text = (re.sub(r"(?<!\\)\|", r"\\|", word) for word in words)
        yield f"| {code(before + name)} | {facts} | {text} |"
        below = option.get("options") or option.get("suboptions")
        if below:
            yield from _cells(below, places, f"{before}{name}.")


def _all_variables(specifications: dict[str, dict[str, Any]]) -> str:
    rows = []
    for page, options in specifications.items():
        for name, option in options.items():
            given = option.get("default")
            shown = "" if given in (None, "", [], {}) else code(value(given)).replace("|", r"\|")
            rows.append(f"| [`{name}`]({page}.md#{name}) | {shown} |")
    return "\n".join(
        [
            "---\nsearch: {exclude: true}\n---\n# All variables\n",
            "An inventory sets them; a role's name begins each. At a terminal:",
            f"`ansible-doc -t role {COLLECTION}.ROLE`.\n",
            "| variable | default |\n| --- | --- |",
            *sorted(rows),
        ]
    )


# Playbooks


class _Tolerant(yaml.SafeLoader):
    """Tags such as !unsafe are values like others."""


_Tolerant.add_multi_constructor("!", lambda loader, suffix, node: loader.construct_scalar(node))


def playbook_names() -> list[str]:
    return sorted(path.stem for path in ROOT.glob("playbooks/*.yml"))


def _playbooks(specifications: dict[str, Any], places: dict[str, str]) -> str:
    lines = [
        f"# Playbooks\n\nFrom a checkout `playbooks/NAME.yml`, from the installed collection `{COLLECTION}.NAME`.\n"
    ]
    for name in playbook_names():
        text = (ROOT / f"playbooks/{name}.yml").read_text(encoding="utf-8")
        head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()[1:])
        comment = [line.removeprefix("#").removeprefix(" ") for line in head]
        lines += [heading(2, f"playbooks/{name}.yml"), "", *_comment(comment), ""]
        # _Tolerant is a subclass of the safe loader.
        parts = sorted(set(_parts(yaml.load(text, _Tolerant))))  # noqa: S506
        names = [option for part in parts for option in specifications[part]["options"]]
        if names:
            links = ", ".join(f"[`{one}`](/reference/variables/{places[one]}.md#{one})" for one in names)
            lines += [f"Its variables: {links}.", ""]
    return "\n".join(lines)


def _comment(comment: list[str]) -> list[str]:
    """The words of a file's head as a paragraph, its calls as code."""
    made: list[str] = []
    calls: list[str] = []
    for line in [*comment, ""]:
        if line.startswith("  "):
            calls.append(line.strip())
            continue
        if calls:
            made += ["", "```", *calls, "```", ""]
            calls = []
        made.append(_linked(line, {}))
    return made


def _parts(node: Any) -> Iterator[str]:
    """What a playbook's tasks `variables` name."""
    if isinstance(node, list):
        for one in node:
            yield from _parts(one)
    elif isinstance(node, dict):
        for key, one in node.items():
            if key == f"{COLLECTION}.variables" and isinstance(one, dict):
                yield from one.get("playbook", [])
            yield from _parts(one)


# Alerts


def alerts() -> dict[str, list[dict[str, Any]]]:
    """The rules by the alert's name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(ROOT.glob("roles/monitoring/files/rules/*.yaml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    found.setdefault(rule["alert"], []).append(rule)
    return found


def _alerts() -> str:
    table = "[Alerts and their pages](/docs/runbooks/README.md)"
    lines = [f"# Alerts\n\nWhat P1 to P3 mean, and all in one table: {table}.\n"]
    for name, rules in alerts().items():
        lines += [heading(2, name), ""]
        for rule in rules:
            severity = rule["labels"].get("severity", "no severity")
            wait = f", for {rule['for']}" if rule.get("for") else ""
            annotations = rule["annotations"]
            lines.append(f"- **{severity}**{wait}: {plain(annotations.get('summary') or annotations.get('title', ''))}")
        page = rules[0]["annotations"].get("runbook_url")
        lines += ["", f"What to do: [{Path(page).stem}](/{page}).", ""]
        # An objective's expression is sloth's, a page long.
        if len(rules) == 1 and len(rules[0]["expr"]) < 800:
            lines += ["```text", rules[0]["expr"].strip(), "```", ""]
    return "\n".join(lines)


# Plugins


def documented() -> dict[str, dict[str, Any]]:
    """What ansible-doc says of ours, by kind and name: one start of it for all."""
    program = Path(sys.executable).parent / "ansible-doc"
    called = [program, "--metadata-dump", COLLECTION]
    ran = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    if ran.returncode != 0:
        raise SystemExit(f"tools/docs/build: ansible-doc failed:\n{ran.stderr}")
    return {
        kind: {name.rsplit(".", 1)[1]: found for name, found in json.loads(ran.stdout)["all"][kind].items()}
        for kind in _KINDS
    }


def _plugins(title: str, plugins: dict[str, Any]) -> str:
    lines = [f"# {title}\n"]
    if title == "Modules":
        lines.append("Each in five lines and an example: [Modules](/docs/modules.md).")
        lines.append(f"At a terminal: `ansible-doc {COLLECTION}.NAME`.\n")
    for name, found in sorted(plugins.items()):
        doc = found["doc"]
        lines += [heading(2, name), "", prose(doc["short_description"]) + ".", "", paragraphs(doc["description"]), ""]
        shown = {one: option for one, option in doc.get("options", {}).items() if not _of_the_connection(option)}
        if shown:
            lines += [*_rows(shown, {}, "option"), ""]
        if found.get("examples"):
            lines += ["```yaml", found["examples"].strip("\n"), "```", ""]
        if found.get("return"):
            lines += ["Returns:", "", *_rows(found["return"], {}, "key"), ""]
    return "\n".join(lines)


def _of_the_connection(option: dict[str, Any]) -> bool:
    """How a cluster is reached, the same for every module: kubernetes.core's documentation has it."""
    return "K8S_AUTH" in str(option.get("description", ""))


def _index(specifications: dict[str, dict[str, Any]], made: dict[str, str]) -> str:
    count = sum(len(options) for options in specifications.values())
    rows = [
        f"| [Variables](variables/index.md) | {count}, by role and in one table |",
        f"| [Playbooks](playbooks.md) | {len(playbook_names())}, with their variables |",
        f"| [Alerts](alerts.md) | {len(alerts())}, each with its page of what to do |",
        *(
            f"| [{title}]({kind}s.md) | {made[f'reference/{kind}s.md'].count('{ #')} |"
            for kind, title in _KINDS.items()
        ),
    ]
    return "\n".join(
        [
            "# Reference\n",
            "Made from the code of this version: `argument_specs`, `ansible-doc`, the playbooks and the rules of the",
            "alerts. A name that is typed into the search above leads to its place.\n",
            "| | |\n| --- | --- |",
            *rows,
            "\nOf roles: " + ", ".join(f"[{plain(name)}](variables/{name}.md)" for name in specifications) + ".\n",
        ]
    )
