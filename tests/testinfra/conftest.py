"""What is inside the pods of a running platform: KUBECONFIG names the cluster, EDGE_URL and EDGE_CA_FILE the edge."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .pods import ROOT


@pytest.fixture(scope="session")
def edge() -> tuple[str, Path]:
    """The edge's address and its authority's certificate."""
    url = os.environ.get("EDGE_URL", "https://localhost:8443")
    return url, Path(os.environ.get("EDGE_CA_FILE", ROOT / ".local" / "ca.crt"))
