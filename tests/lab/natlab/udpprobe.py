#!/usr/bin/env python3
"""udpprobe - classifies a NAT as RFC 4787 does, and punches holes. No dependencies.

  udpprobe.py server  --ip A --ip B [--port P1 --port P2]     on a host with two addresses
  udpprobe.py classify --server A --other B                    prints one JSON object
  udpprobe.py timeout  --server A --idle-s N                   does a binding survive N s of silence?
  udpprobe.py watch    --server A --every-ms N --for-s N       prints each change of the mapped address
  udpprobe.py punch    --server A --room NAME [--for-s N] [--delay-s N] [--bind-port N] [--open-ttl N]
                                                               two hosts, same room: direct path?
Requests: b"<txid> <verb>[ <arg>]"; replies: JSON with the address the server saw.
"""
import argparse, json, os, random, select, socket, sys, time

P1, P2 = 3478, 3479


def sock(ip="0.0.0.0", port=0):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((ip, port))
    return s


def server(a):
    ss = {(ip, p): sock(ip, p) for ip in a.ip for p in a.port}
    tcp = socket.socket(); tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind((a.ip[0], a.port[0])); tcp.listen(8)
    rooms, later = {}, []  # later: (when, socket, bytes, address)
    while True:
        now = time.monotonic()
        wait = min([x[0] - now for x in later], default=1.0)
        ready, _, _ = select.select(list(ss.values()) + [tcp], [], [], max(0.0, wait))
        for s in ready:
            if s is tcp:
                c, peer = tcp.accept(); c.sendall(json.dumps(peer).encode()); c.close(); continue
            data, peer = s.recvfrom(2048)
            w = data.decode("ascii", "replace").split()
            if len(w) < 2:
                continue
            here = s.getsockname()
            other_ip = a.ip[1] if here[0] == a.ip[0] else a.ip[0]
            other_port = a.port[1] if here[1] == a.port[0] else a.port[0]
            out = {"R": here, "P": (here[0], other_port),
                   "N": (other_ip, here[1]), "A": (other_ip, other_port)}
            reply = lambda **k: json.dumps({"txid": w[0], "mapped": peer, **k}).encode()
            if w[1] in out:
                ss[out[w[1]]].sendto(reply(verb=w[1]), peer)
            elif w[1] == "D":  # reply after arg seconds
                later.append((time.monotonic() + float(w[2]), s, reply(verb="D"), peer))
            elif w[1] == "J":  # join a room; both get the other's mapped address
                m = rooms.setdefault(w[2], {}); m[w[0]] = peer
                if len(m) == 2:
                    for me, at in m.items():
                        other = next(v for k, v in m.items() if k != me)
                        s.sendto(json.dumps({"txid": me, "peer": other, "mapped": at}).encode(), at)
        now = time.monotonic()
        for x in [x for x in later if x[0] <= now]:
            later.remove(x); x[1].sendto(x[2], x[3])


def ask(s, to, verb, wait=0.7, tries=2, arg=""):
    """The decoded reply, or None; also accepts a reply from another address."""
    for _ in range(tries):
        txid = "%08x" % random.getrandbits(32)
        s.sendto(f"{txid} {verb} {arg}".encode(), to)
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0:
            if not select.select([s], [], [], left)[0]:
                break
            d, frm = s.recvfrom(2048)
            try:
                r = json.loads(d)
            except ValueError:
                continue
            if r.get("txid") == txid:
                r["from"] = frm
                return r
    return None


def classify(a):
    out = {}
    try:
        t = socket.create_connection((a.server, P1), 2); out["tcp"] = bool(t.recv(100)); t.close()
    except OSError:
        out["tcp"] = False
    s = sock()
    r = ask(s, (a.server, P1), "R")
    out["udp"] = r is not None
    if not r:
        print(json.dumps(out)); return
    m1 = tuple(r["mapped"])
    m2 = tuple(ask(s, (a.server, P2), "R")["mapped"])
    m3 = tuple(ask(s, (a.other, P1), "R")["mapped"])
    m4 = tuple(ask(s, (a.other, P2), "R")["mapped"])
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.connect((a.server, 9))
    local = own.getsockname()[0]
    out["mapped"], out["behind_nat"] = m1, m1[0] != local
    out["mapping"] = ("endpoint-independent" if m1 == m2 == m3 == m4 else
                      "address-dependent" if m1 == m2 and m3 == m4 else "address-and-port-dependent")
    out["port_preserved"] = m1[1] == s.getsockname()[1]
    # filtering: a fresh socket that has talked to one endpoint only
    f = sock(); ask(f, (a.server, P1), "R")
    other_addr, other_port = ask(f, (a.server, P1), "A"), None
    if not other_addr:
        other_port = ask(f, (a.server, P1), "P")
    out["filtering"] = ("endpoint-independent" if other_addr else
                        "address-dependent" if other_port else "address-and-port-dependent")
    # port allocation over fresh sockets bound to scattered ports
    ports = []
    for k in range(6):
        x = sock(port=0); ports.append((x.getsockname()[1], ask(x, (a.server, P1), "R")["mapped"][1]))
    ext = [p[1] for p in ports]
    out["allocation"] = ("preserving" if all(i == e for i, e in ports) else
                         "sequential" if all(0 < b - c < 4 for b, c in zip(ext[1:], ext)) else "random")
    # hairpin: one socket reaches another through the public address
    h1, h2 = sock(), sock()
    to = ask(h1, (a.server, P1), "R"); ask(h2, (a.server, P1), "R")
    to = tuple(to["mapped"])
    # the target must have sent towards the sender's mapped address for strict filters
    frm = ask(h2, (a.server, P1), "R"); h1.sendto(b"open", tuple(frm["mapped"])); time.sleep(0.1)
    got = None
    for _ in range(3):
        h2.sendto(b"hairpin", to)
        if select.select([h1], [], [], 0.3)[0]:
            d, got = h1.recvfrom(100)
            if d == b"hairpin":
                break
    out["hairpin"] = bool(got) and behind(out)
    print(json.dumps(out))


def behind(out):
    return out["behind_nat"]


def timeout(a):
    s = sock()
    if not ask(s, (a.server, P1), "R"):
        print(json.dumps({"udp": False})); return
    r = ask(s, (a.server, P1), "D", wait=a.idle_s + 1.5, tries=1, arg=str(a.idle_s))
    print(json.dumps({"idle_s": a.idle_s, "alive": r is not None}))


def watch(a):
    s, last, end, lost = sock(), None, time.monotonic() + a.for_s, 0
    while time.monotonic() < end:
        r = ask(s, (a.server, P1), "R", wait=a.every_ms / 1000, tries=1)
        if not r:
            lost += 1
        elif tuple(r["mapped"]) != last:
            last = tuple(r["mapped"])
            at = round(a.for_s - (end - time.monotonic()), 2)
            print(json.dumps({"t_s": at, "mapped": last}), flush=True)
        time.sleep(a.every_ms / 1000)
    print(json.dumps({"lost": lost}))


def punch(a):
    s = sock(port=a.bind_port)
    me = "%08x" % random.getrandbits(32)
    peer, end = None, time.monotonic() + 5
    while not peer and time.monotonic() < end:
        s.sendto(f"{me} J {a.room}".encode(), (a.server, P1))
        if select.select([s], [], [], 0.2)[0]:
            try:
                r = json.loads(s.recvfrom(2048)[0])
                if r.get("peer"): peer = tuple(r["peer"])
            except ValueError:
                pass
    if not peer:
        print(json.dumps({"direct": False, "why": "no rendezvous"})); return
    time.sleep(a.delay_s)
    if a.open_ttl:
        # Open our own NAT with a packet that dies before the peer's, and go on only when
        # the peer has done so too: otherwise an open-INPUT Linux NAT gives the port away.
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, a.open_ttl)
        s.sendto(b"OPEN", peer)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
        ready, end = False, time.monotonic() + 5
        while not ready and time.monotonic() < end:
            s.sendto(f"{me} J {a.room}/open".encode(), (a.server, P1))
            if select.select([s], [], [], 0.2)[0]:
                try:
                    ready = b'"peer"' in s.recvfrom(2048)[0]
                except OSError:
                    pass
    start, end = time.monotonic(), time.monotonic() + a.for_s
    heard = acked = None
    targets, nxt = {peer}, 0.0
    while time.monotonic() < end:
        if time.monotonic() >= nxt:
            for t in list(targets):
                s.sendto(b"ACK" if heard else b"PUNCH", t)
            nxt = time.monotonic() + 0.1
        if select.select([s], [], [], 0.05)[0]:
            d, frm = s.recvfrom(2048)
            if d in (b"PUNCH", b"ACK"):
                heard = heard or time.monotonic() - start
                targets.add(frm)  # a symmetric peer appears from another port: answer there
                if d == b"ACK":
                    acked = acked or time.monotonic() - start
                    for _ in range(3): s.sendto(b"ACK", frm)
    print(json.dumps({"direct": bool(acked), "heard_s": heard and round(heard, 3),
                      "both_ways_s": acked and round(acked, 3)}))


p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
sub = p.add_subparsers(dest="verb", required=True)
x = sub.add_parser("server")
x.add_argument("--ip", action="append", required=True)
x.add_argument("--port", type=int, action="append")
for v in ("classify", "timeout", "watch", "punch"):
    y = sub.add_parser(v)
    y.add_argument("--server", default="198.51.100.10")
    y.add_argument("--other", default="198.51.100.11")
    if v == "timeout": y.add_argument("--idle-s", type=float, required=True)
    if v in ("watch", "punch"): y.add_argument("--for-s", type=float, default=3)
    if v == "watch": y.add_argument("--every-ms", type=float, default=200)
    if v == "punch":
        y.add_argument("--room", required=True)
        y.add_argument("--delay-s", type=float, default=0)
        y.add_argument("--bind-port", type=int, default=0)
        y.add_argument("--open-ttl", type=int, default=0)
a = p.parse_args()
if a.verb == "server":
    a.port = a.port or [P1, P2]
    assert len(a.ip) == 2 and len(a.port) == 2
try:
    globals()[a.verb](a)
except KeyboardInterrupt:
    sys.exit(0)
