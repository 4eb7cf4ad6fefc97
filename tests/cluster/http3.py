"""One GET over HTTP/3."""

from __future__ import annotations

import asyncio
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Client(QuicConnectionProtocol):
    """Gives the answer's headers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.headers: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event: Any) -> None:
        for received in self.http.handle_event(event):
            if isinstance(received, HeadersReceived) and not self.headers.done():
                self.headers.set_result({name.decode(): value.decode() for name, value in received.headers})

    async def get(self, host: str, path: str) -> dict[str, str]:
        pseudo = {":method": "GET", ":scheme": "https", ":authority": host, ":path": path}
        headers = [(name.encode(), value.encode()) for name, value in pseudo.items()]
        self.http.send_headers(self._quic.get_next_available_stream_id(), headers, end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self.headers, 15)


def get(address: str, port: int, host: str, authority: str, path: str) -> dict[str, str]:
    """The headers of the answer of ``address``, whose certificate is for ``host``."""

    async def ask() -> dict[str, str]:
        configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=host)
        configuration.load_verify_locations(authority)
        async with connect(address, port, configuration=configuration, create_protocol=Client) as client:
            return await client.get(host, path)

    return asyncio.run(ask())
