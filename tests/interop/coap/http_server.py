"""The HTTP server behind a gateway in these tests: the resources that coap_peer.cpp describes, and what a
gateway could trip over. It prints 'listening PORT' when it is run as a program."""
import http.server
import json
import sys
import threading
import time

LARGE = bytes(97 + i % 26 for i in range(5000))
ORDERED = b'{"z":1,"a":{"y":2.50,"b":[1e2]},"m":null}'


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ticks_from = time.monotonic()

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", kind="text/plain;charset=utf-8", **headers):
        self.send_response(status)
        if body:
            self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(body)

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.split("?")[0]
        if path == "/text":
            return self.reply(200, b"ravine")
        if path == "/large":
            return self.reply(200, LARGE)
        if path == "/huge":
            return self.reply(200, LARGE * 40)
        if path == "/echo":
            return self.reply(200, body)
        if path == "/slow":
            time.sleep(1.5)
            return self.reply(200, b"late")
        if path == "/ticks":
            count = int((time.monotonic() - self.ticks_from) / 0.3)
            return self.reply(200, b"tick %d" % count, Cache_Control="max-age=1")
        if path.startswith("/status/"):
            return self.reply(int(path[8:]), b"" if path == "/status/204" else b"status " + path[8:].encode())
        if path == "/made":
            return self.reply(201, Location="/text")
        if path == "/ordered":
            return self.reply(200, ORDERED, "application/json; charset=utf-8")
        if path == "/tagged":
            if self.headers.get("If-None-Match") == '"a-long-entity-tag"':
                return self.reply(304, ETag='"a-long-entity-tag"')
            return self.reply(200, b"tagged", ETag='"a-long-entity-tag"')
        if path.startswith("/_matrix/") or path.startswith("/path/"):
            told = {"method": self.command, "target": self.path, "body": body.decode(),
                    "type": self.headers.get("Content-Type"), "token": self.headers.get("Authorization")}
            return self.reply(200, json.dumps(told).encode(), "application/json")
        return self.reply(404, b"nothing here")

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_QUERY = serve


def start():
    """A running server; its port is server_port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    running = start()
    print(f"listening {running.server_port}", flush=True)
    sys.stdin.read()
