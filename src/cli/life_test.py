#!/usr/bin/env python3
"""A node's life as its user sees it: renewal, further networks, reload, terminals, service manager, UDP.

usage: life_test.py RAVINE SOURCE_DIRECTORY
"""
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

import commands_test
from commands_test import free_port


def wait_until(condition, limit_s, what):
    end = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.05)
    return value


def on_terminal(words, answers=(), environment=None):
    """Runs a command on a terminal and types the answers; (exit code, what the terminal showed)."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(words[0], words, {**os.environ, "TERM": "xterm", **(environment or {})})
    shown, pending = b"", list(answers)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if pending and pending[0][0] in shown:
            os.write(terminal, pending.pop(0)[1])
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            block = os.read(terminal, 65536)
        except OSError:
            break
        if not block:
            break
        shown += block
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


class Life(commands_test.Commands):
    def command(self, machine, *words):
        return [commands_test.RAVINE, "--state", str(machine.state), *words]

    def configure(self, machine, text):
        path = machine.state / "ravine.toml"
        path.write_text(path.read_text() + text)

    def certificate(self, machine):
        return machine.json("status")["networks"][0]["certificate"]

    def short_lived(self, lifetime="12s"):
        """A network whose certificates live for seconds, and two nodes in it."""
        first, second = self.machine("first"), self.machine("second")
        self.assertEqual(first.run("ca", "init", "--name", "alpha", "--lifetime", lifetime).returncode, 0)
        second.json("join", first.json("invite", "beta")["code"])
        return first, second

    def test_certificates_renew_and_bring_secret_and_root(self):
        first, second = self.short_lived()
        before = self.certificate(second)["serial"]
        address = second.json("status")["networks"][0]["address"]
        wait_until(lambda: self.certificate(second)["serial"] != before, 20, "renewal")
        # A revocation replaces the network secret, and members fetch it at once.
        secret = second.state / "networks/home/network.secret"
        old = secret.read_bytes()
        first.run("ca", "issue", "gamma", "--out", str(self.root / "gamma"))
        self.assertEqual(second.run("ping", "alpha", "--count", "1").returncode, 0)
        self.assertEqual(first.run("ca", "revoke", "gamma").returncode, 0)
        wait_until(lambda: secret.read_bytes() != old, 10, "the new secret at the member")
        # A new root arrives with a renewal; addresses stay.
        roots = second.state / "networks/home/ca.crt"
        self.assertEqual(first.run("ca", "rotate-root").returncode, 0)
        wait_until(lambda: roots.read_text().count("BEGIN") == 2, 20, "the new root at the member")
        self.assertEqual(second.json("status")["networks"][0]["address"], address)
        self.assertEqual(second.run("ping", "alpha", "--count", "1").returncode, 0)

    def test_without_issuer_a_node_goes_through_grace_and_then_that_network_is_off(self):
        first, second = self.short_lived("10s")
        self.assertEqual(first.run("down").returncode, 0)
        wait_until(lambda: self.certificate(second)["renewal_error"], 20, "a failed renewal is told")
        wait_until(lambda: self.certificate(second)["state"] == "in grace", 20, "grace")
        self.assertEqual(first.run("up", "--detach").returncode, 0)
        wait_until(lambda: self.certificate(second)["state"] == "valid", 20, "renewal out of grace")
        log = (second.state / "ravine.log").read_text()
        retries = re.findall(r"was not renewed, next try in (\d+) s", log)
        self.assertGreaterEqual(len(retries), 1)
        self.assertLess(len(retries), 20)
        # The floor of the clock puts the node behind the end of the grace.
        second.run("down")
        (second.state / "clock").write_text(f"{int(time.time()) + 70 * 86400}\n")
        self.fails(second.run("up"), 4, "ravine join")
        # Another network makes the node worth running.
        self.assertEqual(second.run("pair", "--name", "b").returncode, 0)
        states = {n["name"]: n["active"] for n in second.json("status")["networks"]}
        self.assertEqual(states, {"home": False, "paired": True})
        self.assertIn("off", second.run("status").stdout.decode())
        self.assertIn("network home is off", (second.state / "ravine.log").read_text())

    def test_running_node_enters_further_networks_at_once(self):
        first, second = self.network()
        pid = second.pid()
        code = first.json("pair", "--name", "one")["code"]  # its first pairing, while it runs
        self.assertTrue(second.json("pair", code, "--name", "two")["running"])
        self.assertEqual(second.run("ping", "one", "--count", "1").returncode, 0)
        third = self.machine("third")
        self.assertEqual(third.run("ca", "init", "--network", "lab", "--name", "gate").returncode, 0)
        self.assertTrue(second.json("join", third.json("invite", "guest")["code"])["running"])
        self.assertEqual(second.run("ping", "gate", "--count", "1").returncode, 0)
        self.assertEqual(second.run("ping", "alpha.home.fuse", "--count", "1").returncode, 0)
        self.assertEqual(second.pid(), pid)

    def test_faulty_reload_changes_nothing(self):
        first, second = self.network()
        self.assertEqual(second.run("ping", "alpha", "--count", "1").returncode, 0)
        good = (second.state / "ravine.toml").read_text()
        before = {key: second.json("status")[key] for key in ("proxy", "exposures", "forwards", "metrics")}
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.configure(second, f'[[expose]]\nport = 22\nto = "127.0.0.1:22"\n'
                           f'[[forward]]\nlisten = "127.0.0.1:{free_port(socket.SOCK_STREAM)}"\n'
                           'to = "alpha:1"\n'
                           f'[[forward]]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\nto = "alpha:2"\n')
            self.assertEqual(second.run("reload").returncode, 7)
        self.assertEqual(before, {key: second.json("status")[key] for key in before})
        # The proxy moves and the metrics appear without a restart.
        proxy, metrics = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
        (second.state / "ravine.toml").write_text(
            good.replace(str(second.proxy), str(proxy)).replace(
                "[node]", f'[node]\nmetrics = "127.0.0.1:{metrics}"'))
        self.assertEqual(second.json("reload")["needs_restart"], [])
        socket.create_connection(("127.0.0.1", proxy)).close()
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=5) as page:
            text = page.read().decode()
        self.assertIn('ravine_certificate_expires_seconds{network="home"}', text)
        rebound = urllib.request.Request(f"http://127.0.0.1:{metrics}/metrics",
                                         headers={"Host": "evil.example"})
        with self.assertRaises(urllib.error.HTTPError):
            urllib.request.urlopen(rebound, timeout=5)
        self.assertEqual(len(second.json("sessions")["sessions"]), 1)

    def test_service_manager_is_told_and_sigterm_ends_with_0(self):
        machine = self.machine("a")
        self.assertEqual(machine.run("ca", "init", "--name", "alpha").returncode, 0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(self.root / "notify"))
            manager.settimeout(20)
            node = subprocess.Popen(self.command(machine, "up"), stderr=subprocess.PIPE,
                                    env={**os.environ, "NOTIFY_SOCKET": str(self.root / "notify")})
            self.addCleanup(node.stderr.close)
            self.assertIn(b"READY=1", manager.recv(4096))
            self.assertEqual(machine.run("status").returncode, 0)
            node.send_signal(signal.SIGTERM)
            self.assertIn(b"STOPPING=1", manager.recv(4096))
            self.assertEqual(node.wait(20), 0)
        self.assertNotIn(b"\x1b[", node.stderr.read())

    def test_passphrase_is_asked_on_the_terminal_and_not_shown(self):
        machine = self.machine("a")
        typed = [(b"passphrase for the root's key: ", b"open sesame\n"),
                 (b"the same again: ", b"open sesame\n")]
        founding = self.command(machine, "ca", "init", "--name", "alpha", "--passphrase")
        code, shown = on_terminal(founding, typed)
        self.assertEqual(code, 0, shown)
        self.assertNotIn("sesame", shown)
        self.assertIn("ENCRYPTED", (machine.state / "ca/root.key").read_text())
        wrong = [(b"passphrase of the root's key: ", b"guess\n")]
        rotating = self.command(machine, "ca", "rotate-root", "--passphrase")
        self.assertNotEqual(on_terminal(rotating, wrong)[0], 0)

    def test_terminal_gets_qr_and_colours_and_a_pipe_does_not(self):
        first, _ = self.network()
        shown = on_terminal(self.command(first, "invite", "gamma"))[1]
        self.assertRegex(shown, "[\u2580\u2584\u2588]")
        self.assertNotRegex(first.run("invite", "delta").stdout.decode(), "[\u2580\u2584\u2588]")
        self.assertIn("\x1b[", on_terminal(self.command(first, "status"))[1])
        plain = on_terminal(self.command(first, "status"), environment={"NO_COLOR": "1"})[1]
        self.assertNotIn("\x1b[", plain)
        self.assertNotIn(b"\x1b[", first.run("status").stdout)

    def test_datagrams_cross_a_forward_to_an_exposed_port(self):
        first, second = self.network()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.settimeout(10)
            target = f"127.0.0.1:{server.getsockname()[1]}"
            self.assertEqual(first.run("expose", "53", target, "--udp", "--allow", "beta").returncode, 0)
            port = free_port(socket.SOCK_DGRAM)
            self.configure(second, f'[[forward]]\nlisten = "127.0.0.1:{port}"\nto = "alpha:53"\nudp = true\n')
            self.assertEqual(second.run("reload").returncode, 0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.connect(("127.0.0.1", port))
                client.settimeout(10)
                client.send(b"question")
                data, sender = server.recvfrom(2048)
                self.assertEqual(data, b"question")
                server.sendto(b"answer", sender)
                self.assertEqual(client.recv(2048), b"answer")

    def test_silent_peer_gets_its_socks_reply_within_the_limit(self):
        first, _ = self.network()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            port = silent.getsockname()[1]
            self.configure(first, f'[[peer]]\nname = "mute"\naddresses = ["127.0.0.1:{port}"]\n')
            self.assertEqual(first.run("reload").returncode, 0)
            with socket.create_connection(("127.0.0.1", first.proxy)) as client:
                client.settimeout(10)
                client.sendall(b"\x05\x01\x00")
                self.assertEqual(client.recv(2), b"\x05\x00")
                start = time.monotonic()
                client.sendall(b"\x05\x01\x00\x03\x09mute.fuse\x00\x50")
                reply = client.recv(10)
                self.assertLess(time.monotonic() - start, 4.5)  # 2.8 s by design, 3 s are promised
                self.assertEqual(reply[1], 4)  # host unreachable

    def test_refused_member_reads_why_in_its_log(self):
        first, second = self.network()
        self.assertEqual(second.run("ping", "alpha", "--count", "1").returncode, 0)
        self.assertEqual(first.run("ca", "revoke", "beta").returncode, 0)
        second.run("ping", "alpha", "--count", "1")
        wait_until(lambda: re.search(r"warning .*revoked", (second.state / "ravine.log").read_text()), 10,
                   "a warning about the revocation")

    def test_every_listing_answers_in_json(self):
        first, _ = self.network()
        for words in (["status"], ["peers"], ["sessions"], ["expose"], ["forwards"], ["id"], ["ca", "list"],
                      ["ca", "show"], ["invite", "--list"], ["config", "check"], ["version"],
                      ["bench", "--list"],
                      ["doctor"]):
            with self.subTest(words):
                done = first.run(*words, "--json")
                for line in done.stdout.decode().splitlines():
                    json.loads(line)
                self.assertTrue(done.stdout)

    def test_every_command_has_an_example_in_its_help(self):
        machine = self.machine("a")

        def visit(path):
            text = machine.run(*path, "--help").stdout.decode()
            if path:
                self.assertIn("Examples:\n  ravine " + path[0], text, path)
            section = re.split(r"(?mi)^subcommands:\n", text)
            listing = section[1].split("\n\n")[0] if len(section) > 1 else ""
            for name in re.findall(r"(?m)^  ([a-z-]+) ", listing):
                visit([*path, name])
                visited.append(name)
        visited = []
        visit([])
        self.assertGreater(len(visited), 25)

    def test_bash_completes_commands_and_options(self):
        machine = self.machine("a")
        script = self.root / "completion"
        script.write_bytes(machine.run("completion", "bash").stdout)
        for typed, wanted in ((["ca", "rot"], "rotate-root"), (["up", "--det"], "--detach"),
                              (["inv"], "invite")):
            words = " ".join(["ravine", *typed])
            done = subprocess.run(
                ["bash", "-c", f'source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _ravine; '
                 'echo "${COMPREPLY[@]}"'], capture_output=True, text=True, check=True)
            self.assertIn(wanted, done.stdout.split())

    def test_live_peer_is_measured(self):
        first, second = self.network()
        figures = second.json("bench", "peer", "alpha", "--seconds", "1")
        self.assertGreater(figures["upload_bits_per_second"], 1e6)
        self.assertGreater(figures["download_bits_per_second"], 1e6)


# The cases of commands_test run under their own name.
for name in [name for name in dir(commands_test.Commands) if name.startswith("test_")]:
    setattr(Life, name, None)

if __name__ == "__main__":
    commands_test.RAVINE, commands_test.SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], defaultTest=None if len(sys.argv) > 3 else "Life")
