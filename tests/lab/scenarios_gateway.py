"""A near and a far gateway as processes with a slow, bad link between them."""
import json
import pathlib
import signal
import time

from lab import LabError, is_listening, parse_json, wait_until

HERE = pathlib.Path(__file__).resolve().parent
API = "http://127.0.0.1:8888/_matrix/client/v3/"
SEND_LIMIT_S = 200
# Of chances that spare the first answers: a process that has measured no round trip waits 30 s for one.
SEED = 8


class Gateways:
    """near in one namespace; in the other the emulated link, far and a homeserver."""

    def __init__(self, lab, *link):
        self.lab = lab
        self.near_space, self.far_space = lab.namespace("near"), lab.namespace("far")
        lab.wire(self.near_space, "eth0", "10.77.0.1/24", self.far_space, "eth0", "10.77.0.2/24")
        self.made = lab.folder / "made.txt"
        self.made.touch()
        self.far_space.start("python3", HERE / "homeserver.py", 8008, self.made,
                             log=lab.folder / "server.log")
        wait_until("homeserver", lambda: is_listening(self.far_space, 8008), 10)
        code = parse_json(self.ravine(self.far_space, "far", "--json", "gateway", "pair", "--no-qr").stdout)
        self.ravine(self.near_space, "near", "gateway", "pair", code["code"])
        self.rate = link[link.index("--rate") + 1]
        self.link = self.far_space.start(lab.ravine, "--json", "lab", "link", "--listen", "10.77.0.2:6000",
                                         "--to", "127.0.0.1:5683", *link, log=lab.folder / "link.log")
        self.start_far()
        self.start_near()
        assert "syt_a_token" in self.curl("POST", "login", '{"type":"m.login.password","password":"x"}')

    def ravine(self, space, name, *words):
        return space.run(self.lab.ravine, "--state", self.lab.folder / name, *words)

    def start_far(self):
        self.far = self.far_space.start(
            self.lab.ravine, "--state", self.lab.folder / "far", "gateway", "far", "--listen",
            "127.0.0.1:5683", "--upstream", "http://127.0.0.1:8008", "--rate", self.rate,
            log=self.lab.folder / "far.log")

    def start_near(self):
        self.near = self.near_space.start(
            self.lab.ravine, "--state", self.lab.folder / "near", "gateway", "near", "--peer",
            "10.77.0.2:6000", "--rate", self.rate, log=self.lab.folder / "near.log")
        wait_until("near gateway listens", lambda: is_listening(self.near_space, 8888), 10)

    @staticmethod
    def kill(process):
        process.kill()
        process.wait()

    def curl_words(self, method, path, body=None):
        words = ["curl", "-sS", "-f", "--max-time", SEND_LIMIT_S, "-X", method, API + path,
                 "-H", "Authorization: Bearer syt_a_token", "-H", "Content-Type: application/json"]
        return words + (["--data-binary", body] if body else [])

    def curl(self, method, path, body=None):
        return self.near_space.run(*self.curl_words(method, path, body), timeout=SEND_LIMIT_S + 5).stdout

    def send_words(self, number):
        return self.curl_words("PUT", f"rooms/%21r%3Ab.example/send/m.room.message/m{number}",
                               json.dumps({"msgtype": "m.text", "body": f"message {number}"}))

    def send(self, number, disturb=None, after_s=0.0):
        """Sends until there is an answer, as clients do: the same transaction each time. `disturb` is called
        while the request is under way."""
        end = time.monotonic() + SEND_LIMIT_S
        process = self.near_space.start(*self.send_words(number), log=self.lab.folder / "curl.log")
        if disturb:
            time.sleep(after_s)
            disturb()
        while process.wait(SEND_LIMIT_S + 5) != 0:
            if time.monotonic() > end:
                raise LabError(f"message {number} was not answered within {SEND_LIMIT_S} s")
            time.sleep(0.1)
            process = self.near_space.start(*self.send_words(number), log=self.lab.folder / "curl.log")

    def expect_once(self, count):
        made = self.made.read_text().splitlines()
        wanted = [f"message {number}" for number in range(count)]
        assert sorted(made) == sorted(wanted), f"the server made {made}"
        return made

    def stats(self, side):
        space = self.near_space if side == "near" else self.far_space
        answer = parse_json(self.ravine(space, side, "--json", "gateway", "stats").stdout)
        return answer["gateways"][0]["pairings"][0]["link"]

    def end_link(self):
        """The link's own summary."""
        self.link.send_signal(signal.SIGINT)
        self.link.wait(10)
        return json.loads((self.lab.folder / "link.log").read_text().splitlines()[-1])


def gateway_sends_once_when_near_is_killed_under_loss(lab):
    """30 % loss, and the near gateway killed with -9 while a send is under way: each message is made once."""
    world = Gateways(lab, "--rate", "19200bps", "--delay", "50ms", "--loss", "30%", "--seed", SEED)

    def kill_near():
        world.kill(world.near)
        world.start_near()

    _send_through(world, kill_near)


def gateway_sends_once_when_far_is_killed_under_loss(lab):
    """The same with the far gateway."""
    world = Gateways(lab, "--rate", "19200bps", "--delay", "50ms", "--loss", "30%", "--seed", SEED)

    def kill_far():
        world.kill(world.far)
        world.start_far()

    _send_through(world, kill_far)


def _send_through(world, kill):
    for number in range(4):
        world.send(number, kill if number == 2 else None, after_s=0.1)
    world.expect_once(4)
    summary = world.end_link()
    lost = summary["up"]["lost"] + summary["down"]["lost"]
    print(f"{lost} datagrams lost")
    assert lost > 0, summary


def gateway_survives_rebindings_and_a_new_address(lab):
    """A NAT that gives another port every second, then another address of the near side: no handshake, no
    repetition that the move did not cost, nothing lost."""
    world = Gateways(lab, "--rate", "19200bps", "--delay", "50ms", "--rebind", "1s")
    for number in range(5):
        world.send(number)
        time.sleep(1.0)
    world.near_space.ip("addr", "add", "10.77.0.9/24", "dev", "eth0")
    world.near_space.ip("addr", "del", "10.77.0.1/24", "dev", "eth0")
    world.near_space.run("ip", "addr", "replace", "10.77.0.9/24", "dev", "eth0")
    for number in range(5, 8):
        world.send(number)
    world.expect_once(8)
    near, far = world.stats("near"), world.stats("far")
    assert near["handshakes"] == 0 and far["handshakes"] == 0, (near, far)
    summary = world.end_link()
    assert summary["rebindings"] >= 3 and summary["clients"] >= 2, summary


def gateway_goes_on_after_an_outage(lab):
    """Dead for 12 of each 24 seconds: what is sent meanwhile arrives once, soon after the link is back."""
    world = Gateways(lab, "--rate", "19200bps", "--delay", "50ms", "--outage", "12s/24s")
    start = time.monotonic()
    number = 0
    while time.monotonic() < start + 40:
        world.send(number)
        number += 1
        time.sleep(1.0)
    world.expect_once(number)
    summary = world.end_link()
    assert summary["up"]["outage"] > 0, summary
    # Copies while the link is dead, and few of them.
    assert summary["up"]["outage"] + summary["down"]["outage"] < 30, summary
