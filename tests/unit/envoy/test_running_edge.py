"""What a caller sees of a real Envoy that runs with the files of the filter."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.access_log import ACCESS_LOG_FIELDS
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.bootstrap import (
    ADMIN_PORT,
    METRICS_PORT,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.listeners import HTTP_PORT, HTTPS_PORT

from tests.free_ports import free_port

from .conftest import Edge, certificate, serving, stopping

ROUTES = [
    {"name": "slow", "match": {"path": "/api/v1/slow"}, "upstream": "controller", "timeout_seconds": 0.5},
    {
        "name": "python",
        "match": {"prefix": "/api/v1", "language_title": "python"},
        "upstream": "controller",
        "rewrite_prefix": "/py",
    },
    {"name": "delete", "match": {"prefix": "/api/v1", "methods": ["DELETE"]}, "upstream": "nothing"},
    {"name": "api", "match": {"prefix": "/api/v1"}, "upstream": "controller"},
]


def configuration(upstream, routes=None, **options):
    upstreams = [
        {
            "name": "controller",
            "address": "127.0.0.1",
            "port": upstream.port,
            "health_check": {"path": "/ready", "interval_seconds": 0.1},
        },
        {"name": "nothing", "address": "127.0.0.1", "port": free_port()},
    ]
    options = {"https_port": 9443, "response_headers": {"X-Content-Type-Options": "nosniff"}, **options}
    return configure(routes or ROUTES, upstreams, **options)


@pytest.fixture(scope="module")
def shared(envoy_binary, tmp_path_factory):
    """One edge and its upstream for the tests that change neither."""
    with serving() as behind, stopping(Edge(envoy_binary, tmp_path_factory.mktemp("edge"))) as running:
        running.start(configuration(behind, max_request_bytes=1000))
        running.upstream = behind
        yield running


@pytest.fixture
def started(shared):
    shared.upstream.seen.clear()
    return shared


def error_of(answer):
    assert answer.headers["content-type"] == "application/json"
    error = answer.json["error"]
    assert set(answer.json) == {"error"} and set(error) == {"code", "message"} and error["message"]
    return answer.status, error["code"]


def test_a_request_passes_and_the_edge_tells_nothing_of_what_is_behind_it(started):
    answer = started.get(
        "/api/v1/sessions/1?a=b", headers={"X-Envoy-Upstream-Rq-Timeout-Ms": "1", "X-Request-Id": "forged"}
    )
    assert answer.status == 200
    assert answer.json["path"] == "/api/v1/sessions/1?a=b"
    assert "x-envoy-upstream-rq-timeout-ms" not in answer.json["headers"]
    assert answer.json["headers"]["x-request-id"] == answer.headers["x-request-id"] != "forged"
    assert answer.headers["server"] == "edge"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in answer.headers if name.startswith("x-envoy")]


def test_the_forwarded_address_is_the_peers_and_not_the_clients_word(started):
    answer = started.get("/api/v1/x", headers={"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"})
    assert answer.json["headers"]["x-forwarded-for"].split(",")[-1] != "203.0.113.9"
    assert answer.json["headers"]["x-forwarded-proto"] == "https"
    request_id = answer.headers["x-request-id"]

    def logged():
        return [line["client"] for line in started.access_log() if line["request_id"] == request_id]

    started.wait_until(logged, "a line in the access log")
    assert logged() == ["127.0.0.1"]


def test_the_log_has_half_of_a_sessions_id(started):
    session = "5e3d9a52-71c4-4c1b-9f0e-6a1b2c3d4e5f"
    answer = started.get(f"/api/v1/execute/{session}?secret=1")
    request_id = answer.headers["x-request-id"]

    def logged():
        return [line["path"] for line in started.access_log() if line["request_id"] == request_id]

    started.wait_until(logged, "a line in the access log")
    assert logged() == ["/api/v1/execute/5e3d9a52-71c4-4c1b-"]


@pytest.mark.parametrize(
    "path", ["/", "/api/v2", "/api/v1x", "/admin", "/stats/prometheus", "/ready", "/metrics", "/api/v1/../../ready"]
)
def test_an_unknown_path_is_404_as_json(started, path):
    answer = started.get(path)
    assert error_of(answer) == (404, "NOT_FOUND")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert started.upstream.seen == []


def test_an_upstreams_own_404_stays_as_it_is(started):
    answer = started.get("/api/v1/missing")
    assert answer.status == 404
    assert answer.json["path"] == "/api/v1/missing"


def test_language_title_chooses_the_route_in_any_case_and_the_prefix_is_rewritten(started):
    assert started.get("/api/v1/run", headers={"Language-Title": "PYTHON-sum"}).json["path"] == "/py/run"
    for other in ("nodejs-python-", "python", "pythonic-x"):
        assert started.get("/api/v1/run", headers={"Language-Title": other}).json["path"] == "/api/v1/run"


def test_too_large_a_body_is_413_and_never_reaches_the_upstream(started):
    assert error_of(started.get("/api/v1/x", method="POST", body=b"x" * 1001)) == (413, "PAYLOAD_TOO_LARGE")
    assert started.upstream.seen == []
    assert started.get("/api/v1/x", method="POST", body=b"x" * 1000).json["length"] == 1000


def test_a_slow_upstream_is_504_after_the_routes_own_timeout(started):
    begin = time.monotonic()
    assert error_of(started.get("/api/v1/slow")) == (504, "TIMEOUT")
    assert 0.4 < time.monotonic() - begin < 2.5


def test_a_request_that_does_not_arrive_is_not_called_a_script_that_ran_too_long(edge, upstream):
    edge.start(configuration(upstream, timeout_seconds=1))
    trust = ssl.create_default_context(cafile=str(edge.root / "certificate" / "tls.crt"))
    slow = http.client.HTTPSConnection("localhost", edge.ports[HTTPS_PORT], context=trust, timeout=20)
    slow.putrequest("POST", "/api/v1/x")
    slow.putheader("Content-Length", "10")
    slow.endheaders(b"half")
    answer = slow.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["code"]) == (408, "INVALID_REQUEST")
    slow.close()


def test_an_upstream_that_does_not_listen_is_503_with_retry_after(started):
    answer = started.get("/api/v1/x", method="DELETE")
    assert error_of(answer) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("end", ["drop", "reset", "garbage"])
def test_a_request_that_was_sent_is_never_sent_again_and_the_answer_says_that_it_may_have_run(started, end):
    answer = started.get(f"/api/v1/{end}", method="POST", body=b"{}")
    assert error_of(answer) == (500, "INTERNAL_ERROR")
    assert "may have been handled" in answer.json["error"]["message"]
    # Nothing invites to send it again.
    assert "retry-after" not in answer.headers
    assert started.upstream.seen == [f"/api/v1/{end}"]


def test_what_finds_no_place_at_the_edge_was_not_sent(envoy_binary, tmp_path):
    with serving() as behind, stopping(Edge(envoy_binary, tmp_path)) as edge:
        made = configuration(behind)
        clusters = yaml.safe_load(made.files["clusters.yaml"])
        (controller,) = (cluster for cluster in clusters["resources"] if cluster["name"] == "controller")
        controller["circuit_breakers"] = {"thresholds": [{"max_requests": 1, "max_pending_requests": 1}]}
        edge.start(made._replace(files={**made.files, "clusters.yaml": yaml.safe_dump(clusters)}))
        edge.wait_until(lambda: edge.get("/api/v1/x").status == 200, "the upstream is found")
        behind.seen.clear()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: edge.get("/api/v1/wait"), range(8)))
        refused = [answer for answer in answers if answer.status != 200]
        assert refused and {error_of(answer) for answer in refused} == {(503, "UNAVAILABLE")}
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        assert len(behind.seen) == 8 - len(refused)


def test_where_nobody_is_ready_the_upstream_answers_for_itself(edge, upstream):
    """Every pod is unready while Redis fails over: the controller waits and answers, the edge does not give up."""
    edge.start(configuration(upstream))
    upstream.server.is_ready = False
    unhealthy = 'envoy_cluster_membership_healthy{envoy_cluster_name="controller"} 0'
    edge.wait_until(
        lambda: unhealthy in edge.get("/metrics", port=METRICS_PORT).text, "the upstream counts as unhealthy"
    )
    assert edge.get("/api/v1/x").status == 200


@contextlib.contextmanager
def echoing():
    """An upstream that upgrades a connection and sends back what it gets, beside the usual one's port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (got := connection.recv(4096)):
                    return
                head += got
            if b"upgrade: websocket" not in head.lower():
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                return
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n")
            while got := connection.recv(65536):
                connection.sendall(got)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with listening:
        yield listening.getsockname()[1]


def upgraded(edge, path):
    """A TLS connection on which a WebSocket was asked for, and the head of the answer."""
    context = ssl.create_default_context(cafile=str(edge.root / "certificate" / "tls.crt"))
    connection = context.wrap_socket(
        socket.create_connection(("127.0.0.1", edge.ports[HTTPS_PORT]), timeout=10), server_hostname="localhost"
    )
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    return connection, head.decode()


def test_a_websocket_passes_where_its_route_lets_it(edge, upstream):
    with echoing() as port:
        routes = [
            {
                **ROUTES[-1],
                "name": "socket",
                "match": {"prefix": "/socket"},
                "upstream": "echo",
                "websocket": True,
                "timeout_seconds": 1,
            },
            {**ROUTES[-1], "name": "plain", "match": {"prefix": "/plain"}, "upstream": "echo"},
        ]
        upstreams = [{"name": "echo", "address": "127.0.0.1", "port": port}]
        edge.start(configure(routes, upstreams, max_request_bytes=1000, timeout_seconds=1))
        connection, head = upgraded(edge, "/socket/1")
        with connection:
            assert head.startswith("HTTP/1.1 101 ")
            # More than a body may have, for longer than the request and the route may take.
            for _ in range(8):
                connection.sendall(b"x" * 1500)
                got = b""
                while len(got) < 1500:
                    got += connection.recv(4096)
                time.sleep(0.4)
        connection, head = upgraded(edge, "/plain/1")
        with connection:
            assert head.startswith("HTTP/1.1 403 ")


def test_a_websocket_on_which_nothing_is_sent_ends(edge, upstream):
    with echoing() as port:
        routes = [
            {**ROUTES[-1], "match": {"prefix": "/"}, "upstream": "echo", "websocket": True, "timeout_seconds": 0.1}
        ]
        edge.start(configure(routes, [{"name": "echo", "address": "127.0.0.1", "port": port}], timeout_seconds=0.1))
        connection, head = upgraded(edge, "/1")
        begin = time.monotonic()
        with connection:
            assert head.startswith("HTTP/1.1 101 ")
            assert connection.recv(1) == b""
        assert 4 < time.monotonic() - begin < 9


def test_plain_http_is_sent_to_https_with_the_outer_port_and_keeps_the_method(started):
    answer = started.get("/api/v1/x?a=b", port=HTTP_PORT, method="POST", body=b"{}")
    assert answer.status == 308
    assert answer.headers["location"] == "https://localhost:9443/api/v1/x?a=b"


def test_the_usual_port_is_not_named_in_the_redirect(edge, upstream):
    edge.start(configuration(upstream, https_port=443))
    answer = edge.get("/x", port=HTTP_PORT, headers={"Host": "edge.example"})
    assert answer.headers["location"] == "https://edge.example/x"


@pytest.mark.parametrize(
    "request_line, headers",
    [
        ("GET /api/v1/a%2fb HTTP/1.1", b""),  # an escaped slash would hide a segment from the routes
        ("GET /api/v1/x HTTP/1.1", b"x_y: 1\r\n"),  # x_y and x-y are the same header to some programs behind
        ("GET /api/v1/x HTTP/1.1", b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),  # request smuggling
        ("NOT HTTP", b""),
    ],
)
def test_ambiguous_requests_are_refused(started, request_line, headers):
    context = ssl.create_default_context(cafile=str(started.root / "certificate" / "tls.crt"))
    with (
        socket.create_connection(("127.0.0.1", started.ports[HTTPS_PORT])) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(request_line.encode() + b"\r\nHost: localhost\r\nConnection: close\r\n" + headers + b"\r\n")
        secure.settimeout(10)
        answer = b""
        while received := secure.recv(4096):
            answer += received
    assert answer.startswith(b"HTTP/1.1 400")
    assert started.upstream.seen == []


def handshake(edge, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(edge.root / "certificate" / "tls.crt"))
    # OpenSSL refuses the old versions on its own account at its default security level.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", edge.ports[HTTPS_PORT])) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.version(), secure.selected_alpn_protocol(), dict(secure.getpeercert()["subject"][0])["commonName"]


def served_certificate(edge):
    """Its subject; nothing while the one that is served is not the one in the folder."""
    try:
        return handshake(edge, ssl.TLSVersion.TLSv1_3)[2]
    except ssl.SSLCertVerificationError:
        return ""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_2_and_1_3_with_http_2_and_nothing_older(started):
    assert handshake(started, ssl.TLSVersion.TLSv1_2)[:2] == ("TLSv1.2", "h2")
    assert handshake(started, ssl.TLSVersion.TLSv1_3)[:2] == ("TLSv1.3", "h2")
    for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            handshake(started, old)


def test_metrics_port_has_metrics_and_readiness_and_nothing_of_the_admin_interface(started):
    started.get("/api/v1/x")
    for path in ("/metrics", "/stats/prometheus"):
        answer = started.get(path, port=METRICS_PORT)
        assert answer.status == 200
        assert "envoy_cluster_upstream_rq_total" in answer.text
    assert started.get("/ready", port=METRICS_PORT).text.strip() == "LIVE"
    for path in ("/", "/config_dump", "/certs", "/stats", "/server_info", "/stats/prometheus/../../config_dump"):
        assert started.get(path, port=METRICS_PORT).status == 404
    for path in ("/quitquitquit", "/healthcheck/fail", "/drain_listeners", "/ready", "/logging?level=trace"):
        assert started.get(path, port=METRICS_PORT, method="POST", body=b"").status == 404


def test_the_admin_interface_is_on_loopback_only(started):
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    addresses = {
        line.split()[3] for line in listening.splitlines() if line.split()[3].endswith(f":{started.ports[ADMIN_PORT]}")
    }
    assert addresses == {f"127.0.0.1:{started.ports[ADMIN_PORT]}"}


def test_the_access_log_has_one_json_line_a_request_without_query_and_body(started):
    earlier = len(started.access_log())
    started.get(
        "/api/v1/x?token=hidden",
        method="POST",
        body=b"hidden",
        headers={"Language-Title": "rust-a", "Authorization": "hidden"},
    )
    started.get("/nowhere", headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    started.get("/nowhere", headers={"traceparent": "00-hidden-b7ad6b7169203331-01"})
    started.wait_until(lambda: len(started.access_log()) == earlier + 3, "three more lines in the access log")
    first, second, third = started.access_log()[earlier:]
    assert set(first) == set(ACCESS_LOG_FIELDS)
    expected = {
        "method": "POST",
        "path": "/api/v1/x",
        "status": 200,
        "route": "api",
        "language_title": "rust-a",
        "bytes_received": 6,
    }
    assert {name: first[name] for name in expected} == expected
    assert first["tls_version"] == "TLSv1.3" and first["listener"] == "https" and first["duration_ms"] >= 0
    assert 0 < first["before_upstream_us"] < 10_000_000 and second["before_upstream_us"] is None
    assert (second["status"], second["route"]) == (404, "unknown")
    assert (first["trace_id"], second["trace_id"]) == (None, "0af7651916cd43dd8448eb211c80319c")
    assert "hidden" not in json.dumps([first, second, third])


def test_a_host_name_that_is_not_listed_is_404(edge, upstream):
    edge.start(configuration(upstream, domains=["edge.example"]))
    assert edge.get("/api/v1/x", headers={"Host": "edge.example"}).status == 200
    assert error_of(edge.get("/api/v1/x", headers={"Host": "other.example"})) == (404, "NOT_FOUND")


def test_a_canary_is_chosen_by_a_header_and_by_weight(edge, upstream):
    with serving() as canary:
        upstreams = [
            {"name": "controller", "address": "127.0.0.1", "port": upstream.port},
            {"name": "canary", "address": "127.0.0.1", "port": canary.port},
        ]
        routes = [
            {
                "name": "canary",
                "match": {"prefix": "/", "headers": [{"name": "x-canary", "exact": "true"}]},
                "upstream": "canary",
            },
            {
                "name": "api",
                "match": {"prefix": "/"},
                "upstream": [{"name": "controller", "weight": 3}, {"name": "canary", "weight": 1}],
            },
        ]
        edge.start(configure(routes, upstreams))
        for _ in range(10):
            edge.get("/asked", headers={"X-Canary": "true"})
        assert (upstream.seen.count("/asked"), canary.seen.count("/asked")) == (0, 10)
        for _ in range(80):
            edge.get("/shared")
        # The chance that a fair draw leaves these bounds is below one in ten thousand.
        assert 5 <= canary.seen.count("/shared") <= 37
        assert upstream.seen.count("/shared") + canary.seen.count("/shared") == 80


def test_weights_share_the_requests_among_upstreams(edge, upstream):
    both = [{"name": "controller", "weight": 1}, {"name": "nothing", "weight": 1}]
    edge.start(configuration(upstream, [{"name": "canary", "match": {"prefix": "/"}, "upstream": both}]))
    statuses = {edge.get("/x").status for _ in range(60)}
    assert statuses == {200, 503}


def test_a_new_table_is_taken_over_without_breaking_a_request_in_flight(edge, upstream):
    edge.start(configuration(upstream))
    slow = [{"name": "api", "match": {"prefix": "/api"}, "upstream": "controller"}]
    edge.place(configuration(upstream, slow))
    edge.wait_until(lambda: edge.get("/api/v2/x").status == 200, "the new table is in force")

    answers = []
    waiting = threading.Thread(target=lambda: answers.append(edge.get("/api/slow").status))
    waiting.start()
    edge.wait_until(lambda: "/api/slow" in upstream.seen, "the request is in flight")
    edge.place(configuration(upstream))
    edge.wait_until(lambda: edge.get("/api/v2/x").status == 404, "the old table is back")
    waiting.join()
    assert answers == [200]


def test_a_connection_outlives_a_new_table_and_a_rotated_certificate(edge, upstream):
    edge.start(configuration(upstream))
    trust = ssl.create_default_context(cafile=str(edge.root / "certificate" / "tls.crt"))
    held = http.client.HTTPSConnection("localhost", edge.ports[HTTPS_PORT], context=trust, timeout=10)

    def status(path):
        held.request("GET", path)
        answer = held.getresponse()
        answer.read()
        return answer.status

    assert status("/api/v1/x") == 200
    first = held.sock
    edge.place(configuration(upstream, [{"name": "all", "match": {"prefix": "/"}, "upstream": "controller"}]))
    edge.wait_until(lambda: edge.get("/api/v2/x").status == 200, "the new table is in force")
    assert status("/api/v2/x") == 200
    certificate(edge.root / "certificate", "second")
    edge.wait_until(lambda: served_certificate(edge) == "second", "the new certificate is served")
    assert status("/api/v2/x") == 200
    assert held.sock is first
    held.close()


@pytest.mark.parametrize(
    "file, right, broken, counter",
    [
        ("routes.yaml", "cluster: controller", "cluster: [1]", "envoy_http_rds_update_rejected"),
        ("routes.yaml", "name: api", "name: {", "envoy_http_rds_update_rejected"),
        ("clusters.yaml", "connect_timeout: 1s", "connect_timeout: 0s", "envoy_cluster_manager_cds_update_rejected"),
        ("listeners.yaml", "stat_prefix: edge", "stat_prefix: ''", "envoy_listener_manager_lds_update_rejected"),
    ],
)
def test_a_refused_file_is_counted_and_changes_nothing(edge, upstream, file, right, broken, counter):
    edge.start(configuration(upstream))

    def counted():
        lines = edge.get("/metrics", port=METRICS_PORT).text.splitlines()
        failures = counter.replace("rejected", "failure")
        return sum(int(line.split()[-1]) for line in lines if line.startswith((counter, failures)))

    before = counted()
    wrong = configuration(upstream)
    assert right in wrong.files[file]
    wrong.files[file] = wrong.files[file].replace(right, broken)
    edge.place(wrong)
    edge.wait_until(lambda: counted() > before, "the refusal is counted")
    assert edge.get("/api/v1/x").status == 200


def test_a_broken_file_never_replaces_a_table_that_works(edge, upstream):
    edge.start(configuration(upstream))
    broken = configuration(upstream)
    broken.files["routes.yaml"] = broken.files["routes.yaml"].replace("cluster: controller", "cluster: [1]")
    edge.place(broken)
    edge.wait_until(lambda: "routes.yaml" in (edge.root / "envoy.log").read_text(), "Envoy says what is wrong")
    assert edge.get("/api/v1/x").status == 200


def test_a_rotated_certificate_is_served_without_a_restart(edge, upstream):
    edge.start(configuration(upstream))
    assert served_certificate(edge) == "first"
    certificate(edge.root / "certificate", "second")
    edge.wait_until(lambda: served_certificate(edge) == "second", "the new certificate is served")


def test_connections_beyond_the_limit_are_refused_and_the_probe_is_not(edge, upstream):
    edge.start(configuration(upstream, max_connections=2))
    held = [socket.create_connection(("127.0.0.1", edge.ports[HTTPS_PORT])) for _ in range(2)]
    try:
        time.sleep(0.3)
        with pytest.raises(OSError):
            edge.get("/api/v1/x", timeout=5)
        assert edge.get("/ready", port=METRICS_PORT).status == 200
    finally:
        for connection in held:
            connection.close()
    edge.wait_until(lambda: edge.get("/api/v1/x").status == 200, "room again")


@contextlib.contextmanager
def silent(address, port):
    """Connections to it are neither accepted nor refused, as those to a pod whose network is gone."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((address, port))
        full.listen(0)
        for _number in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield


@pytest.mark.parametrize(("pod", "at_once"), [("refuses", 40), ("is silent", 150)])
def test_all_that_finds_a_pod_gone_is_sent_to_another(envoy_binary, tmp_path, pod, at_once):
    """A pod that goes has its share of a second's requests, all at once: none of them may be an error."""
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(serving())
        edge = stack.enter_context(stopping(Edge(envoy_binary, tmp_path)))
        if pod == "is silent":
            stack.enter_context(silent("127.0.0.2", behind.port))
        made = configuration(behind)
        clusters = yaml.safe_load(made.files["clusters.yaml"])
        (controller,) = (cluster for cluster in clusters["resources"] if cluster["name"] == "controller")
        del controller["health_checks"], controller["outlier_detection"]
        (local,) = controller["load_assignment"]["endpoints"]
        # The loopback network is one: nothing answers at its second address.
        gone = {"socket_address": {"address": "127.0.0.2", "port_value": behind.port}}
        local["lb_endpoints"].append({"endpoint": {"address": gone}})
        edge.start(made._replace(files={**made.files, "clusters.yaml": yaml.safe_dump(clusters)}))
        edge.wait_until(lambda: edge.get("/api/v1/x").status == 200, "the upstream is found")
        with ThreadPoolExecutor(at_once) as pool:
            statuses = [answer.status for answer in pool.map(lambda _: edge.get("/api/v1/x"), range(400))]
        assert statuses == [200] * 400
        attempts = [line["upstream_attempts"] for line in edge.access_log()]
        assert attempts.count(2) > 20


def test_a_pod_that_is_not_ready_gets_no_request_while_another_is(envoy_binary, tmp_path):
    """In a rolling update or a drain most of few pods are new or going: one that is ready is enough."""
    with serving() as behind, stopping(Edge(envoy_binary, tmp_path)) as edge:
        made = configuration(behind)
        clusters = yaml.safe_load(made.files["clusters.yaml"])
        (controller,) = (cluster for cluster in clusters["resources"] if cluster["name"] == "controller")
        (local,) = controller["load_assignment"]["endpoints"]
        for address in ("127.0.0.2", "127.0.0.3"):
            new = {"socket_address": {"address": address, "port_value": behind.port}}
            local["lb_endpoints"].append({"endpoint": {"address": new}})
        edge.start(made._replace(files={**made.files, "clusters.yaml": yaml.safe_dump(clusters)}))
        assert [edge.get("/api/v1/x").status for _ in range(30)] == [200] * 30
        assert {line["upstream_attempts"] for line in edge.access_log()} == {1}
