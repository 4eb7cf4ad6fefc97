"""What any server costs in Python: the contract's request and answer, with the benchmark's script built in."""

import concurrent.futures
import http.server
import json
import socketserver


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet, and at once.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer("ok")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"result": request["params"]["n"] + 1})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(http.server.HTTPServer):
    request_queue_size = 1024
    # A kept connection holds its thread, and a constant rate opens many; a pod may have 1024 threads in all.
    threads = concurrent.futures.ThreadPoolExecutor(512)

    def process_request(self, request, client_address):
        self.threads.submit(self.serve, request, client_address)

    def serve(self, request, client_address):
        try:
            self.finish_request(request, client_address)
        finally:
            self.shutdown_request(request)

    def server_bind(self):
        # Without the look-up of the host's name, for which there may be no name server.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


Server(("0.0.0.0", 8080), Handler).serve_forever()  # noqa: S104
