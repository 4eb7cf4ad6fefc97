# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module's logic as an ordinary Ansible module, where its action plugin cannot run it in process."""

from __future__ import annotations

from types import ModuleType

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError


def run_as_module(logic: ModuleType) -> None:
    """Exits with the result of ``logic``: its ``run(params, check_mode, diff, progress)``, by its ``ARGUMENT_SPEC``."""
    module = AnsibleModule(argument_spec=logic.ARGUMENT_SPEC, supports_check_mode=True)
    try:
        # A module's output reaches the user only when it ends, so progress has nowhere to go.
        result = logic.run(module.params, check_mode=module.check_mode, diff=module._diff, progress=lambda line: None)
    except PlatformError as error:
        module.fail_json(**error.result())
    for warning in result.pop("warnings", []):
        module.warn(warning)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)
