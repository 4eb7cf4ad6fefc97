"""Tables and options together: any that are accepted, Envoy takes. The filter that gives them to a play."""

from __future__ import annotations

import copy
import json
import string

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.envoy_configuration import envoy_configuration
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import ROUTES, UPSTREAMS, route


def test_the_same_tables_give_the_same_files_and_a_version_of_their_content():
    first, again = configure(ROUTES, UPSTREAMS), configure(copy.deepcopy(ROUTES), copy.deepcopy(UPSTREAMS))
    other = configure([{**ROUTES[0], "timeout_seconds": 1}], UPSTREAMS)
    assert first == again

    def version(made, name):
        return yaml.safe_load(made.files[name])["version_info"]

    assert version(first, "routes.yaml") != version(other, "routes.yaml")
    # Another table must not touch listeners: a changed listener drains its connections.
    assert first.files["listeners.yaml"] == other.files["listeners.yaml"]
    assert first.files["envoy.yaml"] == other.files["envoy.yaml"]


@pytest.mark.parametrize(
    "option, value, where",
    [
        ("https_port", 70000, "ingress_https_port"),
        ("domains", ["a b"], "ingress_domains[0]"),
        ("domains", ["a.example", "a.example"], "ingress_domains"),
        ("memory_limit", "4 GB", "the memory limit of Envoy"),
        ("response_headers", {"x": "a\r\nset-cookie: b"}, "ingress_response_headers[x]"),
        ("trusted_proxies", -1, "ingress_trusted_proxies"),
        ("timeout_seconds", None, "ingress_timeout_seconds"),
    ],
)
def test_a_wrong_option_is_named(option, value, where):
    with pytest.raises(PlatformError) as caught:
        configure(ROUTES, UPSTREAMS, **{option: value})
    assert caught.value.where == where


def test_the_filter_turns_a_mistake_into_one_error_that_says_all():
    with pytest.raises(AnsibleFilterError) as caught:
        envoy_configuration([route(upstream="controler")], UPSTREAMS)
    for part in ("ingress_routes[0] (api).upstream", '"controler"', "controller", "ingress_upstreams"):
        assert part in str(caught.value)
    with pytest.raises(AnsibleFilterError, match="timout_seconds"):
        envoy_configuration(ROUTES, UPSTREAMS, timout_seconds=3)


def test_the_filter_gives_files_and_a_document_to_validate():
    made = envoy_configuration(ROUTES, UPSTREAMS)
    assert set(made["files"]) == {"envoy.yaml", "listeners.yaml", "routes.yaml", "clusters.yaml", "certificate.yaml"}
    assert json.loads(made["validation"])["static_resources"]["listeners"]


# ---- Any table that is accepted is one that Envoy takes ------------------------------------------------------------

names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda name: name != "admin")
paths = st.text(string.ascii_letters + string.digits + "/-_.~%é", max_size=20).map(lambda text: "/" + text)
header_text = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=1, max_size=20
)
one_match_kind = st.one_of(
    st.builds(
        lambda kind, value: {kind: value}, st.sampled_from(["exact", "prefix", "suffix", "contains"]), header_text
    ),
    st.builds(lambda value: {"present": value}, st.booleans()),
    st.builds(lambda value: {"regex": value}, st.sampled_from(["a+", "(?i)x|y", "[^/]*", r"\d{1,3}"])),
)
headers = st.builds(
    lambda name, kind, invert: {"name": name, **kind, "invert": invert},
    st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,15}", fullmatch=True),
    one_match_kind,
    st.booleans(),
)
matches = st.builds(
    lambda path, more: {**path, **more},
    st.one_of(
        st.builds(lambda value: {"path": value}, paths),
        st.builds(lambda value: {"prefix": value}, paths),
        st.builds(lambda value: {"regex": value}, st.sampled_from(["/a.*", "/v[0-9]+/x", "/(a|b)/[^/]+", r"/\w+"])),
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "methods": st.lists(
                st.sampled_from(["GET", "POST", "PUT", "DELETE", "M-SEARCH"]), min_size=1, max_size=3, unique=True
            ),
            "language_title": st.from_regex(r"(nodejs|python|rust)(-[A-Za-z0-9_.+]{1,9})?", fullmatch=True),
            "headers": st.lists(headers, max_size=3),
        },
    ),
)
upstreams = st.lists(
    st.builds(
        lambda name, address, port, more: {"name": name, "address": address, "port": port, **more},
        names,
        st.sampled_from(["a.b.svc.cluster.local", "127.0.0.1", "::1", "x"]),
        st.integers(1, 65535),
        st.fixed_dictionaries(
            {},
            optional={
                "http2": st.booleans(),
                "connect_timeout_seconds": st.floats(0.001, 60),
                "max_connections": st.integers(1, 2**32 - 1),
                "max_requests": st.integers(1, 2**32 - 1),
                "health_check": st.fixed_dictionaries(
                    {"path": st.just("/ready")}, optional={"interval_seconds": st.floats(0.1, 300)}
                ),
            },
        ),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda upstream: upstream["name"],
)
options = st.fixed_dictionaries(
    {},
    optional={
        "timeout_seconds": st.floats(0.001, 3600),
        "max_request_bytes": st.integers(1, 2**32 - 1),
        "max_connections": st.integers(1, 2**32 - 1),
        "memory_limit": st.sampled_from(["64Mi", "4Gi", "1.5G"]),
        "https_port": st.integers(1, 65535),
        "trusted_proxies": st.integers(0, 16),
        "domains": st.sampled_from([["*"], ["a.example", "*.b.example"], ["a.example:8443"]]),
        "response_headers": st.dictionaries(st.sampled_from(["x-a", "X-B"]), header_text.filter(str.strip), max_size=2),
        "remove_request_headers": st.lists(st.sampled_from(["x-a", "X-User-ID"]), max_size=2),
    },
)


@st.composite
def tables(draw):
    """Routes, upstreams and options of the right form; a route may still never be reached."""
    behind = draw(upstreams)
    known = st.sampled_from([upstream["name"] for upstream in behind])
    weighted = st.lists(st.fixed_dictionaries({"name": known, "weight": st.integers(1, 100)}), min_size=1, max_size=3)
    rows = st.fixed_dictionaries(
        {"name": names, "match": matches, "upstream": st.one_of(known, weighted)},
        optional={"timeout_seconds": st.floats(0.001, 3600)},
    )
    return draw(st.lists(rows, min_size=1, max_size=6, unique_by=lambda row: row["name"])), behind, draw(options)


def made_or_refused(table):
    """The configuration, or None where a route cannot be reached; nothing else may be refused."""
    try:
        return configure(table[0], table[1], **table[2])
    except PlatformError as error:
        assert "the first match wins" in error.expected
        return None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables())
def test_envoy_takes_whatever_the_filter_makes(judge, table):
    made = made_or_refused(table)
    if made:
        assert judge(made) == ""


@settings(max_examples=40, deadline=None)
@given(table=tables())
def test_nothing_is_lost_or_reordered(table):
    made = made_or_refused(table)
    if made:
        host = yaml.safe_load(made.files["routes.yaml"])["resources"][0]["virtual_hosts"][0]
        assert [entry["name"] for entry in host["routes"]] == [row["name"] for row in table[0]] + ["unknown"]
        clusters = yaml.safe_load(made.files["clusters.yaml"])["resources"]
        assert [cluster["name"] for cluster in clusters] == [row["name"] for row in table[1]]


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "match", "upstream", "path", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(routes=junk, behind=junk)
def test_junk_is_refused_with_an_error_for_people(routes, behind):
    for table in ((routes, UPSTREAMS), (ROUTES, behind), ([{**ROUTES[0], "match": routes}], UPSTREAMS)):
        with pytest.raises(PlatformError) as caught:
            configure(*table)
        assert caught.value.where.startswith("ingress_") and caught.value.expected
