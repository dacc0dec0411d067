"""Network namespaces, links, processes and Ravine nodes for the lab tests. Needs root; leaves nothing behind.

A scenario gets a Lab. What it starts through the lab dies with it, by process ID; namespaces carry the
process number in their name, so that scenarios can run side by side.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time


class LabError(AssertionError):
    """An expectation that did not hold, or a tool that failed."""


class Skip(Exception):
    """This scenario cannot run here; the message says what is missing."""


def wait_until(what, condition, limit_s, step_s=0.02):
    """Polls until condition() is true and returns its value; fails after limit_s, naming `what`."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"not within {limit_s} s: {what}")
        time.sleep(step_s)


class Namespace:
    def __init__(self, lab, name):
        self.lab, self.name = lab, f"{lab.prefix}-{name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.ip("link", "set", "lo", "up")
        # Duplicate address detection would hold back IPv6 for a second or two.
        self.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")

    def ip(self, *words):
        subprocess.run(["ip", "-n", self.name, *map(str, words)], check=True, capture_output=True, text=True)

    def command(self, words):
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    def run(self, *words, timeout=30, check=True, **options):
        """Runs to the end; stdout and stderr as text in the result."""
        options.setdefault("stdin", subprocess.DEVNULL)
        if "input" in options:
            del options["stdin"]
        outcome = subprocess.run(self.command(words), capture_output=True, timeout=timeout, text=True,
                                 **options)
        if check and outcome.returncode != 0:
            line = " ".join(map(str, words))
            raise LabError(f"{line}: exit {outcome.returncode}\n{outcome.stdout}{outcome.stderr}")
        return outcome

    def start(self, *words, log, env=None):
        """Starts a process of this namespace that ends with the lab; its output goes to the file `log`."""
        with open(log, "ab") as output:
            process = subprocess.Popen(self.command(words), stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=subprocess.STDOUT, env=env, start_new_session=True)
        self.lab.processes.append(process)
        return process


class Lab:
    """`with Lab(...) as lab:` is one private internet."""
    count = 0

    def __init__(self, ravine, tools):
        Lab.count += 1
        self.prefix = f"rvl{os.getpid()}x{Lab.count}"
        self.ravine, self.tools = pathlib.Path(ravine).resolve(), pathlib.Path(tools).resolve()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ravine-lab-"))
        self.namespaces, self.processes, self.mounts, self.nodes = [], [], [], []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and not issubclass(kind, Skip):
            self.print_logs()
        for process in self.processes:
            stop(process)
        for space in self.namespaces:
            listing = subprocess.run(["ip", "netns", "pids", space.name], capture_output=True, text=True)
            for pid in listing.stdout.split():
                end_process(int(pid))
            subprocess.run(["ip", "netns", "del", space.name], capture_output=True)
        for mount in self.mounts:
            subprocess.run(["umount", "-l", mount], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def print_logs(self):
        for log in sorted(self.folder.rglob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-40:]
            print(f"--- {log.name} (last {len(lines)} lines)", *lines, sep="\n")

    def namespace(self, name):
        space = Namespace(self, name)
        self.namespaces.append(space)
        return space

    def wire(self, a, a_if, a_address, b, b_if, b_address):
        """A veth pair between two namespaces; addresses as ADDRESS/BITS, or None."""
        subprocess.run(["ip", "link", "add", "name", a_if, "netns", a.name, "type", "veth",
                        "peer", "name", b_if, "netns", b.name], check=True)
        for space, interface, address in ((a, a_if, a_address), (b, b_if, b_address)):
            if address:
                space.ip("addr", "add", address, "dev", interface)
            space.ip("link", "set", "dev", interface, "up")

    def emulate_link(self, middle, a_if, b_if, *settings):
        """Joins two interfaces of `middle` by the link emulator; returns what changes it later."""
        socket_path = self.folder / f"{middle.name}.sock"
        middle.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        middle.start(self.tools / "linkemu", "run", "--a", a_if, "--b", b_if, "--ctl", socket_path, *settings,
                     log=self.folder / f"{middle.name}.log")
        wait_until("link emulator answers", socket_path.exists, 5)
        return lambda *words: middle.run(self.tools / "linkemu", "ctl", socket_path, *words).stdout

    def offload_off(self, space, interface):
        """Frames that an emulated link carries must be real packets: no checksum or segmentation offload."""
        space.run(self.tools / "linkemu", "offload-off", interface)

    def serve_files(self, space, folder, port, address="127.0.0.1"):
        """A web server over a folder, reachable inside the namespace."""
        space.start("python3", "-m", "http.server", port, "--bind", address, "--directory", folder,
                    log=self.folder / f"web-{port}.log")
        wait_until(f"web server on {port}", lambda: is_listening(space, port), 10)


def is_listening(space, port):
    return f":{port} " in space.run("ss", "-Hltn").stdout


def end_process(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stop(process, limit_s=5):
    """SIGTERM, then SIGKILL; returns the exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def parse_json(text):
    try:
        return json.loads(text)
    except ValueError as error:
        raise LabError(f"not JSON: {text[:400]!r}") from error
