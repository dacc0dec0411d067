"""Values for templates: one World is a set of servers, users, rooms, keys and a clock that belong together.

Everything is drawn from the seed's random generator; the same seed gives the same values.
"""
import base64
import pathlib
import string

LETTERS = string.ascii_letters
ALNUM = LETTERS + string.digits
URLSAFE = ALNUM + "-_"
STANDARD = ALNUM + "+/"


def read_values():
    """Section name to list of values."""
    path = pathlib.Path(__file__).resolve().parents[2] / "data" / "gateway" / "values.lines"
    sections, current = {}, None
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            current.append(line)
    return sections


VALUES = read_values()


def pick_host(rng):
    if rng.random() < 0.8:
        return rng.choice(VALUES["hosts"])
    return rng.choice(
        ["%s.org", "%s.example.org", "chat.%s.net", "%s.im", "matrix.%s.de", "%s.io"]
    ) % rng.choice(VALUES["host words"])


class World:
    """Servers, users, rooms and a clock; a method per placeholder of the templates."""

    def __init__(self, rng, texts):
        self.rng, self.texts = rng, texts
        self.server = pick_host(rng)
        self.servers = [self.server, self.server, self.server, pick_host(rng)]
        names = rng.sample(VALUES["users"], 5)
        self.users = ["@%s:%s" % (n, rng.choice(self.servers)) for n in names]
        self.self_user = "@%s:%s" % (names[0], self.server)
        self.users[0] = self.self_user
        self.event_style = rng.choice(["hash"] * 8 + ["old"] * 4 + ["short"] * 3 + ["middle"] * 2)
        self.room_style = rng.choice(["random"] * 6 + ["short"] * 3 + ["middle"] * 2 + ["hash"])
        self.rooms = [self.new_room() for _ in range(2)]
        self.clock = rng.choice(
            [
                rng.randrange(1400000000000, 1700000000000),
                rng.randrange(1500000000000, 1760000000000),
                1432735824653 + rng.randrange(1000),
                1700000000000,
            ]
        )
        self.small_times = rng.random() < 0.1
        self.devices = [self.new_device() for _ in range(3)]

    def chars(self, alphabet, count):
        return "".join(self.rng.choice(alphabet) for _ in range(count))

    def new_room(self):
        rng = self.rng
        if self.room_style == "hash":
            return "!" + self.chars(URLSAFE, 43)
        if self.room_style == "short":
            return "!%s:%s" % (rng.choice(VALUES["room words"]), rng.choice(self.servers))
        if self.room_style == "middle":
            letters = rng.choice([string.ascii_lowercase + string.digits, LETTERS, ALNUM])
            return "!%s:%s" % (self.chars(letters, rng.randrange(6, 13)), rng.choice(self.servers))
        return "!%s:%s" % (self.chars(LETTERS, 18), rng.choice(self.servers))

    def new_device(self):
        r = self.rng
        return r.choice(
            [
                self.chars(string.ascii_uppercase, 10),
                self.chars(string.ascii_uppercase, 10),
                "DEVICEID",
                "JLAFKJWSCS",
                "LAPTOP",
                "ABCDEFG",
                "XYZABCDE",
                "device1",
            ]
        )

    # Names: one method per placeholder. `argument` is what follows the colon.
    def user(self, _):
        return self.rng.choice(self.users)

    def me(self, _):
        return self.self_user

    def localpart(self, _):
        return self.rng.choice(self.users)[1:].split(":")[0]

    def host(self, _):
        return self.rng.choice(self.servers)

    def homeserver(self, _):
        return self.server

    def room(self, _):
        return self.rng.choice(self.rooms) if self.rng.random() < 0.8 else self.new_room()

    def alias(self, _):
        word = self.rng.choice(
            [
                "general",
                "room",
                "test",
                "somewhere",
                "party",
                "alias",
                "harbour",
                "the_room",
                "random",
                "space",
                "canonical",
                "example",
                "lobby",
                "help",
                "altalias",
                "dev",
            ]
        )
        return "#%s:%s" % (word, self.rng.choice(self.servers))

    def event(self, _):
        r = self.rng
        if self.event_style == "hash":
            return "$" + self.chars(URLSAFE, 43)
        if self.event_style == "old":
            return "$%d%s:%s" % (
                r.randrange(10**11, 10**15),
                self.chars(LETTERS, 5),
                r.choice(self.servers),
            )
        if self.event_style == "middle":
            letters = r.choice([string.ascii_lowercase + string.digits, LETTERS, ALNUM])
            return "$%s:%s" % (self.chars(letters, r.randrange(6, 14)), r.choice(self.servers))
        return "$%s" % r.choice(VALUES["event words"]) + (":" + self.server if r.random() < 0.5 else "")

    def ts(self, _):
        if self.small_times:
            return self.rng.choice([1, 10, 1000, 12345, 1234567890, self.rng.randrange(10**7)])
        self.clock += self.rng.randrange(1, 100000)
        return self.clock

    def ts_s(self, _):
        return self.ts(_) // 1000

    def age(self, _):
        return self.rng.choice(
            [
                self.rng.randrange(5, 999),
                self.rng.randrange(1000, 10**6),
                1234,
                85,
                self.rng.randrange(10**6, 10**9),
            ]
        )

    def int(self, argument):
        low, high = argument.split("-")
        return self.rng.randrange(int(low), int(high) + 1)

    def device(self, _):
        return self.rng.choice(self.devices)

    def devicename(self, _):
        return self.rng.choice(VALUES["device names"])

    def app(self, _):
        return self.rng.choice(VALUES["applications"])

    def mxc(self, _):
        length = self.rng.randrange(8, 25)
        return "mxc://%s/%s" % (
            self.rng.choice(self.servers),
            self.rng.choice(
                [
                    self.chars(LETTERS, 24),
                    self.chars(LETTERS, 24),
                    self.chars(ALNUM, 32),
                    self.chars(ALNUM, length),
                    "abcdef",
                    "abc123",
                    "media_id",
                    "media1",
                ]
            ),
        )

    def sha(self, _):
        return self.chars(STANDARD, 42) + self.rng.choice("AEIMQUYcgkosw048")

    def key(self, _):
        return self.sha(_)

    def shau(self, _):
        return self.chars(URLSAFE, 43)

    def sig(self, _):
        return self.chars(STANDARD, 85) + self.rng.choice("AQgw")

    def blob(self, size):
        return self.chars(STANDARD, size)

    def b64(self, argument):
        return self.blob(int(argument))

    def b64p(self, argument):
        data = bytes(self.rng.randrange(256) for _ in range(int(argument)))
        return base64.b64encode(data).decode()

    def megolm(self, argument):
        size = int(argument) if argument else self.rng.randrange(90, 260)
        return self.rng.choice(["AwgAE", "AwgBE", "AwgCE", "AwgDE", "AwgE"]) + self.blob(size)

    def olm(self, argument):
        size = int(argument) if argument else self.rng.randrange(160, 360)
        return self.rng.choice(["Awog"]) + self.blob(size)

    def hex(self, argument):
        return self.chars("0123456789abcdef", int(argument))

    def keyid(self, _):
        return self.rng.choice(
            [
                "auto",
                "1",
                "a_" + self.chars(ALNUM, 4),
                "a_" + self.chars(LETTERS, 4),
                "abc123",
                "0",
                "p_" + self.chars(ALNUM, 4),
                "key1",
                "old_key",
                "keyid",
            ]
        )

    def otk(self, _):
        r = self.rng
        if r.random() < 0.3:
            return "AAAAAAAA" + self.chars(LETTERS, 2) + r.choice("AEIMQUYcgkosw048")
        return "AAAA" + r.choice(LETTERS) + r.choice("AQgw")

    def token(self, _):
        r = self.rng
        name = base64.b64encode(self.self_user[1:].split(":")[0].encode()).decode().rstrip("=")
        return r.choice(
            [
                "syt_%s_%s_%s" % (name, self.chars(LETTERS, 20), self.chars(ALNUM, 6)),
                "abc123",
                "syt_%s_%s_%s" % (name, self.chars(LETTERS, 20), self.chars(ALNUM, 6)),
                "access_token",
                self.chars(LETTERS, 32),
                "token",
                "secret_token",
                self.chars(ALNUM, 43),
            ]
        )

    def secret(self, _):
        return self.rng.choice(
            [
                "secret",
                "password",
                "bluedoor7",
                "hunter2",
                "letmein",
                "swordfish",
                "SuperSecret",
                self.chars(ALNUM, 12),
                self.chars(ALNUM, 16),
                "Corr3ct!Horse",
                "passw0rd",
            ]
        )

    def txn(self, _):
        r = self.rng
        return r.choice(
            [
                "m%d.%d" % (self.clock, r.randrange(200)),
                self.chars(LETTERS, 12),
                str(r.randrange(99)),
                "m%d" % self.clock,
                "txn%d" % r.randrange(99),
                "%d.%d" % (self.clock, r.randrange(9)),
                self.uuid(None),
                "some_transaction_id",
                "mautrix-go_%d_%d" % (self.clock, r.randrange(99)),
            ]
        )

    def uuid(self, _):
        h = self.chars("0123456789abcdef", 32)
        return "%s-%s-4%s-%s%s-%s" % (h[:8], h[8:12], h[13:16], self.rng.choice("89ab"), h[17:20], h[20:])

    def synctoken(self, _):
        r = self.rng
        big = "_".join(str(r.randrange(1, 10 ** r.randrange(2, 8))) for _ in range(r.randrange(6, 10)))
        return r.choice(
            [
                "s%d_%s" % (r.randrange(100, 10**7), big),
                "s%d_%s" % (r.randrange(100, 10**7), big),
                "s%d_%d_%d" % (r.randrange(99999), r.randrange(9999), r.randrange(9999)),
                "s%d" % r.randrange(10**3, 10**6),
                "t%d-%d_%s" % (r.randrange(10, 4000), r.randrange(1000, 10**6), big),
                str(r.randrange(10**4, 10**7)),
                "t12-34_5_0_1",
                "p17_12",
                "next_batch",
                "abc123",
            ]
        )

    def name(self, _):
        r = self.rng
        return r.choice(
            [
                r.choice(VALUES["first names"]),
                r.choice(VALUES["first names"]) + " " + r.choice(VALUES["last names"]),
                self.user(_)[1:].split(":")[0],
                self.user(_)[1:].split(":")[0].title(),
            ]
        )

    def roomname(self, _):
        return self.rng.choice(VALUES["room names"])

    def topic(self, _):
        return self.rng.choice(VALUES["topics"])

    def file(self, _):
        return self.rng.choice(VALUES["files"])

    def mime(self, _):
        return self.rng.choice(VALUES["media types"])

    def emoji(self, _):
        return self.rng.choice(VALUES["emoji"])

    def email(self, _):
        return "%s@%s" % (
            self.localpart(_),
            self.rng.choice(["example.com", "example.org", "domain.com", "mail.test"]),
        )

    def phone(self, _):
        return self.rng.choice(["4477005", "1555", "4930", "3361"]) + self.chars(string.digits, 6)

    def text(self, _):
        return self.texts.line(self.rng)

    def ip(self, _):
        r = self.rng
        return r.choice(
            [
                "127.0.0.1",
                "1.2.3.4",
                "192.168.%d.%d" % (r.randrange(3), r.randrange(256)),
                "%d.%d.%d.%d" % tuple(r.randrange(1, 255) for _ in range(4)),
                "10.0.0.%d" % r.randrange(99),
            ]
        )

    def version(self, _):
        r = self.rng
        return "%d.%d.%d" % (r.randrange(3), r.randrange(130), r.randrange(10))

    def roomversion(self, _):
        return self.rng.choice(
            ["1", "2", "3", "4", "5", "6", "6", "7", "8", "9", "9", "10", "10", "10", "11", "11"]
        )

    def iso(self, _):
        r = self.rng
        return "20%02d-%02d-%02dT%02d:%02d:%02dZ" % (
            r.randrange(17, 27),
            r.randrange(1, 13),
            r.randrange(1, 29),
            r.randrange(24),
            r.randrange(60),
            r.randrange(60),
        )

    def geo(self, _):
        return "%.4f,%.4f" % (self.rng.uniform(-60, 60), self.rng.uniform(-170, 170))

    def lonlat(self, _):
        return "%.5f,%.5f" % (self.rng.uniform(-170, 170), self.rng.uniform(-60, 60))
