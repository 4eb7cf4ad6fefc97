"""A stand-in that has drifted from its class is found."""

from __future__ import annotations

import pytest

from .stand_in import stands_in_for


class Real:
    def get(self, ref, timeout_seconds=30): ...

    def list(self, kind, namespace=None): ...


def test_one_that_fits() -> None:
    @stands_in_for(Real, beside=["put"])
    class Fits:
        def get(self, ref): ...

        def list(self, _kind, *, namespace=None): ...

        def put(self, anything): ...

        def _count(self): ...


@pytest.mark.parametrize(
    ("name", "method", "why"),
    [
        ("fetch", lambda self, ref: None, "has no method fetch"),
        ("get", lambda self, name: None, "takes name at place 1"),
        ("get", lambda self, ref, timeout_seconds=5: None, "timeout_seconds is 5"),
        ("get", lambda self: None, "does not take ref"),
        ("get", lambda self, **options: None, "takes whatever"),
        ("list", lambda self, kind, selector=None: None, "takes selector at place 2"),
    ],
)
def test_one_that_has_drifted(name: str, method, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        stands_in_for(Real)(type("Drifted", (), {name: method}))
