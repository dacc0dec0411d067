"""Valid QUIC v1 Initial packets in any number, for floods (RFC 9001 section 5 and appendix A).

A real first flight is captured once and opened with the public Initial keys; its ClientHello is then sealed
anew under any other connection ID, which is what an attacker would do.
"""
import os
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
SIZE = 1200


def _expand(secret, label, size):
    info = struct.pack("!HB", size, 6 + len(label)) + b"tls13 " + label + b"\0"
    return HKDFExpand(hashes.SHA256(), size, info).derive(secret)


def _keys(dcid):
    """(key, iv, header protection key) of the client's Initial packets."""
    extract = HMAC(SALT, hashes.SHA256())
    extract.update(dcid)
    client = _expand(extract.finalize(), b"client in", 32)
    return _expand(client, b"quic key", 16), _expand(client, b"quic iv", 12), _expand(client, b"quic hp", 16)


def _mask(key, sample):
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return cipher.update(sample)[:5]


def _varint(packet, at):
    size = 1 << (packet[at] >> 6)
    value = int.from_bytes(packet[at:at + size], "big") & ((1 << (8 * size - 2)) - 1)
    return value, at + size


def open_initial(packet):
    """The frames of a captured Initial packet."""
    at = 6 + packet[5]
    dcid = packet[6:at]
    at += 1 + packet[at]
    token, at = _varint(packet, at)
    length, at = _varint(packet, at + token)
    key, iv, protection = _keys(dcid)
    mask = _mask(protection, packet[at + 4:at + 20])
    first = packet[0] ^ (mask[0] & 0x0F)
    size = (first & 3) + 1
    number = bytes(a ^ b for a, b in zip(packet[at:at + size], mask[1:]))
    header = bytes([first]) + packet[1:at] + number
    nonce = (int.from_bytes(iv, "big") ^ int.from_bytes(number, "big")).to_bytes(12, "big")
    return AESGCM(key).decrypt(nonce, packet[at + size:at + length], header)


def seal_initial(frames, dcid=None):
    """A full-size Initial with these frames under a fresh connection ID."""
    dcid = dcid or os.urandom(12)
    scid = os.urandom(12)
    head = b"\xc3\0\0\0\1" + bytes([len(dcid)]) + dcid + bytes([len(scid)]) + scid + b"\0"
    payload = SIZE - len(head) - 2 - 4 - 16
    frames = frames.rstrip(b"\0").ljust(payload, b"\0")
    key, iv, protection = _keys(dcid)
    header = head + struct.pack("!H", 0x4000 | (4 + len(frames) + 16)) + b"\0\0\0\0"
    sealed = AESGCM(key).encrypt(iv, frames, header)
    mask = _mask(protection, sealed[:16])
    number = bytes(mask[1:])
    return bytes([header[0] ^ (mask[0] & 0x0F)]) + header[1:-4] + number + sealed
