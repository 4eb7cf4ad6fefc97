"""What a rehearsal hands on to the site.yml that it starts."""

from __future__ import annotations

import json

from ansible_collections.lambda_microservice.platform.plugins.action.rehearse import command_line


def test_site_yml_reads_the_inventories_variables_and_vaults_of_the_rehearsal():
    given = {
        "extra_vars": ("@mine.yml", "a=1 b=2", {"c": [3]}),
        "vault_ids": ["prod@secret"],
        "vault_password_files": ["password"],
        "tags": ["all"],
    }
    assert command_line(given, ["inventories/production-eks", "inventories/mine"]) == [
        *("--inventory", "inventories/production-eks", "--inventory", "inventories/mine"),
        *("--extra-vars", "@mine.yml", "--extra-vars", "a=1 b=2", "--extra-vars", json.dumps({"c": [3]})),
        *("--vault-id", "prod@secret"),
        *("--vault-password-file", "password"),
    ]


def test_nothing_given_is_nothing_handed_on():
    assert command_line({}, []) == []
