"""PostgreSQL's certificates in the variables of data_services: the role or cert-manager issues the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import read_roles
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import evaluate

ROOT = Path(__file__).resolve().parents[4]
ROLE = ROOT / "roles/data_services"
LEAVES = {"redis-tls", "postgresql-tls", "pgbouncer-tls", "postgresql-repository-tls"}


def rendered(name: str, **given: Any) -> Any:
    """A variable of the role, with ``given`` over the defaults of all roles."""
    variables: dict[str, Any] = {
        "role_path": str(ROLE),
        "ansible_search_path": [str(ROLE)],
        "ansible_playbook_python": "python3",
    }
    roles = read_roles()
    for role in roles:
        variables.update(role.defaults)
        variables.update(role.own)
    variables.update(given)

    def template(seen: dict[str, Any], value: Any) -> Any:
        return Templar(loader=DataLoader(), variables=seen).template(value)

    checked, wrong = evaluate(roles, variables, template)
    assert not wrong
    return template({**variables, "__platform": checked}, trust_as_template("{{ %s }}" % name))


def secrets(source: str) -> dict[str, Any]:
    found = rendered("__data_services_wanted_secrets", data_services_tls_source=source)
    return {secret["name"]: secret for secret in found}


def order(**given: Any) -> list[dict[str, Any]]:
    return rendered("__data_services_order", **{"data_services_tls_source": "cert_manager", **given})


def test_cert_manager_is_asked_for_what_the_role_issues() -> None:
    found = order()
    issuers = {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == "Issuer"}
    assert issuers == {name: {"ca": {"secretName": f"{name}-authority"}} for name in ("redis", "postgresql")}
    issued = {name: secret["certificate"] for name, secret in secrets("self_signed").items() if name in LEAVES}
    certificates = [one for one in found if one["kind"] == "Certificate"]
    asked = {
        certificate["spec"]["secretName"]: {
            "common_name": certificate["spec"]["commonName"],
            "dns_names": certificate["spec"]["dnsNames"],
            "ca": {"secret": certificate["spec"]["issuerRef"]["name"] + "-authority"},
        }
        for certificate in certificates
    }
    assert asked == issued
    assert "postgresql-2.postgresql" in asked["postgresql-tls"]["dns_names"]
    assert {"redis-master.data-services", "redis-sentinel.data-services", "redis-2"} < set(
        asked["redis-tls"]["dns_names"]
    )
    for certificate in certificates:
        assert certificate["spec"]["issuerRef"]["kind"] == "Issuer"
        assert int(certificate["spec"]["duration"].rstrip("h")) == 365 * 24
        assert int(certificate["spec"]["renewBefore"].rstrip("h")) * 3 == 365 * 24
        # The members are servers and clients of each other.
        assert {"server auth", "client auth"} <= set(certificate["spec"]["usages"])


def test_the_authority_stays_the_roles_own() -> None:
    own, theirs = secrets("self_signed"), secrets("cert_manager")
    assert set(own) - set(theirs) == LEAVES and set(theirs) < set(own)
    assert theirs["postgresql-authority"] == own["postgresql-authority"]
    assert theirs["postgresql-ca"] == own["postgresql-ca"]
    assert theirs["redis-ca"] == own["redis-ca"]
    assert own["redis-ca"]["namespaces"] == ["data-services", "controller", "ingress"]


def test_nothing_is_asked_of_cert_manager_otherwise() -> None:
    assert order(data_services_tls_source="self_signed") == []
    assert {one["metadata"]["name"] for one in order(data_services_postgresql_enabled=False)} == {"redis", "redis-tls"}


@pytest.mark.parametrize("source", ["self_signed", "cert_manager"])
def test_the_ends_are_known_whoever_issues(source: str) -> None:
    ends = {name: f"2027-11-2{day}T10:00:00Z" for day, name in enumerate(sorted(LEAVES))}
    waited = rendered("__data_services_ordered")
    assert {one["name"] for one in waited if one["kind"] == "Certificate"} == LEAVES
    status = [{"notAfter": ends[one["name"]]} if one["kind"] == "Certificate" else {} for one in waited]
    issued = {"workloads": [{**one, "status": status} for one, status in zip(waited, status, strict=True)]}
    authorities = {"redis-authority": "2036-01-01T00:00:00Z"}
    values = rendered(
        "__data_services_certificates_values",
        data_services_tls_source=source,
        __data_services_issued=issued if source == "cert_manager" else {"skipped": True},
        __data_services_secrets={"certificates_expire": {**authorities, **(ends if source == "self_signed" else {})}},
        platform_image={"postgresql": "postgresql:test"},
    )
    assert {name: end for name, end in values["ends"].items() if name in LEAVES | set(authorities)} == {
        **ends,
        **authorities,
    }
    assert values["renew"] is (source == "self_signed")
    assert values["certificates"] == {
        name: "redis-authority" if name == "redis-tls" else "postgresql-authority" for name in LEAVES
    }


def test_a_renewed_certificate_restarts_nothing() -> None:
    """Every server reads it as it runs, so the values of no pod say when it ends."""
    for name in ("__data_services_postgresql_values", "__data_services_redis_values"):
        text = (ROLE / "vars/main.yml").read_text().split(f"\n{name}:")[1].split("\n__")[0]
        assert "expire" not in text and "ends" not in text.replace("depends", "")
