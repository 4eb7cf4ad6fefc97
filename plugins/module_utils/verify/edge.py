# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a caller of the platform sees: checks of the edge, over connections like any client's."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import random
import secrets
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently, sleep
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import (
    Doubtful,
    Found,
    Passed,
    cut,
    one_line,
)

LARGEST_ANSWER_BYTES = 1 << 20
MODULUS = 1_000_003
"""Of the computation below. A prime, so that no factor of the random numbers disappears in it."""

SCRIPTS = {
    "nodejs": """
        if (params.fail) throw new Error(params.fail);
        const fold = params.numbers.reduce((sum, number) => (sum * 31 + number) % 1000003, context.seed);
        return {fold, mirrored: [...params.text].reverse().join('')};
    """,
    "python": """
def handle(params, context):
    if params.get("fail"):
        raise ValueError(params["fail"])
    fold = context["seed"]
    for number in params["numbers"]:
        fold = (fold * 31 + number) % 1000003
    return {"fold": fold, "mirrored": params["text"][::-1]}
    """,
    "rust": """
fn handle(params: Value, context: Value) -> Result<Value, String> {
    if let Some(message) = params["fail"].as_str() {
        return Err(message.to_string());
    }
    let mut fold = context["seed"].as_u64().ok_or("no seed")?;
    for number in params["numbers"].as_array().ok_or("no numbers")? {
        fold = (fold * 31 + number.as_u64().ok_or("no number")?) % 1000003;
    }
    let mirrored: String = params["text"].as_str().ok_or("no text")?.chars().rev().collect();
    Ok(serde_json::json!({"fold": fold, "mirrored": mirrored}))
}
    """,
}
"""The same computation in each language: half of its input is the session's, half is the call's."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body decoded, None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def code(self) -> str:
        """The platform's error code, or an empty string."""
        answer = self.json()
        error = answer.get("error") if isinstance(answer, dict) else None
        return str(error.get("code", "")) if isinstance(error, dict) else ""

    def message(self) -> str:
        """The message of the platform's error, or an empty string."""
        return str(self.json()["error"].get("message", "")) if self.code() else ""

    def spoken(self) -> str:
        """Status and body, for an error message."""
        return f"{self.status} {cut(one_line(self.body.decode('utf-8', 'replace')), 300)}".rstrip()


class Edge:
    """Calls ``url`` (https) and ``plain_url`` (http), each time over a new connection, without any proxy."""

    def __init__(
        self,
        url: str,
        plain_url: str = "",
        ca_file: str = "",
        *,
        api_key: str = "",
        token: str = "",
        certificate_days: int = 14,
        timeout_seconds: float = 40.0,
        sleep: Callable[[float], None] = sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url.rstrip("/")
        self.plain_url = plain_url.rstrip("/")
        self.ca_file = ca_file
        self.proof = {
            **({"X-API-Key": api_key} if api_key else {}),
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        self.certificate_days = certificate_days
        self.timeout_seconds = timeout_seconds
        self.sleep = sleep
        self.clock = clock
        # A user of its own for each run: the limit of requests is not used up by an earlier one.
        self.user = "verify-" + secrets.token_hex(4)
        self.host, self.port = _address(self.url, "https", "edge.url")
        self.plain = _address(self.plain_url, "http", "edge.plain_url") if self.plain_url else None

    # --- connections -------------------------------------------------------------------------------------------------

    def context(self, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """Trust in the authority alone; with version, nothing but that version of TLS."""
        if self.ca_file and not os.path.isfile(self.ca_file):
            raise PlatformError(
                "the edge's authority is not there",
                where=self.ca_file,
                found="no such file",
                expected="the certificate (PEM) of the authority that signed the edge's certificate",
                fix="run site.yml, which writes that of its own certificates, or set verify_ca_file to yours",
                reason="certificate",
            )
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except (ssl.SSLError, OSError) as failure:
            raise PlatformError(
                "the edge's authority cannot be read",
                where=self.ca_file,
                found=str(failure),
                expected="certificates in PEM",
                fix="check the file, or set verify_ca_file",
                reason="certificate",
            ) from failure
        if version is not None:
            context.minimum_version = context.maximum_version = version
            if version < ssl.TLSVersion.TLSv1_2:
                # OpenSSL offers what is older than 1.2 at its lowest level alone (SHA-1 signatures).
                context.set_ciphers("DEFAULT:@SECLEVEL=0")
        return context

    @contextlib.contextmanager
    def tls(self, version: ssl.TLSVersion | None = None) -> Iterator[ssl.SSLSocket]:
        """An open connection; failures are OSError (ssl.SSLError among them)."""
        context = self.context(version)
        with (
            socket.create_connection((self.host, self.port), timeout=min(10.0, self.timeout_seconds)) as raw,
            context.wrap_socket(raw, server_hostname=self.host) as connection,
        ):
            yield connection

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        plain: bool = False,
        proof: bool = True,
    ) -> Answer:
        """Send one request over a connection of its own; body is sent as JSON.

        Without ``proof``, and over a plain connection, the key or the token stays here.
        """
        data = None if body is None else json.dumps(body).encode()
        sent = {"Connection": "close", "Accept": "application/json", "X-User-ID": self.user}
        sent.update(self.proof if proof and not plain else {})
        sent.update(headers or {})
        if data is not None:
            sent["Content-Type"] = "application/json"
        connection: http.client.HTTPConnection
        if plain:
            if self.plain is None:
                raise ValueError("no plain_url")
            connection = http.client.HTTPConnection(*self.plain, timeout=self.timeout_seconds)
        else:
            connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=self.timeout_seconds, context=self.context()
            )
        where = f"{method} {self.plain_url if plain else self.url}{path}"
        try:
            connection.request(method, path, body=data, headers=sent)
            response = connection.getresponse()
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(LARGEST_ANSWER_BYTES),
            )
        except (OSError, http.client.HTTPException) as failure:
            raise no_answer(failure, where) from failure
        finally:
            connection.close()

    def patient_call(self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """As a good client calls: ``UNAVAILABLE`` and ``RATE_LIMITED`` say that nothing ran, so it is sent again.

        For 20 s, and for a minute and a little more where too many were sent: limits count in minutes.
        """
        began = self.clock()
        while True:
            answer = self.call(method, path, body, headers)
            patience, longest = {"UNAVAILABLE": (20, 5.0), "RATE_LIMITED": (65, 60.0)}.get(answer.code(), (0, 0.0))
            if answer.status not in (429, 503) or self.clock() - began >= patience:
                return answer
            after = answer.headers.get("retry-after", "1")
            self.sleep(min(longest, float(after)) if after.isdigit() else 1.0)

    def initialize(self, language: str, script: str, context: Any) -> dict[str, Any]:
        """Start a session; its answer, checked."""
        where = f"POST {self.url}/api/v1/initialize, Language-Title: {language}-verify"
        answer = self.patient_call(
            "POST",
            "/api/v1/initialize",
            {"context": context, "script_content": script},
            {"Language-Title": f"{language}-verify"},
        )
        session = answer.json()
        if answer.status != 200 or not isinstance(session, dict):
            raise wrong_answer("a session cannot be started", where, answer, "200 with a request_id", language)
        problem = _session_problem(session)
        if problem:
            raise wrong_answer("the answer to initialize is not as described", where, answer, problem, language)
        return session

    def execute(self, session: str, params: Any) -> Answer:
        """Run a session's script once."""
        return self.patient_call("POST", f"/api/v1/execute/{session}", {"params": params})

    # --- checks ------------------------------------------------------------------------------------------------------

    def answers(self, wait_seconds: float) -> Found:
        """The certificate leads to the authority, is for this host and lasts. Waits for an edge that just came up."""
        ends = self.clock() + wait_seconds
        while True:
            try:
                with self.tls() as connection:
                    return self._certificate(connection.getpeercert() or {})
            except ssl.SSLCertVerificationError as failure:
                authority = f"the authority in {self.ca_file}" if self.ca_file else "one that this machine trusts"
                raise PlatformError(
                    "the edge's certificate is not trusted",
                    where=self.url,
                    found=failure.verify_message,
                    expected=f"a valid certificate for {self.host}, signed by {authority}",
                    fix="run site.yml, which renews a certificate of its own; for yours, check its names, its dates, "
                    "the intermediate certificates and verify_ca_file",
                    reason="certificate",
                ) from failure
            except OSError as failure:
                if self.clock() >= ends:
                    raise no_answer(failure, self.url) from failure
                self.sleep(1.0)

    def _certificate(self, certificate: Mapping[str, Any]) -> Found:
        ends = datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), datetime.UTC)
        days = (ends - datetime.datetime.now(datetime.UTC)).days
        names = ", ".join(value for _kind, value in certificate.get("subjectAltName", ()))
        issuer = dict(pair for part in certificate.get("issuer", ()) for pair in part)
        signer = issuer.get("commonName") or issuer.get("organizationName") or "an authority without a name"
        detail = f"for {names}; signed by {signer}; {days} days left"
        if days >= self.certificate_days:
            return Passed(detail)
        return Doubtful(
            detail,
            f"The certificate of {self.url} ends on {ends:%Y-%m-%d}, in {days} days. Renew it: run site.yml for one "
            "that the platform made, or put a new one in place.",
        )

    def tls_versions(self) -> Found:
        """TLS 1.2 and 1.3, and nothing older."""
        spoken = []
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            try:
                with self.tls(version) as connection:
                    spoken.append(str(connection.version()))
            except OSError as failure:
                raise self._tls_problem(f"{_tls_name(version)} fails: {failure}") from failure
        unclear = []
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            try:
                with self.tls(version) as connection:
                    raise self._tls_problem(f"{connection.version()} is accepted")
            except ssl.SSLError as failure:
                # Raised before anything was sent: this machine's OpenSSL was built or configured without it.
                if "NO_PROTOCOLS_AVAILABLE" in str(failure) or "no protocols available" in str(failure):
                    unclear.append(_tls_name(version))
            except (ConnectionError, TimeoutError):
                pass
            except OSError as failure:
                raise no_answer(failure, self.url) from failure
        accepted = " and ".join(spoken)
        if unclear:
            names = " and ".join(unclear)
            return Doubtful(
                f"{accepted} work; {names} could not be tried",
                f"Whether the edge refuses {names} is unknown: this machine's OpenSSL cannot offer it.",
            )
        return Passed(f"{accepted} work, 1.0 and 1.1 are refused")

    def _tls_problem(self, found: str) -> PlatformError:
        return PlatformError(
            "the edge does not speak the TLS versions that it should",
            where=self.url,
            found=found,
            expected="TLS 1.2 and 1.3, and nothing older",
            fix="check tls_minimum_protocol_version of Envoy's listener, or what stands before the edge",
            reason="tls",
        )

    def redirects(self) -> Found:
        """Plain HTTP leads to the same path over HTTPS."""
        path = f"/api/v1/sessions/{uuid.uuid4()}?from=verify"
        answer = self.call("GET", path, plain=True)
        location = answer.headers.get("location", "")
        where = f"GET {self.plain_url}{path}"
        if answer.status not in (301, 308) or not location:
            raise PlatformError(
                "plain HTTP is not redirected",
                where=where,
                found=answer.spoken() + (f", Location: {location}" if location else ""),
                expected="301 or 308 with a Location",
                fix="check Envoy's listener on its plain port (role ingress)",
                reason="redirect",
            )
        if location != self.url + path:
            raise PlatformError(
                "the redirect leads elsewhere",
                where=where,
                found=f"Location: {location}",
                expected=self.url + path,
                fix="check ingress_https_port, the port under which callers reach the edge, and verify_edge_url",
                reason="redirect",
            )
        return Passed(f"{answer.status} from {self.plain_url} to {self.url}, path and query kept")

    def callers(self) -> Found:
        """Whether the edge asks who calls, and takes the key or the token that was given."""
        path = f"/api/v1/sessions/{uuid.uuid4()}"
        where = f"GET {self.url}{path}"
        anonymous = self.call("GET", path, proof=False)
        asks = anonymous.status == 401
        given = " and ".join({"X-API-Key": "a key", "Authorization": "a token"}[name] for name in self.proof)
        if not asks:
            if not self.proof:
                return Passed("who calls need not be proved")
            return Doubtful(
                "who calls need not be proved",
                f"verify was given {given}, and {where} without it is answered with {anonymous.status}: "
                "the edge does not ask who calls (ingress_authentication).",
            )
        if not self.proof:
            raise PlatformError(
                "the edge asks who calls, and verify has nothing to say",
                where=where,
                found=anonymous.spoken(),
                expected="verify_api_key or verify_token, as ingress_authentication is on",
                fix="set verify_api_key (of api_key) or verify_token (of jwt) in a vault or from the environment, for "
                "instance verify_api_key: \"{{ lookup('ansible.builtin.env', 'VERIFY_API_KEY') }}\"",
                reason="credentials",
            )
        answer = self.call("GET", path)
        if answer.status in (401, 403):
            raise PlatformError(
                f"the edge does not take {given}",
                where=where,
                found=answer.spoken(),
                expected="any other answer than 401 and 403",
                fix="check verify_api_key (Secret ingress-api-keys in the edge's namespace), or issuer, audience and "
                "expiry of verify_token",
                reason="unauthorized",
            )
        return Passed(f"401 without {given}, taken with it")

    def unknown_path(self) -> Found:
        """What is not in the route table is answered by the edge itself."""
        path = f"/no-such-path-{secrets.token_hex(4)}"
        answer = self.call("GET", path)
        if answer.status != 404 or answer.code() != "NOT_FOUND":
            raise wrong_answer(
                "an unknown path is not answered as described",
                f"GET {self.url}{path}",
                answer,
                '404 with {"error": {"code": "NOT_FOUND", ...}}',
            )
        return Passed("404 NOT_FOUND as JSON")

    def unknown_language(self) -> Found:
        """A language without a runtime is refused when a session is started, not when it is called."""
        language = "cobol" + secrets.token_hex(2)
        answer = self.patient_call(
            "POST",
            "/api/v1/initialize",
            {"context": {}, "script_content": "return 1"},
            {"Language-Title": f"{language}-verify"},
        )
        if answer.status != 400 or answer.code() != "INVALID_REQUEST":
            raise wrong_answer(
                "an unknown language is not refused",
                f"POST {self.url}/api/v1/initialize, Language-Title: {language}-verify",
                answer,
                "400 INVALID_REQUEST",
            )
        return Passed(f"400 INVALID_REQUEST: {answer.message()}")

    def internals(self, paths: list[str]) -> Found:
        """Nothing of the administration or of the metrics can be reached from outside."""
        for path, answer in zip(paths, concurrently(lambda path: self.call("GET", path), paths, 3), strict=True):
            if isinstance(answer, PlatformError):
                raise answer
            if answer.status != 404 or answer.code() != "NOT_FOUND":
                raise wrong_answer(
                    "an internal path can be reached through the edge",
                    f"GET {self.url}{path}",
                    answer,
                    "404 NOT_FOUND: metrics and administration have ports of their own inside the cluster",
                    fix="remove the route from ingress_routes",
                )
        return Passed(f"{', '.join(paths)}: all 404")

    def language(self, language: str) -> Found:
        """A script computes from random input, fails when it is asked to, and its runtime goes on after that."""
        dice = random.SystemRandom()
        context = {"seed": dice.randrange(MODULUS)}
        session = self.initialize(language, SCRIPTS[language], context)["request_id"]
        where = f"POST {self.url}/api/v1/execute/{session} ({language})"
        began = self.clock()
        self._computed(language, session, where, dice, context)
        waited = self.clock() - began

        token = secrets.token_hex(8)
        answer = self.execute(session, {"fail": f"failed on purpose {token}"})
        if answer.status != 422 or answer.code() != "RUNTIME_ERROR" or token not in answer.message():
            raise wrong_answer(
                "a script's own error is not told",
                where,
                answer,
                f"422 RUNTIME_ERROR with the script's message (failed on purpose {token})",
                language,
            )
        second = self._computed(language, session, where, dice, context)
        return Passed(
            f"right twice (first answer after {waited * 1000:.0f} ms, then {second['execution_time_ms']:.0f} ms "
            f"in the runtime, {second['memory_usage_bytes'] / 2**20:.0f} MiB); a script's error is 422 RUNTIME_ERROR"
        )

    def _computed(
        self, language: str, session: str, where: str, dice: random.Random, context: dict[str, int]
    ) -> dict[str, Any]:
        params = {
            "numbers": [dice.randrange(MODULUS) for dummy in range(40)],
            "text": "".join(dice.choice("abcäöüßéñ€漢字🙂 \"\\'\n") for dummy in range(24)),
        }
        expected = expected_result(params, context)
        answer = self.execute(session, params)
        body = answer.json()
        if answer.status != 200 or not isinstance(body, dict):
            raise wrong_answer("a script was not executed", where, answer, "200 with the script's result", language)
        if body.get("result") != expected:
            raise wrong_answer("a script's result is wrong", where, answer, f"the result {expected}", language)
        problem = _execution_problem(body, session)
        if problem:
            raise wrong_answer("the answer to execute is not as described", where, answer, problem, language)
        return body

    def sessions(self, language: str, calls: int, seen_by: Callable[[str], dict[str, int] | None]) -> Found:
        """A session is executed over many connections, thus by several replicas.

        seen_by says which replica answered how many requests of a session, None where that cannot be known.
        """
        seed = secrets.randbelow(MODULUS)
        session = self.initialize(language, SCRIPTS[language], {"seed": seed})["request_id"]
        shown = self.call("GET", f"/api/v1/sessions/{session}")
        about = shown.json()
        if shown.status != 200 or not isinstance(about, dict) or about.get("language") != language:
            raise wrong_answer(
                "a session is not found",
                f"GET {self.url}/api/v1/sessions/{session}",
                shown,
                f"200 with its language, {language}",
            )
        where = f"POST {self.url}/api/v1/execute/{session} ({language}), one of {calls} new connections"

        def run(number: int) -> None:
            params = {"numbers": [number], "text": str(number)}
            answer = self.execute(session, params)
            body = answer.json()
            expected = expected_result(params, {"seed": seed})
            if answer.status != 200 or not isinstance(body, dict) or body.get("result") != expected:
                raise wrong_answer(
                    "not every replica answers for a session", where, answer, f"the result {expected}", language
                )

        for outcome in concurrently(run, range(calls), 4):
            if isinstance(outcome, PlatformError):
                raise outcome
        replicas = seen_by(session)
        if replicas is None:
            return Passed(f"{calls} of {calls} right over new connections; there is one replica")
        answered = {name: count for name, count in replicas.items() if count}
        if not answered:
            return Doubtful(
                f"{calls} of {calls} right; by which replicas is unknown",
                "Which replicas of the controller answered could not be seen: their logs do not hold session ids.",
            )
        if len(answered) == 1:
            raise PlatformError(
                "one replica of the controller gets all requests",
                where=where,
                found=f"{next(iter(answered))} answered all, {len(replicas)} are ready",
                expected="at least two replicas that answer",
                fix="check that Envoy's upstream resolves to every replica (a headless Service), and outlier ejections",
                reason="replicas",
            )
        return Passed(f"{calls} of {calls} right over new connections, by {len(answered)} of {len(replicas)} replicas")


# --- what is expected ------------------------------------------------------------------------------------------------


def expected_result(params: Mapping[str, Any], context: Mapping[str, int]) -> dict[str, Any]:
    """What SCRIPTS compute."""
    fold = context["seed"]
    for number in params["numbers"]:
        fold = (fold * 31 + number) % MODULUS
    return {"fold": fold, "mirrored": params["text"][::-1]}


def _session_problem(session: Mapping[str, Any]) -> str:
    """What the answer to initialize should be and is not, or nothing."""
    try:
        uuid.UUID(str(session.get("request_id")))
    except ValueError:
        return "a UUID as request_id"
    if session.get("status") != "initialized":
        return "the status initialized"
    try:
        ends = datetime.datetime.fromisoformat(str(session.get("expires_at")))
    except ValueError:
        return "a date (RFC 3339) as expires_at"
    if ends.tzinfo is None or ends <= datetime.datetime.now(datetime.UTC):
        return "an expires_at in the future, with its time zone"
    return ""


def _execution_problem(body: Mapping[str, Any], session: str) -> str:
    """What the answer to execute should be and is not, or nothing."""
    if body.get("request_id") != session:
        return f"the request_id {session}"
    elapsed, memory = body.get("execution_time_ms"), body.get("memory_usage_bytes")
    if not isinstance(elapsed, (int, float)) or isinstance(elapsed, bool) or elapsed < 0:
        return "execution_time_ms, a number"
    if not isinstance(memory, int) or isinstance(memory, bool) or memory <= 0:
        return "memory_usage_bytes, a whole number above 0"
    return ""


# --- errors ----------------------------------------------------------------------------------------------------------

_TO_DO = {
    400: "compare the request with images/controller/openapi.yaml, and the edge's route table",
    404: "check that the edge's route table leads to the controller, and that sessions are kept (Redis)",
    422: "the runtime ran the script and calls it faulty: see the log of the language's runtime",
    429: "wait, or raise the limit of requests at the edge",
    500: "see the logs of the controller's pods: kubectl get pods -A -l app.kubernetes.io/name=controller",
    503: "see which part is away: kubectl get pods -A, and the controller's log",
    504: "see the load of the machine and the log of the language's runtime",
}


def wrong_answer(
    what: str, where: str, answer: Answer, expected: str, language: str = "", fix: str = ""
) -> PlatformError:
    """The edge answered, but not as it should."""
    runtime = f" (kubectl get pods -A -l app.kubernetes.io/name={language}-runtime)" if language else ""
    return PlatformError(
        what,
        where=where,
        found=answer.spoken(),
        expected=expected,
        fix=fix or _TO_DO.get(answer.status, "see the logs of Envoy and of the controller") + runtime,
        reason="answer",
        status=answer.status,
        **({"language": language} if language else {}),
    )


def no_answer(failure: Exception, where: str) -> PlatformError:
    """The edge did not answer."""
    if isinstance(failure, socket.gaierror):
        found = f"its host has no address ({failure.strerror})"
        fix = "check the name in verify_edge_url and its DNS entry"
    elif isinstance(failure, ConnectionRefusedError):
        found = "the connection was refused"
        fix = "check that the cluster runs, and that the port leads to Envoy's Service"
    elif isinstance(failure, TimeoutError):
        found = "no answer in time"
        fix = "check the load of the machine, firewalls, and the pods of Envoy and of the controller"
    else:
        found = str(failure) or type(failure).__name__
        fix = "see the logs of Envoy's pods: kubectl get pods -A -l app.kubernetes.io/name=envoy"
    return PlatformError(
        "the edge does not answer", where=where, found=found, expected="an answer", fix=fix, reason="unreachable"
    )


def _tls_name(version: ssl.TLSVersion) -> str:
    return {"TLSv1": "TLS 1.0"}.get(version.name, version.name.replace("TLSv", "TLS ").replace("_", "."))


def _address(url: str, scheme: str, option: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
        parts = parts._replace(scheme="")
    if parts.scheme != scheme or not parts.hostname or parts.path.strip("/") or parts.query:
        raise PlatformError(
            f"{option} is not the address of the edge",
            where=option,
            found=url or "nothing",
            expected=f"{scheme}://HOST or {scheme}://HOST:PORT",
            fix=f"set verify_edge_{'url' if scheme == 'https' else 'plain_url'}",
            reason="argument",
        )
    return parts.hostname, port or {"https": 443, "http": 80}[scheme]
