# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This file documents the action plugin of the same name, which always runs on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: stream
short_description: Run a long command on the control node and show its output while it runs
version_added: 0.1.0
description:
  - Runs a command without a shell and prints each line as it comes, so that a build of many minutes shows what it does.
  - The task is changed if the command printed anything. A command that has nothing to do therefore prints nothing.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - lambda_microservice.platform.attributes
options:
  argv:
    description: The command and its arguments.
    type: list
    elements: str
    required: true
  chdir:
    description: The folder to run it in.
    type: path
  environment:
    description: Variables to add to the environment.
    type: dict
    default: {}
  check_argv:
    description:
      - The command to run in check mode. It must change nothing, and print what would be done.
      - Without it the task is skipped in check mode.
    type: list
    elements: str
  timeout_seconds:
    description: The command and all that it started are killed after this time.
    type: int
    default: 3600
attributes:
  check_mode:
    details: Runs O(check_argv) instead, or is skipped.
    support: partial
  diff_mode:
    details: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Build the tools
  lambda_microservice.platform.stream:
    argv: [tools/build, .local/bin]
"""

RETURN = r"""
stdout_lines:
  description: The last 40 lines that the command printed.
  returned: success
  type: list
  elements: str
rc:
  description: The command's exit code.
  returned: always
  type: int
"""
