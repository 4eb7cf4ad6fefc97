# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images between registries and an OCI image layout, by oras: it keeps each manifest as it is, and so its digest.

It finds logins where docker login left them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs

COPY_SECONDS = 1800
ASK_SECONDS = 120
_HAS_NONE = ("not found", "MANIFEST_UNKNOWN", "NAME_UNKNOWN")


class Oras:
    """The program, as it is used here."""

    def __init__(self, binary: str, programs: Programs) -> None:
        self.binary = binary
        self.programs = programs

    def digest(self, reference: str) -> str | None:
        """The digest of what a registry has under this reference; None where it says that it has none."""
        plain = ["--plain-http"] if parse(reference).is_local else []
        argv = [self.binary, "manifest", "fetch", "--descriptor", *plain, str(parse(reference).explicit())]
        answer = self.programs.run(argv, timeout_seconds=ASK_SECONDS)
        if answer.returncode != 0:
            if any(said in answer.stderr for said in _HAS_NONE):
                return None
            raise _failed("the registry does not tell what it has", reference, answer.stderr)
        return str(json.loads(answer.stdout)["digest"])

    def into_layout(self, reference: str, layout: Path, name: str) -> None:
        """Copy an image into the layout, under this name."""
        plain = ["--from-plain-http"] if parse(reference).is_local else []
        self._copy([*plain, "--to-oci-layout", str(parse(reference).explicit()), "%s:%s" % (layout, name)], reference)

    def out_of_layout(self, layout: Path, name: str, reference: str) -> None:
        """Copy an image of the layout into a registry."""
        plain = ["--to-plain-http"] if parse(reference).is_local else []
        self._copy([*plain, "--from-oci-layout", "%s:%s" % (layout, name), reference], reference)

    def _copy(self, arguments: Sequence[str], reference: str) -> None:
        argv = [self.binary, "copy", "--no-tty", *arguments]
        answer = self.programs.run(argv, timeout_seconds=COPY_SECONDS)
        if answer.returncode != 0:
            raise _failed("an image cannot be copied", reference, answer.stderr)


def _failed(what: str, reference: str, said: str) -> PlatformError:
    return PlatformError(
        what,
        where=reference,
        found=" ".join(said.split())[-600:] or "oras said nothing",
        expected="a registry that answers, with the rights of a docker login",
        fix="try it by hand (oras manifest fetch --descriptor %s), after docker login" % reference,
        reason="registry",
    )
