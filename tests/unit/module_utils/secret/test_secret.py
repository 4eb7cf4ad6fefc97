"""Secrets are made once, copied, rendered and renewed; no value leaves the module."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import hmac
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate as certificates
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import secret
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret.secret import scram_verifier
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from ..stand_in import stands_in_for


@stands_in_for(Cluster, beside=["put", "value"])
class FakeCluster:
    """The API's part in it: Secrets by namespace and name, merge patches, creation."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], dict] = {}
        self.namespaces: set[str] | None = None
        self.refused: dict[str, str] = {}

    def _admit(self, namespace: str, name: str) -> None:
        if self.namespaces is not None and namespace not in self.namespaces:
            raise PlatformError("it does not exist", reason="missing", status=404)
        if name in self.refused:
            raise PlatformError(self.refused[name], reason="admission", status=403)

    def get_many(self, refs: list[dict]) -> list[dict | None]:
        return [copy.deepcopy(self.secrets.get((ref["namespace"], ref["name"]))) for ref in refs]

    def create(self, obj: dict, field_manager: str, dry_run: bool = False) -> None:
        place = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        assert place not in self.secrets
        self._admit(*place)
        if not dry_run:
            self.secrets[place] = copy.deepcopy(obj)

    def patch(self, ref: dict, body: dict, field_manager: str, *, dry_run: bool = False) -> None:
        self._admit(ref["namespace"], ref["name"])
        found = self.secrets[ref["namespace"], ref["name"]]
        if dry_run:
            return
        found["data"].update(body["data"])
        found["metadata"].setdefault("labels", {}).update(body["metadata"]["labels"])
        annotations = found["metadata"].setdefault("annotations", {})
        for name, text in (body["metadata"].get("annotations") or {}).items():
            annotations.update({name: text}) if text is not None else annotations.pop(name, None)

    def delete(self, ref: dict, *, uid: str | None = None, dry_run: bool = False) -> bool:
        self._admit(ref["namespace"], ref["name"])
        if dry_run:
            return True
        return self.secrets.pop((ref["namespace"], ref["name"]), None) is not None

    def value(self, namespace: str, name: str, key: str) -> str:
        return base64.b64decode(self.secrets[namespace, name]["data"][key]).decode()

    def put(self, namespace: str, name: str, key: str, value: str) -> None:
        self.secrets[namespace, name]["data"][key] = base64.b64encode(value.encode()).decode()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()
    monkeypatch.setattr(secret, "Cluster", lambda params: fake)
    return fake


def run(*entries: dict, check: bool = False) -> dict:
    validated = ArgumentSpecValidator(secret.ARGUMENT_SPEC).validate({"secrets": list(entries)})
    assert not validated.error_messages, validated.error_messages
    return secret.run(validated.validated_parameters, check_mode=check, diff=True)


PASSWORD = {"name": "p", "namespaces": ["a", "b"], "random": {"password": {}}, "data": {"user": "app"}}


def test_a_value_is_made_once_and_is_the_same_everywhere(cluster: FakeCluster) -> None:
    assert run(PASSWORD)["changed"]
    value = cluster.value("a", "p", "password")
    assert len(value) == 32 and value == cluster.value("b", "p", "password")
    assert not run(PASSWORD)["changed"]
    assert cluster.value("a", "p", "password") == value


def test_check_mode_writes_nothing(cluster: FakeCluster) -> None:
    result = run(PASSWORD, check=True)
    assert result["changed"] and cluster.secrets == {}


@pytest.mark.parametrize("check", [False, True])
def test_nothing_is_written_unless_the_cluster_accepts_all(cluster: FakeCluster, check: bool) -> None:
    run(PASSWORD)
    cluster.secrets["a", "old"] = {"metadata": {"uid": "1"}, "data": {}}
    before = copy.deepcopy(cluster.secrets)
    cluster.refused = {"q": "the ResourceQuota is full", "old": "a policy protects it"}
    new = {"name": "q", "namespaces": ["a"], "random": {"password": {}}}
    with pytest.raises(PlatformError, match="2 of 3 Secrets cannot be written, so none was") as caught:
        run({**PASSWORD, "namespaces": ["a", "b", "c"]}, new, {**new, "name": "old", "state": "absent"}, check=check)
    assert "the ResourceQuota is full" in str(caught.value) and "a policy protects it" in str(caught.value)
    assert cluster.secrets == before


def test_check_mode_goes_before_namespaces_exist_and_says_so(cluster: FakeCluster) -> None:
    cluster.namespaces = {"a"}
    result = run(PASSWORD, check=True)
    assert result["changed"]
    assert result["notes"] == ["Secret b/p: could not be checked, its namespace does not exist yet"]
    with pytest.raises(PlatformError, match="does not exist"):
        run(PASSWORD)
    assert cluster.secrets == {}


def test_a_webhook_without_dry_run_does_not_hold_it_up(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    create = cluster.create

    def refusing(obj: dict, field_manager: str, dry_run: bool = False) -> None:
        if dry_run:
            raise PlatformError("bad request", found="admission webhook w does not support dry run", status=400)
        create(obj, field_manager)

    monkeypatch.setattr(cluster, "create", refusing)
    result = run(PASSWORD)
    assert len(cluster.secrets) == 2 and len(result["notes"]) == 2


def test_a_change_of_labels_alone_shows_in_the_diff(cluster: FakeCluster) -> None:
    run({**PASSWORD, "labels": {"team": "blue"}})
    result = run({**PASSWORD, "labels": {"team": "red"}})
    assert result["changed"]
    for shown in result["diff"]:
        before, after = set(shown["before"].splitlines()), set(shown["after"].splitlines())
        assert before ^ after == {"label team: blue", "label team: red"}
    assert cluster.secrets["a", "p"]["metadata"]["labels"]["team"] == "red"


def test_a_certificate_is_valid_for_a_clock_that_is_behind(cluster: FakeCluster) -> None:
    run({"name": "ca", "namespaces": ["a"], "certificate": {"common_name": "ca", "is_ca": True}})
    made = x509.load_pem_x509_certificate(cluster.value("a", "ca", "tls.crt").encode())
    assert made.not_valid_before_utc < datetime.now(UTC) - timedelta(minutes=15)


def test_no_value_is_in_the_result_or_diff(cluster: FakeCluster) -> None:
    entries = [
        {**PASSWORD, "data": {"fixed": "a-fixed-password"}},
        {"name": "ca", "namespaces": ["a"], "certificate": {"common_name": "ca", "is_ca": True}},
    ]
    text = json.dumps(run(*entries))
    assert "a-fixed-password" not in text and "PRIVATE KEY" not in text
    assert cluster.value("a", "p", "password") not in text


def test_the_first_namespace_owns_the_value(cluster: FakeCluster) -> None:
    run(PASSWORD)
    value = cluster.value("a", "p", "password")
    cluster.put("b", "p", "password", "drifted")
    result = run(PASSWORD)
    assert cluster.value("b", "p", "password") == value
    assert result["secrets"][1]["key_actions"]["password"] == "copied over another value"


def test_a_lost_first_copy_comes_back_from_the_second(cluster: FakeCluster) -> None:
    run(PASSWORD)
    value = cluster.value("a", "p", "password")
    del cluster.secrets["a", "p"]
    run(PASSWORD)
    assert cluster.value("a", "p", "password") == value


def test_keys_that_are_not_named_stay(cluster: FakeCluster) -> None:
    run(PASSWORD)
    cluster.put("a", "p", "theirs", "x")
    run({**PASSWORD, "random": {"another": {"length": 20}}})
    assert {"theirs", "password", "another"} <= set(cluster.secrets["a", "p"]["data"])


def test_a_text_is_filled_in_and_follows_its_template(cluster: FakeCluster) -> None:
    template = "user {value:p/user} on >{value:p/password} ~{x}* #{sha256:p/password}"
    acl = {"name": "acl", "namespaces": ["a"], "render": {"users.acl": template}}
    run(PASSWORD, acl)
    value = cluster.value("a", "p", "password")
    first = cluster.value("a", "acl", "users.acl")
    assert first.startswith("user app on >%s ~{x}* #" % value) and len(first.rsplit("#", 1)[1]) == 64
    assert not run(PASSWORD, acl)["changed"]
    acl["render"] = {"users.acl": template + "\n"}
    assert run(PASSWORD, acl)["changed"]
    assert cluster.value("a", "acl", "users.acl") == first + "\n"


def test_a_scram_verifier_is_the_one_of_the_rfc() -> None:
    # The exchange of RFC 7677, section 3.
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    exchange = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    verifier = scram_verifier(b"pencil", salt)
    assert verifier.startswith(b"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    server_key = base64.b64decode(verifier.rpartition(b":")[2])
    signature = hmac.digest(server_key, exchange, "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_a_password_always_has_the_same_verifier(cluster: FakeCluster) -> None:
    roles = {"name": "roles", "namespaces": ["a"], "render": {"roles.sql": "PASSWORD '{scram:p/password}'"}}
    run(PASSWORD, roles)
    assert cluster.value("a", "p", "password") not in cluster.value("a", "roles", "roles.sql")
    assert not run(PASSWORD, roles)["changed"]


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"random": {"k": {"length": 4}}}, "easy to guess"),
        ({"random": {"k": {"length": 40, "alphabet": "a"}}}, "easy to guess"),
        ({"random": {"k": {}}, "data": {"k": "x"}}, "two sources"),
        ({"render": {"k": "{value:other/key}"}}, "other/key"),
        ({"render": {"k": "{password:p/k}"}}, "function is unknown"),
        ({"data": {"k": ["list"]}}, "no text"),
        ({"data": {"a/b": "x"}}, "key's name"),
        ({"certificate": {"common_name": "x", "ip_addresses": ["300.1.1.1"]}}, "IP address"),
    ],
)
def test_a_wrong_argument_is_named(cluster: FakeCluster, entry: dict, named: str) -> None:
    with pytest.raises(PlatformError, match=named) as caught:
        run({"name": "p", "namespaces": ["a"], **entry})
    assert "secrets[0] (p)" in str(caught.value)
    assert cluster.secrets == {}


CA = {"name": "ca", "namespaces": ["a"], "certificate": {"common_name": "our CA", "is_ca": True, "valid_days": 3650}}
LEAF = {
    "name": "leaf",
    "namespaces": ["a", "b"],
    "certificate": {
        "common_name": "l",
        "dns_names": ["l", "*.l"],
        "ip_addresses": ["127.0.0.1"],
        "ca": {"secret": "ca"},
    },
}


def test_a_leaf_is_signed_by_its_authority_and_kept(cluster: FakeCluster) -> None:
    result = run(LEAF, CA)  # the order in the list does not matter
    pem = cluster.value("b", "leaf", "tls.crt").encode()
    authority = x509.load_pem_x509_certificate(result["ca_certificates"]["leaf"].encode())
    x509.load_pem_x509_certificate(pem).verify_directly_issued_by(authority)
    assert cluster.secrets["a", "leaf"]["type"] == "kubernetes.io/tls"
    assert not run(CA, LEAF)["changed"]


def test_changed_names_renew_a_certificate(cluster: FakeCluster) -> None:
    run(CA, LEAF)
    wanted = {**LEAF, "certificate": {**LEAF["certificate"], "dns_names": ["m"]}}
    result = run(CA, wanted)
    assert result["secrets"][1]["key_actions"]["tls.crt"] == "renewed (its names change)"
    assert not run(CA, wanted)["changed"]


@pytest.mark.parametrize(("life_left", "renewed"), [(0.34, False), (0.33, True)])
def test_a_third_of_its_life_is_the_limit(life_left: float, renewed: bool) -> None:
    wanted = certificates.Wanted("x", ("x",), valid_days=90)
    pair = certificates.issue(wanted, None)
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    then = certificate.not_valid_after_utc - life * life_left
    assert bool(certificates.why_renew(pair, wanted, None, then)) is renewed


def test_a_renewed_authority_keeps_what_it_signed_valid() -> None:
    wanted = certificates.Wanted("ca", is_ca=True, valid_days=10)
    old = certificates.issue(wanted, None, now=datetime.now(UTC) - timedelta(days=9))
    leaf = certificates.issue(certificates.Wanted("l", ("l",)), old)
    new = certificates.issue(wanted, None, previous=old)
    assert new.certificate != old.certificate
    assert certificates.why_renew(leaf, certificates.Wanted("l", ("l",)), new) == ""


def test_another_authority_makes_a_leaf_anew() -> None:
    wanted = certificates.Wanted("l", ("l",))
    one, other = (certificates.issue(certificates.Wanted("ca", is_ca=True), None) for dummy in range(2))
    assert certificates.why_renew(certificates.issue(wanted, one), wanted, other) == "its authority changes"


def authority_of_others(key, algorithm: hashes.SHA256 | None) -> certificates.Pair:
    """One that was not made here, with a key of another kind."""
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "theirs")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=10))
    encoding = serialization.Encoding.PEM
    return certificates.Pair(
        builder.sign(key, algorithm).public_bytes(encoding),
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def test_an_authority_with_an_rsa_key_signs() -> None:
    theirs = authority_of_others(rsa.generate_private_key(65537, 2048), hashes.SHA256())
    wanted = certificates.Wanted("l", ("l",))
    assert certificates.why_renew(certificates.issue(wanted, theirs), wanted, theirs) == ""


def test_an_authority_whose_key_cannot_sign_is_told() -> None:
    theirs = authority_of_others(ed25519.Ed25519PrivateKey.generate(), None)
    with pytest.raises(ValueError, match="Ed25519PrivateKey, and not one of ECDSA or RSA"):
        certificates.issue(certificates.Wanted("l", ("l",)), theirs)


LOGIN = {
    "name": "l",
    "namespaces": ["server", "client"],
    "random": {"password": {}},
    "alternate": {"username": ["app", "app_2"]},
}
ROLES = {"name": "roles", "namespaces": ["server"], "render": {"roles": "{value:l/username} {value:l/password}"}}


def login(cluster: FakeCluster, namespace: str) -> tuple[str, str]:
    return cluster.value(namespace, "l", "username"), cluster.value(namespace, "l", "password")


def test_a_rotation_tells_the_server_first_and_goes_on_where_it_was_cut_short(cluster: FakeCluster) -> None:
    run(LOGIN, ROLES)
    before = login(cluster, "server")
    assert before[0] == "app" and before == login(cluster, "client")
    result = run({**LOGIN, "rotate": True}, ROLES)
    after = login(cluster, "server")
    assert after[0] == "app_2" and after[1] != before[1]
    assert login(cluster, "client") == before and cluster.value("server", "roles", "roles") == " ".join(after)
    assert result["alternates"] == {"l": {"username": "app_2"}}
    assert result["secrets"][0]["key_actions"] == {"password": "rotated", "username": "rotated"}
    assert after[1] not in json.dumps(result)
    # Again, as after a killed run: no third password, which the server would learn while clients have the first.
    assert not run({**LOGIN, "rotate": True}, ROLES)["changed"]
    run(LOGIN, ROLES)
    assert login(cluster, "client") == login(cluster, "server") == after
    assert not run(LOGIN, ROLES)["changed"]
    run({**LOGIN, "rotate": True}, ROLES)
    assert login(cluster, "server")[0] == "app"


def test_a_rotation_that_is_only_asked_about_changes_nothing(cluster: FakeCluster) -> None:
    run(LOGIN)
    before = copy.deepcopy(cluster.secrets)
    result = run({**LOGIN, "rotate": True}, check=True)
    assert result["alternates"] == {"l": {"username": "app_2"}} and cluster.secrets == before


def test_a_login_that_is_not_there_yet_is_made_and_not_rotated(cluster: FakeCluster) -> None:
    result = run({**LOGIN, "rotate": True})
    assert result["secrets"][0]["key_actions"] == {"password": "generated", "username": "set"}
    run(LOGIN)
    assert login(cluster, "client")[0] == "app"


def test_a_user_of_before_there_were_alternates_keeps_its_password(cluster: FakeCluster) -> None:
    run({**LOGIN, "alternate": {}, "data": {"username": "app"}})
    before = login(cluster, "client")
    assert not run(LOGIN)["changed"] and login(cluster, "client") == before


@pytest.mark.parametrize("texts", ["app", ["app"], ["app", "app"], None])
def test_alternatives_are_two_or_more(cluster: FakeCluster, texts: object) -> None:
    with pytest.raises(PlatformError, match="alternatives are wrong"):
        run({**LOGIN, "alternate": {"username": texts}})


# --- values before that are taken for a while -------------------------------------------------------------------------

CLIENT = {
    "name": "redis-controller",
    "namespaces": ["data-services", "controller"],
    "random": {"password": {"previous": "password_before"}},
}
ACL = {
    "name": "redis-users",
    "namespaces": ["data-services"],
    "render": {"users.acl": "{value:redis-controller/password} {value:redis-controller/password_before}"},
}


def taken(cluster: FakeCluster) -> set[str]:
    return set(cluster.value("data-services", "redis-users", "users.acl").split())


@given(st.lists(st.sampled_from(["rotate", "site", "forget", "cut short"]), max_size=12))
@settings(max_examples=60, deadline=None)
def test_no_client_is_ever_locked_out_and_what_is_forgotten_is_taken_no_longer(steps: list[str]) -> None:
    fake = FakeCluster()
    patched = pytest.MonkeyPatch()
    patched.setattr(secret, "Cluster", lambda params: fake)
    with patched.context():
        run(CLIENT, ACL)
        ever = {fake.value("controller", "redis-controller", "password")}
        for step in steps:
            if step == "rotate":
                run({**CLIENT, "rotate": True}, ACL)
            elif step == "forget":
                # As playbooks/rotate.yml does it: the clients have the new one by then.
                run(CLIENT, ACL)
                run({**CLIENT, "forget": True}, ACL)
            elif step == "cut short":
                run({**CLIENT, "rotate": True}, ACL, check=True)
            else:
                run(CLIENT, ACL)
            has = fake.value("controller", "redis-controller", "password")
            assert has in taken(fake)
            assert "password_before" not in fake.secrets["controller", "redis-controller"]["data"]
            if step == "forget":
                assert not ever - {has} & taken(fake) or has in ever
                assert taken(fake) & ever <= {has}
            ever |= {has, fake.value("data-services", "redis-controller", "password")}
    patched.undo()


def test_a_second_rotation_waits_until_the_value_before_is_forgotten(cluster: FakeCluster) -> None:
    run(CLIENT, ACL)
    first = cluster.value("controller", "redis-controller", "password")
    begun = run({**CLIENT, "rotate": True}, ACL)
    assert begun["changed"] and set(begun["overlaps"]) == {"redis-controller"}
    assert cluster.value("data-services", "redis-controller", "password_before") == first
    run(CLIENT, ACL)
    # Cut short here: a client may have the first one mounted still.
    assert not run({**CLIENT, "rotate": True}, ACL)["changed"]
    assert first in taken(cluster)
    ended = run({**CLIENT, "forget": True}, ACL)
    assert ended["overlaps"] == {} and first not in taken(cluster)
    assert not run({**CLIENT, "forget": True}, ACL)["changed"]
    assert run({**CLIENT, "rotate": True}, ACL)["changed"]


def test_what_is_rendered_can_be_recognized_by_its_checksum(cluster: FakeCluster) -> None:
    result = run(CLIENT, ACL)
    text = cluster.value("data-services", "redis-users", "users.acl").encode()
    assert result["rendered"] == {"redis-users": {"users.acl": hashlib.sha256(text).hexdigest()}}


# --- authorities that are replaced ------------------------------------------------------------------------------------

CA = {"name": "ca", "namespaces": ["data"], "certificate": {"common_name": "CA", "is_ca": True, "valid_days": 3650}}
SERVED = {
    "name": "served",
    "namespaces": ["data"],
    "certificate": {"common_name": "server", "dns_names": ["server"], "ca": {"secret": "ca"}},
}
BELIEVED = {"name": "believed", "namespaces": ["data", "client"], "render": {"ca.crt": "{value:ca/ca.crt}"}}


def believes(authorities: str, certificate: str) -> bool:
    """As a verifier does: one of the authorities has signed it."""
    leaf = x509.load_pem_x509_certificate(certificate.encode())
    for authority in x509.load_pem_x509_certificates(authorities.encode()):
        with contextlib.suppress(Exception):
            leaf.verify_directly_issued_by(authority)
            return True
    return False


def test_while_an_authority_is_replaced_who_is_a_step_behind_still_believes(cluster: FakeCluster) -> None:
    run(CA, SERVED, BELIEVED)
    switching = {**CA, "certificate": {**CA["certificate"], "switch": True}}
    calls = [
        (CA, SERVED, BELIEVED), ({**CA, "rotate": True}, SERVED, BELIEVED), ({**CA, "rotate": True}, SERVED, BELIEVED),
        (CA, SERVED, BELIEVED), (switching, SERVED, BELIEVED), (switching, SERVED, BELIEVED),
        ({**CA, "forget": True}, SERVED, BELIEVED), ({**CA, "forget": True}, SERVED, BELIEVED),
    ]  # fmt: skip
    states, changed = [], []
    for entries in calls:
        changed.append(run(*entries)["changed"])
        states.append((cluster.value("client", "believed", "ca.crt"), cluster.value("data", "served", "tls.crt")))
    # Again after an end midway it makes nothing anew.
    assert changed == [False, True, False, False, True, False, True, False]
    for before, after in itertools.pairwise(states):
        for authorities, certificate in itertools.product((before[0], after[0]), (before[1], after[1])):
            assert believes(authorities, certificate)
    assert not believes(states[0][0], states[-1][1]) and not believes(states[-1][0], states[0][1])
    assert cluster.value("data", "served", "ca.crt") == states[-1][0]
    assert "next.crt" not in run(CA)["secrets"][0]["key_actions"] or not cluster.value("data", "ca", "next.key")


def test_a_certificate_is_made_anew_where_that_is_asked_for(cluster: FakeCluster) -> None:
    run(CA, SERVED)
    before = cluster.value("data", "served", "tls.crt")
    result = run(CA, {**SERVED, "rotate": True})
    assert result["secrets"][1]["key_actions"]["tls.crt"] == "renewed (a new one is asked for)"
    assert cluster.value("data", "served", "tls.crt") != before


def test_what_a_certificate_says_is_said_again() -> None:
    wanted = certificates.Wanted("server", ("a.example", "*.b.example"), ("127.0.0.1", "::1"), valid_days=365)
    assert certificates.said(certificates.issue(wanted, None).certificate) == wanted
    assert certificates.said(certificates.issue(certificates.Wanted("x"), None).certificate) == certificates.Wanted("x")
