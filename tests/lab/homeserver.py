#!/usr/bin/env python3
"""A homeserver for the gateway's scenarios: one room, one token, a line in a file for each event made.

usage: homeserver.py PORT LOG
"""
import http.server
import json
import sys
import threading

API = "/_matrix/client/v3/"
changed = threading.Condition()
events, transactions = [], {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size).decode()
        data = json.dumps(self.result(body), separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def result(self, body):
        path, _, query = self.path.partition("?")
        if path == API + "login":
            return {"user_id": "@a:b.example", "access_token": "syt_a_token"}
        if path == API + "sync":
            fields = dict(field.split("=", 1) for field in query.split("&") if "=" in field)
            return sync(int(fields.get("since", "s0")[1:]), int(fields.get("timeout", "0")) / 1000)
        return {"event_id": post(path.rsplit("/", 1)[1], json.loads(body))}

    do_GET = do_PUT = do_POST = answer


def post(transaction, content):
    """The same transaction again is the same event (Matrix client-server API, transaction identifiers)."""
    with changed:
        if transaction not in transactions:
            transactions[transaction] = f"$event{len(events)}"
            events.append({"event_id": transactions[transaction], "content": content,
                           "unsigned": {"transaction_id": transaction}})
            with open(LOG, "a", encoding="utf-8") as log:
                log.write(content["body"] + "\n")
            changed.notify_all()
        return transactions[transaction]


def sync(since, timeout):
    with changed:
        changed.wait_for(lambda: len(events) > since, timeout)
        answer = {"next_batch": f"s{len(events)}"}
        if len(events) > since:
            answer["rooms"] = {"join": {"!r:b.example": {"timeline": {"events": events[since:]}}}}
        return answer


if __name__ == "__main__":
    LOG = sys.argv[2]
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
