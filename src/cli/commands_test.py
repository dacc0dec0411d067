#!/usr/bin/env python3
"""Whole commands as a user types them, against two nodes on this machine: exit codes, messages, JSON.

usage: commands_test.py RAVINE SOURCE_DIRECTORY
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


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Machine:
    """One state directory and the commands on it."""

    def __init__(self, root, name):
        self.state = root / name
        self.proxy = free_port(socket.SOCK_STREAM)
        self.state.mkdir(mode=0o700)
        (self.state / "ravine.toml").write_text(
            f'[node]\nport = {free_port(socket.SOCK_DGRAM)}\n[proxy]\nlisten = "127.0.0.1:{self.proxy}"\n')

    def run(self, *words, stdin=b""):
        environment = {**os.environ, "NO_COLOR": "1"}
        return subprocess.run([RAVINE, "--state", str(self.state), *words], input=stdin, capture_output=True,
                              timeout=60, env=environment)

    def json(self, *words):
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def pid(self):
        return int((self.state / "lock").read_text())


class Commands(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="ravine-cli-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.machines = []

    def machine(self, name):
        made = Machine(self.root, name)
        self.addCleanup(made.run, "down")
        return made

    def fails(self, done, code, *words):
        self.assertEqual(done.returncode, code, done.stderr.decode())
        for word in words:
            self.assertIn(word, done.stderr.decode())

    def network(self):
        first, second = self.machine("first"), self.machine("second")
        self.assertEqual(first.run("ca", "init", "--name", "alpha").returncode, 0)
        code = first.json("invite", "beta", "--groups", "ops")["code"]
        joined = second.json("join", code)
        self.assertEqual(joined["name"], "beta")
        return first, second

    def test_usage_names_the_command_whose_help_to_read(self):
        self.fails(self.machine("a").run("ping"), 2, "see: ravine ping --help")

    def test_without_a_node_every_question_exits_with_3(self):
        machine = self.machine("a")
        for words in (["status"], ["peers"], ["ping", "x"], ["expose"], ["down"], ["log", "level", "info"]):
            self.fails(machine.run(*words), 3, "ravine up")

    def test_config_faults_name_file_line_and_column(self):
        machine = self.machine("a")
        path = machine.state / "ravine.toml"
        path.write_text("[node]\nprot = 1\n")
        self.fails(machine.run("config", "check"), 2, f"{path}:2:1:", 'did you mean "port"?')
        self.fails(machine.run("up"), 2, f"{path}:2:1:")
        self.assertEqual(machine.run("config", "check", str(SOURCE / "packaging/ravine.toml")).returncode, 0)

    def test_three_commands_make_a_network_that_carries_bytes(self):
        first, second = self.network()
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        port = server.getsockname()[1]
        self.assertEqual(first.run("expose", "80", f"127.0.0.1:{port}", "--allow", "group:ops").returncode, 0)
        client = subprocess.Popen([RAVINE, "--state", str(second.state), "connect", "alpha:80"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        server.settimeout(20)
        accepted = server.accept()[0]
        sent = bytes(range(256)) * 64
        client.stdin.write(sent)
        client.stdin.close()
        received = b""
        while chunk := accepted.recv(65536):
            received += chunk
        self.assertEqual(received, sent)
        accepted.sendall(sent[::-1])
        accepted.close()
        self.assertEqual(client.stdout.read(), sent[::-1])
        client.stdout.close()
        self.assertEqual(client.wait(20), 0)
        self.assertLess(second.json("ping", "alpha", "-c", "1")["rtt_ns"], 3_000_000_000)
        session = second.json("status")["sessions"][0]
        self.assertEqual((session["name"], session["path"]["kind"]), ("alpha", "direct"))
        self.assertTrue(session["path"]["why"])

    def test_who_joined_is_reached_by_name_before_it_dialled_anyone(self):
        first, _ = self.network()
        # The joined node makes itself known within moments; until then its name is unknown here.
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            done = first.run("ping", "beta", "--count", "1")
            if done.returncode != 6:
                break
            time.sleep(0.02)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertIn("beta", [peer["name"] for peer in first.json("peers")["peers"]])

    def test_a_second_code_for_a_name_says_how_to_withdraw_the_first(self):
        first = self.machine("first")
        self.assertEqual(first.run("ca", "init").returncode, 0)
        self.assertEqual(first.run("invite", "beta").returncode, 0)
        self.fails(first.run("invite", "beta"), 7, "ravine invite --withdraw beta")

    def test_unknown_peer_and_closed_port_say_so(self):
        first, second = self.network()
        self.fails(second.run("connect", "nobody:80"), 6)
        self.assertNotEqual(second.run("connect", "alpha:81").returncode, 0)

    def test_a_code_works_once(self):
        first, second, third = *self.network(), self.machine("third")
        code = first.json("invite", "gamma")["code"]
        self.assertEqual(third.run("join", code, "--no-up").returncode, 0)
        fourth = self.machine("fourth")
        self.assertIn(fourth.run("join", code, "--no-up").returncode, (4, 5))
        self.assertFalse((fourth.state / "networks/home/cert.crt").exists())

    def test_revocation_cuts_and_shuts_out(self):
        first, second = self.network()
        self.assertEqual(second.run("ping", "alpha", "--count", "1").returncode, 0)
        self.assertEqual(first.run("ca", "revoke", "beta").returncode, 0)
        self.assertEqual(second.run("ping", "alpha", "--count", "1").returncode, 4)
        self.assertEqual(first.json("sessions")["sessions"], [])

    def test_killed_node_starts_again_with_everything(self):
        first, second = self.network()
        os.kill(second.pid(), signal.SIGKILL)
        self.assertEqual(second.run("up", "--detach").returncode, 0)
        self.assertEqual(second.run("ping", "alpha", "--count", "1").returncode, 0)

    def test_readable_key_is_refused_with_the_remedy(self):
        machine = self.machine("a")
        self.assertEqual(machine.run("ca", "init", "--name", "alpha").returncode, 0)
        key = machine.state / "networks/home/key.pem"
        key.chmod(0o640)
        self.fails(machine.run("up"), 4, "chmod 600", "key.pem")

    def test_wrong_authority_is_refused(self):
        machine, other = self.machine("a"), self.machine("b")
        for each in (machine, other):
            self.assertEqual(each.run("ca", "init", "--name", "alpha").returncode, 0)
        shutil.copy(other.state / "networks/home/ca.crt", machine.state / "networks/home/ca.crt")
        self.assertEqual(machine.run("up").returncode, 4)
        (machine.state / "networks/home/ca.crt").unlink()
        self.fails(machine.run("up"), 6, "ca.crt")

    def test_taken_port_and_taken_state_exit_with_7(self):
        first, second = self.network()
        self.fails(first.run("up", "--detach"), 7, "ravine down")
        port = str(first.json("status")["port"])
        third = self.machine("third")
        self.fails(third.run("up", "--detach", "--port", port), 7, port, "--port")

    def test_reload_keeps_sessions_and_names_what_waits(self):
        first, second = self.network()
        self.assertEqual(second.run("ping", "alpha", "--count", "1").returncode, 0)
        path = second.state / "ravine.toml"
        path.write_text(path.read_text() + '[[expose]]\nport = 22\nto = "127.0.0.1:22"\n')
        path.write_text(path.read_text().replace("[proxy]", 'congestion = "bbr"\n[proxy]'))
        report = second.json("reload")
        self.assertEqual(report["needs_restart"], ["node.congestion"])
        self.assertIn("exposed port 22", report["changed"])
        self.assertEqual(len(second.json("sessions")["sessions"]), 1)

    def test_pairing_needs_no_authority(self):
        first, second = self.machine("first"), self.machine("second")
        code = first.json("pair", "--name", "one")["code"]
        self.assertEqual(second.run("pair", code, "--name", "two").returncode, 0)
        self.assertEqual(second.run("ping", "one", "--count", "1").returncode, 0)

    def test_doctor_report_names_nobody(self):
        first, _ = self.network()
        report = self.root / "report.txt"
        first.run("doctor", "--report", str(report))
        text = report.read_text()
        for secret in ("alpha", str(first.state), first.json("id")["identities"][0]["id"]):
            self.assertNotIn(secret, text)

    def test_completion_scripts_are_shell(self):
        machine = self.machine("a")
        script = machine.run("completion", "bash").stdout
        self.assertEqual(subprocess.run(["bash", "-n"], input=script, check=False).returncode, 0)
        self.assertIn(b"rotate-root", script)


if __name__ == "__main__":
    RAVINE, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
