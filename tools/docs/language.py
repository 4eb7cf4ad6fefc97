"""A hook of MkDocs: a page in Japanese says so, for fonts, readers aloud and translators."""

from __future__ import annotations

from typing import Any


def on_post_page(output: str, page: Any, config: Any) -> str:
    source = page.file.src_uri
    japanese = source.startswith("docs/ja/") or source.endswith(".ja.md")
    return output.replace('<html lang="en"', '<html lang="ja"', 1) if japanese else output
