"""A collection that speaks to no cluster, and a table of images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from .rendering import ROOT, Run, collection_without_cluster, run

IMAGES = ROOT / "tests" / "images.json"


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collections path, see rendering.py."""
    return collection_without_cluster(tmp_path_factory.mktemp("collections"))


@pytest.fixture
def ansible(collections: Path, tmp_path: Path) -> Callable[..., Run]:
    """Runs a playbook."""
    return partial(run, collections, folder=tmp_path)
