"""A rotation says by names what is to be done with a role's Secrets."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.turned import turned

SECRETS = [{"name": "ca", "certificate": {"common_name": "CA", "is_ca": True}}, {"name": "login", "random": {"x": {}}}]


def test_flags_are_set_by_name_and_the_list_stays_as_it_is() -> None:
    found = turned(SECRETS, rotate=["login"], switch=["ca"], forget=["ca"])
    assert found == [
        {"name": "ca", "certificate": {"common_name": "CA", "is_ca": True, "switch": True}, "forget": True},
        {"name": "login", "random": {"x": {}}, "rotate": True},
    ]
    assert turned(SECRETS) == SECRETS and "switch" not in SECRETS[0]["certificate"]


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AnsibleFilterError, match="Found: logim. Expected: some of ca, login"):
        turned(SECRETS, rotate=["logim"])
