"""What is asked of syft and cosign, and when; tests/cluster/test_attested_images.py runs the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.attest import attest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
PROGRAM = """#!/usr/bin/env python3
import json, os, pathlib, sys
folder, argv = pathlib.Path(__file__).parent, sys.argv[1:]
signed = folder / "signed"
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps([*argv, "password " + os.environ.get("COSIGN_PASSWORD", "unset")]) + "\\n")
done = set(signed.read_text().split()) if signed.exists() else set()
if argv[0] == "scan":
    pathlib.Path(argv[-1].partition("=")[2]).write_text("{}")
elif argv[0] == "public-key":
    print("PUBLIC")
elif argv[0].startswith("verify"):
    if (folder / "away").exists():
        sys.exit("Error: Get registry.example.com: connection refused")
    if f"{argv[0]}-{argv[-1]}" not in done:
        sys.exit("Error: no signatures found")
else:
    kind = {"sign": "verify", "attest": "verify-attestation"}[argv[0]]
    signed.write_text(" ".join({*done, f"{kind}-{argv[-1]}"}))
"""


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    program = tmp_path / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    one = {"repository": "registry.example.com/lambda/exporters", "tag": "1", "digest": ONE}
    return {
        "images": {"redis-exporter": one, "node-exporter": one},
        "bills": str(tmp_path / "bills"),
        "syft_binary": str(program),
        "cosign_key": str(tmp_path / "cosign.key"),
        "cosign_password": "hidden",
        "cosign_binary": str(program),
    }


def run(given: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    return attest.run(given, check_mode, False, lambda line: None)


def asked(given: dict[str, Any]) -> list[list[str]]:
    lines = Path(given["syft_binary"]).with_name("asked").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_an_image_is_attested_once_however_many_names_it_serves(given: dict[str, Any]) -> None:
    would = run(given, check_mode=True)
    assert (would["changed"], would["written"], would["signed"]) == (True, ["exporters"], ["exporters"])
    assert not Path(given["bills"]).exists()
    done = run(given)
    assert (done["written"], done["signed"]) == (["exporters"], ["exporters"])
    assert done["bills"] == {"exporters": f"{given['bills']}/exporters-{'1' * 12}.spdx.json"}
    verbs = [argv[0] for argv in asked(given)]
    assert [verbs.count(verb) for verb in ("scan", "sign", "attest")] == [1, 1, 1]
    again = run(given)
    assert (again["changed"], again["written"], again["signed"]) == (False, [], [])


def test_no_log_and_no_terminal_is_asked_and_the_password_is_no_argument(given: dict[str, Any]) -> None:
    run(given)
    for argv in asked(given):
        assert argv[-1] == ("password unset" if argv[0] == "scan" else "password hidden")
        assert not any("hidden" in word for word in argv[:-1])
        if argv[0] in ("sign", "attest"):
            assert {"--signing-config", "--yes"} <= set(argv)
        if argv[0].startswith("verify"):
            assert "--insecure-ignore-tlog=true" in argv and given["cosign_key"] not in argv


def test_a_new_digest_takes_the_place_of_the_old_one_s_bill(given: dict[str, Any]) -> None:
    run(given)
    foreign = Path(given["bills"], "exporters-notes.spdx.json")
    foreign.write_text("{}")
    given["images"] = {"exporters": {**given["images"]["node-exporter"], "digest": OTHER}}
    done = run(given)
    assert (done["written"], done["signed"]) == (["exporters"], ["exporters"])
    names = {path.name for path in Path(given["bills"]).iterdir()}
    assert names == {f"exporters-{'2' * 12}.spdx.json", foreign.name}


def test_a_registry_that_does_not_answer_is_no_missing_signature(given: dict[str, Any]) -> None:
    Path(given["syft_binary"]).with_name("away").touch()
    with pytest.raises(PlatformError, match=r"cosign verify failed\. Where: .*@sha256:1.*connection refused"):
        run(given)
    assert "sign" not in [argv[0] for argv in asked(given)]


@pytest.mark.parametrize("image", [{}, {"repository": "r/x"}, {"repository": "r/x", "digest": ""}, "r/x:1"])
def test_an_image_without_a_digest_is_named(given: dict[str, Any], image: Any) -> None:
    given["images"] = {"odd": image}
    with pytest.raises(PlatformError, match=r"no digest that could be attested\. Where: images\.odd"):
        run(given)


def test_each_alone(given: dict[str, Any]) -> None:
    assert run({**given, "cosign_key": None})["signed"] == []
    assert [argv[0] for argv in asked(given)] == ["scan"]
    assert run({**given, "bills": None})["signed"] == ["exporters"]
    assert "attest" not in [argv[0] for argv in asked(given)]
