# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules can do beside their options. A module adds ``support`` and ``details``."""

from __future__ import annotations


class ModuleDocFragment:
    """For ``extends_documentation_fragment``: ``attributes``, and ``attributes.in_process`` for what may run there."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: With C(--check) it changes nothing and says what it would change.
  diff_mode:
    description: With C(--diff) it shows what changes, before and after.
  platform:
    description: What it runs on.
    platforms: posix
    support: full
"""

    IN_PROCESS = r"""
attributes:
  in_process:
    description: On localhost with a local connection it runs in Ansible's own process, a second quicker.
    details: Set the variable C(platform_modules_in_process) to false to run it like any other module.
    support: full
"""
