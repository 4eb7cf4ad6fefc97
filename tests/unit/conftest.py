"""Make the collection importable from the checkout, whatever the checkout's folder is called."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[2]

# Ansible's own loader, so that imports behave in tests as they do in a play. It also finds kubernetes.core.
init_plugin_loader([str(ROOT / "collections")])

# CI gives the same answer for the same commit; a run at the desk looks further.
# No deadline: on a busy machine it would be a lottery.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
