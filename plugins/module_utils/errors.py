# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one kind of error that a user of the modules sees."""

from __future__ import annotations

import os
import traceback

REASONS = {
    "admission": "admission (a plugin, policy, webhook, Pod Security) refuses it, or does not as it should",
    "alert": "an alert fires",
    "answer": "something answered otherwise than it should",
    "argument": "an argument, or a table that was given, is wrong",
    "autoscaler": "a HorizontalPodAutoscaler does not work",
    "backup": "there is no backup from which the data could be restored to now",
    "budget": "a PodDisruptionBudget is missing, or allows nothing",
    "build": "an image, or what belongs into it, could not be built",
    "busy": "somebody else works on it",
    "certificate": "a certificate, or its authority, is missing, wrong or not trusted",
    "chart": "a chart is missing or cannot be read",
    "clock": "clocks differ",
    "command": "a command that was to break something failed",
    "conflict": "somebody else changed or owns it",
    "contradiction": "variables contradict each other",
    "credentials": "there are no credentials, or they cannot be loaded",
    "docker": "Docker does not answer, or refuses",
    "drain": "a node could not be drained",
    "drift": "what runs is not what the inventory would have",
    "edge": "the edge gives no session",
    "exec": "no command can be run in a pod",
    "exists": "it exists already",
    "exposed": "something can be reached from outside that should not be",
    "forbidden": "the rights are missing",
    "full": "a volume is nearly full",
    "generator": "the load generator is missing",
    "helm": "helm failed in a way that is not known",
    "hook": "a hook of a release failed",
    "interrupted": "the task was ended before",
    "invalid": "the cluster finds the object invalid",
    "isolation": "a part of what keeps scripts apart is not in force",
    "kill": "the processes of a pod could not be killed",
    "kind": "the cluster does not know the kind",
    "library": "a Python library or collection is missing",
    "load": "a load did not start, or ended by itself",
    "mesh": "the mesh does not know, let in or refuse whom it should",
    "missing": "an object that is needed does not exist",
    "monitoring": "Prometheus does not see or do what it should",
    "moved": "what was to be hit is elsewhere by now",
    "network": "NetworkPolicies are missing, or have no effect, or block what they allow",
    "processes": "a pod may have fewer processes than it needs",
    "program": "a program is missing or too old",
    "python": "the Python is too old",
    "quota": "a quota is used up",
    "record": "the record of a release cannot be read",
    "redirect": "plain HTTP does not lead to HTTPS",
    "redis": "Redis does not have its roles",
    "refused": "the cluster refuses it for a reason that is not known",
    "registry": "a registry of images does not answer, refuses, or lacks what it should have",
    "rehearsal": "a promise of a rehearsal does not hold",
    "render": "a chart cannot be rendered",
    "replicas": "one replica alone answers",
    "restore": "a restore is under way, or was cut off",
    "roles": "PostgreSQL does not have its roles",
    "rollout": "a workload is not rolled out, and waiting does not help",
    "server": "what answers is no API server",
    "storage": "a StorageClass does not exist",
    "target": "there is nothing to hit",
    "terminating": "it is being deleted",
    "timeout": "it took too long",
    "tls": "a TLS connection cannot be made, or is not as it should be",
    "unauthorized": "the credentials are not accepted",
    "unavailable": "the API server, or an aggregated one, cannot serve it now",
    "unhealthy": "the platform is not healthy",
    "unknown": "no role knows a variable that begins like a role's",
    "unreachable": "there is no answer at all",
    "unsteady": "a load is not served steadily",
    "values": "a chart refuses its values",
    "volume": "a volume cannot be what is asked for",
    "webhook": "an admission webhook does not answer",
    "zones": "nodes have no zones, or a workload is in one of them",
}
"""What ``reason`` may be: one word for each kind of failure, for programs."""


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
        self.errors: list[PlatformError] = []
        """Those of a batch, see :meth:`of_many`."""

    @property
    def reason(self) -> str:
        """One of REASONS."""
        return str(self.details.get("reason", ""))

    def causes(self) -> list[str]:
        """The exceptions that led here (``raise ... from``), the nearest first, each with its place. For whoever mends
        the modules: they say what programs said, which a user need not understand.
        """
        found: list[str] = []
        cause = self.__cause__
        while cause is not None:
            places = traceback.extract_tb(cause.__traceback__)
            place = " (%s, line %s)" % (os.path.basename(places[-1].filename), places[-1].lineno) if places else ""
            found.append("%s: %s%s" % (type(cause).__name__, cause, place))
            cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
        return [*found, *(line for error in self.errors for line in error.causes())]

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
        batch = cls(
            "%s:\n%s\n" % (what, listed),
            reason=errors[0].reason,
            errors=[{**error.parts(), **error.details} for error in errors],
            **parts,
        )
        batch.errors = list(errors)
        return batch


def _sentence(text: str) -> str:
    text = text.rstrip(" ")
    return text if text.endswith((".", "!", "?", ":", "\n")) else text + "."
