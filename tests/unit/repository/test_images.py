"""What the images are built from fits the oldest bases that the documentation names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ROOT / "images"


@pytest.mark.parametrize("worker", sorted((IMAGES / "runtime-python").glob("*.py")), ids=lambda path: path.name)
def test_the_workers_of_python_are_read_by_python_3_10(worker: Path) -> None:
    ast.parse(worker.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_a_runtime_s_dockerfile_takes_each_base_that_its_row_names() -> None:
    rows = yaml.safe_load((IMAGES / "images.yml").read_text(encoding="utf-8"))["images"]
    for row in [row for row in rows if row["name"].startswith("runtime-")]:
        text = (ROOT / row["context"] / "Dockerfile").read_text(encoding="utf-8")
        # Only what is declared before the first stage can be what a stage stands on.
        declared = set(re.findall(r"^ARG (\w+)=", text.split("\nFROM ")[0], re.MULTILINE))
        assert declared == {"BASE", *row.get("further_bases", {})}, row["name"]
        assert declared == set(re.findall(r"^FROM \$\{(\w+)\}", text, re.MULTILINE)), row["name"]
