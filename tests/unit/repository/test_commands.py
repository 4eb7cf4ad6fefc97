"""Commands that pages show: a test runs them, or the page marks them as not run; each names what there is."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
PAGES = [
    name for name in TRACKED
    if re.fullmatch(r"(README(\.ja)?|CONTRIBUTING)\.md|docs/.*\.md|roles/[^/]+/README\.md", name)
]  # fmt: skip
# In the pages in Japanese stand the same ones (test_translation.py).
MARKED_PAGES = [name for name in PAGES if not name.startswith("docs/ja/") and not name.endswith(".ja.md")]
PROGRAMS = (
    "ansible-doc", "ansible-galaxy", "ansible-playbook", "cp", "curl", "docker", "faas-cli", "kubectl", "make", "pip",
    "podman", "pytest",
)  # fmt: skip
COLLECTION = "tests/unit/repository/test_collection.py"
RUN = {
    r"make test": (".ci/run", "make test"),
    r"make demo": ("molecule/default/molecule.yml", "site.yml"),  # the same playbooks, on a cluster of its own
    r"make drill(?: EXTRA=.*)?": ("molecule/drill/molecule.yml", "drill"),
    r"make help": (__file__, "test_the_commands_of_the_start_run"),
    r"ansible-doc .*": (__file__, "test_the_commands_of_the_start_run"),
    r"curl .*": ("tests/unit/repository/test_readme.py", "docs"),  # docs/examples, which playbooks/verify.yml sends
    r"ansible-playbook lambda_microservice\.platform\.capacity .*": (COLLECTION, "capacity"),
    r"ansible-galaxy collection install lambda_microservice-platform-.*": (COLLECTION, "install"),
}
"""What is run, and where."""
_FENCE = re.compile(
    r"(?P<mark>^ *<!-- not run: [^\n>]+ -->\n)?^ *```\w*\n(?P<code>.*?)^ *```", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"`([^`\n]+)`")


def commands(code: str) -> Iterator[str]:
    """The lines that begin with a program, with what a backslash goes on with, without comments."""
    for line in re.sub(r"\\\n\s*", "", code).splitlines():
        text = re.sub(r"(^|\s{2,})#.*$", "", line.strip()).strip()
        text = re.sub(r"^id=\$\(", "", text)
        if text.startswith("playbooks/"):
            text = f"ansible-playbook {text}"
        if text.split(" ")[0] in PROGRAMS:
            yield text


def shown(text: str) -> Iterator[str]:
    """Every command of a page, in a block or in a line."""
    for fence in _FENCE.finditer(text):
        yield from commands(fence["code"])
    for code in _INLINE.findall(re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield from commands(code)


def known_variables() -> set[str]:
    found: set[str] = set()
    for file in [*ROOT.glob("roles/*/meta/argument_specs.yml"), ROOT / "playbooks/meta/argument_specs.yml"]:
        for part in yaml.safe_load(file.read_text(encoding="utf-8"))["argument_specs"].values():
            found |= part["options"].keys()
    for file in ROOT.glob("playbooks/**/*.yml"):
        found |= set(re.findall(r"{{ (\w+) \| default", file.read_text(encoding="utf-8")))
    return found | {"platform_modules_in_process"}  # read by an action plugin alone


def known_tags() -> set[str]:
    found: set[str] = set()
    for file in [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/*.yml")]:
        for tags in re.findall(r"(?:tags|_known): \[([^\]]*)\]", file.read_text(encoding="utf-8")):
            found |= {tag.strip() for tag in tags.split(",")}
    return found


VARIABLES, TAGS = known_variables(), known_tags()
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def faults(command: str) -> list[str]:
    """What a command names and there is not."""
    try:
        words = shlex.split(command.replace("...", ""))
    except ValueError:
        return []  # the beginning of one, in a line of text
    if words[0] == "make":
        named = [word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)]
        return [f"make {name}" for name in named if name not in TARGETS]
    if words[0] != "ansible-playbook":
        return []
    found = []
    for before, word in zip(words, words[1:], strict=False):
        if before in ("-e", "--extra-vars"):
            names = json.loads(word) if word.startswith("{") else [] if word.startswith("@") else [word.split("=")[0]]
            found += [f"variable {name}" for name in names if name not in VARIABLES]
        elif before in ("--tags", "--skip-tags"):
            found += [f"tag {tag}" for tag in word.split(",") if tag not in TAGS and not re.search("[A-Z]{3}", tag)]
        else:
            file = re.sub(r"^lambda_microservice\.platform\.(\w+)$", r"playbooks/\1.yml", word)
            if file.endswith(".yml") and not file.startswith("@") and not (ROOT / file).is_file():
                found.append(word)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_what_a_command_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [(command, faults(command)) for command in shown(text) if faults(command)] == []


@pytest.mark.parametrize(
    "command",
    [
        "make nothing",
        "ansible-playbook playbooks/nothing.yml",
        "ansible-playbook site.yml --tags nothing",
        "ansible-playbook site.yml -e nothing=1",
        """ansible-playbook site.yml -e '{"nothing": []}'""",
        "ansible-playbook lambda_microservice.platform.nothing",
    ],
)
def test_what_is_not_there_would_be_found(command: str) -> None:
    assert [faults(one) for one in shown(f"```\n{command}  # with a comment\n```")] != [[]]
    assert [faults(one) for one in shown(f"As `{command}` does")] != [[]]


@pytest.mark.parametrize("page", MARKED_PAGES)
def test_a_block_of_commands_is_run_or_marked(page: str) -> None:
    unmarked = [
        command
        for fence in _FENCE.finditer((ROOT / page).read_text(encoding="utf-8"))
        if not fence["mark"]
        for command in commands(fence["code"])
        if not any(re.fullmatch(pattern, command, re.DOTALL) for pattern in RUN)
    ]
    assert unmarked == [], "write <!-- not run: WHY --> before the block, or name the test that runs it in RUN"


def test_a_mark_is_needed() -> None:
    """Of a block with a command that is run and one that is not."""
    text = "```\nmake test\n```\n\n<!-- not run: why -->\n```\nkubectl get pods\n```\n\n```\nkubectl get nodes\n```\n"
    found = [(bool(fence["mark"]), list(commands(fence["code"]))) for fence in _FENCE.finditer(text)]
    assert found == [(False, ["make test"]), (True, ["kubectl get pods"]), (False, ["kubectl get nodes"])]


@pytest.mark.parametrize(("file", "words"), sorted(set(RUN.values())))
def test_what_runs_them_is_there(file: str, words: str) -> None:
    assert words in (ROOT / file).read_text(encoding="utf-8")


def test_the_commands_of_the_start_run() -> None:
    text = (ROOT / "docs/start.md").read_text(encoding="utf-8")
    ran = [command for fence in _FENCE.finditer(text) for command in commands(fence["code"])]
    assert len(ran) == 3
    for command in ran:
        words = shlex.split(command)
        program = Path(sys.executable).parent / words[0]
        words[0] = str(program) if program.exists() else words[0]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        assert len(done.stdout.splitlines()) > 10, done.stderr
