# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``attest``: what images are made of (syft), and who answers for that (cosign).

Signatures and bills are stored beside the image in its registry (OCI referrers). No transparency log and no other
service is asked: what is private stays so, and a cluster that reaches nothing can verify with the public key.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.bill import STEP_SECONDS, write_bill
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs

ARGUMENT_SPEC: dict[str, Any] = {
    "images": {"type": "dict", "required": True},
    "bills": {"type": "path"},
    "syft_binary": {"type": "path"},
    "cosign_key": {"type": "str", "no_log": False},  # where it is, not what it is
    "cosign_password": {"type": "str", "no_log": True},
    "cosign_binary": {"type": "path"},
}
REQUIRED_BY = {"bills": ["syft_binary"], "cosign_key": ["cosign_binary"]}

AT_ONCE = 2

# https://github.com/sigstore/protobuf-specs: services that are asked for a signature. None.
_NO_SERVICES = json.dumps({"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json"})


def run(params: dict[str, Any], check_mode: bool, diff: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Write the bills that are missing, and sign what is not signed with this key.

    Returns ``bills`` (name to file), ``written`` and ``signed`` (names) and ``changed``.
    """
    references = _references(params["images"])
    bills = {name: _bill_path(params["bills"], name, digest) for name, (dummy, digest) in references.items()}
    with Programs() as programs, tempfile.TemporaryDirectory(prefix="attest-") as folder:
        missing = [name for name in references if params["bills"] and not bills[name].is_file()]
        if missing and not check_mode:
            Path(params["bills"]).mkdir(parents=True, exist_ok=True)

            def write(name: str) -> str:
                syft, without = params["syft_binary"], "images_bills empty"
                write_bill(programs, syft, references[name][0], bills[name], without)
                return name

            _each(programs, missing, write, lambda number, name: _told(progress, "bill of materials", number, missing))
            _forget_older(bills)
        signed: list[str] = []
        if params["cosign_key"]:
            cosign = _Cosign(params, programs, Path(folder))

            def sign(name: str) -> str:
                bill = bills[name] if params["bills"] else None
                return name if cosign.sign(references[name][0], bill, check_mode) else ""

            names = list(references)
            done = _each(programs, names, sign, lambda number, name: _told(progress, "signature", number, names))
            signed = [name for name in done if name]
    return {
        "changed": bool(missing or signed),
        "bills": {name: str(path) for name, path in bills.items()} if params["bills"] else {},
        "written": missing,
        "signed": signed,
    }


def _told(progress: Callable[[str], None], what: str, number: int, names: list[str]) -> None:
    progress("%s %d of %d: %s" % (what, number, len(names), names[number - 1]))


def _each(
    programs: Programs, names: list[str], work: Callable[[str], str], told: Callable[[int, str], None]
) -> list[str]:
    results = []
    with ThreadPoolExecutor(AT_ONCE) as pool, programs as dummy:  # noqa: F841
        for number, result in enumerate(pool.map(work, names), 1):
            told(number, result)
            results.append(result)
    return results


def _references(images: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """(REPOSITORY@DIGEST, digest) by the image's own name; an image that serves several names is there once."""
    found: dict[str, tuple[str, str]] = {}
    for name, image in images.items():
        if not isinstance(image, dict) or not image.get("repository") or not image.get("digest"):
            raise PlatformError(
                "an image has no digest that could be attested",
                where="images.%s" % name,
                found=str(image)[:200],
                expected="a dictionary with repository and digest, as the module image returns",
                fix="build and push the images first",
                reason="argument",
            )
        own = str(image["repository"]).rpartition("/")[2]
        found[own] = ("%s@%s" % (image["repository"], image["digest"]), str(image["digest"]))
    return dict(sorted(found.items()))


def _bill_path(folder: str | None, name: str, digest: str) -> Path:
    return Path(folder or ".") / ("%s-%s.spdx.json" % (name, digest.rpartition(":")[2][:12]))


def _forget_older(bills: dict[str, Path]) -> None:
    """Of each image only the present one's bill stays."""
    for name, path in bills.items():
        own = re.compile(re.escape(name) + r"-[0-9a-f]{12}\.spdx\.json")
        for other in path.parent.iterdir():
            if own.fullmatch(other.name) and other != path:
                other.unlink()


class _Cosign:
    """The program with one key."""

    def __init__(self, params: dict[str, Any], programs: Programs, folder: Path) -> None:
        self.programs = programs
        self.binary: str = params["cosign_binary"]
        self.key: str = params["cosign_key"]
        # An empty one too: without it, cosign would ask the terminal.
        self.environment = {"COSIGN_PASSWORD": params["cosign_password"] or ""}
        self.services = folder / "services.json"
        self.services.write_text(_NO_SERVICES, encoding="utf-8")
        self.public = folder / "cosign.pub"
        answer = self._run(["public-key", "--key", self.key], "images_cosign_key (%s)" % self.key)
        self.public.write_text(answer, encoding="utf-8")

    def sign(self, reference: str, bill: Path | None, check_mode: bool) -> bool:
        """Whether the image or its bill was not signed with this key; it is then, but for check mode."""
        steps = []
        if not self._verifies(["verify", *self._trust(), *_plain(reference), reference]):
            steps.append(["sign", *self._signing(), *_plain(reference), reference])
        if bill:
            kind = ["--type", "spdxjson"]
            if not self._verifies(["verify-attestation", *kind, *self._trust(), *_plain(reference), reference]):
                steps.append(
                    ["attest", *kind, "--predicate", str(bill), *self._signing(), *_plain(reference), reference]
                )
        if not check_mode:
            for step in steps:
                self._run(step, reference)
        return bool(steps)

    def _trust(self) -> list[str]:
        # There is no entry in a log: the key alone counts.
        return ["--key", str(self.public), "--insecure-ignore-tlog=true"]

    def _signing(self) -> list[str]:
        return ["--key", self.key, "--signing-config", str(self.services), "--yes"]

    def _verifies(self, argv: list[str]) -> bool:
        answer = self.programs.run([self.binary, *argv], environment=self.environment, timeout_seconds=STEP_SECONDS)
        if answer.returncode != 0 and not _NOT_SIGNED.search(answer.stderr):
            raise _refused(argv, argv[-1], answer.stderr)
        return answer.returncode == 0

    def _run(self, argv: list[str], where: str) -> str:
        answer = self.programs.run([self.binary, *argv], environment=self.environment, timeout_seconds=STEP_SECONDS)
        if answer.returncode != 0:
            raise _refused(argv, where, answer.stderr)
        return answer.stdout


_NOT_SIGNED = re.compile(r"no (matching )?(signatures|attestations)|no valid|failed to verify|invalid signature", re.I)
"""What cosign says of an image that nobody has signed, or others have."""


def _plain(reference: str) -> list[str]:
    return ["--allow-http-registry"] if parse(reference).is_local else []


def _refused(argv: list[str], where: str, said: str) -> PlatformError:
    return PlatformError(
        "cosign %s failed" % argv[0],
        where=where,
        found=" ".join(said.split())[-600:],
        expected="a key that cosign can use (a file or a KMS URI), its password, and a registry that may be written",
        fix="correct images_cosign_key or images_cosign_password, log in to the registry (docker login), or leave the "
        "key empty to sign nothing",
        reason="program",
    )
