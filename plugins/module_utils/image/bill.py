# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bill of materials of an image in a registry, by syft."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs

STEP_SECONDS = 600


def write_bill(programs: Programs, syft: str, reference: str, target: Path, without: str) -> None:
    """Write the bill (SPDX, JSON) of ``reference`` (REPOSITORY@DIGEST); ``without`` says how to do without one.

    Raises PlatformError (reason ``program``). The file is there whole or not at all.
    """
    environment = {"SYFT_CHECK_FOR_APP_UPDATE": "false"}
    if parse(reference).is_local:
        environment["SYFT_REGISTRY_INSECURE_USE_HTTP"] = "true"
    arriving = target.with_name(target.name + ".new")
    argv = [syft, "scan", "registry:%s" % reference, "--quiet", "--output", "spdx-json=%s" % arriving]
    answer = programs.run(argv, environment=environment, timeout_seconds=STEP_SECONDS)
    if answer.returncode != 0 or not arriving.is_file():
        raise PlatformError(
            "syft cannot say what an image is made of",
            where=reference,
            found=" ".join(answer.stderr.split())[-600:],
            fix="try it by hand, or do without (%s)" % without,
            reason="program",
        )
    arriving.replace(target)
