"""Make the collection importable from the checkout, whatever the checkout's folder is called."""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).resolve().parents[2]

# Ansible's own loader, so that imports behave in tests as they do in a play. It also finds kubernetes.core.
init_plugin_loader([str(ROOT / "collections")])
