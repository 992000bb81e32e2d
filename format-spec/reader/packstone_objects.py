"""What lies inside sealed units, and the objects around it: one part a page, named in its heading.

Bodies, roots, packs, segments, listings, snapshots; the chunker. Every function refuses what its page says must be
refused, by raising `Refused` with the page's reason. Nothing here touches a file; packstone_reader.py does.
"""
import collections
import math
import struct

from packstone_format import (
    DATA_PACK, KIB, LONGEST_BLOCK, MAGIC, MIB, SEGMENT, SNAPSHOT, STORED, TREE_PACK, ZSTD, Refused,
    check_chunk_lengths, clear_header, open_unit, require, unpack, zeros,
)

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
    def read(body):
        marker = a_byte(body)
        require(marker <= 1, "unknown-variant", f"marker {marker} of an optional value")
        return type_(body) if marker else None

    return read


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
    require(len(names) <= 65_536, "out-of-range", "number of attributes")
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
    require(len(file.holes) <= 65_536, "out-of-range", "number of holes")
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
    tags=list_of(a_text), held=a_bool, root=a_chunk_list, parent=optional(array(32)), original=optional(array(32)),
    outcome=variant(*OUTCOMES), problems=a_chunk_list, problem_count=a_u64, deleted=a_chunk_list, deleted_count=a_u64,
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
    require((snapshot.deleted_count == 0) == (not snapshot.deleted.chunks), "out-of-range", "count of deletions")
    return snapshot, body


def read_problems(pieces):
    for record in read_records(pieces):
        problem = decode(a_problem, record)
        require(len(problem.path) <= MIB and len(problem.message.encode()) <= 4096, "out-of-range", "problem")
        yield problem


# Log of deletions: deletion_log.md -------------------------------------------------------------------------------------

DELETED = ("file", "directory", "symlink", "other")
a_deletion = structure(
    "Deletion", path=some_bytes, kind=variant(*DELETED), size=a_u64, mtime=a_time, snapshot=array(32),
    snapshot_time=a_time, found=a_time,
)  # fmt: skip


def read_deletions(pieces):
    for record in read_records(pieces):
        deletion = decode(a_deletion, record)
        require(len(deletion.path) <= MIB, "out-of-range", "length of a path")
        for name in deletion.path.split(b"/"):
            require(name not in (b"", b".", b"..") and len(name) <= 1020 and b"\0" not in name, "broken-rule", "path")
        require(deletion.kind == "file" or deletion.size == 0, "broken-rule", "only files have a size")
        yield deletion


# Chunker: chunker.md. No reader needs it; it is here because its vectors are. ----------------------------------------

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
