"""The checks of the edge, against an edge that answers rightly or wrongly, over real TLS."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import ssl
import threading
import uuid

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Passed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import Edge, expected_result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)

# That an edge refuses them can only be seen by offering them.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")


class Authority:
    """Signs certificates for the edges of these tests."""

    def __init__(self, folder, name="test authority"):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), 3650, ca=True)
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject, public_key, days, ca=False, names=()):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=30))
            .not_valid_after(NOW + datetime.timedelta(days=days, hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if ca:
            usage = dict.fromkeys(
                (
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ),
                False,
            )
            builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def pair(self, days=365, names=("localhost",)):
        """The path of a file with a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = [x509.DNSName(name) for name in names] + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        if names != ("localhost",):
            alternative = alternative[:-1]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key.public_key(), days, names=alternative)
        path = self.folder / f"{uuid.uuid4()}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path


class FakePlatform:
    """Answers as the platform's contract says. A test replaces a method to have it answer otherwise."""

    def __init__(self):
        self.sessions = {}
        self.unavailable = 0
        self.calls = 0
        self.asks_for = {}
        self.plain_headers = []

    def answer(self, method, path, headers, body):
        self.calls += 1
        if any(headers.get(name) != value for name, value in self.asks_for.items()):
            return 401, error("UNAUTHENTICATED", "The request does not prove who sends it.")
        if self.unavailable > 0:
            self.unavailable -= 1
            return 503, error("UNAVAILABLE", "wait")
        if (method, path) == ("POST", "/api/v1/initialize"):
            return self.initialize(headers, body)
        if method == "POST" and path.startswith("/api/v1/execute/"):
            return self.execute(path.rsplit("/", 1)[1], body["params"])
        if path.startswith("/api/v1/sessions/"):
            found = self.sessions.get(path.rsplit("/", 1)[1])
            return (200, {"language": found["language"]}) if found else (404, error("NOT_FOUND", "no such session"))
        return self.unknown(path)

    def initialize(self, headers, body):
        language = headers["Language-Title"].split("-")[0]
        if language not in ("nodejs", "python", "rust"):
            return 400, error("INVALID_REQUEST", f"the language {language} is not known")
        session = str(uuid.uuid4())
        self.sessions[session] = {"language": language, "context": body["context"]}
        ends = (NOW + datetime.timedelta(hours=1)).isoformat()
        return 200, {"request_id": session, "status": "initialized", "expires_at": ends}

    def execute(self, session, params):
        if params.get("fail"):
            return 422, error("RUNTIME_ERROR", f"Error: {params['fail']}")
        result = self.result(params, self.sessions[session]["context"])
        return 200, {"result": result, "request_id": session, "execution_time_ms": 1.5, "memory_usage_bytes": 4096}

    def result(self, params, context):
        return expected_result(params, context)

    def unknown(self, path):
        return 404, error("NOT_FOUND", "There is nothing at this path.")

    def redirect(self, path, https):
        return 308, f"{https}{path}"


def error(code, message):
    return {"error": {"code": code, "message": message}}


def serve(handler_of, context=None):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_arguments):
            pass

        def do_GET(self):
            handler_of(self)

        do_POST = do_GET

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_arguments: None
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    return server


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def running(authority):
    """A function that starts an edge and gives (Edge, FakePlatform)."""
    servers = []

    def start(pair=None, minimum=ssl.TLSVersion.TLSv1_2, maximum=ssl.TLSVersion.TLSv1_3, ca_file=None, **proof):
        platform = FakePlatform()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = minimum, maximum
        context.load_cert_chain(pair or authority.pair())

        def secure(request):
            length = int(request.headers.get("Content-Length") or 0)
            body = json.loads(request.rfile.read(length)) if length else None
            status, answer = platform.answer(request.command, request.path, request.headers, body)
            data = json.dumps(answer).encode()
            request.send_response(status)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data)

        https = serve(secure, context)
        url = f"https://localhost:{https.server_port}"

        def plain(request):
            platform.plain_headers.append(request.headers)
            status, location = platform.redirect(request.path, url)
            request.send_response(status)
            if location:
                request.send_header("Location", location)
            request.send_header("Content-Length", "0")
            request.end_headers()

        servers.extend([https, serve(plain)])
        edge = Edge(
            url,
            f"http://localhost:{servers[-1].server_port}",
            str(ca_file or authority.file),
            timeout_seconds=5,
            sleep=lambda _seconds: None,
            **proof,
        )
        return edge, platform

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_right_edge_passes_every_check(running):
    edge, _platform = running()
    found = [
        edge.answers(0),
        edge.redirects(),
        edge.callers(),
        edge.unknown_path(),
        edge.unknown_language(),
        edge.internals(["/metrics", "/stats"]),
        *(edge.language(language) for language in ("nodejs", "python", "rust")),
        edge.sessions("python", 6, lambda _session: {"a": 3, "b": 3}),
    ]
    assert all(isinstance(one, Passed) for one in found), found
    assert "localhost" in found[0].detail
    assert "signed by test authority; 365 days left" in found[0].detail


# --- the certificate -------------------------------------------------------------------------------------------------


def test_a_certificate_of_another_authority_is_not_trusted(running, tmp_path):
    edge, _platform = running(ca_file=Authority(tmp_path, "somebody else").file)
    with pytest.raises(PlatformError, match="not trusted") as caught:
        edge.answers(60)  # it will not become right by waiting
    assert caught.value.reason == "certificate"


def test_an_expired_certificate(running, authority):
    edge, _platform = running(authority.pair(days=-1))
    with pytest.raises(PlatformError, match="expired"):
        edge.answers(0)


def test_a_certificate_for_another_host(running, authority):
    edge, _platform = running(authority.pair(names=("example.org",)))
    with pytest.raises(PlatformError, match="localhost"):
        edge.answers(0)


def test_a_certificate_that_ends_soon_is_a_warning(running, authority):
    edge, _platform = running(authority.pair(days=5))
    found = edge.answers(0)
    assert isinstance(found, Doubtful)
    assert "in 5 days" in found.warning


def test_an_authority_that_is_not_there(running, tmp_path):
    edge, _platform = running(ca_file=tmp_path / "none.crt")
    with pytest.raises(PlatformError, match=r"none\.crt.*no such file.*verify_ca_file"):
        edge.answers(60)


def test_an_edge_that_comes_up_late_is_waited_for(running):
    edge, _platform = running()
    port, edge.port = edge.port, 1
    edge.sleep = lambda _seconds: setattr(edge, "port", port)
    assert isinstance(edge.answers(30), Passed)


def test_no_edge_at_all():
    edge = Edge("https://localhost:1", sleep=lambda _seconds: None)
    with pytest.raises(PlatformError, match="refused"):
        edge.answers(0)


@pytest.mark.parametrize(
    "url", ["", "http://localhost", "https://", "https://localhost:port", "https://localhost/path"]
)
def test_an_address_that_is_none(url):
    with pytest.raises(PlatformError, match="edge.url"):
        Edge(url)


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_modern_tls_passes(running):
    found = running()[0].tls_versions()
    assert "TLSv1.2 and TLSv1.3 work" in found.detail


def test_an_edge_without_tls_1_3_fails(running):
    with pytest.raises(PlatformError, match=r"TLS 1\.3 fails"):
        running(maximum=ssl.TLSVersion.TLSv1_2)[0].tls_versions()


def test_an_edge_that_accepts_tls_1_1_fails(running):
    with pytest.raises(PlatformError, match=r"TLSv1(\.1)? is accepted"):
        running(minimum=ssl.TLSVersion.TLSv1)[0].tls_versions()


# --- who calls -------------------------------------------------------------------------------------------------------

KEY, TOKEN = {"X-API-Key": "a secret key"}, {"Authorization": "Bearer a.secret.token"}


@pytest.mark.parametrize(
    ("asks_for", "proof"), [(KEY, {"api_key": "a secret key"}), (TOKEN, {"token": "a.secret.token"})]
)
def test_an_edge_that_asks_who_calls_is_verified_with_a_key_or_a_token(running, asks_for, proof):
    edge, platform = running(**proof)
    platform.asks_for = asks_for
    found = edge.callers()
    assert isinstance(found, Passed) and "401 without" in found.detail
    assert "secret" not in found.detail
    assert isinstance(edge.language("python"), Passed)


def test_an_edge_that_asks_and_nothing_to_say_is_one_clear_error(running):
    edge, platform = running()
    platform.asks_for = KEY
    with pytest.raises(PlatformError, match=r"401 .*verify_api_key or verify_token.*ingress_authentication is on"):
        edge.callers()


@pytest.mark.parametrize(
    ("asks_for", "proof"), [(KEY, {"api_key": "another secret"}), (TOKEN, {"token": "another.secret"})]
)
def test_a_proof_that_the_edge_does_not_take_is_not_told(running, asks_for, proof):
    edge, platform = running(**proof)
    platform.asks_for = asks_for
    with pytest.raises(PlatformError, match="does not take a (key|token)") as caught:
        edge.callers()
    assert "another" not in str(caught.value)


def test_a_proof_that_nobody_asks_for_is_a_warning(running):
    found = running(api_key="a secret key")[0].callers()
    assert isinstance(found, Doubtful) and "does not ask who calls" in found.warning
    assert "secret" not in found.warning


def test_a_proof_is_never_sent_in_the_clear(running):
    edge, platform = running(api_key="a secret key")
    assert isinstance(edge.redirects(), Passed)
    assert platform.plain_headers and "X-API-Key" not in platform.plain_headers[0]


# --- wrong answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "location", "message"),
    [
        (200, None, "not redirected"),
        (308, None, "not redirected"),
        (308, "https://localhost:443/elsewhere", "leads elsewhere"),
    ],
)
def test_a_wrong_redirect(running, status, location, message):
    edge, platform = running()
    platform.redirect = lambda _path, _https: (status, location)
    with pytest.raises(PlatformError, match=message):
        edge.redirects()


def test_a_redirect_that_loses_the_query(running):
    edge, platform = running()
    platform.redirect = lambda path, https: (308, https + path.split("?")[0])
    with pytest.raises(PlatformError, match="leads elsewhere"):
        edge.redirects()


@pytest.mark.parametrize("answer", [(200, {}), (404, {"message": "no"}), (404, ["NOT_FOUND"]), (404, {"error": "x"})])
def test_an_unknown_path_that_is_known_or_answered_in_another_form(running, answer):
    edge, platform = running()
    platform.unknown = lambda _path: answer
    with pytest.raises(PlatformError, match="unknown path"):
        edge.unknown_path()


def test_metrics_at_the_edge(running):
    edge, platform = running()
    platform.unknown = lambda path: (200, "metrics") if path == "/metrics" else (404, error("NOT_FOUND", ""))
    with pytest.raises(PlatformError, match=r"internal path.*GET https.*/metrics"):
        edge.internals(["/stats", "/metrics"])


def test_an_unknown_language_that_is_taken(running):
    edge, platform = running()
    platform.initialize = lambda _headers, _body: (200, {"request_id": "x"})
    with pytest.raises(PlatformError, match="unknown language"):
        edge.unknown_language()


@pytest.mark.parametrize("seed", [1, "x"])
def test_a_wrong_result_names_the_language(running, seed):
    edge, platform = running()
    platform.result = lambda params, context: {"fold": seed, "mirrored": params["text"][::-1]}
    with pytest.raises(PlatformError, match="result is wrong") as caught:
        edge.language("rust")
    assert caught.value.details["language"] == "rust"
    assert "rust-runtime" in caught.value.fix


def test_a_runtime_that_forgets_the_context(running):
    edge, platform = running()
    platform.result = lambda params, context: expected_result(params, {"seed": context["seed"] + 1})
    with pytest.raises(PlatformError, match="result is wrong"):
        edge.language("python")


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("request_id", "other", "request_id"),
        ("execution_time_ms", -1, "execution_time_ms"),
        ("execution_time_ms", True, "execution_time_ms"),
        ("memory_usage_bytes", 0, "memory_usage_bytes"),
        ("memory_usage_bytes", 1.5, "memory_usage_bytes"),
    ],
)
def test_an_execution_that_is_not_as_described(running, field, value, problem):
    edge, platform = running()
    right = platform.execute

    def execute(session, params):
        status, body = right(session, params)
        return status, {**body, field: value}

    platform.execute = execute
    with pytest.raises(PlatformError, match=problem):
        edge.language("nodejs")


@pytest.mark.parametrize(
    ("field", "value"),
    [("request_id", "7"), ("status", "ok"), ("expires_at", "soon"), ("expires_at", "2020-01-01T00:00:00Z"),
     ("expires_at", "2999-01-01T00:00:00")],
)  # fmt: skip
def test_a_session_that_is_not_as_described(running, field, value):
    edge, platform = running()
    right = platform.initialize
    platform.initialize = lambda headers, body: (200, {**right(headers, body)[1], field: value})
    with pytest.raises(PlatformError, match="initialize is not as described"):
        edge.language("nodejs")


@pytest.mark.parametrize(
    "answer", [(500, error("INTERNAL_ERROR", "x")), (200, {}), (422, error("RUNTIME_ERROR", "without its message"))]
)
def test_a_script_error_that_is_not_told(running, answer):
    edge, platform = running()
    right = platform.execute
    platform.execute = lambda session, params: answer if params.get("fail") else right(session, params)
    with pytest.raises(PlatformError, match="own error is not told"):
        edge.language("python")


def test_a_runtime_that_does_not_survive_a_scripts_error(running):
    edge, platform = running()
    right, failed = platform.execute, []

    def execute(session, params):
        if failed:
            return 500, error("INTERNAL_ERROR", "the runtime is gone")
        failed.extend([params["fail"]] if params.get("fail") else [])
        return right(session, params)

    platform.execute = execute
    with pytest.raises(PlatformError, match="was not executed"):
        edge.language("python")


def test_unavailable_is_tried_again_and_nothing_else(running):
    edge, platform = running()
    platform.unavailable = 2
    assert isinstance(edge.unknown_language(), Passed)
    assert platform.calls == 3
    platform.execute = lambda _session, _params: (500, error("INTERNAL_ERROR", ""))
    platform.calls = 0
    with pytest.raises(PlatformError):
        edge.language("python")
    assert platform.calls == 2, "an execution was repeated that may have run"


def test_unavailable_for_good_ends(running):
    edge, platform = running()
    platform.unavailable = 10**9
    ticks = iter(range(0, 10**6, 5))
    edge.clock = lambda: next(ticks)
    with pytest.raises(PlatformError, match="503"):
        edge.initialize("python", "x", {})


# --- replicas --------------------------------------------------------------------------------------------------------


def test_one_replica_that_gets_all_requests(running):
    with pytest.raises(PlatformError, match="one replica"):
        running()[0].sessions("python", 4, lambda _session: {"a": 4, "b": 0})


def test_replicas_that_cannot_be_told_apart_are_a_doubt(running):
    assert isinstance(running()[0].sessions("python", 4, lambda _session: {"a": 0, "b": 0}), Doubtful)


def test_a_replica_that_does_not_know_the_session(running):
    edge, platform = running()
    right, count = platform.execute, iter(range(100))
    platform.execute = lambda session, params: (
        (404, error("NOT_FOUND", "no such session")) if next(count) == 2 else right(session, params)
    )
    with pytest.raises(PlatformError, match="not every replica"):
        edge.sessions("python", 6, lambda _session: None)
