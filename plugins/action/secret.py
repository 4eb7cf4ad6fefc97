# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ``secret``, run in the controller's own process where that is possible."""

from __future__ import annotations

from ansible_collections.lambda_microservice.platform.plugins.module_utils import secret
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.in_process import InProcessAction


class ActionModule(InProcessAction):
    """See plugins/modules/secret.py for its documentation."""

    LOGIC = secret
