"""Bodies that stand alone, and short conversations, instantiated from the templates of data/gateway."""
import json
import random

import style
from templates import Instance, Texts, read_events, read_routes


def read_lines(path):
    return [
        line for line in path.read_text(encoding="utf-8").split("\n") if line and not line.startswith("#")
    ]


def encoded(path):
    """Identifiers in a path as most clients write them."""
    route, mark, query = path.partition("?")
    for character in "!#$:@":
        route = route.replace(character, "%%%02X" % ord(character))
    return route + mark + query


class Material:
    def __init__(self, folder):
        self.events = {}
        for path in sorted(folder.glob("events-*.tmpl"), reverse=True):
            for name, section in read_events(path).items():
                self.events[name + "/" + section["kind"] if name in self.events else name] = section
        self.routes = []
        for name in ("client-1", "client-2", "federation", "other-apis"):
            if (folder / (name + ".tmpl")).exists():
                self.routes += read_routes(folder / (name + ".tmpl"))
        self.fragments = [
            line for path in sorted(folder.glob("fragments*.tmpl")) for line in read_lines(path)
        ]
        self.errors = [line.split(" ", 1) for line in read_lines(folder / "errors.lines")]
        self.texts = {path.stem: read_lines(path) for path in sorted(folder.glob("texts-*.lines"))}
        lines = [line for group in self.texts.values() for line in group]
        english = self.texts["texts-en"] + self.texts["texts-en-2"] + self.texts["texts-en-3"]
        self.mixed_texts = Texts(english * 2 + lines)

    def instance(self, seed, chance=0.65):
        return Instance(random.Random(seed), self.mixed_texts, self.events, chance)

    def families(self):
        """(name, method, path, status, maker of a value); status is None in a request."""
        made = []
        for route in self.routes:
            label = route["method"] + " " + route["path"]
            for n, request in enumerate(route["requests"]):
                made.append((label + ">%d" % n, route, None, request))
            for n, (status, answer) in enumerate(route["answers"]):
                made.append((label + "<%d" % n, route, status, answer))
        for name, section in self.events.items():
            for n, content in enumerate(section["contents"]):
                made.append((name + "#%d" % n, None, 200, (name, content)))
        for n, fragment in enumerate(self.fragments):
            made.append(("fragment %d" % n, None, 200, fragment))
        for n, (code, text) in enumerate(self.errors):
            made.append(("error %d" % n, None, 400, json.dumps({"errcode": code, "error": text})))
        return made

    def value(self, instance, template):
        """JSON value of a family's template; an event's content comes bare or in one of its envelopes."""
        if isinstance(template, str):
            return instance.json(template)
        name, content = template
        section = dict(self.events[name], contents=[content])
        kind = section["kind"]
        instance.events = dict(instance.events, **{name: section})
        choice = instance.rng.random()
        if choice < 0.25:
            return instance.content(section)
        if kind == "edu":
            return instance.make_edu(name)
        if choice < 0.4 and kind.startswith(("state", "message")):
            return instance.make_pdu(name)
        return instance.make_ev(name)

    def record(self, family, seed, chance):
        name, route, status, template = family
        instance = self.instance(seed, chance)
        value = self.value(instance, template)
        method, path = (
            ("GET", "") if route is None else (route["method"], encoded(instance.fill(route["path"])))
        )
        # The first instances fill the dictionary, where indentation would only take room.
        body = (
            style.write_short(value, instance.rng) if chance == 1.0 else style.write_any(value, instance.rng)
        )
        return {"method": method, "path": path, "status": status or 0, "family": name, "body": body}

    def records(self, instances):
        families = self.families()
        # Short ones first, so that the dictionary covers many templates; but the default push rules are
        # long and the same everywhere.
        first = [self.record(family, family[0] + "/0", 1.0) for family in families]
        first.sort(key=lambda record: 0 if "m.push_rules" in record["family"] else len(record["body"]))
        yield from first
        order = list(range(len(families)))
        random.Random(7).shuffle(order)
        for f in order:
            name = families[f][0]
            for n in range(1, instances + 1):
                if n > 1 and name.startswith("error"):
                    continue
                yield self.record(families[f], "%s/%d" % (name, n), 0.6)

    def conversations(self):
        """Each route once more, request and answer together."""
        made = []
        for n, route in enumerate(self.routes):
            instance = self.instance("conversation %d" % n)
            exchanges = []
            for i in range(max(len(route["requests"]), len(route["answers"]))):
                request = route["requests"][i % len(route["requests"])] if route["requests"] else None
                status, answer = (
                    route["answers"][i % len(route["answers"])] if route["answers"] else (200, "{}")
                )
                exchanges.append(
                    {
                        "method": route["method"],
                        "path": encoded(instance.fill(route["path"])),
                        "req": request and style.write(instance.json(request), "compact", instance.rng),
                        "status": status,
                        "resp": style.write(instance.json(answer), "compact", instance.rng),
                    }
                )
            made.append(exchanges)
        return made
