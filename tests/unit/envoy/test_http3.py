"""HTTP/3 as a client speaks it: QUIC on the UDP port of the same number, with the same certificate and routes."""

from __future__ import annotations

import asyncio

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.listeners import HTTPS_PORT


class Client(QuicConnectionProtocol):
    """One GET over one connection."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.headers = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        for received in self.http.handle_event(event):
            if isinstance(received, HeadersReceived) and not self.headers.done():
                self.headers.set_result({name.decode(): value.decode() for name, value in received.headers})

    async def get(self, path):
        stream = self._quic.get_next_available_stream_id()
        pseudo = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": path}
        headers = [(name.encode(), value.encode()) for name, value in pseudo.items()]
        self.http.send_headers(stream, headers, end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self.headers, 15)


async def get(port, authority, path):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
    configuration.load_verify_locations(str(authority))
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
        return await client.get(path)


def test_http_3_is_announced_and_answered_with_the_same_routes(edge, upstream):
    behind = [{"name": "controller", "address": "127.0.0.1", "port": upstream.port}]
    routes = [{"name": "api", "match": {"prefix": "/api/"}, "upstream": "controller"}]
    edge.start(configure(routes, behind, http3=True, https_port=8443))
    assert edge.get("/api/x").headers["alt-svc"] == 'h3=":8443"; ma=86400'

    port, authority = edge.ports[HTTPS_PORT], edge.root / "certificate" / "tls.crt"
    assert asyncio.run(get(port, authority, "/api/y"))[":status"] == "200"
    assert asyncio.run(get(port, authority, "/elsewhere"))[":status"] == "404"
    edge.wait_until(lambda: len(edge.access_log()) == 3, "a line for each request")
    assert [line["protocol"] for line in edge.access_log()] == ["HTTP/1.1", "HTTP/3", "HTTP/3"]
