# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file or a folder of a pinned Go module: an operator's charts and definitions where only its source can be had."""

from __future__ import annotations

import json
import os
import tempfile

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import process

PREFIX = "go:"
FORM = "go:MODULE@VERSION/PATH"
_DOWNLOAD_SECONDS = 300


def path_of(reference: str) -> str:
    """Where ``go:MODULE@VERSION/PATH`` is on this machine; Go keeps what it has downloaded, and checks it.

    Raises PlatformError (reason ``program`` or ``chart``).
    """
    module, _at, rest = reference.removeprefix(PREFIX).partition("@")
    version, _slash, path = rest.partition("/")
    # No go.mod of whoever calls: a version of its own choice is not what is pinned here.
    argv = ["go", "mod", "download", "-C", tempfile.gettempdir(), "-json", "%s@%s" % (module, version)]
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    try:
        code, output, errors = process.run(argv, environment, "", _DOWNLOAD_SECONDS)
    except OSError as error:
        raise PlatformError(
            "a Go module needs the program go",
            where=reference,
            found=error.strerror or str(error),
            expected="go on PATH",
            fix="install Go, or name a folder on this machine",
            reason="program",
        ) from error
    try:
        told = json.loads(output)
    except ValueError:
        told = {}
    if code != 0 or "Dir" not in told:
        said = told.get("Error") or errors.strip() or "no answer within %d s" % _DOWNLOAD_SECONDS
        raise _missing(reference, str(said)[-600:])
    found = os.path.join(told["Dir"], path)
    if not path or not os.path.exists(found):
        raise _missing(reference, "no %s in the module" % (path or "path"))
    return found


def _missing(reference: str, found: str) -> PlatformError:
    return PlatformError(
        "a Go module cannot be had",
        where=reference,
        found=found,
        expected="%s, which the Go proxy serves" % FORM,
        fix="correct it, or name a folder on this machine",
        reason="chart",
    )
