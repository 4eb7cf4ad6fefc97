"""Where the platform is and who asks: from the environment, or from a file that only its owner may read.

The file is JSON: {"current": NAME, "contexts": {NAME: {"url", "ca_file", "user", "api_key", "token"}}}."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lambdactl.failure import NOT_FOUND, REFUSED, Failure

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Context:
    url: str
    ca_file: str = ""
    user: str = ""
    api_key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def proof(self) -> str:
        return "api-key" if self.api_key else "token" if self.token else "none"


@dataclass(frozen=True)
class Contexts:
    """What the file holds."""

    current: str = ""
    named: Mapping[str, Context] = field(default_factory=dict)


def path() -> Path:
    """LAMBDACTL_CONFIG, else below XDG_CONFIG_HOME."""
    if given := os.environ.get("LAMBDACTL_CONFIG"):
        return Path(given)
    try:
        home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    except RuntimeError:
        raise Failure(
            "there is no home for the file of contexts; expected HOME, LAMBDACTL_CONFIG or LAMBDACTL_URL"
        ) from None
    return Path(home) / "lambdactl" / "contexts.json"


def read() -> Contexts:
    file = path()
    try:
        # O_NONBLOCK: a FIFO in its place would wait for a writer for ever.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as opened:
        # Of the opened file itself, so that nothing comes between the look and the reading.
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise Failure(f"{file} is no file; expected one that lambdactl login wrote")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise Failure(
                f"{file} holds keys and others may use it: its mode is {mode:04o}, expected 0600; chmod 600 {file}, and"
                " ask for new keys where others could read it",
                REFUSED,
            )
        if found.st_uid != os.geteuid():
            raise Failure(
                f"{file} belongs to user {found.st_uid}, expected {os.geteuid()}, who runs lambdactl", REFUSED
            )
        content = opened.read()
    return _parse(content, file)


def _parse(content: bytes, file: Path) -> Contexts:
    # Nothing of the content is shown: it has keys.
    wrong = Failure(f"{file} is not what lambdactl login writes; mend it, or remove it and log in again")
    try:
        data = json.loads(content)
        named = {}
        known = {one.name for one in fields(Context)}
        for name, values in data["contexts"].items():
            if not NAME.fullmatch(name) or not values.keys() <= known or "url" not in values:
                raise wrong
            if not all(isinstance(value, str) for value in values.values()):
                raise wrong
            named[name] = Context(**values)
        current = data["current"]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise wrong from None
    if not isinstance(current, str):
        raise wrong
    return Contexts(current, named)


def write(contexts: Contexts) -> None:
    """Whole or not at all, and readable by its owner alone from its first byte on."""
    file = path()
    shown = {
        "current": contexts.current,
        "contexts": {
            name: {key: value for key, value in asdict(one).items() if value} for name, one in contexts.named.items()
        },
    }
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                json.dump(shown, opened, indent=2, sort_keys=True)
                opened.write("\n")
            Path(made).replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(made).unlink()
            raise
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}") from None


def with_context(contexts: Contexts, name: str, context: Context) -> Contexts:
    if not NAME.fullmatch(name):
        raise Failure(f"{name!r} is no name of a context; expected letters, digits, '.', '_' and '-', 63 at most")
    return Contexts(name, {**contexts.named, name: context})


def without(contexts: Contexts, name: str) -> Contexts:
    _known(contexts, name)
    left = {other: one for other, one in contexts.named.items() if other != name}
    return Contexts("" if contexts.current == name else contexts.current, left)


def use(contexts: Contexts, name: str) -> Contexts:
    _known(contexts, name)
    return replace(contexts, current=name)


def _known(contexts: Contexts, name: str) -> Context:
    if name not in contexts.named:
        there = ", ".join(sorted(contexts.named)) or "none"
        raise Failure(f"there is no context {name!r} in {path()}; there are: {there}", NOT_FOUND)
    return contexts.named[name]


def chosen(name: str | None, environment: Mapping[str, str]) -> Context:
    """`--context`, else LAMBDACTL_URL with what stands beside it in the environment, else LAMBDACTL_CONTEXT, else the
    current one of the file. A key of the file never goes to an address of the environment."""
    proof = _proof(environment)
    if name is None and (url := environment.get("LAMBDACTL_URL")):
        return Context(url, environment.get("LAMBDACTL_CA_FILE", ""), environment.get("LAMBDACTL_USER", ""), **proof)
    contexts = read()
    wanted = name or environment.get("LAMBDACTL_CONTEXT") or contexts.current
    if not wanted:
        raise Failure(
            f"no platform is named: there is no current context in {path()} and no LAMBDACTL_URL; lambdactl login URL"
        )
    context = _known(contexts, wanted)
    if proof:
        # Instead of the file's: both together would be two proofs.
        context = replace(context, **{"api_key": "", "token": "", **proof})
    if user := environment.get("LAMBDACTL_USER"):
        context = replace(context, user=user)
    return context


def _proof(environment: Mapping[str, str]) -> dict[str, Any]:
    given = {
        "api_key": environment.get("LAMBDACTL_API_KEY", ""),
        "token": environment.get("LAMBDACTL_TOKEN", ""),
    }
    if all(given.values()):
        raise Failure("LAMBDACTL_API_KEY and LAMBDACTL_TOKEN are both set; expected one of them")
    return {name: value for name, value in given.items() if value}
