"""Logging in, and the file that keeps keys."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from lambdactl import failure

from tests.unit.clients.conftest import Lambdactl
from tests.unit.clients.edge import Edge, Reply, Request, refusal, running
from tests.unit.clients.test_commands import one_line

EMPTY = Reply(200, {"functions": [], "per_page": 100})
KEY = "k3y-of-alice"


def asks_for(edge: Edge, header: str, value: str) -> None:
    """An edge whose callers have to prove who they are."""

    def answer(request: Request) -> Reply:
        if request.headers.get(header) != value:
            return refusal(401, "UNAUTHENTICATED", "The request does not prove who sends it.")
        return EMPTY if request.operation == "listFunctions" else refusal(404, "NOT_FOUND")

    edge.answer = answer


@pytest.mark.parametrize(
    ("auth", "header", "value", "variable"),
    [
        ("api-key", "x-api-key", KEY, "LAMBDACTL_API_KEY"),
        ("token", "authorization", f"Bearer {KEY}", "LAMBDACTL_TOKEN"),
    ],
)
@pytest.mark.parametrize("source", ["file", "stdin", "environment"])
def test_a_login_is_kept_and_used_by_the_next_command(
    edge: Edge,
    lambdactl: Lambdactl,
    environment: Path,
    auth: str,
    header: str,
    value: str,
    variable: str,
    source: str,
) -> None:
    asks_for(edge, header, value)
    (environment / "secret").write_text(f"{KEY}\n")
    words = {"file": ["--secret-file", "secret"], "stdin": ["--secret-file", "-"], "environment": []}[source]
    variables = {variable: KEY} if source == "environment" else {}
    ended = lambdactl("login", edge.url, "--auth", auth, *words, given=f"{KEY}\n", **variables)
    assert ended.code == 0, ended.err
    kept = environment / "contexts.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [one.name for one in environment.iterdir() if one.name not in ("secret", "contexts.json")] == []
    assert lambdactl("list").code == 0
    shown = lambdactl("context", "list").out + lambdactl("context", "list", "-o", "json").out
    assert auth in shown and KEY not in shown + ended.out + ended.err


def test_a_refused_login_keeps_nothing(edge: Edge, lambdactl: Lambdactl, environment: Path) -> None:
    asks_for(edge, "x-api-key", KEY)
    for words, variables in ((["--auth", "api-key"], {"LAMBDACTL_API_KEY": "wrong"}), ([], {})):
        ended = lambdactl("login", edge.url, *words, **variables)
        assert ended.code == failure.REFUSED
        assert "lambdactl login URL --auth api-key" in one_line(ended.err)
    assert not (environment / "contexts.json").exists()


def test_a_login_that_nobody_answers_keeps_nothing(edge: Edge, lambdactl: Lambdactl, environment: Path) -> None:
    edge.replies = [refusal(503, "UNAVAILABLE", retry_after="100")]
    assert lambdactl("login", edge.url).code == failure.UNAVAILABLE
    assert not (environment / "contexts.json").exists()


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["--auth", "api-key"], {}, "no API key: expected --secret-file, LAMBDACTL_API_KEY, or a terminal"),
        (["--auth", "token", "--secret-file", "nowhere"], {}, "Token from nowhere: No such file"),
        (["--auth", "token", "--secret-file", "-"], {}, "the Token is empty"),
        (["--secret-file", "-"], {}, "--secret-file without --auth"),
        ([], {"LAMBDACTL_TOKEN": "a", "LAMBDACTL_API_KEY": "b"}, "are both set"),
        (["--name", "a/b"], {}, "'a/b' is no name of a context"),
        (["--ca", "nowhere.crt"], {}, "nowhere.crt is not there"),
        (["--api-key", KEY], {}, "No such option"),
    ],
)
def test_a_wrong_login_is_told_and_nobody_is_asked(
    edge: Edge, lambdactl: Lambdactl, words: list[str], variables: dict[str, str], said: str
) -> None:
    ended = lambdactl("login", edge.url, *words, **variables)
    assert ended.code == failure.WRONG_USE and said in one_line(ended.err)
    assert edge.requests == []


def test_a_private_authority_is_kept_with_its_whole_path(
    lambdactl: Lambdactl, environment: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (environment / "ca.crt").write_text(certificate.read_text())
    with running(certificate) as edge:
        edge.replies = [refusal(404, "NOT_FOUND"), EMPTY]
        assert lambdactl("login", edge.url, "--ca", "ca.crt", "--user", "me").code == 0
        (environment / "elsewhere").mkdir()
        monkeypatch.chdir(environment / "elsewhere")
        assert lambdactl("list").code == 0
        assert edge.requests[-1].headers["x-user-id"] == "me"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700 | 0o007])
def test_a_file_that_others_may_use_is_refused(lambdactl: Lambdactl, environment: Path, mode: int) -> None:
    file = environment / "contexts.json"
    file.write_text(json.dumps({"current": "a", "contexts": {"a": {"url": "https://localhost", "api_key": KEY}}}))
    file.chmod(mode)
    ended = lambdactl("list")
    assert ended.code == failure.REFUSED
    assert f"its mode is {mode:04o}, expected 0600" in one_line(ended.err) and KEY not in ended.err


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"current": "a"}',
        '{"current": 1, "contexts": {}}',
        '{"current": "a", "contexts": {"a": {}}}',
        '{"current": "a", "contexts": {"a": {"url": 1}}}',
        '{"current": "a", "contexts": {"a": {"url": "u", "more": "k3y-of-alice"}}}',
        '{"current": "a", "contexts": {"a/b": {"url": "u"}}}',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
def test_a_file_of_another_form_is_told_without_its_content(
    lambdactl: Lambdactl, environment: Path, content: str
) -> None:
    file = environment / "contexts.json"
    file.write_text(content)
    file.chmod(0o600)
    ended = lambdactl("list")
    assert ended.code == failure.WRONG_USE
    assert "is not what lambdactl login writes" in one_line(ended.err) and KEY not in ended.err


def test_a_fifo_in_its_place_is_told(lambdactl: Lambdactl, environment: Path) -> None:
    os.mkfifo(environment / "contexts.json", 0o600)
    assert "contexts.json is no file" in one_line(lambdactl("list").err)


def test_a_folder_that_cannot_be_written_is_told(edge: Edge, lambdactl: Lambdactl, environment: Path) -> None:
    (environment / "file").touch()
    ended = lambdactl("login", edge.url, LAMBDACTL_CONFIG=str(environment / "file/contexts.json"))
    assert ended.code == failure.WRONG_USE and "cannot be" in one_line(ended.err)


@pytest.fixture
def two(edge: Edge, lambdactl: Lambdactl) -> Edge:
    """Contexts one and two of one edge, two being the current one, with a key."""
    lambdactl("login", edge.url, "--name", "one", "--user", "first")
    lambdactl("login", edge.url, "--name", "two", "--auth", "api-key", "--secret-file", "-", given=KEY)
    edge.requests.clear()
    edge.answer = lambda _request: EMPTY
    return edge


def test_the_current_context_is_used_unless_another_is_named(two: Edge, lambdactl: Lambdactl) -> None:
    lambdactl("list")
    lambdactl("list", "--context", "one")
    lambdactl("list", LAMBDACTL_CONTEXT="one")
    lambdactl("context", "use", "one")
    lambdactl("list")
    assert [request.headers.get("x-user-id", request.headers.get("x-api-key")) for request in two.requests] == [
        KEY,
        "first",
        "first",
        "first",
    ]


def test_the_environment_s_address_never_gets_a_key_of_the_file(two: Edge, lambdactl: Lambdactl) -> None:
    lambdactl("list", LAMBDACTL_URL=two.url)
    assert "x-api-key" not in two.requests[0].headers


def test_the_environment_s_proof_takes_the_place_of_the_file_s(two: Edge, lambdactl: Lambdactl) -> None:
    lambdactl("list", LAMBDACTL_TOKEN="t")
    headers = two.requests[0].headers
    assert (headers["authorization"], "x-api-key" in headers) == ("Bearer t", False)


def test_an_unknown_context_is_told_with_those_that_there_are(two: Edge, lambdactl: Lambdactl) -> None:
    for words in (["list", "--context", "three"], ["context", "use", "three"], ["context", "remove", "three"]):
        ended = lambdactl(*words)
        assert ended.code == failure.NOT_FOUND and "there are: one, two" in one_line(ended.err)


def test_a_removed_context_is_forgotten_with_its_key(two: Edge, lambdactl: Lambdactl, environment: Path) -> None:
    assert lambdactl("context", "remove", "two").out == "removed context two\n"
    assert KEY not in (environment / "contexts.json").read_text()
    assert lambdactl("list").code == failure.WRONG_USE
    rows = json.loads(lambdactl("context", "list", "-o", "json").out)
    assert [(row["name"], row["current"], row["auth"]) for row in rows] == [("one", False, "none")]


def test_without_a_home_it_is_said_what_takes_its_place(lambdactl: Lambdactl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMBDACTL_CONFIG")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    ended = lambdactl("list")
    assert ended.code == failure.WRONG_USE and "expected HOME, LAMBDACTL_CONFIG or LAMBDACTL_URL" in one_line(ended.err)
