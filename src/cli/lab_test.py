#!/usr/bin/env python3
"""`ravine lab link` and `ravine gateway bench` as a user types them.

usage: lab_test.py RAVINE SOURCE_DIRECTORY
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

RAVINE = ""
SOURCE = pathlib.Path()
LIMIT = 20  # seconds for what takes less than one


def run(*words):
    return subprocess.run([RAVINE, *map(str, words)], capture_output=True, text=True, timeout=LIMIT)


class Link:
    """A running `ravine lab link`."""

    def __init__(self, test, *words):
        self.process = subprocess.Popen([RAVINE, "--json", "lab", "link", *map(str, words)],
                                        stdout=subprocess.PIPE, text=True)
        test.addCleanup(self.process.stdout.close)
        test.addCleanup(self.process.wait, LIMIT)
        test.addCleanup(self.process.kill)
        self.facts = json.loads(self.process.stdout.readline())

    def address(self):
        host, port = self.facts["listen"].rsplit(":", 1)
        return host, int(port)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        text = self.process.stdout.read()
        assert self.process.wait(LIMIT) == 0
        return [json.loads(line) for line in text.splitlines()]


class LabLink(unittest.TestCase):
    def udp(self):
        port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        port.bind(("127.0.0.1", 0))
        port.settimeout(LIMIT)
        self.addCleanup(port.close)
        return port

    def test_carries_both_ways_at_its_rate_and_tells_what_it_carried(self):
        server, client = self.udp(), self.udp()
        link = Link(self, "--to", "127.0.0.1:%d" % server.getsockname()[1], "--rate", "8kbps", "--delay",
                    "50ms", "--verbose")
        begun = time.monotonic()
        client.sendto(b"x" * 22, link.address())
        data, origin = server.recvfrom(100)
        self.assertEqual(len(data), 22)
        server.sendto(data * 2, origin)
        self.assertEqual(len(client.recv(100)), 44)
        self.assertGreaterEqual(time.monotonic() - begun, 0.05 + 0.05 + 0.1 + 0.022)
        *parcels, summary = link.end()
        self.assertEqual([parcel["way"] for parcel in parcels], ["up", "down"])
        self.assertEqual(summary["up"]["ip_bytes"], 50)
        self.assertEqual(summary["down"]["ip_bytes"], 72)
        self.assertEqual(summary["clients"], 1)

    def test_a_rebinding_gives_the_client_another_port_and_the_old_one_is_dead(self):
        server, client = self.udp(), self.udp()
        link = Link(self, "--to", "127.0.0.1:%d" % server.getsockname()[1], "--rebind", "200ms")
        client.sendto(b"one", link.address())
        _, before = server.recvfrom(100)
        deadline = time.monotonic() + LIMIT
        after = before
        while after == before and time.monotonic() < deadline:
            client.sendto(b"two", link.address())
            _, after = server.recvfrom(100)
        self.assertNotEqual(before, after)
        server.sendto(b"to the old port", before)
        server.sendto(b"to the new port", after)
        self.assertEqual(client.recv(100), b"to the new port")

    def test_connects_two_terminals(self):
        link = Link(self, "--pty", "--delay", "10ms")
        near = os.open(link.facts["near"], os.O_RDWR | os.O_NOCTTY)
        self.addCleanup(os.close, near)
        far = os.open(link.facts["far"], os.O_RDWR | os.O_NOCTTY)
        self.addCleanup(os.close, far)
        os.write(near, b"a frame\0")
        self.assertEqual(os.read(far, 100), b"a frame\0")
        self.assertEqual(link.end()[-1]["up"]["ip_bytes"], 8)

    def test_says_what_is_wrong(self):
        for words, code, text in (
                (("--to", ":1", "--loss", "300%"), 2, "loss"),
                (("--to", "nowhere"), 2, "HOST:PORT"),
                ((), 2, "--to"),
                (("--to", ":1", "--outage", "5s"), 2, "LENGTH/PERIOD")):
            done = run("lab", "link", *words)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(text, done.stderr)
        taken = self.udp()
        done = run("lab", "link", "--to", ":1", "--listen", "127.0.0.1:%d" % taken.getsockname()[1])
        self.assertEqual(done.returncode, 7, done.stderr)


class GatewayBench(unittest.TestCase):
    def trace(self, *words):
        folder = tempfile.TemporaryDirectory(prefix="ravine-bench-")
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / "session.json"
        subprocess.run([SOURCE / "tools/gateway_trace/build", path, *words], check=True, capture_output=True)
        return path

    def test_replays_a_session_and_counts_its_bytes(self):
        done = run("--json", "gateway", "bench", "--trace", self.trace(), "--link",
                   "rate=9600bps,delay=300ms")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        total = report["total"]
        self.assertEqual(total["exchanges"], 59)
        self.assertEqual(total["ip_bytes"], total["up_bytes"] + total["down_bytes"])
        self.assertEqual(total["ip_bytes"], sum(kind["ip_bytes"] for kind in report["kinds"].values()))
        self.assertEqual(report["faults"], [])
        self.assertEqual(report["idle_minute_bytes"], 0)
        self.assertGreater(report["https"]["ip_bytes"], total["ip_bytes"])

    def test_a_pipe_costs_less_than_udp(self):
        trace = self.trace("--short", "--sends", "5")
        bytes_of = {}
        for transport in ("udp", "pipe"):
            done = run("--json", "gateway", "bench", "--trace", trace, "--transport", transport, "--no-https",
                       "--link", "rate=1200bps")
            bytes_of[transport] = json.loads(done.stdout)["total"]["ip_bytes"]
        self.assertLess(bytes_of["pipe"], bytes_of["udp"])

    def test_says_what_is_wrong_with_a_trace(self):
        path = self.trace("--short")
        path.write_text('[{"method": "GET"}]')
        done = run("gateway", "bench", "--trace", path)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn('exchange 1: "path"', done.stderr)
        done = run("gateway", "bench", "--trace", path.parent / "missing.json")
        self.assertEqual(done.returncode, 6, done.stderr)


@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
class Demo(unittest.TestCase):
    def test_shows_what_each_exchange_costs_and_leaves_nothing_behind(self):
        with tempfile.TemporaryDirectory(prefix="ravine-demo-test-") as folder:
            done = subprocess.run([SOURCE / "tools/demo-gateway", RAVINE, "--rate", "20kbps"], text=True,
                                  capture_output=True, timeout=60, env={**os.environ, "TMPDIR": folder})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])
        for row in ("login", "first sync", "send", "sync, its echo", "receipt", "total"):
            self.assertRegex(done.stdout, rf"\n  {row} +[0-9]+ B +[0-9]+ B")
        self.assertRegex(done.stdout, r"[0-9.]+ times less")


if __name__ == "__main__":
    RAVINE, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
    unittest.main(argv=sys.argv[:1])
