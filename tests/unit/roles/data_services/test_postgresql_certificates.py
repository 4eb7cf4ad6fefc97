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
LEAVES = {"postgresql-tls", "pgbouncer-tls", "postgresql-repository-tls"}


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
    found = rendered("__data_services_wanted_secrets", data_services_postgresql_tls_source=source)
    return {secret["name"]: secret for secret in found}


def order(**given: Any) -> list[dict[str, Any]]:
    return rendered(
        "__data_services_postgresql_order", **{"data_services_postgresql_tls_source": "cert_manager", **given}
    )


def test_cert_manager_is_asked_for_what_the_role_issues() -> None:
    issuer, *certificates = order()
    assert (issuer["kind"], issuer["spec"]) == ("Issuer", {"ca": {"secretName": "postgresql-authority"}})
    issued = {name: secret["certificate"] for name, secret in secrets("self_signed").items() if name in LEAVES}
    asked = {
        certificate["spec"]["secretName"]: {
            "common_name": certificate["spec"]["commonName"],
            "dns_names": certificate["spec"]["dnsNames"],
            "ca": {"secret": "postgresql-authority"},
        }
        for certificate in certificates
    }
    assert asked == issued
    assert "postgresql-2.postgresql" in asked["postgresql-tls"]["dns_names"]
    for certificate in certificates:
        assert certificate["spec"]["issuerRef"]["name"] == issuer["metadata"]["name"]
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


@pytest.mark.parametrize(
    "given", [{"data_services_postgresql_tls_source": "self_signed"}, {"data_services_postgresql_enabled": False}]
)
def test_nothing_is_asked_of_cert_manager_otherwise(given: dict[str, Any]) -> None:
    assert order(**given) == []


def test_a_renewed_certificate_restarts_its_pods() -> None:
    ends = {name: f"2027-11-2{day}T10:00:00Z" for day, name in enumerate(sorted(LEAVES))}
    waited = rendered("__data_services_postgresql_ordered")
    assert {one["name"] for one in waited if one["kind"] == "Certificate"} == LEAVES
    status = [{"notAfter": ends[one["name"]]} if one["kind"] == "Certificate" else {} for one in waited]
    issued = {"workloads": [{**one, "status": status} for one, status in zip(waited, status, strict=True)]}
    for source in ("self_signed", "cert_manager"):
        values = rendered(
            "__data_services_postgresql_values",
            data_services_postgresql_tls_source=source,
            __data_services_issued=issued if source == "cert_manager" else {"skipped": True},
            __data_services_secrets={"certificates_expire": ends if source == "self_signed" else {}},
            platform_image={"postgresql": "postgresql:test", "pgbouncer-exporter": "exporter:test"},
        )
        seen = {name: values[name]["podAnnotations"]["certificate-expires"] for name in ("postgresql", "pgbouncer")}
        assert seen == {"postgresql": ends["postgresql-tls"], "pgbouncer": ends["pgbouncer-tls"]}
        assert values["repository"]["podAnnotations"]["certificate-expires"] == ends["postgresql-repository-tls"]


def test_before_anything_is_issued_there_is_no_end() -> None:
    """As in check mode on an empty cluster."""
    waited = rendered("__data_services_postgresql_ordered")
    ends = rendered(
        "__data_services_postgresql_expiry",
        data_services_postgresql_tls_source="cert_manager",
        __data_services_issued={"workloads": [{**one, "status": {}} for one in waited]},
    )
    assert set(ends.values()) == {""}
