"""What stands in for a class of ours in a test keeps to it: it has no method that the class lacks, and none that
takes other arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable


def stands_in_for(real: type, beside: Iterable[str] = ()) -> Callable[[type], type]:
    """Decorates the stand-in. ``beside`` are its methods that only the test calls."""

    def checked(stand_in: type) -> type:
        for name, method in inspect.getmembers(stand_in, inspect.isfunction):
            if name.startswith("_") or name in beside:
                continue
            assert callable(getattr(real, name, None)), f"{real.__name__} has no method {name}"
            why = _difference(method, getattr(real, name))
            assert not why, f"{name} of {stand_in.__name__} is not {name} of {real.__name__}: {why}"
        return stand_in

    return checked


def _difference(method: Callable[..., object], real: Callable[..., object]) -> str:
    ours, theirs = (list(inspect.signature(function).parameters.values()) for function in (method, real))
    if any(parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD) for parameter in ours):
        return "it takes whatever it is given"
    # An argument that is not looked at has a name with an underscore.
    names = [parameter.name.lstrip("_") for parameter in ours]
    takes_more = bool(theirs) and theirs[-1].kind is inspect.Parameter.VAR_KEYWORD
    theirs = [parameter for parameter in theirs if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    known = {parameter.name.lstrip("_"): (place, parameter) for place, parameter in enumerate(theirs)}
    for position, (name, parameter) in enumerate(zip(names, ours, strict=True)):
        if name not in known and takes_more:
            continue
        place, its = known.get(name, (None, None))
        if its is None or (place != position and parameter.kind is not inspect.Parameter.KEYWORD_ONLY):
            return f"it takes {name} at place {position}"
        defaults = parameter.default, its.default
        if inspect.Parameter.empty not in defaults and defaults[0] != defaults[1]:
            return f"{name} is {defaults[0]!r} where it is not given, and not {defaults[1]!r}"
    needed = [parameter.name for parameter in theirs if parameter.default is inspect.Parameter.empty]
    missing = [name for name in needed if name.lstrip("_") not in names]
    return f"it does not take {', '.join(missing)}" if missing else ""
