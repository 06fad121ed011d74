"""An engine of the tests: OpenAI's API over HTTP/1.1, as good or as broken as a file says.

    python engine.py PORT MODE_FILE

MODE_FILE holds `good`, `fails` (500 to every request) or `breaks` (the connection is cut after the first token).
A prompt with POISON ends the process before any byte of an answer.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODELS = {"object": "list", "data": [{"id": "demo", "object": "model", "created": 1, "owned_by": "vllm", "max_model_len": 4096}]}


class Handler(BaseHTTPRequestHandler):
    """One connection, kept for several requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """It always says that it is up."""
        self._whole(200, MODELS if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        """An answer of one token and an end."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if b"POISON" in body:
            os._exit(1)
        mode = MODE.read_text()
        if mode == "fails":
            return self._whole(500, {"error": {"message": "broken", "code": 500}})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        key = {"delta": {"content": "Hello"}} if "chat" in self.path else {"text": "Hello"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        self._event({"choices": [{"index": 0, **key}], "usage": usage})
        if mode == "breaks":
            self.close_connection = True
            return None
        end = {"delta": {}} if "chat" in self.path else {"text": ""}
        self._event({"choices": [{"index": 0, **end, "finish_reason": "stop"}], "usage": usage})
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")
        return None

    def _event(self, event: object) -> None:
        data = event if isinstance(event, str) else json.dumps(event)
        piece = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def _whole(self, status: int, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    MODE = Path(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
