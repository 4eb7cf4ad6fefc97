# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the modules that meta/runtime.yml names this for; plugin_utils/in_process.py says why."""

from __future__ import annotations

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.in_process import InProcessAction


class ActionModule(InProcessAction):
    """By the logic of the module that the task names."""
