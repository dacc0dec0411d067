"""Faults of a machine: kills, full disks, wrong rights, wrong files, taken ports."""
import subprocess
import time

from lab import LabError, wait_until
from nodes import make_pair, serve, web_exposure

MEBIBYTE = 1 << 20


def sigkill_and_restart(lab):
    """A node that is killed at any moment comes back with its identity, and its peers reach it again."""
    alpha, bravo = make_pair(lab)
    serve(bravo, **{"index.html": "again\n"})
    bravo.start()
    alpha.start()
    identity = bravo.peer_id()
    for _ in range(3):
        assert alpha.fetch("http://bravo.fuse/").stdout == "again\n"
        bravo.kill()
        bravo.start()
        assert bravo.peer_id() == identity
        # The first request may meet the old session; a stateless reset ends it at once.
        start = time.monotonic()
        wait_until("bravo is reached again",
                   lambda: alpha.fetch("http://bravo.fuse/", check=False, limit_s=5).stdout == "again\n", 15)
        print(f"reached {time.monotonic() - start:.2f} s after the restart")
    alpha.kill()
    alpha.start()
    assert alpha.fetch("http://bravo.fuse/").stdout == "again\n"


def reload_keeps_sessions(lab):
    """SIGHUP takes over what changed; a running download and its session do not notice."""
    alpha, bravo = make_pair(lab)
    serve(bravo, big=1500 * MEBIBYTE, **{"index.html": "new port\n"})
    bravo.start()
    alpha.start()
    target = alpha.folder / "big"
    download = alpha.start_fetch("http://bravo.fuse/big", target, "--limit-rate", "300M")
    wait_until("the download runs", lambda: target.exists() and target.stat().st_size > MEBIBYTE, 20)
    session = alpha.session_start("bravo")
    bravo.configure(expose=[web_exposure(), web_exposure(port=8081)])
    bravo.reload()
    wait_until("the new exposure works", lambda: alpha.fetch(
        "http://bravo.fuse:8081/", check=False, limit_s=5).stdout == "new port\n", 10)
    bravo.config.write_text("[node]\nport = \"many\"\n")
    bravo.reload()
    wait_until("the faulty file is named in the log", lambda: "ravine.toml:2" in bravo.log_text(), 10)
    assert alpha.fetch("http://bravo.fuse:8081/").stdout == "new port\n", "a faulty file changes nothing"
    assert download.wait(60) == 0 and target.stat().st_size == 1500 * MEBIBYTE
    assert alpha.keeps_session("bravo", session)


def group_readable_key_refuses_to_start(lab):
    """A private key that others may read stops the start, and the message says what to do."""
    alpha, _ = make_pair(lab)
    key = alpha.state / "networks" / "home" / "key.pem"
    key.chmod(0o640)
    message = _start_fails(alpha)
    assert "key.pem" in message and "chmod" in message, message
    key.chmod(0o600)
    alpha.start()


def port_taken(lab):
    """A UDP port that somebody else has is named, with the way out."""
    alpha, _ = make_pair(lab)
    alpha.space.start("python3", "-c", "import socket,time\nfor f in socket.AF_INET, socket.AF_INET6:\n"
                      " s = socket.socket(f, socket.SOCK_DGRAM)\n"
                      " if f == socket.AF_INET6: s.setsockopt(41, 26, 1)\n"
                      " s.bind(('', 4717)); globals()[str(f)] = s\ntime.sleep(600)",
                      log=lab.folder / "squat.log")
    wait_until("the port is taken", lambda: ":4717 " in alpha.space.run("ss", "-Hlun").stdout, 5)
    message = _start_fails(alpha)
    assert "4717" in message, message


def two_nodes_in_one_state_directory(lab):
    """The second node in the same state directory is refused; the first is not harmed."""
    alpha, bravo = make_pair(lab)
    serve(bravo, **{"index.html": "one\n"})
    bravo.start()
    alpha.start()
    second = alpha.space.run(*alpha.command("up", "-c", alpha.config), check=False, timeout=15)
    assert second.returncode not in (0, 1), second
    assert alpha.fetch("http://bravo.fuse/").stdout == "one\n"


def faulty_configuration_is_explained(lab):
    """Faults come with file, line, column and what to write."""
    alpha, _ = make_pair(lab)
    for text, expected in [("[node]\nport = 70000\n", ":2:"), ("[node]\nprot = 1\n", "port"),
                           ("[[expose]\n", ":1:"),
                           ("[[expose]]\nport = 80\n", "to")]:
        alpha.config.write_text(text)
        checked = alpha.cli("config", "check", alpha.config, check=False)
        message = checked.stdout + checked.stderr
        assert checked.returncode == 2 and "ravine.toml:" in message and expected in message, message
        assert _start_fails(alpha)


def disk_full(lab):
    """A full state directory does not end a node or its sessions; starting in one says so or works."""
    alpha, bravo = make_pair(lab)
    small = lab.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", small], check=True)
    lab.mounts.append(small)
    subprocess.run(["cp", "-a", f"{alpha.state}/.", small], check=True)
    alpha.state = small
    serve(bravo, **{"index.html": "still here\n"})
    bravo.start()
    alpha.start()
    assert alpha.fetch("http://bravo.fuse/").stdout == "still here\n"
    _fill(small)
    alpha.reload()
    for _ in range(3):
        assert alpha.fetch("http://bravo.fuse/").stdout == "still here\n"
    issued = alpha.cli("ca", "issue", "charlie", "--out", lab.folder / "charlie", check=False)
    assert issued.returncode != 0 and "space" in issued.stderr, "what cannot be written down is not issued"
    alpha.stop()
    (small / "filler").unlink()
    alpha.start()
    assert alpha.fetch("http://bravo.fuse/").stdout == "still here\n", "nothing was truncated"


def _fill(folder):
    with open(folder / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


def _start_fails(node):
    """Starts a node that must end by itself, with an exit code and a message; returns the message."""
    outcome = node.space.run(*node.command("up", "-c", node.config), check=False, timeout=15)
    if outcome.returncode == 0:
        raise LabError("the node started")
    if outcome.returncode < 0:
        raise LabError(f"the node died of signal {-outcome.returncode}")
    return outcome.stdout + outcome.stderr
