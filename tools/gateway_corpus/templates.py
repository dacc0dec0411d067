"""Templates: hand-written JSON with placeholders in backquotes, and what makes instances of them.

    `user`  a fresh value      `user1`  the same value wherever this instance says `user1`
    `a|b|c` one of these       `int:3-9` a number; other kinds are the methods of world.World
    `ev:TYPE` an event of that type, `content:TYPE` its content; `events:N`, `state:N`, `stripped:N`;
    `pdu:TYPE`, `pdus:N`, `statepdus:N` federation events; `edu:TYPE`; "key?" a member that is often left out
"""
import json
import re

import style
from world import World

PLACEHOLDER = re.compile(r"`([^`]*)`")
KIND = re.compile(r"(b64p?|[a-z_]+?)(\d?)(?::(.*))?$", re.DOTALL)
# In a choice these words stand for a value of their kind, all others for themselves.
CHOSEN_KINDS = {
    "text": "text",
    "b64": "b64:20",
    "uuid": "uuid",
    "txn": "txn",
    "synctoken": "synctoken",
    "key": "key",
    "localpart": "localpart",
    "device": "device",
    "version": "version",
    "email": "email",
    "shau": "shau",
}
ROUTE = re.compile(r"(GET|PUT|POST|DELETE|PATCH) (\S+)$")


class Texts:
    """Lines of plain language, some of them new mixtures, so that texts are not all known."""

    def __init__(self, lines):
        self.lines = lines

    def line(self, rng):
        first = rng.choice(self.lines)
        if rng.random() < 0.6:
            return first
        second = rng.choice(self.lines).split(" ")
        words = first.split(" ")
        return " ".join(words[: rng.randrange(1, len(words) + 1)] + second[rng.randrange(len(second)) :])


def read_events(path):
    """Sections 'TYPE kind' with one content per line; a line that starts with a blank continues the last."""
    sections, current = {}, None
    for line in path.read_text().split("\n"):
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] == "{":
            current["contents"].append(line)
        elif line[0] == " ":
            current["contents"][-1] += line.strip()
        else:
            name, kind = line.split()
            current = {"type": name, "kind": kind, "contents": []}
            sections[name + "/" + kind if name in sections else name] = current
    return sections


def read_routes(path):
    """Blocks 'METHOD path', then '> body' of requests, '< status body' of answers; other lines continue."""
    routes, target = [], None
    for line in path.read_text().split("\n"):
        if not line.strip() or line.startswith("#"):
            continue
        match = ROUTE.match(line)
        if match:
            routes.append({"method": match[1], "path": match[2], "requests": [], "answers": []})
        elif line.startswith("> "):
            target = routes[-1]["requests"]
            target.append(line[2:])
        elif line.startswith("< "):
            status, body = line[2:].split(" ", 1)
            target = routes[-1]["answers"]
            target.append((int(status), body))
        elif target and isinstance(target[-1], tuple):
            target[-1] = (target[-1][0], target[-1][1] + "\n" + line)
        else:
            target[-1] += "\n" + line
    return routes


class Instance:
    """One filling of a template: a World and the values that numbered placeholders have got."""

    def __init__(self, rng, texts, events, chance=0.65):
        self.rng, self.events, self.chance = rng, events, chance
        self.world, self.bound = World(rng, texts), {}
        self.depth = 0

    def fill(self, template):
        return PLACEHOLDER.sub(lambda m: self.value(m[1]), template)

    def json(self, template):
        filled = self.fill(template)
        try:
            return style.optional(json.loads(filled), self.rng, self.chance)
        except json.JSONDecodeError as error:
            raise SystemExit("template is not JSON: %s\n%s\n%s" % (error, template, filled)) from error

    def value(self, text):
        if "|" in text:
            chosen = self.rng.choice(text.split("|"))
            if chosen not in CHOSEN_KINDS:
                return chosen
            text = CHOSEN_KINDS[chosen]
        match = KIND.match(text)
        if not match:
            raise SystemExit("not a placeholder: `%s`" % text)
        kind, number, argument = match.groups()
        if number and kind + number in self.bound:
            return self.bound[kind + number]
        if hasattr(self, "make_" + kind):
            made = json.dumps(getattr(self, "make_" + kind)(argument), ensure_ascii=False)
        elif not hasattr(World, kind):
            raise SystemExit("no such placeholder: `%s`" % text)
        else:
            made = json.dumps(str(getattr(self.world, kind)(argument)), ensure_ascii=False)[1:-1]
        if number:
            self.bound[kind + number] = made
        return made

    # Events in their several envelopes.
    def section(self, name):
        if name in self.events:
            return self.events[name]
        raise SystemExit("no section %s in the events" % name)

    def content(self, section):
        outer, self.bound = self.bound, dict(self.bound)
        made = self.json(self.rng.choice(section["contents"]))
        self.bound = outer
        return made

    def state_key(self, kind):
        what = kind.partition(":")[2]
        return self.world.__class__.__dict__[what](self.world, None) if what else ""

    def make_content(self, name):
        return self.content(self.section(name))

    def make_ev(self, name):
        """The event as clients see it; half of the time with room_id."""
        section, world, rng = self.section(name), self.world, self.rng
        kind = section["kind"]
        event = {"content": self.content(section), "type": self.fill(section["type"])}
        if kind in ("account", "ephemeral"):
            return event
        event["sender"] = world.user(None)
        if kind in ("to_device", "presence"):
            return event
        event["event_id"] = world.event(None)
        event["origin_server_ts"] = world.ts(None)
        if rng.random() < 0.5:
            event["room_id"] = world.rooms[0]
        if kind.startswith("state"):
            event["state_key"] = (
                event["sender"]
                if section["type"] == "m.room.member" and rng.random() < 0.7
                else self.state_key(kind)
            )
        unsigned = self.unsigned(kind)
        if unsigned is not None:
            event["unsigned"] = unsigned
        order = rng.choice(
            [
                ["type", "sender", "content"],
                ["content", "event_id", "origin_server_ts"],
                ["event_id", "type", "room_id", "sender"],
                sorted(event),
                ["content", "type"],
            ]
        )
        return {**{k: event[k] for k in order if k in event}, **event}

    def unsigned(self, kind):
        rng, choice = self.rng, self.rng.random()
        if choice < 0.25:
            return None
        unsigned = {} if choice < 0.3 else {"age": self.world.age(None)}
        if choice > 0.9 and kind == "message":
            unsigned["transaction_id"] = self.world.txn(None)
        if choice > 0.95 and self.depth == 0:
            self.depth += 1
            unsigned["redacted_because"] = self.make_ev("m.room.redaction")
            self.depth -= 1
        if choice > 0.9 and kind.startswith("state"):
            unsigned["replaces_state"] = self.world.event(None)
            if rng.random() < 0.5:
                unsigned["prev_content"] = {"membership": rng.choice(["join", "invite"])}
        return unsigned

    def of_kind(self, prefix):
        return [n for n, s in self.events.items() if s["kind"].startswith(prefix)]

    def many(self, argument, names, make):
        return [make(self.rng.choice(names)) for _ in range(int(argument or self.rng.randrange(1, 4)))]

    def make_events(self, argument):
        names = (
            self.of_kind("message")
            + ["m.room.message"] * 30
            + ["m.room.encrypted"] * 6
            + ["m.room.member"] * 5
        )
        return self.many(argument, names, self.make_ev)

    def make_state(self, argument):
        return self.many(argument, self.of_kind("state") + ["m.room.member"] * 15, self.make_ev)

    def make_stripped(self, argument):
        made = []
        for event in self.make_state(argument):
            made.append({k: event[k] for k in ("type", "state_key", "content", "sender")})
        return made

    def make_account(self, argument):
        return self.many(argument, self.of_kind("account"), self.make_ev)

    def make_ephemeral(self, argument):
        return self.many(argument, self.of_kind("ephemeral"), self.make_ev)

    def make_todevice(self, argument):
        return self.many(argument, self.of_kind("to_device"), self.make_ev)

    def make_presence(self, argument):
        return self.many(argument, self.of_kind("presence"), self.make_ev)

    def make_pdu(self, name):
        """The event as servers exchange it: with event_id and pairs in old room versions."""
        section, world, rng = self.section(name), self.world, self.rng
        old = world.event_style == "old"
        sender = world.user(None)
        host = sender.split(":", 1)[1]

        def reference():
            identifier = world.event(None)
            return [identifier, {"sha256": world.sha(None)}] if old else identifier

        pdu = {
            "auth_events": [reference() for _ in range(rng.randrange(0, 4))],
            "content": self.content(section),
            "depth": rng.randrange(1, 5000),
            "hashes": {"sha256": world.sha(None)},
        }
        if old:
            pdu["event_id"] = world.event(None)
        if rng.random() < 0.5:
            pdu["origin"] = host
        pdu["origin_server_ts"] = world.ts(None)
        pdu["prev_events"] = [reference() for _ in range(rng.randrange(1, 3))]
        if rng.random() < 0.3:
            pdu["prev_state"] = []
        pdu["room_id"], pdu["sender"] = world.rooms[0], sender
        pdu["signatures"] = {host: {"ed25519:" + world.keyid(None): world.sig(None)}}
        if section["kind"].startswith("state"):
            pdu["state_key"] = (
                sender if section["type"] == "m.room.member" else self.state_key(section["kind"])
            )
        pdu["type"] = section["type"]
        if rng.random() < 0.6:
            pdu["unsigned"] = {"age": world.age(None)} if rng.random() < 0.7 else {"age_ts": world.ts(None)}
        return pdu

    def make_pdus(self, argument):
        names = (
            self.of_kind("message")
            + ["m.room.message"] * 20
            + ["m.room.member"] * 8
            + ["m.room.encrypted"] * 4
        )
        return self.many(argument, names, self.make_pdu)

    def make_statepdus(self, argument):
        return self.many(argument, self.of_kind("state") + ["m.room.member"] * 8, self.make_pdu)

    def make_edu(self, name):
        section = self.section(
            name if name in self.events and self.events[name]["kind"] == "edu" else name + "/edu"
        )
        return {"content": self.content(section), "edu_type": section["type"]}

    def make_edus(self, argument):
        return self.many(argument, self.of_kind("edu"), self.make_edu)

    def make_pushrules(self, _):
        return self.content(self.section("m.push_rules"))["global"]
