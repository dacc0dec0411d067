"""Networks of Ravine nodes in lab namespaces: memberships, configuration, life, and what they answer."""
import os
import pathlib
import shutil
import signal
import time

from lab import LabError, parse_json, stop, wait_until

NETWORK = "home"
PROXY = 1080
START_LIMIT_S = 10


class Node:
    def __init__(self, lab, space, name, port=4717):
        self.lab, self.space, self.name, self.port = lab, space, name, port
        self.folder = lab.folder / name
        self.state = self.folder / "state"
        self.config = self.folder / "ravine.toml"
        self.log = self.folder / f"{name}.log"
        self.process = None
        self.state.mkdir(parents=True, mode=0o700)
        lab.nodes.append(self)

    def command(self, *words):
        return [str(self.lab.ravine), "--state", str(self.state), *map(str, words)]

    def cli(self, *words, **options):
        """Runs one ravine command in the node's namespace."""
        return self.space.run(*self.command(*words), **options)

    def query(self, *words, **options):
        return parse_json(self.cli("--json", *words, **options).stdout)

    def configure(self, peers=(), expose=(), forward=(), extra_node="", proxy=f"127.0.0.1:{PROXY}", users=()):
        """Writes the configuration. peers: (name, address) pairs; expose and forward: dicts of TOML keys."""
        def value(item):
            if isinstance(item, bool):
                return "true" if item else "false"
            if isinstance(item, (list, tuple)):
                return "[" + ", ".join(value(part) for part in item) + "]"
            return str(item) if isinstance(item, int) else f'"{item}"'

        lines = ["[node]", f"port = {self.port}", 'log_level = "debug"', extra_node]
        lines += ["[proxy]", f'listen = "{proxy}"']
        if users:
            entries = [f'{{name = "{user}", password = "{password}"}}' for user, password in users]
            lines.append(f"users = [{', '.join(entries)}]")
        for name, address in peers:
            lines += ["[[peer]]", f'name = "{name}"', f'addresses = ["{address}"]']
        for kind, tables in (("expose", expose), ("forward", forward)):
            for table in tables:
                lines += [f"[[{kind}]]", *(f"{key} = {value(item)}" for key, item in table.items())]
        self.config.write_text("\n".join(lines) + "\n")
        self.config.chmod(0o600)

    def launch(self):
        """Starts the node without waiting for it."""
        environment = dict(os.environ, NO_COLOR="1")
        self.process = self.space.start(*self.command("up", "-c", self.config), log=self.log, env=environment)
        return self

    def start(self, limit_s=START_LIMIT_S):
        self.launch()

        def answers():
            if self.process.poll() is not None:
                raise LabError(f"{self.name} ended with {self.process.returncode}:\n{self.log_text()}")
            return self.cli("--json", "status", check=False).returncode == 0

        wait_until(f"{self.name} answers", answers, limit_s)
        return self

    def stop(self):
        return stop(self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def status(self):
        return self.query("status")

    def sessions(self):
        return self.query("sessions")["sessions"]

    def session_to(self, peer):
        """The established session to a peer of that name, or None."""
        return next((entry for entry in self.sessions() if entry["name"] == peer), None)

    def session_start(self, peer):
        """When the session to that peer began, by our clock; two values of one session are equal."""
        return time.monotonic() - self.session_to(peer)["age_s"]

    def keeps_session(self, peer, start):
        """Whether the session is still the one that began then; ages are told in whole seconds."""
        return abs(self.session_start(peer) - start) < 2.5

    def peer_id(self):
        return self.status()["networks"][0]["id"]

    def fetch(self, url, *options, limit_s=30, check=True):
        """curl through this node's SOCKS5 port; names are resolved by the node."""
        return self.space.run("curl", "-sS", "--max-time", limit_s, "--proxy", f"socks5h://127.0.0.1:{PROXY}",
                              *options, url, timeout=limit_s + 10, check=check)

    def download_size(self, url, limit_s=60):
        """Bytes that arrived of a download that is thrown away."""
        return int(self.fetch(url, "-o", "/dev/null", "-w", "%{size_download}", limit_s=limit_s).stdout)

    def start_fetch(self, url, target, *options):
        """A download in the background; poll() and wait() tell its end."""
        return self.space.start("curl", "-sS", "--max-time", 120, "--proxy", f"socks5h://127.0.0.1:{PROXY}",
                                "-o", target, *options, url, log=self.folder / "curl.log")


def make_network(lab, spaces, groups=None):
    """One node per (name, namespace) pair, in order; the first holds the certificate authority."""
    nodes = [Node(lab, space, name) for name, space in spaces]
    first = nodes[0]
    first.cli("ca", "init", "--network", NETWORK, "--name", first.name)
    for node in nodes[1:]:
        issue_to(first, node, (groups or {}).get(node.name, ()))
    return nodes


def issue_to(authority, node, groups=()):
    """The long way in: the authority makes key and certificate, they are carried over."""
    folder = authority.folder / f"for-{node.name}"
    words = ["--groups", ",".join(groups)] if groups else []
    authority.cli("ca", "issue", node.name, "--out", folder, *words)
    target = node.state / "networks" / NETWORK
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copytree(folder, target)


def make_pair(lab, a_address="10.77.0.1", b_address="10.77.0.2"):
    """alpha (with the authority) and bravo on one cable, not started: (alpha, bravo)."""
    a, b = lab.namespace("a"), lab.namespace("b")
    lab.wire(a, "eth0", f"{a_address}/24", b, "eth0", f"{b_address}/24")
    alpha, bravo = make_network(lab, [("alpha", a), ("bravo", b)])
    alpha.configure(peers=[("bravo", f"{b_address}:4717")])
    bravo.configure(expose=[web_exposure()])
    return alpha, bravo


def web_exposure(**changes):
    return {"port": 80, "to": "127.0.0.1:8080", "allow": ["alpha"], **changes}


def serve(node, **files):
    """A web server behind a node, with files of given text or (int) sparse size."""
    folder = pathlib.Path(node.folder, "www")
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        with open(folder / name, "wb") as file:
            if isinstance(content, int):
                file.truncate(content)
            else:
                file.write(content.encode())
    node.lab.serve_files(node.space, folder, 8080)
