# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module ``bundle`` with the plan, the table of images, and the folders of the collections it stands on."""

from __future__ import annotations

from typing import Any

from ansible.utils.collection_loader._collection_finder import _get_collection_path
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.plan import PlannedAction
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import read_roles

COLLECTIONS = ("lambda_microservice.platform", "kubernetes.core")


class ActionModule(PlannedAction):
    """See plugins/modules/bundle.py for its documentation."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result; what the task does not give is the play's."""
        seen, given = task_vars or {}, self._task.args
        if "components" not in given:
            given["components"] = self.planned(seen)
        if "images" not in given:
            own = next(role.own for role in read_roles() if role.name == "platform")
            given["images"] = self.template({**own, **seen}, own["platform_image"])
        given.setdefault("collections", [_get_collection_path(name) for name in COLLECTIONS])
        return super().run(tmp, task_vars)
