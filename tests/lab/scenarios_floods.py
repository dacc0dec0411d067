"""Hostile traffic from the internet: handshake floods and malformed packets, while honest peers work."""
import os
import re
import sys
import time

from lab import Skip, stop, wait_until
from nodes import Node, issue_to, make_pair, serve

HERE = os.path.dirname(os.path.abspath(__file__))
HALF_OPEN = 10_000
# Under a flood a new honest peer connects within 3 s and memory grows by at most 16 MiB; five
# times that is asserted.
CONNECT_LIMIT_S = 15
MEMORY_LIMIT_KIB = 5 * 16 * 1024


def half_open_handshakes(lab):
    """Ten thousand handshakes from spoofed addresses stay half open; an honest peer still connects."""
    _need_cryptography()
    alpha, bravo = _pair_with_attacker(lab)
    captured = lab.folder / "initial.bin"
    _capture_initial(lab, alpha, captured)
    bravo.start()
    memory = _memory_kib(bravo)
    flood = _attack(lab, "initials", captured, HALF_OPEN)
    wait_until("the flood is under way", lambda: _received(bravo) > HALF_OPEN // 4, 30)
    alpha.start()
    took = _time_to_fetch(alpha)
    wait_until("the flood is over", lambda: flood.poll() is not None, 60)
    grown = _memory_kib(bravo) - memory
    print(f"honest peer served {took:.2f} s after its start; memory grew by {grown} KiB")
    assert took < CONNECT_LIMIT_S
    assert grown < MEMORY_LIMIT_KIB
    assert bravo.process.poll() is None


def malformed_packets(lab):
    """Garbage as fast as it can be sent, of every shape, while a download runs and a new peer connects."""
    alpha, bravo = _pair_with_attacker(lab)
    captured = lab.folder / "initial.bin"
    _capture_initial(lab, alpha, captured)
    bravo.start()
    alpha.start()
    _time_to_fetch(alpha)
    memory = _memory_kib(bravo)
    flood = _attack(lab, "garbage", captured, 15)
    before, start = _received(bravo), time.monotonic()
    assert alpha.fetch("http://bravo.fuse/", limit_s=CONNECT_LIMIT_S).stdout == "honest\n"
    alpha.stop()
    alpha.start()
    took = _time_to_fetch(alpha)
    rate = (_received(bravo) - before) / (time.monotonic() - start)
    stop(flood)
    grown = _memory_kib(bravo) - memory
    print(f"{rate:.0f} packets/s arrived; a new peer was served in {took:.2f} s; memory grew by {grown} KiB")
    assert took < CONNECT_LIMIT_S
    assert grown < MEMORY_LIMIT_KIB
    assert bravo.process.poll() is None


def _attack(lab, mode, captured, amount):
    return lab.attacker.start("python3", f"{HERE}/attack.py", mode, captured, "10.77.0.2", 4717, amount,
                              log=lab.folder / "attack.log")


def _need_cryptography():
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise Skip("python3-cryptography is not installed (tools/setup lab)") from error


def _pair_with_attacker(lab):
    """alpha, bravo, and an attacker beside them on a second cable to bravo."""
    alpha, bravo = make_pair(lab)
    serve(bravo, **{"index.html": "honest\n"})
    lab.attacker = lab.namespace("evil")
    lab.wire(lab.attacker, "eth0", "10.66.0.1/16", bravo.space, "eth9", "10.66.0.2/16")
    lab.attacker.ip("route", "add", "10.77.0.2/32", "via", "10.66.0.2")
    # Replies to spoofed sources vanish on the attacker's cable.
    bravo.space.ip("route", "add", "10.128.0.0/9", "via", "10.66.0.1")
    bravo.space.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth9.rp_filter=0")
    return alpha, bravo


def _capture_initial(lab, alpha, target):
    """Saves the first datagram that a dialling node sends, caught by a UDP socket in bravo's place."""
    spy = Node(lab, alpha.space, "spy", port=4718)
    issue_to(alpha, spy)
    spy.configure(peers=[("bravo", "10.77.0.1:4999")])
    sink = alpha.space.start(sys.executable, "-c", "import socket,sys\n"
                             "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('10.77.0.1',4999))\n"
                             "open(sys.argv[1],'wb').write(s.recv(2000))", target,
                             log=lab.folder / "sink.log")
    spy.start()
    spy.fetch("http://bravo.fuse/", check=False, limit_s=5)
    wait_until("an Initial was caught", lambda: sink.poll() is not None, 10)
    spy.stop()


def _time_to_fetch(alpha):
    start = time.monotonic()
    wait_until("an honest request is served",
               lambda: alpha.fetch("http://bravo.fuse/", check=False, limit_s=5).stdout == "honest\n", 60)
    return time.monotonic() - start


def _memory_kib(node):
    with open(f"/proc/{node.process.pid}/status") as file:
        return int(re.search(r"RssAnon:\s+(\d+)", file.read()).group(1))


def _received(bravo):
    """Packets that came in over bravo's cable to the attacker."""
    return int(bravo.space.run("cat", "/sys/class/net/eth9/statistics/rx_packets").stdout)
