# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of an image's name, as Docker reads them (https://github.com/distribution/reference)."""

from __future__ import annotations

import re
from typing import NamedTuple


class Reference(NamedTuple):
    """``HOST/PATH:TAG@DIGEST``; what a name does not say is empty."""

    host: str
    path: str
    tag: str
    digest: str

    @property
    def repository(self) -> str:
        """Host and path, as the name has them."""
        return f"{self.host}/{self.path}" if self.host else self.path

    @property
    def is_local(self) -> bool:
        """Whether its registry is on this machine, where it has no TLS."""
        return re.sub(r":\d+$", "", self.host) in ("localhost", "127.0.0.1", "[::1]")

    def explicit(self) -> Reference:
        """With Docker's own registry where the name has none."""
        if self.host:
            return self
        return self._replace(host="docker.io", path=self.path if "/" in self.path else f"library/{self.path}")

    def __str__(self) -> str:
        """The whole name."""
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(name: str) -> Reference:
    """The parts of a name. What is before the first slash is a host if it has a dot or a colon, or is ``localhost``."""
    bare, _at, digest = name.partition("@")
    first, slash, rest = bare.partition("/")
    is_host = bool(slash) and (first == "localhost" or "." in first or ":" in first)
    host, path = (first, rest) if is_host else ("", bare)
    path, _colon, tag = path.partition(":")
    return Reference(host, path, tag, digest)
