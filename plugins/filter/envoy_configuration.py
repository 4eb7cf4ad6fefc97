# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure


def envoy_configuration(routes, upstreams=None, **options):
    """``files`` and ``validation``; see DOCUMENTATION."""
    try:
        return configure(routes, upstreams, **options)._asdict()
    except PlatformError as error:
        raise AnsibleFilterError(str(error)) from error
    except TypeError as error:
        raise AnsibleFilterError(f"envoy_configuration: {error}") from error


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"envoy_configuration": envoy_configuration}
