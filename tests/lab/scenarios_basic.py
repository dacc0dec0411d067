"""What a user does with two hosts on one cable."""
import time

from lab import LabError, is_listening, wait_until
from nodes import NETWORK, PROXY, Node, make_pair, serve, web_exposure

MEBIBYTE = 1 << 20
# The proxy answers within 3 s when a peer cannot be reached; tests allow five times a target.
OFFLINE_LIMIT_S = 15


def fetch_by_name(lab):
    """A page by name and by peer ID, through SOCKS5 and HTTP CONNECT, and by a pipe."""
    alpha, bravo = make_pair(lab)
    serve(bravo, **{"index.html": "hello from bravo\n"})
    bravo.start()
    alpha.start()
    assert alpha.fetch("http://bravo.fuse/").stdout == "hello from bravo\n"
    assert alpha.fetch(f"http://{bravo.peer_id()}.fuse/").stdout == "hello from bravo\n"
    tunnelled = alpha.space.run("curl", "-sS", "--max-time", 20, "--proxytunnel",
                                "--proxy", f"http://127.0.0.1:{PROXY}", "http://bravo.fuse/")
    assert tunnelled.stdout == "hello from bravo\n"
    piped = alpha.cli("connect", "bravo.fuse:80", input="GET / HTTP/1.0\r\n\r\n")
    assert piped.stdout.endswith("hello from bravo\n"), piped.stdout
    session = alpha.session_to("bravo")
    assert session["path"]["kind"] == "direct" and "10.77.0.2" in session["path"]["remote"], session
    assert len(alpha.sessions()) == 1, "every request travels in the one session"


def download_is_fast(lab):
    """200 MiB arrive complete, at a rate that only a broken path would miss."""
    alpha, bravo = make_pair(lab)
    serve(bravo, big=200 * MEBIBYTE)
    bravo.start()
    alpha.start()
    start = time.monotonic()
    size = alpha.download_size("http://bravo.fuse/big")
    rate = 200 * MEBIBYTE * 8 / (time.monotonic() - start) / 1e9
    print(f"200 MiB through SOCKS5 over veth: {rate:.2f} Gbit/s")
    assert size == 200 * MEBIBYTE
    assert rate > 0.2, f"{rate:.3f} Gbit/s"


def udp_associate(lab):
    """Datagrams to an exposed UDP port and back through SOCKS5 UDP ASSOCIATE (RFC 1928 section 7)."""
    alpha, bravo = make_pair(lab)
    bravo.configure(expose=[{"port": 7000, "to": "127.0.0.1:7000", "allow": ["alpha"], "udp": True}])
    bravo.space.start("python3", "-c", UDP_ECHO, log=lab.folder / "echo.log")
    wait_until("echo server", lambda: ":7000 " in bravo.space.run("ss", "-Hlun").stdout, 5)
    bravo.start()
    alpha.start()
    outcome = alpha.space.run("python3", "-c", UDP_CLIENT, PROXY, "bravo.fuse", 7000, timeout=60)
    assert "20 of 20" in outcome.stdout, outcome.stdout + outcome.stderr


def local_forward(lab):
    """A local port that leads to a peer's port."""
    alpha, bravo = make_pair(lab)
    alpha.configure(peers=[("bravo", "10.77.0.2:4717")],
                    forward=[{"listen": "127.0.0.1:9000", "to": "bravo.fuse:80"}])
    serve(bravo, **{"index.html": "forwarded\n"})
    bravo.start()
    alpha.start()
    assert alpha.space.run("curl", "-sS", "--max-time", 20, "http://127.0.0.1:9000/").stdout == "forwarded\n"


def proxy_wants_credentials(lab):
    """A proxy beyond loopback serves only who knows name and password, and starts only with users."""
    alpha, bravo = make_pair(lab)
    serve(bravo, **{"index.html": "for users\n"})
    bravo.start()
    alpha.configure(peers=[("bravo", "10.77.0.2:4717")], proxy=f"10.77.0.1:{PROXY}")
    outcome = alpha.cli("config", "check", alpha.config, check=False)
    assert outcome.returncode != 0 and "users" in outcome.stdout + outcome.stderr, outcome
    alpha.configure(peers=[("bravo", "10.77.0.2:4717")],
                    proxy=f"10.77.0.1:{PROXY}", users=[("ann", "s3cret")])
    alpha.start()

    def through(credentials):
        return alpha.space.run("curl", "-sS", "--max-time", 10,
                               "--proxy", f"socks5h://{credentials}10.77.0.1:{PROXY}",
                               "http://bravo.fuse/", check=False)

    assert through("ann:s3cret@").stdout == "for users\n"
    assert through("ann:wrong@").returncode != 0
    assert through("").returncode != 0


def socks_replies(lab):
    """Each refusal gets its SOCKS5 reply, and the far side's log says why."""
    alpha, bravo = make_pair(lab)
    bravo.configure(expose=[web_exposure(), web_exposure(port=81, allow=["group:ops"]),
                            web_exposure(port=82, to="127.0.0.1:9")])
    serve(bravo, **{"index.html": "yes\n"})
    bravo.start()
    alpha.start()
    assert alpha.fetch("http://bravo.fuse/").stdout == "yes\n"
    assert _reply(alpha, "bravo.fuse", 81) == 2, "not allowed by the rule set"
    assert _reply(alpha, "bravo.fuse", 82) == 5, "the target refuses"
    assert _reply(alpha, "bravo.fuse", 4242) in (2, 5), "nothing exposed there"
    assert _reply(alpha, "nobody.fuse", 80) == 4, "no such peer"
    log = bravo.log_text()
    assert "refused a connection to tcp port 81" in log and "the refused peer is alpha" in log, log


def offline_peer_is_told_soon(lab):
    """A peer that is switched off gets a SOCKS reply, not a hang."""
    alpha, bravo = make_pair(lab)
    alpha.start()
    bravo.space.ip("link", "set", "eth0", "down")
    start = time.monotonic()
    code = _reply(alpha, "bravo.fuse", 80)
    took = time.monotonic() - start
    print(f"reply {code} after {took:.2f} s")
    assert code in (3, 4, 6), f"reply {code}"
    assert took < OFFLINE_LIMIT_S


def exposures_at_run_time(lab):
    """expose and unexpose act at once and are listed."""
    alpha, bravo = make_pair(lab)
    serve(bravo, **{"index.html": "late\n"})
    bravo.configure()
    bravo.start()
    alpha.start()
    assert alpha.fetch("http://bravo.fuse/", check=False).returncode != 0
    bravo.cli("expose", 80, "127.0.0.1:8080", "--allow", "alpha")
    assert alpha.fetch("http://bravo.fuse/").stdout == "late\n"
    assert any(entry["port"] == 80 for entry in bravo.status()["exposures"])
    bravo.cli("unexpose", 80)
    assert alpha.fetch("http://bravo.fuse/", check=False).returncode != 0


def graceful_down(lab):
    """`ravine down` ends the node with exit code 0 and frees its ports; a second one says that none runs."""
    alpha, bravo = make_pair(lab)
    alpha.start()
    assert is_listening(alpha.space, PROXY)
    alpha.cli("down")
    assert alpha.process.wait(10) == 0
    assert not is_listening(alpha.space, PROXY)
    assert alpha.cli("down", check=False).returncode == 3
    alpha.start()


def _reply(node, host, port):
    """The reply code of a SOCKS5 CONNECT (RFC 1928 section 6)."""
    outcome = node.space.run("python3", "-c", SOCKS_CONNECT, PROXY, host, port, timeout=60)
    try:
        return int(outcome.stdout)
    except ValueError as error:
        raise LabError(f"no reply: {outcome.stdout}{outcome.stderr}") from error


SOCKS_CONNECT = """
import socket, sys
proxy, host, port = int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
s = socket.create_connection(("127.0.0.1", proxy), 50)
s.sendall(b"\\x05\\x01\\x00")
assert s.recv(2) == b"\\x05\\x00"
s.sendall(b"\\x05\\x01\\x00\\x03" + bytes([len(host)]) + host + port.to_bytes(2, "big"))
print(s.recv(10)[1])
"""

UDP_ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 7000))
while True:
    data, peer = s.recvfrom(65535)
    s.sendto(data, peer)
"""

UDP_CLIENT = """
import socket, sys
proxy, host, port = int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
control = socket.create_connection(("127.0.0.1", proxy), 20)
control.sendall(b"\\x05\\x01\\x00")
assert control.recv(2) == b"\\x05\\x00"
control.sendall(b"\\x05\\x03\\x00\\x01" + bytes(6))
reply = control.recv(64)
assert reply[1] == 0, reply
assert reply[3] == 1, reply
relay = (socket.inet_ntoa(reply[4:8]), int.from_bytes(reply[8:10], "big"))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
header = bytes(3) + b"\\x03" + bytes([len(host)]) + host + port.to_bytes(2, "big")
good = 0
for i in range(20):
    data = bytes([i]) * (1 + 50 * i)
    s.sendto(header + data, relay)
    answer, _ = s.recvfrom(65535)
    good += answer.endswith(data)
print(good, "of 20")
"""


def log_levels_are_shown_and_changed_at_run_time(lab):
    """`log level` shows what is logged, sets it for all or one component, and takes it back."""
    alpha = Node(lab, lab.namespace("a"), "alpha")
    alpha.cli("ca", "init", "--network", NETWORK, "--name", "alpha")
    alpha.configure()
    alpha.start()
    assert alpha.query("log", "level") == {"level": "debug", "components": {}}  # as the lab configures it
    alpha.cli("log", "level", "trace", "--component", "session")
    answer = alpha.query("log", "level", "warning")
    assert answer == {"level": "warning", "components": {"session": "trace"}}, answer
    assert "session: trace" in alpha.cli("log", "level").stdout
    alpha.cli("log", "level", "default", "--component", "session")
    assert alpha.query("log", "level") == {"level": "warning", "components": {}}
    refused = alpha.cli("log", "level", "default", check=False)
    assert refused.returncode == 2 and "no log level" in refused.stderr, refused
