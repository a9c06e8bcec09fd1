"""Takes in what the product sends to others, as Sentry and an OpenTelemetry collector would."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Listener:
    """An HTTP server on loopback that keeps the body of every POST; stopped at the end of the block."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        """Path and body."""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                listener.bodies.append((self.path, body))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def port(self) -> int:
        return self._server.server_port

    def reports(self) -> list[dict[str, Any]]:
        """Events as Sentry gets them."""
        bodies = [body for path, body in self.bodies if path.endswith("/envelope/")]
        # An envelope: its header, then header and content of each item, a line each.
        items = [line for body in bodies for line in body.splitlines()[2::2]]
        return [event for event in map(json.loads, items) if "platform" in event]

    def spans(self) -> list[Any]:
        """Spans as a collector gets them."""
        found = []
        for path, body in self.bodies:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    found += [span for scope in resource.scope_spans for span in scope.spans]
        return found

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
