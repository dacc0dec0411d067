"""Conversations: one client with its homeserver, and servers with each other, request by request.

Identifiers come up again where they do in life: an event that was sent is echoed by sync, then receipted,
then replied to. Several habits of homeservers and clients occur; each session has one of each.
"""
import json
import urllib.parse

from world import LETTERS, URLSAFE, VALUES, World

POWER = {
    "m.room.name": 50,
    "m.room.power_levels": 100,
    "m.room.history_visibility": 100,
    "m.room.canonical_alias": 50,
    "m.room.avatar": 50,
    "m.room.tombstone": 100,
    "m.room.server_acl": 100,
    "m.room.encryption": 100,
}
ALGORITHMS = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]


def quoted(text):
    return urllib.parse.quote(text, safe="")


class Session:
    def __init__(self, rng, material):
        self.rng, self.material = rng, material
        self.world = world = World(rng, material.mixed_texts)
        world.event_style, world.room_style = "hash", rng.choice(["random", "random", "random", "hash"])
        self.rooms = [world.new_room() for _ in range(rng.randrange(1, 5))]
        self.version = rng.choice(["r0", "r0", "v3", "v3"])
        self.server = rng.choice(["synapse", "synapse", "modern", "dendrite", "small"])
        self.sorted = self.server == "dendrite"
        self.encrypted = rng.random() < 0.25
        self.txn_style = rng.choice(["m", "m", "uuid", "count"])
        self.position, self.counters = rng.randrange(10**3, 10**6), [
            rng.randrange(10, 999999) for _ in range(7)
        ]
        self.sent, self.log, self.since = 0, [], None
        self.device, self.token = world.chars("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 10), world.token(None)
        self.curve_key, self.sessions = world.key(None), {}
        self.history = []

    def add(self, method, path, request, answer, status=200):
        def text(value):
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=self.sorted)

        self.log.append(
            {
                "method": method,
                "path": path,
                "req": None
                if request is None
                else json.dumps(request, separators=(",", ":"), ensure_ascii=False),
                "status": status,
                "resp": text(answer),
            }
        )

    def api(self, path):
        return "/_matrix/client/%s/%s" % (self.version, path)

    def room_api(self, room, path):
        return self.api("rooms/%s/%s" % (quoted(room), path))

    def text(self):
        rng = self.rng
        if self.history and rng.random() < 0.12:
            return rng.choice(self.history)
        self.history.append(self.world.text(None))
        return self.history[-1]

    def txn(self):
        self.sent += 1
        if self.txn_style == "uuid":
            return self.world.uuid(None)
        return "m%d.%d" % (self.world.clock, self.sent) if self.txn_style == "m" else str(self.sent)

    def event_id(self):
        return "$" + self.world.chars(URLSAFE, 43)

    # Start of a session.
    def start(self):
        world, rng = self.world, self.rng
        if rng.random() < 0.5:
            self.add(
                "GET",
                "/_matrix/client/versions",
                None,
                {
                    "versions": ["r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4"],
                    "unstable_features": {"org.matrix.msc3440.stable": True},
                },
            )
            self.add("GET", self.api("login"), None, {"flows": [{"type": "m.login.password"}]})
        answer = {
            "user_id": world.self_user,
            "access_token": self.token,
            "home_server": world.server,
            "device_id": self.device,
        }
        if self.server == "synapse":
            answer["well_known"] = {"m.homeserver": {"base_url": "https://%s/" % world.server}}
        else:
            del answer["home_server"]
        name = world.self_user[1:].split(":")[0]
        self.add(
            "POST",
            self.api("login"),
            {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": name},
                "password": world.secret(None),
                "initial_device_display_name": world.devicename(None),
            },
            answer,
        )
        if rng.random() < 0.4:
            self.add(
                "GET",
                self.api("account/whoami"),
                None,
                {"user_id": world.self_user, "device_id": self.device},
            )
            self.add(
                "GET",
                self.api("pushrules/"),
                None,
                self.material.instance("rules %s" % name).make_content("m.push_rules"),
            )
            self.add(
                "POST",
                self.api("user/%s/filter" % quoted(world.self_user)),
                {"room": {"state": {"lazy_load_members": True}}},
                {"filter_id": "0"},
            )
            self.add("GET", self.api("voip/turnServer"), None, {})
            self.add("GET", "/_matrix/media/%s/config" % self.version, None, {"m.upload.size": 52428800})
        if self.encrypted:
            self.keys()

    def device_keys(self, user, device):
        world = self.world
        return {
            "algorithms": ALGORITHMS,
            "device_id": device,
            "keys": {"curve25519:" + device: world.key(None), "ed25519:" + device: world.key(None)},
            "signatures": {user: {"ed25519:" + device: world.sig(None)}},
            "user_id": user,
        }

    def keys(self):
        world, user = self.world, self.world.self_user
        one_time = {
            "signed_curve25519:AAAAAA"
            + x: {"key": world.key(None), "signatures": {user: {"ed25519:" + self.device: world.sig(None)}}}
            for x in "AQg"
        }
        self.add(
            "POST",
            self.api("keys/upload"),
            {"device_keys": self.device_keys(user, self.device), "one_time_keys": one_time},
            {"one_time_key_counts": {"signed_curve25519": 50}},
        )
        other, device = world.users[1], world.new_device()
        self.add(
            "POST",
            self.api("keys/query"),
            {"device_keys": {other: []}},
            {
                "device_keys": {other: {device: self.device_keys(other, device)}},
                "failures": {},
                "master_keys": {},
                "self_signing_keys": {},
                "user_signing_keys": {},
            },
        )
        claimed = {
            "signed_curve25519:AAAAHg": {
                "key": world.key(None),
                "signatures": {other: {"ed25519:" + device: world.sig(None)}},
            }
        }
        self.add(
            "POST",
            self.api("keys/claim"),
            {"one_time_keys": {other: {device: "signed_curve25519"}}},
            {"one_time_keys": {other: {device: claimed}}, "failures": {}},
        )
        self.add(
            "PUT",
            self.api("sendToDevice/m.room.encrypted/%s" % self.txn()),
            {
                "messages": {
                    other: {
                        device: {
                            "algorithm": "m.olm.v1.curve25519-aes-sha2",
                            "sender_key": self.curve_key,
                            "ciphertext": {world.key(None): {"type": 0, "body": world.olm("300")}},
                        }
                    }
                }
            },
            {},
        )

    # What sync brings.
    def next_batch(self):
        self.position += self.rng.randrange(1, 3)
        if self.rng.random() < 0.4:
            self.counters[self.rng.randrange(7)] += 1
        if self.server == "small":
            return str(self.position)
        return "s%d_%s" % (self.position, "_".join(map(str, self.counters)))

    def state_event(self, kind, key, content, sender):
        world = self.world
        return {
            "type": kind,
            "sender": sender,
            "content": content,
            "state_key": key,
            "origin_server_ts": world.clock - self.rng.randrange(10**10),
            "unsigned": {"age": self.rng.randrange(10**10)},
            "event_id": self.event_id(),
        }

    def content(self):
        rng, world = self.rng, self.world
        if self.encrypted:
            session = self.sessions.setdefault(rng.choice(self.world.users), world.key(None))
            return "m.room.encrypted", {
                "algorithm": ALGORITHMS[1],
                "ciphertext": world.megolm("%d" % rng.choice([200, 222, 243, 264])),
                "device_id": self.device,
                "sender_key": self.curve_key,
                "session_id": session,
            }
        choice = rng.random()
        if choice < 0.06 and self.log:
            return "m.reaction", {
                "m.relates_to": {
                    "event_id": self.last,
                    "key": rng.choice(VALUES["emoji"]),
                    "rel_type": "m.annotation",
                }
            }
        content = (
            {"body": self.text(), "msgtype": "m.text"}
            if rng.random() < 0.7
            else {"msgtype": "m.text", "body": self.text()}
        )
        if choice < 0.12:
            content["m.relates_to"] = {"m.in_reply_to": {"event_id": self.last}}
        if choice > 0.9:
            content["m.mentions"] = {}
        return "m.room.message", content

    def message(self, sender, kind, content, txn=None):
        world, rng = self.world, self.rng
        world.clock += rng.randrange(200, 20000)
        event = {
            "type": kind,
            "sender": sender,
            "content": content,
            "origin_server_ts": world.clock,
            "unsigned": {"age": rng.randrange(30, 900)},
            "event_id": self.event_id(),
        }
        if txn:
            event["unsigned"]["transaction_id"] = txn
        self.last = event["event_id"]
        return event

    def joined(self, timeline, state=(), ephemeral=(), account=(), limited=False, summary=None):
        batch = "t%d-%d_%s" % (self.rng.randrange(10, 4000), self.position, "_".join(map(str, self.counters)))
        room = {
            "timeline": {"events": timeline, "prev_batch": batch, "limited": limited},
            "state": {"events": list(state)},
            "account_data": {"events": list(account)},
            "ephemeral": {"events": list(ephemeral)},
            "unread_notifications": {"notification_count": self.rng.randrange(3), "highlight_count": 0},
            "summary": summary or {},
        }
        return room

    def sync_answer(self, join):
        answer = {"next_batch": self.next_batch()}
        if self.server in ("synapse", "modern"):
            answer["device_one_time_keys_count"] = {"signed_curve25519": 50}
            answer["org.matrix.msc2732.device_unused_fallback_key_types"] = ["signed_curve25519"]
            answer["device_unused_fallback_key_types"] = ["signed_curve25519"]
        elif self.server == "dendrite":
            answer.update(
                {
                    "account_data": {"events": []},
                    "presence": {"events": []},
                    "to_device": {"events": []},
                    "device_lists": {},
                    "device_one_time_keys_count": {"signed_curve25519": 50},
                }
            )
            answer["rooms"] = {"join": {}, "peek": {}, "invite": {}, "leave": {}}
        if join:
            answer.setdefault("rooms", {})["join"] = join
        return answer

    def room_state(self, room):
        world, rng = self.world, self.rng
        creator = world.users[0]
        state = [
            self.state_event(
                "m.room.create",
                "",
                {"room_version": rng.choice(["6", "9", "10", "10", "11"]), "creator": creator},
                creator,
            ),
            self.state_event(
                "m.room.power_levels",
                "",
                {
                    "users": {creator: 100},
                    "users_default": 0,
                    "events": POWER,
                    "events_default": 0,
                    "state_default": 50,
                    "ban": 50,
                    "kick": 50,
                    "redact": 50,
                    "invite": 0,
                    "historical": 100,
                },
                creator,
            ),
            self.state_event(
                "m.room.join_rules", "", {"join_rule": rng.choice(["public", "invite"])}, creator
            ),
            self.state_event("m.room.history_visibility", "", {"history_visibility": "shared"}, creator),
            self.state_event("m.room.name", "", {"name": rng.choice(VALUES["room names"])}, creator),
        ]
        if rng.random() < 0.4:
            state.append(self.state_event("m.room.topic", "", {"topic": world.topic(None)}, creator))
        if rng.random() < 0.4:
            state.append(self.state_event("m.room.guest_access", "", {"guest_access": "can_join"}, creator))
        if self.encrypted:
            state.append(self.state_event("m.room.encryption", "", {"algorithm": ALGORITHMS[1]}, creator))
        members = sorted(set(rng.sample(world.users, 3) + [world.self_user]))
        for user in members:
            content = {"membership": "join", "displayname": user[1:].split(":")[0].title()}
            if rng.random() < 0.7:
                content["avatar_url"] = "mxc://%s/%s" % (user.split(":", 1)[1], world.chars(LETTERS, 24))
            state.append(self.state_event("m.room.member", user, content, user))
        return state, members

    def initial_sync(self):
        world, rng, join = self.world, self.rng, {}
        for room in self.rooms:
            state, members = self.room_state(room)
            timeline = [
                self.message(
                    rng.choice(members), "m.room.message", {"body": self.text(), "msgtype": "m.text"}
                )
                for _ in range(rng.randrange(2, 8))
            ]
            receipt = {
                "type": "m.receipt",
                "content": {
                    timeline[-1]["event_id"]: {
                        "m.read": {members[0]: {"ts": world.clock, "thread_id": "main"}}
                    }
                },
            }
            marker = {"type": "m.fully_read", "content": {"event_id": timeline[0]["event_id"]}}
            join[room] = self.joined(
                timeline,
                state,
                [receipt],
                [marker],
                True,
                {"m.joined_member_count": len(members), "m.invited_member_count": 0},
            )
        answer = self.sync_answer(join)
        answer["account_data"] = {
            "events": [{"type": "m.direct", "content": {world.users[1]: [self.rooms[-1]]}}]
        }
        answer["presence"] = {"events": [self.presence(u) for u in world.users[:3]]}
        self.add("GET", self.api("sync?filter=0&timeout=0"), None, answer)
        self.since = answer["next_batch"]

    def presence(self, user):
        return {
            "type": "m.presence",
            "sender": user,
            "content": {
                "presence": "online",
                "last_active_ago": self.rng.randrange(10**5),
                "currently_active": True,
            },
        }

    def sync(self, join, presence=None):
        answer = self.sync_answer(join)
        if presence:
            answer["presence"] = {"events": [presence]}
        self.add("GET", self.api("sync?filter=0&timeout=30000&since=%s" % self.since), None, answer)
        self.since = answer["next_batch"]

    def talk(self):
        world, rng = self.world, self.rng
        room, me, other = rng.choice(self.rooms), quoted(world.self_user), rng.choice(world.users[1:])
        if rng.random() < 0.3:
            self.add("PUT", self.room_api(room, "typing/" + me), {"typing": True, "timeout": 30000}, {})
        kind, content = self.content()
        txn = self.txn()
        event = self.message(world.self_user, kind, content, txn)
        self.add(
            "PUT",
            self.room_api(room, "send/%s/%s" % (kind, quoted(txn))),
            content,
            {"event_id": event["event_id"]},
        )
        timeline, ephemeral = [event], []
        if rng.random() < 0.5:
            timeline.append(self.message(other, *self.content()))
        choice = rng.random()
        if choice < 0.3:
            ephemeral.append({"type": "m.typing", "content": {"user_ids": [other]}})
        elif choice < 0.6:
            ephemeral.append(
                {
                    "type": "m.receipt",
                    "content": {event["event_id"]: {"m.read": {other: {"ts": world.clock}}}},
                }
            )
        self.sync(
            {room: self.joined(timeline, (), ephemeral)}, self.presence(other) if rng.random() < 0.2 else None
        )
        if len(timeline) > 1 and rng.random() < 0.6:
            if rng.random() < 0.7:
                self.add("POST", self.room_api(room, "receipt/m.read/" + quoted(self.last)), {}, {})
            else:
                self.add(
                    "POST",
                    self.room_api(room, "read_markers"),
                    {"m.fully_read": self.last, "m.read": self.last},
                    {},
                )
        if rng.random() < 0.15:
            self.sync({})

    def aside(self):
        """Now and then something else than talk."""
        world, rng = self.world, self.rng
        room, choice = rng.choice(self.rooms), rng.random()
        if choice < 0.3:
            chunk = [self.message(rng.choice(world.users), *self.content()) for _ in range(4)]
            self.add(
                "GET",
                self.room_api(room, "messages?dir=b&limit=20&from=" + self.since),
                None,
                {"chunk": chunk, "start": self.since, "end": self.next_batch()},
            )
        elif choice < 0.6:
            user = rng.choice(world.users)
            self.add(
                "GET",
                self.api("profile/" + quoted(user)),
                None,
                {"displayname": user[1:].split(":")[0].title()},
            )
        elif choice < 0.8:
            txn = self.txn()
            self.add(
                "PUT",
                self.room_api(room, "redact/%s/%s" % (quoted(self.last), quoted(txn))),
                {},
                {"event_id": self.event_id()},
            )
        else:
            self.add(
                "PUT", self.api("presence/%s/status" % quoted(world.self_user)), {"presence": "online"}, {}
            )

    def federation(self, count):
        world, rng = self.world, self.rng
        room, previous, auth = self.rooms[0], self.event_id(), [self.event_id() for _ in range(3)]
        depth, key, start = rng.randrange(5, 4000), "ed25519:a_" + self.device[:4], world.clock
        for n in range(count):
            event = self.message(world.self_user, *self.content())
            depth += 1
            pdu = {
                "auth_events": auth,
                "content": event["content"],
                "depth": depth,
                "hashes": {"sha256": world.sha(None)},
                "origin": world.server,
                "origin_server_ts": event["origin_server_ts"],
                "prev_events": [previous],
                "room_id": room,
                "sender": world.self_user,
                "signatures": {world.server: {key: world.sig(None)}},
                "type": event["type"],
                "unsigned": {"age_ts": event["origin_server_ts"]},
            }
            previous = event["event_id"]
            request = {"origin": world.server, "origin_server_ts": world.clock + 3, "pdus": [pdu]}
            if rng.random() < 0.3:
                request["pdus"], request["edus"] = [], [
                    {
                        "edu_type": "m.typing",
                        "content": {
                            "room_id": room,
                            "user_id": world.self_user,
                            "typing": rng.random() < 0.5,
                        },
                    }
                ]
            self.add(
                "PUT",
                "/_matrix/federation/v1/send/%d" % (start + n),
                request,
                {"pdus": {previous: {}} if request["pdus"] else {}},
            )

    def exchanges(self, talks=12):
        self.last = self.event_id()
        self.start()
        self.initial_sync()
        for _ in range(talks):
            self.talk()
            if self.rng.random() < 0.2:
                self.aside()
        self.federation(4)
        return self.log
