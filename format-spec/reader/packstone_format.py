"""Keys, and the structures with fixed layouts, read as the pages say: one part a page, named in its heading.

Every function refuses what its page says must be refused, by raising `Refused` with the page's reason. Nothing here
touches a file; packstone_reader.py does. Pages are in the directory above.
"""
import collections
import hmac
import struct

import argon2.low_level
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KIB, MIB = 1 << 10, 1 << 20
MAGIC = bytes.fromhex("89504b53540d0a1a")
CONFIG, KEY_SLOT, DATA_PACK, TREE_PACK, SEGMENT, SNAPSHOT, HEAD = range(1, 8)  # README, "Names and kinds"
LONGEST_BLOCK = 16 * MIB
STORED, ZSTD = 0, 1


class Refused(Exception):
    """Something that must not be used: `reason` is the word of the pages' tables."""

    def __init__(self, reason, what=""):
        super().__init__(f"{reason}: {what}" if what else reason)
        self.reason = reason


def require(condition, reason, what=""):
    if not condition:
        raise Refused(reason, what)


# Primitives: README, "Primitives: suite 1" ---------------------------------------------------------------------------


def H(data):
    return blake3(data).digest()


def KH(key, data):
    return blake3(data, key=key).digest()


def DK(context, material, length=32):
    return blake3(material, derive_key_context="packstone v1 " + context).digest(length=length)


def u8(n):
    return bytes([n])


def u16(n):
    return struct.pack("<H", n)


def u32(n):
    return struct.pack("<I", n)


def u64(n):
    return struct.pack("<Q", n)


def decrypt(key, sealed):
    try:
        return AESGCM(key).decrypt(bytes(12), bytes(sealed), None)
    except InvalidTag:
        raise Refused("tag") from None


P = 2**255 - 19  # Ed25519, RFC 8032: only what strict verification needs beside the library.
EDWARDS_D = -121665 * pow(121666, -1, P) % P


def point(encoded):
    """(x, y) modulo P, or None when these bytes are no point."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(EDWARDS_D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return (P - x if x & 1 != sign else x), y


def is_strong(encoded):
    """A point of the curve whose order is not small: eight times it is not the neutral element (0, 1)."""
    p = point(encoded)
    if p is None:
        return False
    for _ in range(3):
        x, y = p
        t = EDWARDS_D * x * x * y * y % P
        p = 2 * x * y * pow(1 + t, -1, P) % P, (y * y + x * x) * pow(1 - t, -1, P) % P
    return p != (0, 1)


def verify_signature(key, signature, message):
    require(is_strong(key) and is_strong(signature[:32]), "signature")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        raise Refused("signature") from None


def zeros(data, reason="nonzero-reserved", what=""):
    require(not any(data), reason, what)


def clear_header(data, kinds):
    """README, "Clear header": returns the kind."""
    require(len(data) >= 10, "truncated", "clear header")
    require(data[:8] == MAGIC, "wrong-magic")
    require(data[8] == 1, "unknown-version", "a newer program is needed")
    require(data[9] in kinds, "wrong-kind", f"kind {data[9]}")
    return data[9]


# Config: config.md ---------------------------------------------------------------------------------------------------

Config = collections.namedtuple("Config", "id min average max vk features created")


def check_chunk_lengths(low, average, high):
    even = not (low % 2 or average % 2 or high % 2)
    bounds = 64 <= low <= MIB and 256 <= average <= 4 * MIB and KIB <= high <= 16 * MIB
    require(even and bounds and low < average < high, "out-of-range", "chunk lengths")


def parse_config(data):
    require(len(data) == 256, "wrong-length", "config")
    clear_header(data, [CONFIG])
    require(data[10] == 1, "unknown-suite")
    zeros(data[11:12])
    chunker, low, average, high = struct.unpack_from("<4I", data, 12)
    require(chunker == 1, "unknown-chunker")
    check_chunk_lengths(low, average, high)
    zeros(data[28:32])
    require(is_strong(data[32:64]), "out-of-range", "verifying key")
    *features, created = struct.unpack_from("<3Qq", data, 64)
    require(features[0] == 0, "unknown-feature")
    zeros(data[96:])
    return Config(DK("repository id", data), low, average, high, bytes(data[32:64]), features, created)


# Keys: key_tree.md ---------------------------------------------------------------------------------------------------


class Keys:
    def __init__(self, master, repository):
        self.repository = repository
        self.root = DK("root", master + repository)
        self.seal = {kind: DK("object kind", self.root + u8(kind)) for kind in range(1, 7)}
        self.domain = DK("dedup domain", self.root + u32(0))
        self.id_data = DK("chunk id data", self.domain)
        self.id_tree = DK("chunk id tree", self.domain)
        self.gear = struct.unpack("<256Q", DK("gear table", self.domain, 2048))
        self.cache_check = DK("cache check", self.root)

    def slot_info(self, beginning):
        return DK("slot info", self.root + beginning)

    def chunk_id(self, plain, is_tree):
        return KH(self.id_tree if is_tree else self.id_data, plain)

    @staticmethod
    def verifying_key(master):
        private = Ed25519PrivateKey.from_private_bytes(DK("head signing seed", master))
        return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


# Sealed unit: unit.md ------------------------------------------------------------------------------------------------


def open_unit(keys, kind, codec, plain_length, clear, unit):
    """The content, still packed by its codec."""
    require(len(unit) >= 80, "truncated", "sealed unit")
    context = u8(kind) + u32(0) + u8(codec) + u32(plain_length) + unit[:32] + H(clear)
    derived = DK("unit", keys.seal[kind] + keys.repository + context, 64)
    require(hmac.compare_digest(derived[:32], unit[32:64]), "commitment", "sealed unit")
    return decrypt(derived[32:], unit[64:])


def unpack(codec, content, plain_length):
    """unit.md, "Opening", and block.md, "Codecs"."""
    require(codec in (STORED, ZSTD), "unknown-codec", f"codec {codec}")
    if codec == STORED:
        require(len(content) == plain_length, "plain-length")
        return content
    require(check_frame(content) == plain_length, "plain-length", "frame of another content size")
    try:
        plain = zstandard.ZstdDecompressor(max_window_size=16 * MIB).decompress(content)
    except zstandard.ZstdError as error:
        raise Refused("decompression", str(error)) from None
    require(len(plain) == plain_length, "decompression", "frame holds another length than it says")
    return plain


def check_frame(frame):
    """The one permitted shape of a zstd frame (RFC 8878, 3.1.1): returns its content size."""
    require(len(frame) >= 6 and frame[:4] == b"\x28\xb5\x2f\xfd", "decompression", "no zstd frame")
    descriptor, at = frame[4], 5
    require(descriptor & 0b0001_1111 == 0, "decompression", "dictionary, checksum or reserved bits")
    single, flag = bool(descriptor & 0x20), descriptor >> 6
    require(single or flag, "decompression", "no content size")
    window = 0
    if not single:
        exponent, mantissa = frame[5] >> 3, frame[5] & 7
        window, at = (1 << 10 + exponent) * (8 + mantissa) // 8, 6
    width = 1 << flag
    require(len(frame) >= at + width, "decompression", "frame ends in its header")
    size = int.from_bytes(frame[at : at + width], "little") + (256 if width == 2 else 0)
    require((size if single else window) <= 16 * MIB, "decompression", "window")
    at, last = at + width, False
    while not last:
        require(len(frame) >= at + 3, "decompression", "frame ends before its last block")
        header = int.from_bytes(frame[at : at + 3], "little")
        last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
        require(kind != 3, "decompression", "reserved block type")
        at += 3 + (1 if kind == 1 else length)
    require(len(frame) >= at, "decompression", "frame ends within a block")
    require(len(frame) == at, "trailing-bytes", "behind the frame")
    return size


# Codes for people: recovery_code.md ----------------------------------------------------------------------------------

SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
FORGIVEN = {"O": "0", "I": "1", "L": "1"}


def read_symbols(text):
    values = []
    for c in text:
        if c.isspace() or c == "-" or 0x2010 <= ord(c) <= 0x2015:
            continue
        c = FORGIVEN.get(c.upper(), c.upper())
        require(c in SYMBOLS, "no-symbol", repr(c))
        values.append(SYMBOLS.index(c))
    return values


def pack_symbols(values):
    number = 0
    for value in values:
        number = number << 5 | value
    return number.to_bytes(len(values) * 5 // 8, "big")


def write_symbols(data, groups=True):
    number = int.from_bytes(data, "big")
    text = "".join(SYMBOLS[number >> shift & 31] for shift in range(len(data) * 8 - 5, -1, -5))
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4)) if groups else text


def parse_recovery_code(text):
    values = read_symbols(text)
    require(len(values) == 32, "wrong-length", f"{len(values)} symbols of 32")
    data = pack_symbols(values)
    require(DK("recovery code check", data[:17], 3) == data[17:], "wrong-check", "recovery code")
    require(data[0] == 1, "unknown-version", "recovery code")
    return data[1:17]


def parse_key_file(data):
    prefix = b"packstone-key-1:"
    require(len(data) <= 1024, "wrong-magic", "too long for a key file")
    data = data.strip()
    require(data[: len(prefix)].lower() == prefix, "wrong-magic", "no key file")
    try:
        values = read_symbols(data[len(prefix) :].decode())
    except UnicodeDecodeError:
        raise Refused("no-symbol", "key file") from None
    require(len(values) == 56, "wrong-length", f"{len(values)} symbols of 56")
    packed = pack_symbols(values)
    require(DK("key file check", packed[:32], 3) == packed[32:], "wrong-check", "key file")
    return packed[:32]


def state_sum(values):
    total = 0
    for value in values:
        total <<= 1
        if total & 0b100000:
            total ^= 0b100101
        total ^= value
    return total


def parse_state_code(text):
    values = read_symbols(text)
    require(len(values) >= 18, "wrong-length", "state code")
    require(state_sum(values) == 0, "wrong-check", "state code")
    digits, beginning = values[:-17], pack_symbols(values[-17:-1])
    require(all(d < 10 for d in digits) and digits[0] != 0, "out-of-range", "generation")
    generation = int("".join(map(str, digits)))
    require(generation < 1 << 64, "out-of-range", "generation")
    return generation, beginning


def write_state_code(generation, beginning):
    values = [int(d) for d in str(generation)] + read_symbols(write_symbols(beginning))
    # The check symbol is what is left when a zero stands in its place.
    return f"{generation}-{write_symbols(beginning)}-{SYMBOLS[state_sum(values + [0])]}"


# Key slot: key_slot.md -----------------------------------------------------------------------------------------------

PASSPHRASE, RECOVERY_CODE, KEY_FILE = 1, 2, 3
Slot = collections.namedtuple("Slot", "secret flags m t p")


def parse_slot(data, repository):
    require(len(data) == 512, "wrong-length", "key slot")
    clear_header(data, [KEY_SLOT])
    require(data[10] in (PASSPHRASE, RECOVERY_CODE, KEY_FILE), "unknown-secret")
    require(data[11] <= 1, "nonzero-reserved", "flags")
    m, t, p = struct.unpack_from("<3I", data, 12)
    if data[10] == KEY_FILE:
        zeros(data[12:24])
    else:
        bounds = 64 * KIB <= m <= MIB and 3 <= t <= 16 and 1 <= p <= 8 and m * t <= 4 * MIB  # m is in KiB
        require(bounds, "out-of-range", f"stretching with m {m}, t {t}, p {p}")
    zeros(data[24:32])
    require(data[32:64] == repository, "other-repository", "key slot")
    zeros(data[448:])
    return Slot(data[10], data[11], m, t, p)


def open_slot(data, repository, kind, secret):
    """Returns (slot, M)."""
    slot = parse_slot(data, repository)
    require(slot.secret == kind, "other-secret", "the slot is for another type of secret")
    if kind == KEY_FILE:
        stretched = DK("key file", secret)
    else:
        stretched = argon2.low_level.hash_secret_raw(
            secret, data[64:96], slot.t, slot.m, slot.p, 32, argon2.low_level.Type.ID, 0x13
        )
    derived = DK("slot", stretched + data[:96], 64)
    require(hmac.compare_digest(derived[:32], data[96:128]), "commitment", "wrong secret, or for another slot")
    payload = decrypt(derived[32:], data[128:304])
    require(payload[0] == 1, "unknown-secret", "a newer program is needed")
    zeros(payload[33:])
    return slot, payload[1:33]


def open_label(data, keys):
    """Returns (label, created)."""
    sealed = decrypt(keys.slot_info(data[:304]), data[304:448])
    (created,), length = struct.unpack_from("<q", sealed), sealed[8]
    require(length <= 119, "out-of-range", "label")
    zeros(sealed[9 + length :])
    try:
        return sealed[9 : 9 + length].decode(), created
    except UnicodeDecodeError:
        raise Refused("undecodable", "label") from None


# Head: head.md -------------------------------------------------------------------------------------------------------

SLOTS, SEGMENTS, SNAPSHOTS, MARKED, SWEPT, ANCESTORS, HEAD_CONFIG = 1, 2, 4, 6, 8, 10, 11
ROW = {SLOTS: "32s", SEGMENTS: "<32sQ", SNAPSHOTS: "<32sQQ", MARKED: "<32sBB6sQqQ", SWEPT: "<32sB7sq", ANCESTORS: "8s"}
REMOVAL_OF = {3: SEGMENTS, 5: SNAPSHOTS, 7: MARKED, 9: SWEPT}
FEATURES = ("read", "write", "move")


class Head:
    """A head whose signature and own rules hold; `resolve` adds what only its checkpoint can tell."""

    def __init__(self, data, vk, repository):
        data = bytes(data)
        require(len(data) >= 224 + 64, "truncated", "head")
        clear_header(data, [HEAD])
        require(struct.unpack_from("<I", data, 12)[0] == len(data) <= 64 * MIB, "wrong-length", "head")
        require(data[16:48] == repository, "other-repository", "head")
        require(data[96:128] == vk, "other-signer", "head")
        verify_signature(vk, data[-64:], b"packstone v1 head\0" + data[:-64])
        # From here on the bytes are ours.
        self.data, self.id = data, H(data)
        require(data[10] <= 1, "nonzero-reserved", "flags")
        zeros(data[11:12])
        self.is_checkpoint = data[10] == 1
        (self.generation,) = struct.unpack_from("<Q", data, 48)
        require(self.generation >= 1, "out-of-range", "generation 0")
        self.previous = data[56:88]
        require(any(self.previous) == (self.generation > 1), "wrong-previous")
        (self.time,) = struct.unpack_from("<q", data, 88)
        self.features = struct.unpack_from("<3Q", data, 128)
        require(self.features[0] == 0, "unknown-feature")
        (self.checkpoint_generation,) = struct.unpack_from("<Q", data, 152)
        self.checkpoint_id, self.digest = data[160:192], data[192:224]
        if self.is_checkpoint:
            own = self.checkpoint_generation == self.generation and not any(self.checkpoint_id)
            require(own, "wrong-checkpoint", "a checkpoint names itself only")
        else:
            require(1 <= self.checkpoint_generation < self.generation, "wrong-checkpoint")
        self.sections = self.parse_sections(data[224:-64])

    def parse_sections(self, data):
        sections, at, last, has_config = {}, 0, -1, False
        while at < len(data):
            require(at + 8 <= len(data), "truncated", "header of a section")
            kind, zero, length = struct.unpack_from("<HHI", data, at)
            require(zero == 0, "nonzero-reserved", "section")
            require(kind > last and kind != 0, "misplaced-section", f"section {kind}")
            require(at + 8 + length <= len(data), "truncated", f"section {kind}")
            body, at, last = data[at + 8 : at + 8 + length], at + 8 + length, kind
            if kind >= 0x8000:
                continue
            require(kind <= HEAD_CONFIG, "unknown-section", f"section {kind}: a newer program is needed")
            require(length > 0, "misplaced-section", f"section {kind} is empty")
            allowed = kind not in REMOVAL_OF if self.is_checkpoint else kind != HEAD_CONFIG
            require(allowed, "misplaced-section", f"section {kind}")
            if kind == HEAD_CONFIG:
                config = parse_config(body)
                require(config.id == self.data[16:48] and config.vk == self.data[96:128], "other-repository", "config")
                within = all(theirs & ~ours == 0 for theirs, ours in zip(config.features, self.features))
                require(within, "shrunk-features")
                has_config = True
                continue
            sections[kind] = self.parse_rows(kind, body)
        require(SLOTS in sections, "no-slots")
        require(len(sections[SLOTS]) <= 16, "out-of-range", "more than 16 slots")
        require(has_config or not self.is_checkpoint, "missing-section", "config")
        return sections

    def parse_rows(self, kind, body):
        row = struct.Struct(ROW[kind] if kind in ROW else "32s")
        require(len(body) % row.size == 0, "truncated", f"section {kind}")
        rows = list(row.iter_unpack(body))
        if kind != ANCESTORS:
            require(all(a[0] < b[0] for a, b in zip(rows, rows[1:])), "not-ascending", f"section {kind}")
        for entry in rows:
            if kind == SNAPSHOTS:
                require(1 <= entry[2] <= self.generation, "out-of-range", "arrival")
            elif kind == SWEPT:
                require(1 <= entry[1] <= 4, "out-of-range", "kind of what is swept")
                zeros(entry[2])
            elif kind == MARKED:
                _, of, replaced, reserved, since, _, arrival = entry
                require(1 <= of <= 4, "out-of-range", "kind of what is marked")
                require(replaced <= 1, "nonzero-reserved", "flags of a mark")
                zeros(reserved)
                require(1 <= since <= self.generation, "out-of-range", "since")
                require(not replaced or of in (2, 3), "out-of-range", "only packs and segments are replaced")
                require(arrival == 0 or (of == 4 and arrival < since), "out-of-range", "arrival of what is marked")
        return rows

    def resolve(self, checkpoint=None):
        """head.md, "The live state": fills `self.state`, {section: [rows]}, from the checkpoint that was named."""
        base = {}
        if not self.is_checkpoint:
            named = checkpoint is not None and checkpoint.is_checkpoint and checkpoint.id == self.checkpoint_id
            require(named and checkpoint.generation == self.checkpoint_generation, "wrong-checkpoint")
            fewer = all(old & ~new == 0 for old, new in zip(checkpoint.features, self.features))
            require(fewer, "shrunk-features")
            base = checkpoint.resolve().state
        self.state = {SLOTS: self.sections[SLOTS]}
        for kind, list_of in ((3, SEGMENTS), (5, SNAPSHOTS), (7, MARKED), (9, SWEPT)):
            entries = {row[0]: row for row in base.get(list_of, [])}
            removed = {}
            for (name,) in self.sections.get(kind, []):
                require(name in entries, "not-listed", name.hex())
                removed[name] = entries.pop(name)
            for row in self.sections.get(list_of, []):
                require(row[0] not in entries and removed.get(row[0]) != row, "already-listed", row[0].hex())
                entries[row[0]] = row
            self.state[list_of] = [entries[name] for name in sorted(entries)]
        self.state[ANCESTORS] = base.get(ANCESTORS, []) + self.sections.get(ANCESTORS, [])
        ancestors = [row[0] for row in self.state[ANCESTORS]]
        require(len(ancestors) == self.generation - 1, "wrong-ancestors", f"{len(ancestors)} of them")
        require(not ancestors or ancestors[-1] == self.previous[:8], "wrong-ancestors")
        if not self.is_checkpoint:
            beginning = ancestors[self.checkpoint_generation - 1]
            require(beginning == self.checkpoint_id[:8], "wrong-ancestors", "the checkpoint is no ancestor")
        seen = set()
        for kind in (SLOTS, SEGMENTS, SNAPSHOTS, MARKED, SWEPT):
            for row in self.state[kind]:
                require(row[0] not in seen, "live-marked", row[0].hex())
                seen.add(row[0])
        require(DK("live state", self.encode_state()) == self.digest, "wrong-digest")
        return self

    def encode_state(self):
        encoded = b""
        for kind in sorted(ROW):
            body = b"".join(struct.pack(ROW[kind], *row) for row in self.state[kind])
            if body:
                encoded += u16(kind) + u16(0) + u32(len(body)) + body
        return encoded

    def check_link(self, previous):
        """head.md, "One head after another": what needs no state."""
        linked = self.generation == previous.generation + 1 and self.previous == previous.id
        require(linked, "wrong-previous")
        fewer = all(old & ~new == 0 for old, new in zip(previous.features, self.features))
        require(fewer, "shrunk-features")
        if not self.is_checkpoint:
            before = previous.id if previous.is_checkpoint else previous.checkpoint_id
            require(self.checkpoint_id == before, "wrong-checkpoint", "another than the head before it")

    def check_transition(self, previous):
        """The rest of that section; both heads are resolved."""
        marked = {row[0]: row[1] for row in previous.state[MARKED]}
        swept = {row[0] for row in previous.state[SWEPT]}
        for row in self.state[SWEPT]:
            require(row[0] in swept or marked.get(row[0]) == row[1], "wrong-transition", "swept without a mark")
        for kind in (SLOTS, SEGMENTS, SNAPSHOTS, MARKED):
            for row in self.state[kind]:
                require(row[0] not in swept, "wrong-transition", "was swept")
