"""The structures of the format, read as the pages say: one part a page, named in its heading.

Every function refuses what its page says must be refused, by raising `Refused` with the page's reason. Nothing here
touches a file; packstone_reader.py does. Pages are in the directory above.
"""
import collections
import hmac
import math
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
    require(payload[0] == 1, "unknown-payload", "a newer program is needed")
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
ROW = {SLOTS: "32s", SEGMENTS: "<32sQ", SNAPSHOTS: "<32sQQ", MARKED: "<32sB7sQ", SWEPT: "<32sB7sq", ANCESTORS: "8s"}
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
        sections, at, last = {}, 0, -1
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
                continue
            sections[kind] = self.parse_rows(kind, body)
        require(SLOTS in sections, "no-slots")
        require(len(sections[SLOTS]) <= 16, "out-of-range", "more than 16 slots")
        require(last >= HEAD_CONFIG or not self.is_checkpoint, "missing-section", "config")
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
            elif kind in (MARKED, SWEPT):
                require(1 <= entry[1] <= 4, "out-of-range", "kind of what is marked or swept")
                zeros(entry[2])
                require(kind == SWEPT or 1 <= entry[3] <= self.generation, "out-of-range", "since")
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


# Bodies: body.md -----------------------------------------------------------------------------------------------------


class Body:
    """Decodes one value; each rule of the page is checked where it is read, so only the one form is accepted."""

    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def take(self, n):
        require(self.at + n <= len(self.data), "truncated", "body")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, bits):
        first = self.take(1)[0]
        if first <= 250:
            return first
        width = {0xFB: 2, 0xFC: 4, 0xFD: 8}.get(first, 16)
        require(width * 8 <= bits, "undecodable", f"a number of {bits} bits that begins with {first:02x}")
        value = int.from_bytes(self.take(width), "little")
        require(value > {2: 250, 4: 0xFFFF, 8: 0xFFFF_FFFF}[width], "not-canonical")
        return value


def decode(type_, data):
    body = Body(data)
    value = type_(body)
    require(body.at == len(body.data), "trailing-bytes", "body")
    return value


def a_byte(body):
    return body.take(1)[0]


def a_u16(body):
    return body.number(16)


def a_u32(body):
    return body.number(32)


def a_u64(body):
    return body.number(64)


def a_length(body):
    n = body.number(64)
    require(n <= 64 * MIB, "undecodable", f"a length of {n}")
    return n


def an_i64(body):
    n = body.number(64)
    return n >> 1 if n & 1 == 0 else -(n >> 1) - 1


def a_bool(body):
    n = a_byte(body)
    require(n <= 1, "undecodable", f"truth value {n}")
    return n == 1


def some_bytes(body):
    return body.take(a_length(body))


def a_text(body):
    try:
        return some_bytes(body).decode()
    except UnicodeDecodeError:
        raise Refused("undecodable", "text that is no UTF-8") from None


def array(n):
    return lambda body: body.take(n)


def list_of(type_):
    return lambda body: [type_(body) for _ in range(a_length(body))]


def optional(type_):
    return lambda body: type_(body) if a_bool(body) else None


def structure(type_name, /, **fields):
    make = collections.namedtuple(type_name, fields)
    return lambda body: make(*(type_(body) for type_ in fields.values()))


def variant(*types):
    def read(body):
        n = a_u32(body)
        require(n < len(types), "unknown-variant", "a newer program is needed")
        return types[n] if isinstance(types[n], str) else types[n](body)

    return read


def a_time(body):
    seconds, nanoseconds = an_i64(body), a_u32(body)
    require(nanoseconds < 10**9, "out-of-range", "nanoseconds")
    return seconds * 10**9 + nanoseconds


# Root: root.md -------------------------------------------------------------------------------------------------------

Root = collections.namedtuple("Root", "codec plain_length table")


def parse_root(data, kind, repository, longest, row_length, fewest, most):
    """Header and table."""
    require(len(data) >= 64, "truncated", "header")
    clear_header(data, [kind])
    require(data[10] == 1, "unknown-key-mode")
    require(data[11] == 1, "unknown-suite")
    require(data[12] in (STORED, ZSTD), "unknown-codec")
    zeros(data[13:16])
    plain_length, rows = struct.unpack_from("<2I", data, 16)
    require(4 <= plain_length <= longest, "out-of-range", "plain length")
    require(fewest <= rows <= most, "out-of-range", "rows")
    zeros(data[24:32])
    require(data[32:64] == repository, "other-repository")
    require(len(data) >= 64 + rows * row_length, "truncated", "table")
    return Root(data[12], plain_length, data[64 : 64 + rows * row_length])


def open_root(data, kind, keys, root):
    clear = 64 + len(root.table)
    content = open_unit(keys, kind, root.codec, root.plain_length, data[:clear], data[clear:])
    plain = unpack(root.codec, content, root.plain_length)
    (length,) = struct.unpack_from("<I", plain)
    require(4 + length <= len(plain), "truncated", "body")
    zeros(plain[4 + length :])
    return plain[4 : 4 + length]


# Pack: pack.md -------------------------------------------------------------------------------------------------------

Footer = collections.namedtuple("Footer", "directory_length plain_length padding codec total directory_offset")
Block = collections.namedtuple("Block", "codec stored plain chunks")
Chunk = collections.namedtuple("Chunk", "id length")

a_chunk = structure("ChunkFields", id=array(32), length=a_u32)
a_block = structure("BlockFields", codec=variant("stored", "zstd"), stored=a_u32, plain=a_u32, chunks=list_of(a_chunk))
a_directory = structure("Directory", domain=a_u32, blocks=list_of(a_block))


def parse_pack_header(data, repository):
    require(len(data) >= 48, "truncated", "header of a pack")
    kind = clear_header(data, [DATA_PACK, TREE_PACK])
    require(data[10] == 1, "unknown-key-mode")
    require(data[11] == 1, "unknown-suite")
    require(data[12:14] == bytes(2), "out-of-range", "block of the key mode")
    zeros(data[14:16])
    require(data[16:48] == repository, "other-repository", "pack")
    return kind


def parse_pack_footer(data, file_length):
    require(len(data) == 32, "wrong-length", "footer of a pack")
    require(data[24:] == MAGIC, "wrong-magic", "footer of a pack")
    directory, plain, padding, codec, zero, total = struct.unpack_from("<3IB3sQ", data)
    require(codec in (STORED, ZSTD), "unknown-codec")
    zeros(zero)
    require(total == file_length, "wrong-length", "pack")
    require(total <= 256 * MIB and plain <= 16 * MIB and directory >= 80, "out-of-range", "footer of a pack")
    offset = total - 32 - padding - directory
    require(offset >= 48, "out-of-range", "footer of a pack")
    return Footer(directory, plain, padding, codec, total, offset)


def check_directory(directory):
    """The rules that hold in a pack and in a segment: returns ([Block], where the blocks end)."""
    require(directory.domain == 0, "out-of-range", "domain")
    require(1 <= len(directory.blocks) <= 65_535, "out-of-range", "number of blocks")
    require(sum(len(b.chunks) for b in directory.blocks) <= 262_144, "out-of-range", "number of chunks")
    end, blocks = 48, []
    for block in directory.blocks:
        codec = STORED if block.codec == "stored" else ZSTD
        chunks = [check_chunk(chunk) for chunk in block.chunks]
        require(sum(c.length for c in chunks) == block.plain, "plain-length", "chunks of a block")
        require(1 <= block.plain <= LONGEST_BLOCK, "plain-length" if not chunks else "out-of-range", "block")
        content = block.stored - 80
        require(0 < content, "out-of-range", "stored length")
        fits = content == block.plain if codec == STORED else content < block.plain
        require(fits, "out-of-range", "stored length of a block")
        blocks.append(Block(codec, block.stored, block.plain, chunks))
        end += block.stored
    return blocks, end


def check_chunk(chunk):
    require(1 <= chunk.length <= LONGEST_BLOCK, "out-of-range", "length of a chunk")
    return Chunk(*chunk)


def open_directory(keys, kind, header, footer_bytes, footer, unit):
    require(len(unit) == footer.directory_length, "wrong-length", "directory of a pack")
    content = open_unit(keys, kind, footer.codec, footer.plain_length, header + footer_bytes, unit)
    plain = unpack(footer.codec, content, footer.plain_length)
    blocks, end = check_directory(decode(a_directory, plain))
    require(end == footer.directory_offset, "out-of-range", "blocks do not end where the directory begins")
    return blocks, plain


def step(n):
    """pack.md, "Padding"."""
    if n <= 16 * KIB:
        return 16 * KIB
    if n <= MIB:
        return 1 << (n - 1).bit_length()
    e = n.bit_length() - 1
    unit = 1 << e - (math.floor(math.log2(e)) + 1)
    return -(-n // unit) * unit


def check_padding(data, footer):
    begin = footer.directory_offset + footer.directory_length
    zeros(data[begin:-32], what="padding")
    require(step(footer.total - footer.padding) == footer.total, "out-of-range", "padding")


def open_block(keys, is_tree, block, unit):
    """block.md: the plain bytes, with every chunk's id checked."""
    require(1 <= block.plain <= LONGEST_BLOCK, "out-of-range", "plain length")
    content = open_unit(keys, 2 if is_tree else 1, block.codec, block.plain, b"", unit)
    plain, at = unpack(block.codec, content, block.plain), 0
    require(sum(c.length for c in block.chunks) == len(plain), "plain-length", "chunks of a block")
    for chunk in block.chunks:
        require(keys.chunk_id(plain[at : at + chunk.length], is_tree) == chunk.id, "chunk-id", chunk.id.hex())
        at += chunk.length
    return plain


def open_pack(keys, data):
    """A whole pack: (kind, footer, blocks, plain directory, prefix of the directory unit)."""
    kind = parse_pack_header(data, keys.repository)
    footer = parse_pack_footer(data[-32:], len(data))
    unit = data[footer.directory_offset : footer.directory_offset + footer.directory_length]
    blocks, plain = open_directory(keys, kind, data[:48], data[-32:], footer, unit)
    return kind, footer, blocks, plain, unit[:64]


# Segment: segment.md -------------------------------------------------------------------------------------------------

SegmentPack = collections.namedtuple("SegmentPack", "id length kind prefix blocks end")


def parse_segment_table(data, repository):
    root = parse_root(data, SEGMENT, repository, 64 * MIB, 41, 1, 65_536)
    rows = list(struct.iter_unpack("<32sQB", root.table))
    require(all(a[0] < b[0] for a, b in zip(rows, rows[1:])), "not-ascending", "packs of a segment")
    for _, length, kind in rows:
        require(16 * KIB <= length <= 256 * MIB, "out-of-range", "length of a pack")
        require(kind in (DATA_PACK, TREE_PACK), "out-of-range", "kind of a pack")
    return root, rows


def open_segment(keys, data):
    root, rows = parse_segment_table(data, keys.repository)
    body = open_root(data, SEGMENT, keys, root)
    element = structure("Element", prefix=array(64), domain=a_u32, blocks=list_of(a_block))
    elements = decode(list_of(element), body)
    require(len(elements) == len(rows), "out-of-range", "as many packs as rows")
    packs = []
    for (name, length, kind), pack in zip(rows, elements):
        blocks, end = check_directory(pack)
        # Behind the blocks stand at least a sealed directory and the footer.
        require(end + 80 + 32 <= length, "out-of-range", "blocks do not fit into their pack")
        packs.append(SegmentPack(name, length, kind, pack.prefix, blocks, end))
    require(sum(len(b.chunks) for p in packs for b in p.blocks) <= 262_144, "out-of-range", "number of chunks")
    return packs, body


# Tree and chunk lists: tree.md ---------------------------------------------------------------------------------------

RECORD = 36
ChunkList = collections.namedtuple("ChunkList", "depth chunks")


def a_chunk_list(body):
    depth, chunks = a_byte(body), list_of(a_chunk)(body)
    require(depth <= 8 and len(chunks) <= 1024, "out-of-range", "chunk list")
    chunks = [check_chunk(chunk) for chunk in chunks]
    if depth:
        check_list_stream(sum(c.length for c in chunks))
    return ChunkList(depth, chunks)


def check_list_stream(length):
    require(length % RECORD == 0, "broken-rule", "a list's stream is no whole number of records")
    require(length > 1024 * RECORD, "broken-rule", "a list is deeper than it needs to be")


a_file = structure(
    "File", size=a_u64, content=a_chunk_list, holes=list_of(lambda b: (a_u64(b), a_u64(b))), digest=optional(array(32))
)
a_node = variant(
    a_file,
    structure("Directory", listing=a_chunk_list),
    structure("Symlink", target=some_bytes),
    structure("Fifo"),
    structure("Socket"),
    structure("CharacterDevice", major=a_u32, minor=a_u32),
    structure("BlockDevice", major=a_u32, minor=a_u32),
)
an_entry = structure(
    "Entry", name=some_bytes, mode=a_u32, uid=a_u32, gid=a_u32, user=some_bytes, group=some_bytes, mtime=a_time,
    ctime=a_time, btime=optional(a_time), device=a_u32, inode=a_u64, links=a_u64,
    xattrs=list_of(lambda b: (some_bytes(b), some_bytes(b))), flags=a_u32, node=a_node,
)  # fmt: skip


def kind_of(entry):
    return type(entry.node).__name__


def parse_entry(record, last_name):
    entry = decode(an_entry, record)
    name = entry.name
    good = 1 <= len(name) <= 1020 and name not in (b".", b"..") and b"/" not in name and b"\0" not in name
    require(good, "broken-rule", f"name {name!r}")
    require(last_name is None or name > last_name, "not-ascending", f"name {name!r}")
    require(entry.mode <= 0o7777, "out-of-range", "mode")
    for owner in (entry.user, entry.group):
        require(b"\0" not in owner and len(owner) <= 64 * KIB, "broken-rule", "name of an owner")
    names = [attribute for attribute, _ in entry.xattrs]
    require(len(names) <= 65_536, "broken-rule", "number of attributes")
    for attribute in names:
        require(0 < len(attribute) <= 64 * KIB and b"\0" not in attribute, "broken-rule", "name of an attribute")
    require(all(a < b for a, b in zip(names, names[1:])), "not-ascending", "attributes")
    if kind_of(entry) == "Symlink":
        target = entry.node.target
        require(0 < len(target) <= 64 * KIB and b"\0" not in target, "broken-rule", "target of a symlink")
    elif kind_of(entry) == "File":
        check_file(entry.node)
    return entry


def check_file(file):
    require(len(file.holes) <= 65_536, "broken-rule", "number of holes")
    end = -1  # A hole may begin at 0; the next one not where the last ended.
    for offset, length in file.holes:
        good = offset > end and length > 0 and offset + length <= file.size
        require(good, "broken-rule", "hole")
        end = offset + length
    if file.content.depth == 0:
        require(sum(c.length for c in file.content.chunks) == data_length(file), "broken-rule", "size")
    several = file.content.depth > 0 or len(file.content.chunks) > 1 or bool(file.holes)
    require(several == (file.digest is not None), "broken-rule", "digest")


def data_length(file):
    return file.size - sum(length for _, length in file.holes)


def read_records(pieces):
    """tree.md, "Streams": yields the bytes of one record at a time."""
    held = b""
    for piece in pieces:
        held += piece
        while len(held) >= 4:
            (length,) = struct.unpack_from("<I", held)
            require(1 <= length <= 16 * MIB, "out-of-range", "length of a record")
            if len(held) < 4 + length:
                break
            yield held[4 : 4 + length]
            held = held[4 + length :]
    require(not held, "truncated", "a stream ends within a record")


def read_entries(pieces):
    last = None
    for record in read_records(pieces):
        entry = parse_entry(record, last)
        last = entry.name
        yield entry


def read_chunk_records(pieces):
    held = b""
    for piece in pieces:
        held += piece
        whole = len(held) - len(held) % RECORD
        for name, length in struct.iter_unpack("<32sI", held[:whole]):
            yield check_chunk(Chunk(name, length))
        held = held[whole:]
    require(not held, "truncated", "a stream ends within a record")


# Snapshot: snapshot.md -----------------------------------------------------------------------------------------------

OUTCOMES = ("complete", "changed", "partial")
PROBLEMS = ("unreadable", "missing source", "vanished", "changed while read", "metadata incomplete", "unsupported")
SUMMARY = (
    "files_new files_changed files_unmodified directories_new directories_changed directories_unmodified"
    " data_chunks tree_chunks added stored read duration"
).split()
a_snapshot = structure(
    "Snapshot", time=a_time, written=a_time, host=a_text, user=a_text, paths=list_of(some_bytes), label=a_text,
    tags=list_of(a_text), root=a_chunk_list, parent=optional(array(32)), original=optional(array(32)),
    outcome=variant(*OUTCOMES), problems=a_chunk_list, problem_count=a_u64,
    counts=structure("Counts", files=a_u64, directories=a_u64, others=a_u64, bytes=a_u64),
    summary=structure("Summary", **{name: a_u64 for name in SUMMARY}), options=list_of(a_text), program=a_text,
)  # fmt: skip
a_problem = structure("Problem", path=some_bytes, kind=variant(*PROBLEMS), message=a_text)


def open_snapshot(keys, data):
    root = parse_root(data, SNAPSHOT, keys.repository, 4 * MIB, 0, 0, 0)
    body = open_root(data, SNAPSHOT, keys, root)
    snapshot = decode(a_snapshot, body)
    texts = [snapshot.host, snapshot.user, snapshot.label, snapshot.program, *snapshot.tags, *snapshot.options]
    require(all(len(text.encode()) <= 4096 for text in texts), "out-of-range", "a text that is too long")
    require(all(0 < len(p) <= MIB and b"\0" not in p for p in snapshot.paths), "out-of-range", "path")
    for items in (snapshot.paths, snapshot.tags, snapshot.options):
        require(len(items) <= 16_384, "out-of-range", "number of paths, tags or options")
    require((snapshot.problem_count == 0) == (not snapshot.problems.chunks), "out-of-range", "problem count")
    return snapshot, body


def read_problems(pieces):
    for record in read_records(pieces):
        problem = decode(a_problem, record)
        require(len(problem.path) <= MIB and len(problem.message.encode()) <= 4096, "out-of-range", "problem")
        yield problem


# Chunker: chunker.md. No reader needs it; it is here because its vectors are. ------------------------------------------

MASKS = dict(enumerate((int(mask, 16) for mask in """
    18035100 1800035300 19000353000 590003530000 d90003530000 d90103530000 d90303530000 d90313530000 d90f03530000
    d90303537000 d90703537000 d90707537000 d91707537000 d91747537000 d91767537000 d93767537000 d93777537000
    """.split()), 7))  # fmt: skip


def cut(gear, data, low, average, high):
    if len(data) <= low:
        return len(data)
    bits = round(math.log2(average))
    n = min(len(data), high)
    center, h = min(average, n), 0
    for i in range(low, n // 2 * 2, 2):
        mask = MASKS[bits + 1] if i < center // 2 * 2 else MASKS[bits - 1]
        h = ((h << 2) + (gear[data[i]] << 1)) & (1 << 64) - 1
        if h & (mask << 1) == 0:
            return i
        h = (h + gear[data[i + 1]]) & (1 << 64) - 1
        if h & mask == 0:
            return i + 1
    return n


def cut_all(gear, data, low, average, high):
    check_chunk_lengths(low, average, high)
    lengths, at = [], 0
    while at < len(data):
        lengths.append(cut(gear, data[at : at + high], low, average, high))
        at += lengths[-1]
    return lengths
