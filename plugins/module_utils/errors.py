# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one kind of error that a user of the modules sees."""

from __future__ import annotations


class PlatformError(Exception):
    """Something that the user can act on: what failed, where, what was found, what was expected and what to do.

    ``details`` are facts for programs (``reason``, ``status``, ``errors``); they go into the task's result as they are,
    so nothing secret belongs there.
    """

    def __init__(
        self, what: str, *, where: str = "", found: str = "", expected: str = "", fix: str = "", **details: object
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.found = found
        self.expected = expected
        self.fix = fix
        self.details = details

    @property
    def reason(self) -> str:
        """A short machine-readable cause (``unreachable``, ``forbidden``, ``conflict``, ...), or an empty string."""
        return str(self.details.get("reason", ""))

    def parts(self) -> dict[str, str]:
        """The parts that are known, in reading order."""
        named = {
            "what": self.what,
            "where": self.where,
            "found": self.found,
            "expected": self.expected,
            "fix": self.fix,
        }
        return {name: text for name, text in named.items() if text}

    def __str__(self) -> str:
        labels = {"what": "", "where": "Where: ", "found": "Found: ", "expected": "Expected: ", "fix": "To do: "}
        return " ".join(labels[name] + _sentence(text) for name, text in self.parts().items())

    def result(self) -> dict[str, object]:
        """What ``fail_json`` or a failed action result is made of."""
        return {"msg": str(self), **self.parts(), **self.details}

    @classmethod
    def of_many(cls, what: str, errors: list[PlatformError], **parts: str) -> PlatformError:
        """One error for a batch: a single one stays as it is, several are listed one per line."""
        if len(errors) == 1:
            return errors[0]
        listed = "\n".join("- %s" % error for error in errors)
        return cls(
            "%s:\n%s\n" % (what, listed),
            reason=errors[0].reason,
            errors=[{**error.parts(), **error.details} for error in errors],
            **parts,
        )


def _sentence(text: str) -> str:
    text = text.rstrip(" ")
    return text if text.endswith((".", "!", "?", ":", "\n")) else text + "."
