"""What a chart renders anew each time is kept as it was installed, and what the chart says comes through."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.chance import kept, kept_text
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.rendering import compare, split
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.release import Release, Revision
from hypothesis import given
from hypothesis import strategies as st

RANDOM = st.text("abcdefghijkmnpqrstuvwxyzABCDEFGH23456789", min_size=8, max_size=20)
THREE = st.tuples(RANDOM, RANDOM, RANDOM).filter(lambda three: len({*three}) == 3)
PLAIN = st.text('abcdef01:/=" \n', max_size=30)
PEM = "-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@given(THREE, PLAIN, PLAIN)
def test_a_random_word_in_an_unchanged_text_is_kept(three: tuple[str, str, str], before: str, after: str) -> None:
    now, then, installed = (f"{before}\npassword={word}\n{after}" for word in three)
    assert kept_text(now, then, installed) == installed


@given(THREE, st.integers(1, 99), st.integers(101, 199))
def test_a_change_around_a_random_word_comes_through(three: tuple[str, str, str], port: int, other: int) -> None:
    for form in (
        "port=%d\npassword=%s\nhost=db\n",
        '{"port": %d, "password": "%s", "host": "db"}',
        "listen %d; auth user:%s@db",
        "a: %d\npassword: '%s'",
    ):
        now, then, installed = form % (other, three[0]), form % (other, three[1]), form % (port, three[2])
        assert kept_text(now, then, installed) == form % (other, three[2])


@given(THREE, st.text("abc =\n", max_size=20))
def test_lines_that_are_new_or_gone_beside_a_random_word_come_through(three: tuple[str, str, str], line: str) -> None:
    short, long = "password=%s\nend\n", "password=%s\n" + "new " + line + "\nend\n"
    assert kept_text(long % three[0], long % three[1], short % three[2]) == long % three[2]
    assert kept_text(short % three[0], short % three[1], long % three[2]) == short % three[2]


@given(st.lists(RANDOM, min_size=9, max_size=9, unique=True), st.integers(2, 3), st.integers(2, 3))
def test_a_certificate_is_kept_whole_whatever_its_length(words: list[str], length: int, other: int) -> None:
    now, then, installed = (
        PEM % "\n".join(words[3 * index : 3 * index + lines]) for index, lines in enumerate((length, other, 3))
    )
    assert kept_text(now, then, installed) == installed
    assert kept_text("new\n" + now, "new\n" + then, installed) == "new\n" + installed


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f +0000 UTC", "%a, %d %b %Y %H:%M:%S.%f", "%a %b %d %H:%M:%S.%f"],
)
def test_the_time_is_kept_as_a_whole(form: str) -> None:
    now, then = (datetime(2026, 11, 29, 1, 8, 0, millis, tzinfo=UTC).strftime(form) for millis in (100, 200))
    installed = datetime(2025, 3, 7, 22, 59, 31, 5, tzinfo=UTC).strftime(form)
    assert kept_text(now, then, installed) == installed
    assert kept_text(f"a 2\nat {now}\n", f"a 2\nat {then}\n", f"a 1\nat {installed}\n") == f"a 2\nat {installed}\n"


def test_what_cannot_be_matched_is_the_charts() -> None:
    assert kept_text("user x R1", "user x R2", "nothing of it") == "user x R1"


def test_the_entry_of_a_list_keeps_its_own_value_and_no_other() -> None:
    def env(*entries: tuple[str, str]) -> dict:
        return {"env": [{"name": name, "value": value} for name, value in entries]}

    found = kept(env(("NEW", "1"), ("P", "r1")), env(("NEW", "1"), ("P", "r2")), env(("P", "r0"), ("OLD", "x")))
    assert found == env(("NEW", "1"), ("P", "r0"))


@given(THREE)
def test_a_secret_keeps_what_is_random_in_either_spelling(three: tuple[str, str, str]) -> None:
    def secret(word: str, port: int, field: str) -> dict:
        text = f"port={port}\npassword={word}\n"
        value = text if field == "stringData" else encoded(text)
        return {"kind": "Secret", "metadata": {}, field: {"config": value, "user": "dQ=="}}

    for field in ("data", "stringData"):
        for installed in ("data", "stringData"):
            found = kept(secret(three[0], 2, field), secret(three[1], 2, field), secret(three[2], 1, installed))
            assert found[field]["config"] == secret(three[2], 2, field)[field]["config"]
            assert found[field]["user"] == "dQ=="


def test_bytes_that_are_no_text_are_kept_whole() -> None:
    def secret(value: bytes) -> dict:
        return {"kind": "Secret", "data": {"k": base64.b64encode(value).decode()}}

    assert kept(secret(b"\xff1"), secret(b"\xff2"), secret(b"\xff0")) == secret(b"\xff0")


def test_a_value_of_another_type_is_the_charts() -> None:
    assert kept({"a": 5}, {"a": 6}, {"a": {"b": 1}}) == {"a": 5}
    assert kept({"a": 5}, {"a": 6}, {"a": 4}) == {"a": 4}
    assert kept({"a": 5}, {"a": 5}, {"a": 4}) == {"a": 5}


CHART = """
kind: Secret
apiVersion: v1
metadata: {name: s}
stringData: {password: %(random)s, user: %(user)s}
---
kind: Deployment
apiVersion: apps/v1
metadata: {name: d}
spec:
  replicas: %(replicas)s
  template: {metadata: {annotations: {checksum/secret: sum-of-%(random)s}}}
"""


@pytest.mark.parametrize(
    ("user", "replicas", "checksum", "changed"),
    [("u", 1, "sum-of-r0", 0), ("u", 2, "sum-of-r0", 1), ("other", 1, "sum-of-r1", 2)],
)
def test_a_digest_stays_with_its_secret_and_follows_another_change_of_it(user, replicas, checksum, changed) -> None:
    before = CHART % {"random": "r0", "user": "u", "replicas": 1}
    now, then = (CHART % {"random": word, "user": user, "replicas": replicas} for word in ("r1", "r2"))
    release = Release(Revision("w", "n", 1, "deployed"), "deployed", "", before, [], {}, "w", "1", "")
    rendered = split([now], "n")
    found = compare(rendered, release, lambda: split([then], "n"), lambda key: False)
    secret, deployment = rendered.objects.values()
    assert secret["stringData"] == {"password": "r0", "user": user}
    assert deployment["spec"]["template"]["metadata"]["annotations"]["checksum/secret"] == checksum
    assert len(found.changes) == changed
