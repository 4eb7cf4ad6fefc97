# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Envoy's file-based discovery (xDS)."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def watched_file(folder: str, name: str) -> dict[str, Any]:
    """A ConfigSource: the file, which Envoy reads again when it changes."""
    return {
        "resource_api_version": "V3",
        "path_config_source": {
            "path": f"{folder}/{name}",
            # Kubernetes swaps a link in the folder, which a watch on the file itself does not see.
            "watched_directory": {"path": folder},
        },
    }


def discovery_response(kind: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    """What such a file holds. Its version is the content's hash, so a running Envoy can tell which one it has."""
    content = json.dumps(resources, sort_keys=True).encode()
    return {
        "version_info": hashlib.sha256(content).hexdigest()[:16],
        "resources": [{"@type": f"type.googleapis.com/{kind}", **resource} for resource in resources],
    }
