#!/usr/bin/env python3
"""The gateway commands as a user types them: pairing, both sides, statistics, sessions, coap-proxy.

usage: gateway_test.py RAVINE SOURCE_DIRECTORY
"""
import http.server
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request

import commands_test
from commands_test import free_port


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.seen.append((self.command, self.path, body, self.headers.get("authorization")))
        out = json.dumps({"path": self.path, "size": len(body)}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_PUT = do_POST = answer

    def log_message(self, *_):
        pass


class Gateway(commands_test.Commands):
    def setUp(self):
        super().setUp()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        self.server.seen = []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.upstream = f"http://127.0.0.1:{self.server.server_address[1]}"

    def start(self, machine, *words):
        """A command that goes on running; it runs when its control socket is there."""
        role = words[1] if words[0] == "gateway" else words[0]
        path = machine.state / "gateway" / f"{role}.sock"
        path.unlink(missing_ok=True)
        process = subprocess.Popen([commands_test.RAVINE, "--state", str(machine.state), *words],
                                   stderr=subprocess.PIPE)

        def stop():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(20)
            process.stderr.close()
        self.addCleanup(stop)
        end = time.monotonic() + 20
        while not path.exists():
            if process.poll() is not None or time.monotonic() > end:
                self.fail(f"{words} did not start: {process.stderr.read().decode()}")
            time.sleep(0.02)
        return process

    def ask(self, port, path, method="GET", body=None, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def paired(self):
        near, far = self.machine("near"), self.machine("far")
        udp, tcp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        code = far.json("gateway", "pair", "--address", f"127.0.0.1:{udp}")["code"]
        self.assertEqual(near.run("gateway", "pair", "-", "--name", "hut", stdin=code.encode()).returncode, 0)
        return near, far, udp, tcp

    def test_a_code_joins_two_gateways_and_statistics_tell_what_they_carry(self):
        near, far, udp, tcp = self.paired()
        far_words = ("gateway", "far", "--listen", f"127.0.0.1:{udp}", "--upstream", self.upstream)
        process = self.start(far, *far_words)
        self.start(near, "gateway", "near", "--listen", f"127.0.0.1:{tcp}", "--rate", "100kbps")
        self.assertEqual(self.ask(tcp, "/a?b=c"), (200, {"path": "/a?b=c", "size": 0}))
        process.kill()
        process.wait()
        self.start(far, *far_words)
        status, _ = self.ask(tcp, "/_matrix/client/v3/rooms/!r/send/m.room.message/1", "PUT", b'{"body":"x"}',
                             Authorization="Bearer tok")
        self.assertEqual(status, 200)
        self.assertEqual(self.server.seen[-1][3], "Bearer tok")
        pairing = near.json("gateway", "stats")["gateways"][0]["pairings"][0]
        self.assertEqual((pairing["name"], pairing["exchanges"], pairing["failed"]), ("hut", 2, 0))
        self.assertEqual({route["kind"] for route in pairing["routes"]}, {"other", "send"})
        self.assertIn(b"send", near.run("gateway", "stats").stdout)
        known = json.loads(far.run("gateway", "well-known").stdout)
        self.assertEqual(known["address"], f"127.0.0.1:{udp}")
        self.assertEqual(near.run("gateway", "stop").returncode, 0)
        self.fails(near.run("gateway", "stats"), 3, "ravine gateway near")

    def test_a_code_is_taken_once_and_wrong_ones_are_told_apart(self):
        near, far, *_ = self.paired()
        code = far.json("gateway", "pair", "--name", "other")["code"]
        self.assertEqual(near.run("gateway", "pair", code).returncode, 0)
        self.assertNotEqual(near.run("gateway", "pair", code, "--name", "twice").returncode, 0)
        self.fails(near.run("gateway", "pair", code[:-3]), 2)
        self.fails(near.run("gateway", "pair", "RVX"), 2)
        rows = {row["name"]: row for row in near.json("gateway", "pair", "--list")["pairings"]}
        others = {row["check"] for row in far.json("gateway", "pair", "--list")["pairings"]}
        self.assertEqual({row["check"] for row in rows.values()}, others)
        self.assertEqual(near.run("gateway", "pair", "--remove", "hut").returncode, 0)
        self.assertNotIn("hut", near.run("gateway", "pair", "--list").stdout.decode())

    def test_without_pairing_or_upstream_a_gateway_says_what_to_do(self):
        machine = self.machine("a")
        self.fails(machine.run("gateway", "near"), 6, "ravine gateway pair")
        self.fails(machine.run("gateway", "far", "--upstream", self.upstream, "--listen", "127.0.0.1:0"), 6,
                   "ravine gateway pair")
        self.fails(machine.run("gateway", "far"), 2, "--upstream")
        self.fails(machine.run("gateway", "near", "--rate", "fast"), 2, "100bps")

    def test_a_session_between_two_nodes_carries_the_link_with_keys_from_their_certificates(self):
        first, second = self.network()
        udp, tcp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        exposed = first.run("expose", "5683", f"127.0.0.1:{udp}", "--udp", "--allow", "beta")
        self.assertEqual(exposed.returncode, 0, exposed.stderr.decode())
        near = second.json("gateway", "pair", "--peer", "alpha.fuse", "--role", "near")
        far = first.json("gateway", "pair", "--peer", "beta.fuse", "--role", "far")
        self.assertEqual(near["check"], far["check"])
        self.start(first, "gateway", "far", "--listen", f"127.0.0.1:{udp}", "--upstream", self.upstream)
        self.start(second, "gateway", "near", "--listen", f"127.0.0.1:{tcp}", "--peer", "alpha.fuse")
        self.assertEqual(self.ask(tcp, "/over/a/session"), (200, {"path": "/over/a/session", "size": 0}))
        transport = second.json("gateway", "stats")["gateways"][0]["pairings"][0]["transport"]
        self.assertEqual(transport["name"], "session alpha.fuse:5683")
        # A peer that exposes nothing, and one that is unknown, do not take the node down.
        self.assertEqual(second.run("ping", "alpha", "--count", "1").returncode, 0)
        unknown = second.run("gateway", "pair", "--peer", "nobody.fuse", "--role", "near")
        self.fails(unknown, 6, "nobody")

    def test_a_session_to_an_unknown_peer_is_told_to_the_http_client(self):
        _, second = self.network()
        tcp = free_port(socket.SOCK_STREAM)
        code = self.machine("elsewhere").json("gateway", "pair")["code"]
        self.assertEqual(second.run("gateway", "pair", code).returncode, 0)
        self.start(second, "gateway", "near", "--listen", f"127.0.0.1:{tcp}", "--peer", "nobody.fuse",
                   "--timeout", "1s")
        status, text = self.ask(tcp, "/")
        self.assertEqual(status, 504)
        self.assertIn("nobody.fuse", text)

    def test_coap_proxy_carries_http_as_coap_and_back(self):
        machine = self.machine("proxy")
        udp, tcp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        self.start(machine, "coap-proxy", "--coap-target", f"127.0.0.1:{udp}", "--coap-listen",
                   f"127.0.0.1:{udp}", "--http-listen", f"127.0.0.1:{tcp}", "--http-target", self.upstream)
        target = "/_matrix/client/r0/rooms/!r/send/m.room.message/1"
        status, answer = self.ask(tcp, target, "PUT", b'{"msgtype":"m.text","body":"hello"}',
                                  Authorization="Bearer tok")
        self.assertEqual((status, answer["size"]), (200, 35))
        method, path, body, token = self.server.seen[-1]
        self.assertEqual((method, path, token), ("PUT", target, "Bearer tok"))
        self.assertEqual(json.loads(body), {"msgtype": "m.text", "body": "hello"})
        self.fails(machine.run("coap-proxy"), 2, "--coap-target")
        self.fails(machine.run("coap-proxy", "--only-coap", "--only-http"), 2, "nothing to do")


if __name__ == "__main__":
    commands_test.RAVINE = str(pathlib.Path(sys.argv[1]).resolve())
    commands_test.SOURCE = pathlib.Path(sys.argv[2]).resolve()
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Gateway)
    inherited = set(dir(commands_test.Commands))
    own = unittest.TestSuite(test for test in suite if test._testMethodName not in inherited)
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(own).wasSuccessful())
