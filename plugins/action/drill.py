# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module ``drill`` in this process; see plugin_utils/in_process.py for why."""

from __future__ import annotations

from ansible_collections.lambda_microservice.platform.plugins.module_utils import drill
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.in_process import InProcessAction


class ActionModule(InProcessAction):
    """The module's logic, in process."""

    LOGIC = drill
