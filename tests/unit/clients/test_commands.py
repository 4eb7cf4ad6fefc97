"""Each command: what it asks of the platform, what it prints, and how it ends."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import click
import pytest
from lambdactl import failure
from lambdactl.program import program

from tests.unit.clients.conftest import Lambdactl
from tests.unit.clients.edge import Edge, Reply, Request, refusal
from tests.unit.clients.test_client import ALIAS, ANSWERS, DIGEST, FUNCTION, TIME, VERSION

CALLED = Reply(200, ANSWERS["callFunction"])
LATE = "100"  # seconds, so that nothing is tried again


@pytest.fixture
def platform(edge: Edge, monkeypatch: pytest.MonkeyPatch, environment: Path) -> Edge:
    monkeypatch.setenv("LAMBDACTL_URL", edge.url)
    monkeypatch.setenv("LAMBDACTL_USER", "alice")
    return edge


def one_line(text: str) -> str:
    assert text.startswith("lambdactl: ") and text.endswith("\n") and text.count("\n") == 1, text
    return text.removeprefix("lambdactl: ").removesuffix("\n")


# --- invoke ---


@pytest.mark.parametrize(
    ("options", "given", "params"),
    [
        ([], "", {}),
        (["-d", "[1, null]"], "", [1, None]),
        (["-d", "null"], "", None),
        (["-f", "params.json"], "", {"from": "a file"}),
        (["-f", "-"], '{"from": "stdin"}', {"from": "stdin"}),
        (["-p", "name=Ada", "-p", "n=3", "-p", "e=a=b"], "", {"name": "Ada", "n": 3, "e": "a=b"}),
        (["-f", "params.json", "-p", "more=true"], "", {"from": "a file", "more": True}),
    ],
)
def test_params_come_from_the_line_a_file_or_stdin(
    platform: Edge, lambdactl: Lambdactl, environment: Path, options: list[str], given: str, params: Any
) -> None:
    (environment / "params.json").write_text('{"from": "a file"}')
    platform.replies = [CALLED]
    ended = lambdactl("invoke", "python-sum", *options, given=given)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == ANSWERS["callFunction"]["result"]
    assert platform.requests[0].json() == {"params": params}


def test_the_whole_answer_is_json_and_options_are_passed_on(platform: Edge, lambdactl: Lambdactl) -> None:
    platform.replies = [CALLED]
    options = ["--version", "live", "--timeout", "2.5", "--idempotency-key", "k-1", "-o", "json"]
    ended = lambdactl("invoke", "bob/python-sum", *options)
    assert json.loads(ended.out) == ANSWERS["callFunction"]
    (request,) = platform.requests
    assert request.target == "/api/v1/functions/bob/python-sum?version=live"
    assert (request.headers["x-timeout-seconds"], request.headers["idempotency-key"]) == ("2.5", "k-1")


def test_what_the_script_printed_goes_to_stderr_where_it_is_asked_for(platform: Edge, lambdactl: Lambdactl) -> None:
    failed = refusal(422, "RUNTIME_ERROR", "no")
    failed.body["logs"] = "before\n\x1b[31mit fails"
    platform.replies = [Reply(200, {**ANSWERS["callFunction"], "logs": "one\ntwo"}), failed, CALLED]
    ended = lambdactl("invoke", "python-sum", "--logs")
    assert (ended.code, ended.err) == (0, "one\ntwo\n")
    assert json.loads(ended.out) == ANSWERS["callFunction"]["result"]
    ended = lambdactl("invoke", "python-sum", "--logs")
    assert (ended.code, ended.out) == (failure.SCRIPT_FAILED, "")
    assert ended.err.startswith("before\n\\x1b[31mit fails\n") and "the script failed: no" in ended.err
    lambdactl("invoke", "python-sum")
    assert [request.headers.get("x-log-type") for request in platform.requests] == ["tail", "tail", None]


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        (["-d", "{"], "", "--data is no JSON"),
        (["-d", "NaN"], "", "NaN is no number of JSON"),
        (["-f", "nowhere.json"], "", "nowhere.json: No such file"),
        (["-f", "-"], "", "stdin is no JSON"),
        (["-f", "-", "-d", "1"], "", "expected one of them"),
        (["-p", "name"], "", "'name' is no param; expected NAME=VALUE"),
        (["-p", "a=1", "-p", "a=2"], "", "'a' is given twice"),
        (["-d", "1", "-p", "a=1"], "", "expected an object"),
        (["--timeout", "0"], "", "--timeout"),
        (["--no-such-option"], "", "lambdactl invoke --help"),
    ],
)
def test_wrong_params_are_told_and_nothing_is_sent(
    platform: Edge, lambdactl: Lambdactl, options: list[str], given: str, said: str
) -> None:
    ended = lambdactl("invoke", "python-sum", *options, given=given)
    assert (ended.code, ended.out) == (failure.WRONG_USE, "")
    assert said in one_line(ended.err)
    assert platform.requests == []


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (refusal(422, "RUNTIME_ERROR", "ValueError: \x1b[31mno"), 1, "the script failed: ValueError: \\x1b[31mno"),
        (refusal(504, "TIMEOUT", "5 s"), 1, "out of time: 5 s"),
        (refusal(400, "INVALID_REQUEST", "no"), 2, "the platform does not take this: no"),
        (refusal(413, "PAYLOAD_TOO_LARGE", "no"), 2, "too large: no"),
        (refusal(401, "UNAUTHENTICATED", "no"), 3, "lambdactl login"),
        (refusal(404, "NOT_FOUND", "no"), 4, "not found: no"),
        (refusal(429, "RATE_LIMITED", "no", retry_after="9"), 5, "(again in 9 s)"),
        (refusal(503, "UNAVAILABLE", "no", retry_after=LATE), 5, "nothing ran: no (again in 100 s)"),
        (refusal(409, "CONFLICT", "no"), 6, "in conflict: no"),
        (refusal(500, "INTERNAL_ERROR", "no", x_request_id="r-7"), 6, "[INTERNAL_ERROR, request r-7]"),
        (Reply(broken=True), 6, "broke before the answer came"),
        (Reply(200, raw=b"<html>", headers={"content-type": "text/html"}), 6, "is not the platform's API"),
    ],
)
def test_a_failed_call_is_one_line_and_an_exit_code(
    platform: Edge, lambdactl: Lambdactl, reply: Reply, code: int, said: str
) -> None:
    platform.replies = [reply]
    ended = lambdactl("invoke", "python-sum", "-o", "json")
    assert (ended.code, ended.out) == (code, "")
    assert said in one_line(ended.err)


@pytest.mark.parametrize("reply", [Reply(broken=True), refusal(500, "INTERNAL_ERROR")])
def test_a_lost_answer_is_told_with_the_key_that_gets_it(platform: Edge, lambdactl: Lambdactl, reply: Reply) -> None:
    platform.replies = [reply, CALLED]
    said = one_line(lambdactl("invoke", "python-sum").err)
    assert "it may have run" in said
    key = said.partition("--idempotency-key ")[2].split()[0]
    assert lambdactl("invoke", "python-sum", "--idempotency-key", key).code == 0
    assert {request.headers["idempotency-key"] for request in platform.requests} == {key}


# --- list, show, versions, remove ---


def test_a_list_is_a_table_whose_columns_stand_under_each_other(platform: Edge, lambdactl: Lambdactl) -> None:
    others = {**FUNCTION, "holds_plain_name": False, "owner": "bob", "version": 12}
    platform.replies = [Reply(200, {"functions": [FUNCTION, others], "per_page": 100, "page": 1, "total": 2})]
    ended = lambdactl("list", "--language", "python", "--owner", "x")
    heads, *rows = ended.out.splitlines()
    assert heads.split() == ["NAME", "OWNER", "VERSION", "SIZE", "UPDATED"]
    assert [row.split() for row in rows] == [
        ["python-sum", "alice", "3", "7", TIME],
        ["bob/python-sum", "bob", "12", "7", TIME],
    ]
    assert {heads.index("OWNER")} == {row.index(name) for row, name in zip(rows, ("alice", "bob "), strict=True)}
    assert "language=python&owner=x" in platform.requests[0].target


def test_an_empty_list_is_its_heads_or_an_empty_array(platform: Edge, lambdactl: Lambdactl) -> None:
    platform.replies = [Reply(200, {"functions": [], "per_page": 100})] * 2
    assert lambdactl("list").out.split() == ["NAME", "OWNER", "VERSION", "SIZE", "UPDATED"]
    assert json.loads(lambdactl("list", "-o", "json").out) == []


def test_a_function_is_shown_with_what_its_owner_alone_is_told(platform: Edge, lambdactl: Lambdactl) -> None:
    own = {
        **FUNCTION,
        "visibility": {"callers": ["carol", "bob"]},
        "environment": {"MODE": "試験"},
        "timeout_seconds": 5,
        "max_concurrency": 7,
        "secrets": ["KEY", "TOKEN"],
    }
    platform.replies = [Reply(200, own), Reply(200, FUNCTION), Reply(200, own)]
    shown = lambdactl("show", "python-sum").out
    for line in (
        "time limit         5 s",
        "visibility         callers bob, carol",
        "environment MODE   試験",
        "memory             the platform's",
        "at once            7 executions",
        "secrets            KEY, TOKEN",
    ):
        assert line in shown.splitlines()
    others = lambdactl("show", "python-sum").out
    assert "time limit   the platform's" in others and "visibility" not in others
    assert json.loads(lambdactl("show", "python-sum", "-o", "json").out) == own


def test_versions_are_shown_with_the_aliases_that_lead_to_them(platform: Edge, lambdactl: Lambdactl) -> None:
    kept = {"versions": [VERSION, {**VERSION, "version": 2, "timeout_seconds": 5}], "per_page": 100}
    platform.replies = [
        Reply(200, kept),
        Reply(200, {"aliases": [ALIAS, {**ALIAS, "alias": "old", "versions": {"2": 100}}]}),
    ]
    _heads, three, two = lambdactl("versions", "python-sum").out.splitlines()
    assert three.split() == ["3", "7", "-", DIGEST[:12], TIME, "live", "10%"]
    assert two.split() == ["2", "7", "5", "s", DIGEST[:12], TIME, "live", "90%,", "old"]
    platform.replies = [Reply(200, kept)]
    assert json.loads(lambdactl("versions", "python-sum", "-o", "json").out) == kept["versions"]


SECRET = ANSWERS["putSecret"]


def test_a_secret_comes_from_stdin_or_a_file_and_is_shown_nowhere(
    platform: Edge, lambdactl: Lambdactl, environment: Path
) -> None:
    (environment / "token").write_text("hunter2\n\n")
    platform.replies = [Reply(201, SECRET), Reply(200, SECRET), Reply(200, ANSWERS["listSecrets"])]
    stdin = lambdactl("secret", "set", "TOKEN", "--file", "-", given="hunter2\r\n")
    file = lambdactl("secret", "set", "TOKEN", "--file", "token", "-o", "json")
    listed = lambdactl("secret", "list")
    assert [request.json() for request in platform.requests[:2]] == [{"value": "hunter2"}, {"value": "hunter2\n"}]
    assert (stdin.out, json.loads(file.out)) == ("kept TOKEN\n", SECRET)
    assert listed.out.splitlines()[1].split() == ["TOKEN", TIME, TIME]
    assert "hunter2" not in stdin.out + stdin.err + file.out + file.err
    platform.replies = [Reply(200, ANSWERS["removeSecret"])]
    assert lambdactl("secret", "remove", "TOKEN").out == "removed TOKEN\n"


def test_a_secret_that_nobody_gives_is_asked_of_nobody(platform: Edge, lambdactl: Lambdactl, environment: Path) -> None:
    (environment / "binary").write_bytes(b"\xff")
    for arguments, said in (
        ([], "expected --file, or a terminal"),
        (["--file", "nowhere"], "nowhere: No such file"),
        (["--file", "binary"], "is no text in UTF-8"),
    ):
        ended = lambdactl("secret", "set", "TOKEN", *arguments, given="hunter2")
        assert ended.code == failure.WRONG_USE and said in one_line(ended.err)
    assert platform.requests == []


def test_remove_asks_first_and_needs_a_terminal_or_yes(platform: Edge, lambdactl: Lambdactl) -> None:
    ended = lambdactl("remove", "python-sum", given="y\n")
    assert ended.code == failure.WRONG_USE and "--yes" in one_line(ended.err)
    assert platform.requests == []
    platform.replies = [Reply(200, ANSWERS["removeFunction"])]
    assert lambdactl("remove", "python-sum", "--yes").out == "removed python-sum\n"
    assert platform.requests[0].method == "DELETE"


# --- alias, rollback ---


def test_an_alias_is_set_to_one_version_or_shared_out(platform: Edge, lambdactl: Lambdactl) -> None:
    platform.replies = [Reply(200, ALIAS), Reply(200, ALIAS)]
    assert lambdactl("alias", "set", "python-sum", "live", "7").code == 0
    ended = lambdactl("alias", "set", "python-sum", "live", "2=90", "3=10")
    assert ended.out == "python-sum live: 2 (90%), 3 (10%)\n"
    assert [request.json() for request in platform.requests] == [
        {"versions": {"7": 100}},
        {"versions": {"2": 90, "3": 10}},
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x"], "'x' is no version"),
        (["7", "8"], "'7' is no version with its share"),
        (["7=90", "8=9"], "99 % in all; expected 100"),
        (["7=50", "7=50"], "named twice"),
        (["0"], "'0' is no version"),
    ],
)
def test_wrong_shares_are_told(platform: Edge, lambdactl: Lambdactl, words: list[str], said: str) -> None:
    ended = lambdactl("alias", "set", "python-sum", "live", *words)
    assert ended.code == failure.WRONG_USE and said in one_line(ended.err)
    assert platform.requests == []


def test_aliases_are_listed_and_removed(platform: Edge, lambdactl: Lambdactl) -> None:
    platform.replies = [Reply(200, {"aliases": [ALIAS]}), Reply(200, ANSWERS["removeAlias"])]
    _heads, row = lambdactl("alias", "list", "python-sum").out.splitlines()
    assert row == f"live    2 (90%), 3 (10%)   {TIME}"
    assert lambdactl("alias", "remove", "python-sum", "live").out == "removed alias live of python-sum\n"


def rolled_back(platform: Edge, lambdactl: Lambdactl, now: dict[str, int], kept: list[int], *options: str) -> Any:
    def answer(request: Request) -> Reply:
        if request.operation == "showAlias":
            return Reply(200, {**ALIAS, "versions": now})
        if request.operation == "listVersions":
            return Reply(200, {"versions": [{**VERSION, "version": one} for one in kept], "per_page": 100})
        return Reply(200, {**ALIAS, **request.json()})

    platform.answer = answer
    ended = lambdactl("rollback", "python-sum", "live", *options)
    changed = [request.json()["versions"] for request in platform.requests if request.method == "PUT"]
    return ended, changed


@pytest.mark.parametrize(
    ("now", "kept", "options", "then"),
    [
        ({"8": 100}, [9, 8, 7, 5], [], "7"),
        ({"8": 100}, [9, 8, 5], [], "5"),
        ({"7": 90, "8": 10}, [8, 7, 6], [], "7"),
        ({"8": 100}, [8, 7], ["--to", "3"], "3"),
    ],
)
def test_a_rollback_leads_to_the_version_before(
    platform: Edge, lambdactl: Lambdactl, now: dict[str, int], kept: list[int], options: list[str], then: str
) -> None:
    ended, changed = rolled_back(platform, lambdactl, now, kept, *options)
    assert (ended.out, changed) == (f"python-sum live: {then}\n", [{then: 100}])


def test_a_rollback_without_an_earlier_version_changes_nothing(platform: Edge, lambdactl: Lambdactl) -> None:
    ended, changed = rolled_back(platform, lambdactl, {"2": 100}, [3, 2])
    assert (ended.code, changed) == (failure.NOT_FOUND, [])
    assert "no version before those of live (2); it keeps: 3, 2" in one_line(ended.err)


# --- init, deploy ---


@pytest.fixture
def folder(environment: Path) -> Path:
    made = environment / "python-sum"
    made.mkdir()
    (made / "function.py").write_text("result = 1\n", encoding="utf-8")
    (made / "lambda.toml").write_text('name = "python-sum"\nscript = "function.py"\n')
    return made


def own(folder: Path, **more: Any) -> dict[str, Any]:
    content = (folder / "function.py").read_bytes()
    same = {"script_sha256": hashlib.sha256(content).hexdigest(), "script_size_bytes": len(content)}
    return {**FUNCTION, **same, "visibility": "shared", **more}


def test_a_new_function_is_shown_and_registered(platform: Edge, lambdactl: Lambdactl, folder: Path) -> None:
    platform.replies = [refusal(404, "NOT_FOUND"), Reply(201, own(folder, version=1))]
    ended = lambdactl("deploy", "python-sum", "--yes")
    assert ended.code == 0, ended.err
    first, _heads, script, last = ended.out.splitlines()
    assert first == "python-sum is new" and last == "deployed python-sum, version 1"
    assert script.split()[:2] == ["script", "-"] and "(11 bytes)" in script
    assert platform.requests[1].json() == {"script_content": "result = 1\n"}


def test_all_that_changes_is_shown_before_it_is_changed(platform: Edge, lambdactl: Lambdactl, folder: Path) -> None:
    there = own(
        folder,
        timeout_seconds=5,
        max_concurrency=3,
        secrets=["KEY"],
        environment={"GONE": "1", "MODE": "a", "SAME": "s"},
    )
    (folder / "lambda.toml").write_text(
        'name = "alice/python-sum"\nscript = "function.py"\ntimeout_seconds = 0\nvisibility = ["bob"]\n'
        'memory_bytes = 134217728\nmax_concurrency = 0\nsecrets = ["TOKEN", "KEY"]\n'
        '[environment]\nMODE = "b"\nSAME = "s"\n'
    )
    platform.replies = [Reply(200, there), Reply(200, {**there, "version": 4})]
    ended = lambdactl("deploy", "python-sum", "-y")
    rows = [row.split("   ") for row in ended.out.splitlines()[2:-1]]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["timeout_seconds", "5", "-"],
        ["memory_bytes", "-", "134217728"],
        ["max_concurrency", "3", "-"],
        ["visibility", "shared", "callers bob"],
        ["environment GONE", "1", "-"],
        ["environment MODE", "a", "b"],
        ["secrets", "KEY", "KEY, TOKEN"],
    ]
    assert platform.requests[1].json() == {
        "script_content": "result = 1\n",
        "timeout_seconds": None,
        "memory_bytes": 134217728,
        "max_concurrency": None,
        "secrets": ["KEY", "TOKEN"],
        "visibility": {"callers": ["bob"]},
        "environment": {"MODE": "b", "SAME": "s"},
    }


def test_what_is_as_wanted_is_not_deployed(platform: Edge, lambdactl: Lambdactl, folder: Path) -> None:
    platform.replies = [Reply(200, own(folder))] * 2
    ended = lambdactl("deploy", "python-sum")
    assert ended.out == "python-sum is as lambda.toml says: version 3, nothing to deploy\n"
    assert json.loads(lambdactl("deploy", "python-sum", "-o", "json").out) == own(folder)
    assert {request.method for request in platform.requests} == {"GET"}


@pytest.mark.parametrize("options", [["--dry-run"], []])
def test_nothing_is_deployed_that_nobody_has_agreed_to(
    platform: Edge, lambdactl: Lambdactl, folder: Path, options: list[str]
) -> None:
    platform.replies = [refusal(404, "NOT_FOUND")] * 2
    ended = lambdactl("deploy", "python-sum", *options, given="y\n")
    assert "python-sum is new" in ended.out
    assert ended.code == (0 if options else failure.WRONG_USE)
    assert {request.method for request in platform.requests} == {"GET"}
    if options:
        (change,) = json.loads(lambdactl("deploy", "python-sum", *options, "-o", "json").out)
        assert change["what"] == "script"


def test_another_s_function_is_not_compared_with(platform: Edge, lambdactl: Lambdactl, folder: Path) -> None:
    others = own(folder, owner="bob")
    del others["visibility"]
    platform.replies = [Reply(200, others)]
    ended = lambdactl("deploy", "python-sum", "--yes")
    assert ended.code == failure.REFUSED and "python-sum is bob's" in one_line(ended.err)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name = ", "is no TOML"),
        ('name = "python-sum"', "script is missing"),
        ('script = "function.py"\nnmae = 1', "nmae is unknown; expected name, script"),
        ('name = 1\nscript = ""\nvisibility = []\ntimeout_seconds = -1', "name is 1, expected a text; script is ''"),
        ('name = "go-sum"\nscript = "function.py"', "'go-sum' is no name of a function"),
        ('name = "python-sum"\nscript = "nowhere.py"', "nowhere.py: No such file"),
        ('name = "python-sum"\nscript = "empty.py"', "empty.py is empty"),
        ('name = "python-sum"\nscript = "binary.py"', "binary.py is no text in UTF-8"),
        ('name = "python-sum"\nscript = "function.py"\nvisibility = {}', "visibility is {}, expected"),
        ('name = "python-sum"\nscript = "function.py"\ntimeout_seconds = nan', "timeout_seconds is nan, expected"),
        ('name = "python-sum"\nscript = "function.py"\nenvironment = {A = 1}', "environment is {'A': 1}, expected"),
    ],
)
def test_a_wrong_configuration_is_told_and_nothing_is_asked(
    platform: Edge, lambdactl: Lambdactl, folder: Path, content: str, said: str
) -> None:
    (folder / "lambda.toml").write_text(content)
    (folder / "empty.py").write_text(" \n")
    (folder / "binary.py").write_bytes(b"\xff\xfe")
    ended = lambdactl("deploy", "python-sum", "--yes")
    assert ended.code == failure.WRONG_USE
    assert said in one_line(ended.err), ended.err
    assert platform.requests == []


def test_deploy_without_a_folder_of_a_function_is_told(platform: Edge, lambdactl: Lambdactl) -> None:
    assert "lambda.toml is not there" in one_line(lambdactl("deploy").err)
    assert "nowhere is not there" in one_line(lambdactl("deploy", "nowhere").err)


# --- run ---


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["python-sum/lambda.toml"],
            failure.WRONG_USE,
            "of no language; expected a file that ends with .js, .py, .rs",
        ),
        (["nowhere.py"], failure.WRONG_USE, "the script nowhere.py: No such file"),
        (["python-sum/function.py", "-d", "{"], failure.WRONG_USE, "--data is no JSON"),
        (["python-sum/function.py"], failure.UNAVAILABLE, "there is no program docker"),
    ],
)
def test_a_file_that_cannot_be_run_here_is_told(
    lambdactl: Lambdactl, folder: Path, words: list[str], code: int, said: str
) -> None:
    ended = lambdactl("run", *words, PATH="/nowhere")
    assert (ended.code, ended.out) == (code, "")
    assert said in one_line(ended.err)


# --- all of them ---


def test_without_a_platform_it_is_said_how_to_name_one(lambdactl: Lambdactl) -> None:
    ended = lambdactl("list")
    assert ended.code == failure.WRONG_USE
    assert "no LAMBDACTL_URL; lambdactl login URL" in one_line(ended.err)


def test_a_fault_of_its_own_is_one_line_without_what_was_given(
    platform: Edge, lambdactl: Lambdactl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("lambdactl.session.client_of", broken)
    ended = lambdactl("list")
    assert ended.code == failure.OWN_FAULT
    assert "itself: RuntimeError at test_commands.py" in one_line(ended.err) and "hunter2" not in ended.err


def leaves(group: Any, *names: str) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found += leaves(command, *names, name) if hasattr(command, "commands") else [(*names, name)]
    return found


@pytest.mark.parametrize("names", [(), *leaves(program)], ids=" ".join)
def test_help_says_what_a_command_does_and_what_each_option_is(lambdactl: Lambdactl, names: tuple[str, ...]) -> None:
    ended = lambdactl(*names, "--help")
    assert (ended.code, ended.err) == (0, "")
    command: Any = program
    for name in names:
        command = command.commands[name]
    assert command.help
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name
    assert "..." not in ended.out.replace("ARGS]...", "").replace("VERSIONS...", ""), "a text that is cut off"
    assert max(map(len, ended.out.splitlines())) <= 120


@pytest.mark.parametrize("words", [(), ("alias",), ("context",)])
def test_without_a_command_there_is_help(lambdactl: Lambdactl, words: tuple[str, ...]) -> None:
    assert lambdactl(*words) == lambdactl(*words, "--help")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "No such command 'nonsense'. See: lambdactl --help"),
        (["rollback", "x"], "Missing argument 'ALIAS'. See: lambdactl rollback --help"),
        (["list", "-o", "yaml"], "'yaml' is not one of 'table', 'json'. See: lambdactl list --help"),
    ],
)
def test_wrong_words_are_one_line(lambdactl: Lambdactl, words: list[str], said: str) -> None:
    ended = lambdactl(*words)
    assert (ended.code, ended.out) == (failure.WRONG_USE, "")
    assert one_line(ended.err).endswith(said)


def test_the_exit_codes_of_the_help_are_those_of_the_document(lambdactl: Lambdactl) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/lambdactl.md").read_text(encoding="utf-8")
    shown = lambdactl("--help").out
    for code, meaning in failure.TABLE.items():
        assert f"| {code} | {meaning} |" in page
        assert f"{code}  {meaning}" in shown
