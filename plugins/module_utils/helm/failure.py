# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What helm says when it fails, as the error that a user can act on; no login and no refused value is in it."""

from __future__ import annotations

import re

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.refusals import REFUSALS, Refusal

_NOISE = re.compile(
    r"(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )?"
    r"(?:walk\.go|WARNING: Kubernetes configuration|coalesce\.go|\S+ \S+ warnings\.go|[IWE]\d{4} |"
    r"(?:level|time)=|Use --debug flag|helm\.go)"
)
_USER_INFORMATION = re.compile(r"(?<=://)[^\s/?#\"'<>]*@")
# Go's yaml and strconv quote what they could not read.
_UNREADABLE = re.compile(r"(cannot unmarshal !!\w+ )`[^`]*`?|((?:parsing|convert) )\"[^\"]*\"")


def without_login(text: str) -> str:
    """The text with the user information (RFC 3986, 3.2.1) cut from each URL in it."""
    return _USER_INFORMATION.sub("", text)


class HelmFailure(Exception):
    """Helm ended with an error. ``text`` is its message without the lines that only help Helm's developers, ``printed``
    what it wrote to standard output before."""

    def __init__(self, command: str, errors: str, timed_out_after: float | None = None, printed: str = "") -> None:
        text = "\n".join(line for line in errors.splitlines() if not _NOISE.match(line.strip())).strip()
        text = re.sub(r"^(Error: )?((UPGRADE|INSTALLATION|UNINSTALL) FAILED: )?", "", text)
        self.command = command
        self.text = _UNREADABLE.sub(lambda match: (match[1] or match[2]) + "(hidden)", without_login(text))
        self.timed_out_after = timed_out_after
        self.printed = printed
        # Not the text, which may quote a value that a schema refuses: as a cause it would be shown at -vvv.
        super().__init__("helm %s failed" % command)

    def explained(self, name: str, namespace: str, chart_path: str) -> PlatformError:
        """The error that a user can act on."""
        where = "release %s in namespace %s" % (name, namespace)
        if self.timed_out_after is not None:
            return PlatformError(
                "helm %s did not end in time" % self.command,
                where=where,
                found="ended after %g s%s" % (self.timed_out_after, ": " + self.text if self.text else ""),
                expected="hooks and requests that end within timeout_seconds",
                fix="look at the release's hook jobs, or raise timeout_seconds; a rerun goes on from here",
                reason="timeout",
            )
        objects = ["%s %s" % (kind, name) for name, kind in _OBJECT.findall(self.text) if name]
        texts = {"message": self.text, "command": self.command, "chart": chart_path}
        for rows, place in ((_OF_THE_CHART, []), ((*REFUSALS, *_OF_THE_CLUSTER), objects)):
            for row in rows:
                error = row.error(texts, ", ".join([where, *place]))
                if error is not None:
                    return error
        raise AssertionError("the last row fits everything")


# --- a refused value: its path and rule -------------------------------------------------------------------------------

_FINDING = re.compile(r"^-+ (?:at '/?(?P<pointer>[^']*)'|(?P<path>[^\s:]+)): ?(?P<rule>.*)$")
# What may be told of a finding of Helm 3.18 and later: its rule, which the schema holds. What stands before it, and
# all that is not here, may quote the value. (github.com/santhosh-tekuri/jsonschema/v6/kind)
_RULES = (
    re.compile(r"^(got (?:null|boolean|object|array|number|string|integer), want [a-z, ]+)$"),
    re.compile(r"^(missing propert(?:y|ies) .*)$"),
    re.compile(r"^(additional properties .* not allowed)$"),
    re.compile(r"^(value must be .*)$"),
    re.compile(r"^(?:min|max)\w*: got .*$|^(?:exclusive|multiple|unique|content)\w*: .*$"),
    re.compile(r".*(does not match pattern '.*)$", re.DOTALL),
    re.compile(r".*(is not valid [\w-]+)(?:: .*)?$", re.DOTALL),
    re.compile(r"^('?(?:allOf|anyOf|oneOf|not)'? failed.*)$"),
)
_BOUND = re.compile(r"^(\w+): got .*, (want [^,]*)$", re.DOTALL)


def _finding(line: str) -> str:
    """Path and rule of one finding, never the value."""
    match = _FINDING.match(line)
    if match is None:
        return ""
    if match["pointer"] is None:
        # Before Helm 3.18; gojsonschema's texts name rules only.
        return "%s: %s" % (match["path"], match["rule"])
    path = match["pointer"].replace("/", ".").replace("~1", "/").replace("~0", "~") or "(all values)"
    return "%s: %s" % (path, _rule(match["rule"]))


def _rule(said: str) -> str:
    bound = _BOUND.match(said)
    if bound and not said.startswith("got "):
        return "%s: %s" % bound.groups()
    for rule in _RULES:
        match = rule.match(said)
        if match and match.groups() and match[1]:
            return match[1]
    return "is not what the schema allows"


def _findings(texts: dict[str, str]) -> dict[str, str]:
    lines = [line.strip() for line in texts["findings"].splitlines() if line.strip()]
    told = [_finding(line) for line in lines if line.startswith("-")]
    found = "; ".join(filter(None, told)) or "a value that the schema refuses"
    return {"findings": found, "of": (lines[0] if lines else texts["chart"]).rstrip(":")}


# --- a template that fails: where, and with which values --------------------------------------------------------------

_AT = re.compile(r"(?P<file>[\w./-]+/(?:templates|crds|charts)/[\w./-]+):(?P<line>\d+)(?::\d+)?")


def _execution(texts: dict[str, str]) -> dict[str, str]:
    text = texts["message"]
    places = list(_AT.finditer(text))
    # A failing helper is wrapped in the templates that include it: the last place is where it happened.
    place = "%s line %s" % (places[-1]["file"], places[-1]["line"]) if places else texts["chart"]
    named = re.findall(r"at <([^>]*)>", text)
    why = "at <%s>: %s" % (named[-1], text.rsplit("at <%s>: " % named[-1], 1)[-1]) if named else text
    values = sorted({value[1:] for part in named for value in re.findall(r"\.Values((?:\.\w+)+)", part)})
    check = "value%s %s" % ("s" if len(values) > 1 else "", ", ".join(values)) if values else ""
    return {"place": place, "why": why, "check": check or "values that this template uses"}


# --- the tables, in the order in which their rows are tried -----------------------------------------------------------

_OBJECT = re.compile(
    r'(?:failed to create resource|cannot patch|server-side apply failed for object) "?([\w./-]*)"?.*?with kind (\w+)'
)

# A chart that cannot be rendered.
_OF_THE_CHART = (
    Refusal(
        reason="values",
        what="a value of the chart has a wrong type or is not allowed",
        place="chart %(of)s",
        found="%(findings)s",
        expected="values that the chart's values.schema.json allows",
        fix="correct the named values",
        pattern=re.compile(
            r"values don't meet the specifications of the schema\(s\) in the following chart\(s\):\n(?P<findings>.*)",
            re.DOTALL,
        ),
        facts=_findings,
    ),
    Refusal(
        reason="render",
        what="the chart does not render",
        place="%(file)s line %(line)s",
        found="%(why)s",
        expected="values with which every template renders",
        fix="set what the message asks for",
        pattern=re.compile(r"execution error at \((?P<file>[^:()]+):(?P<line>\d+)(?::\d+)?\): (?P<why>.*)", re.DOTALL),
    ),
    Refusal(
        reason="render",
        what="the chart does not render",
        place="%(file)s line %(line)s",
        found="%(why)s",
        expected="a template that helm can parse",
        fix="correct the template at this line",
        pattern=re.compile(r"parse error at \((?P<file>[^:()]+):(?P<line>\d+)\): (?P<why>.*)", re.DOTALL),
    ),
    Refusal(
        reason="render",
        what="the chart does not render",
        place="%(file)s",
        found="%(why)s",
        expected="YAML",
        fix="correct the template's indentation or quoting, or the value that it prints there",
        pattern=re.compile(r"YAML parse error on (?P<file>\S+): (?P<why>.*)", re.DOTALL),
    ),
    Refusal(
        reason="render",
        what="the chart does not render",
        place="%(place)s",
        found="%(why)s",
        expected="values with which every template renders",
        fix="check the %(check)s",
        pattern=re.compile(r'template: |executing "'),  # Helm 4 leaves the first out
        facts=_execution,
    ),
    Refusal(
        reason="render",
        what="a chart that this chart depends on is missing",
        place="%(chart)s",
        expected="every dependency of Chart.yaml in the folder charts/",
        fix="run helm dependency build in the chart's folder",
        pattern=re.compile(r"missing in charts/ directory"),
    ),
)

# What only helm says, or the API server says otherwise to it. The refusals that both quote are tried before.
_OF_THE_CLUSTER = (
    Refusal(
        reason="hook",
        what="a %(when)s-%(action)s hook failed",
        found="%(why)s",
        expected="a hook that ends with success within timeout_seconds",
        fix="look at the hook's job and its pods in the namespace; a rerun runs it again",
        pattern=re.compile(
            r"(?:failed )?(?P<when>pre|post)-(?P<action>install|upgrade|delete|rollback)"
            r"(?: hooks failed)?: (?P<why>.*)",
            re.DOTALL,
        ),
    ),
    Refusal(
        reason="missing",
        what="the namespace %(namespace)s does not exist",
        expected="a namespace that exists before the release is installed",
        fix="create it first, or set create_namespace",
        pattern=re.compile(r'namespaces "(?P<namespace>[^"]*)" not found'),
    ),
    Refusal(
        reason="kind",
        what="the cluster does not know the kind %(kind)s of %(version)s",
        expected="an installed CustomResourceDefinition for every kind in the chart",
        fix="install the operator that brings it first",
        pattern=re.compile(r'no matches for kind "(?P<kind>[^"]*)" in version "(?P<version>[^"]*)"'),
    ),
    Refusal(
        reason="conflict",
        what="%(object)s exists already and belongs to nobody or to another release",
        expected="no such object, or one with this release's Helm labels and annotations",
        fix="delete it, or add the labels and annotations that the message names",
        pattern=re.compile(r"(?P<object>\w+ \"[^\"]*\") in namespace \"[^\"]*\" exists and cannot be imported"),
    ),
    Refusal(
        reason="busy",
        what="another helm works on this release",
        expected="one at a time",
        fix="wait until it has ended, then run again",
        pattern=re.compile(r"another operation.* in progress", re.DOTALL),
    ),
    Refusal(
        reason="unreachable",
        what="the cluster cannot be reached",
        expected="an API server that accepts connections",
        fix="check that the cluster runs and that this machine may reach it, then run again",
        pattern=re.compile(r"[Cc]luster unreachable|connection refused"),
    ),
    Refusal(
        reason="invalid",
        what="the cluster refuses the changed object",
        expected="valid values, and no change to a field that cannot be changed",
        fix="correct the value; to change an immutable field delete the object first (a StatefulSet with "
        "--cascade=orphan keeps its pods and volumes)",
        pattern=re.compile(r"is invalid: [\w.\[\]()/-]+: |field is immutable|updates to statefulset spec"),
    ),
    Refusal(
        reason="invalid",
        what="a rendered object has fields that its kind does not have",
        found="%(why)s",
        expected="fields of the kind's schema with values of their types",
        fix="correct the template, or the value that it prints there",
        pattern=re.compile(r"error validating data: (?P<why>.*)", re.DOTALL),
    ),
    Refusal(
        reason="helm",
        what="helm %(command)s failed",
        expected="a helm command that ends with success",
        fix="see the message; a rerun goes on from here",
    ),
)
