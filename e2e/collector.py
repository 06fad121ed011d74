"""A collector of traces: takes OTLP over gRPC and keeps every byte, in which strings stand as they are."""

import socketserver
import struct
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
# HPACK: `:status 200` is entry 8 of the static table; the others are literals that are not indexed.
OK = b"\x88" + b"\x00\x0ccontent-type\x10application/grpc"
DONE = b"\x00\x0bgrpc-status\x010"
EMPTY_MESSAGE = bytes(5)


class Collector(socketserver.ThreadingTCPServer):
    """Listens on a free port until it is closed."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exporter)
        self.received = bytearray()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Exporter(socketserver.StreamRequestHandler):
    """One process that sends traces: HTTP/2, as far as gRPC with small messages needs it."""

    server: Collector

    def handle(self) -> None:
        if self.rfile.read(len(PREFACE)) != PREFACE:
            return
        self._send(SETTINGS, 0, 0, b"")
        while head := self.rfile.read(9):
            length = int.from_bytes(head[:3], "big")
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            self._answer(kind, flags, stream, self.rfile.read(length))

    def _answer(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._send(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self._send(PING, ACK, 0, payload)
        elif kind == DATA:
            self.server.received += payload
            for of in (0, stream) if payload else ():
                self._send(WINDOW_UPDATE, 0, of, struct.pack(">I", len(payload)))
            if flags & END_STREAM:
                self._send(HEADERS, END_HEADERS, stream, OK)
                self._send(DATA, 0, stream, EMPTY_MESSAGE)
                self._send(HEADERS, END_HEADERS | END_STREAM, stream, DONE)

    def _send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.wfile.write(struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload)
