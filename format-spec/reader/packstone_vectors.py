"""Runs the test vectors: format-spec/README.md, "Vectors". What a page calls a fact is computed here in its words."""
import json
import os

import packstone_format as f
import packstone_objects as o
from packstone_format import Refused


def parse_vector(text):
    """(fields, results, bytes): fields by name, results as a list of lines."""
    head, _, dump = text.partition("\n\n")
    fields, results = {}, []
    for line in head.splitlines():
        name, _, value = line.partition(":")
        if name == "result":
            results.append(value.strip())
        else:
            fields[name] = value[1:] if value.startswith(" ") else value
    return fields, results, bytes.fromhex("".join(dump.split()))


def keys_of(v):
    return f.Keys(bytes.fromhex(v["master"]), bytes.fromhex(v["repository"]))


def block_lines(blocks):
    at = 48
    for block in blocks:
        codec = ("Stored", "Zstd")[block.codec]
        yield f"block {codec} at {at}, {block.stored} bytes, {block.plain} plain"
        at += block.stored
        yield from chunk_lines(block.chunks)


def chunk_lines(chunks):
    return [f"chunk {c.id.hex()} {c.length}" for c in chunks]


def block(v, data):
    chunks = [item.split(":") for item in v["chunks"].split()]
    chunks = [o.Chunk(bytes.fromhex(name), int(length)) for name, length in chunks]
    block = o.Block(int(v["codec"]), len(data), int(v["plain-length"]), chunks)
    return ["plain " + o.open_block(keys_of(v), v["kind"] == "tree", block, data).hex()]


def body(v, data):
    numbers = {"u16": o.a_u16, "u32": o.a_u32, "u64": o.a_u64, "i64": o.an_i64}
    if v["type"] in numbers:
        value = str(o.decode(numbers[v["type"]], data))
    elif v["type"] == "bool":
        value = str(o.decode(o.a_bool, data)).lower()
    elif v["type"] == "option of u8":
        value = o.decode(o.optional(o.a_byte), data)
        value = "None" if value is None else f"Some({value})"
    elif v["type"] == "array of 3 bytes":
        value = str(list(o.decode(o.array(3), data)))
    elif v["type"] == "bytes":
        value = str(list(o.decode(o.some_bytes, data)))
    elif v["type"] == "list of u64":
        value = str(o.decode(o.list_of(o.a_u64), data))
    elif v["type"] == "text":
        value = '"' + o.decode(o.a_text, data) + '"'
    else:
        raise KeyError(v["type"])
    return ["value " + value]


def chunker(v, data):
    lengths = o.cut_all(keys_of(v).gear, data, int(v["min"]), int(v["average"]), int(v["max"]))
    return [" ".join(["lengths", *map(str, lengths)])]


def config(v, data):
    c = f.parse_config(data)
    return [
        f"repository {c.id.hex()}",
        f"chunks {c.min} {c.average} {c.max}",
        f"verifying-key {c.vk.hex()}",
        "features " + " ".join(map(str, c.features)),
        f"created {c.created}",
    ]


def head(v, data):
    vk, repository = bytes.fromhex(v["verifying-key"]), bytes.fromhex(v["repository"])

    def parse(name):
        return f.Head(bytes.fromhex(v[name]), vk, repository) if name in v else None

    new, checkpoint, previous = f.Head(data, vk, repository), parse("checkpoint"), parse("previous")
    if previous:
        new.check_link(previous)
    new.resolve(checkpoint)
    if previous:
        new.check_transition(previous.resolve(checkpoint))
    state = new.state
    return [
        f"id {new.id.hex()}",
        f"generation {new.generation}",
        f"checkpoint {new.checkpoint_generation} {(new.id if new.is_checkpoint else new.checkpoint_id).hex()}",
        f"time {new.time}",
        f"digest {new.digest.hex()}",
        *(f"slot {name.hex()}" for (name,) in state[f.SLOTS]),
        *(f"segment {name.hex()} {length}" for name, length in state[f.SEGMENTS]),
        *(f"snapshot {name.hex()} {length} {arrival}" for name, length, arrival in state[f.SNAPSHOTS]),
        *(
            f"marked {name.hex()} {kind} {since} {time} {arrival}{' replaced' * replaced}"
            for name, kind, replaced, _, since, time, arrival in state[f.MARKED]
        ),
        *(f"swept {name.hex()} {kind} {since}" for name, kind, _, since in state[f.SWEPT]),
        *(f"ancestor {beginning.hex()}" for (beginning,) in state[f.ANCESTORS]),
    ]


def key_slot(v, data):
    repository = bytes.fromhex(v["repository"])
    if "passphrase" in v:
        kind, secret = f.PASSPHRASE, v["passphrase"].encode()
    elif "recovery-code" in v:
        kind, secret = f.RECOVERY_CODE, f.parse_recovery_code(v["recovery-code"])
    else:
        kind, secret = f.KEY_FILE, f.parse_key_file(v["key-file"].encode())
    slot, master = f.open_slot(data, repository, kind, secret)
    label, created = f.open_label(data, f.Keys(master, repository))
    return [
        f"master {master.hex()}",
        "kind " + ("passphrase", "recovery code", "key file")[slot.secret - 1],
        f"stretching {slot.m} {slot.t} {slot.p}",
        f"mirrored {str(slot.flags == 0).lower()}",
        f"label {label}".strip(),
        f"created {created}",
    ]


def key_tree(v, data):
    master, config = bytes.fromhex(v["master"]), bytes.fromhex(v["config"])
    keys = f.Keys(master, f.DK("repository id", config))
    return [
        f"repository {keys.repository.hex()}",
        f"verifying-key {keys.verifying_key(master).hex()}",
        f"data-chunk-id {keys.chunk_id(data, False).hex()}",
        f"tree-chunk-id {keys.chunk_id(data, True).hex()}",
        f"cache-key {keys.cache_check.hex()}",
        f"slot-info-key {keys.slot_info(b'the slot' + bytes([39]) + b's first bytes').hex()}",
    ]


def pack(v, data):
    keys = keys_of(v)
    if v["part"] == "header":
        kind = o.parse_pack_header(data, keys.repository)
        return ["kind " + ("Data" if kind == f.DATA_PACK else "Tree")]
    if v["part"] == "footer":
        footer = o.parse_pack_footer(data, int(v["length"]))
        directory = f"{footer.directory_offset}, {footer.directory_length} bytes, {footer.plain_length} plain"
        return [f"directory at {directory}", f"padding {footer.padding}"]
    if v["part"] == "directory":
        header, end = bytes.fromhex(v["header"]), bytes.fromhex(v["footer"])
        kind = o.parse_pack_header(header, keys.repository)
        footer = o.parse_pack_footer(end, int(v["length"]))
        blocks, plain = o.open_directory(keys, kind, header, end, footer, data)
        return [*block_lines(blocks), "body " + plain.hex()]
    kind, footer, blocks, _, _ = o.open_pack(keys, data)
    o.check_padding(data, footer)
    at = 48
    for block in blocks:
        o.open_block(keys, kind == f.TREE_PACK, block, data[at : at + block.stored])
        at += block.stored
    return list(block_lines(blocks))


def recovery_code(v, data):
    if v["form"] == "key file":
        return ["secret " + f.parse_key_file(data).hex()]
    text = data.decode()
    if v["form"] == "state code":
        generation, beginning = f.parse_state_code(text)
        return [f"generation {generation}", "code " + f.write_state_code(generation, beginning)]
    secret = f.parse_recovery_code(text)
    check = f.DK("recovery code check", b"\1" + secret, 3)
    return ["secret " + secret.hex(), "code " + f.write_symbols(b"\1" + secret + check)]


def segment(v, data):
    def row(name, length, kind):
        return f"pack {name.hex()} {length} " + ("Data" if kind == f.DATA_PACK else "Tree")

    if v["part"] == "table":
        return [row(*r) for r in o.parse_segment_table(data, bytes.fromhex(v["repository"]))[1]]
    packs, plain = o.open_segment(keys_of(v), data)
    lines = []
    for p in packs:
        lines += [row(p.id, p.length, p.kind), "prefix " + p.prefix.hex(), *block_lines(p.blocks)]
    return [*lines, "body " + plain.hex()]


def snapshot(v, data):
    if v["part"] == "problems":
        problems = o.read_problems([data])
        words = dict(zip(o.PROBLEMS, "Unreadable MissingSource Vanished Changed Metadata Unsupported".split()))
        return [f"problem {p.path.hex()} {words[p.kind]} {p.message}".strip() for p in problems]
    s, plain = o.open_snapshot(keys_of(v), data)

    def chunk_list(value):
        return " ".join([str(value.depth), *(f"{c.id.hex()}:{c.length}" for c in value.chunks)])

    return [
        *(f"{name} {ns // 10**9} {ns % 10**9}" for name, ns in (("time", s.time), ("written", s.written))),
        f"host {s.host}",
        f"user {s.user}",
        *(f"path {path.hex()}" for path in s.paths),
        f"label {s.label}".strip(),
        *(f"tag {tag}" for tag in s.tags),
        f"held {'yes' if s.held else 'no'}",
        f"root {chunk_list(s.root)}",
        *(f"{name} {value.hex()}" for name, value in (("parent", s.parent), ("original", s.original)) if value),
        f"outcome {s.outcome}",
        f"problems {chunk_list(s.problems)}",
        f"problem-count {s.problem_count}",
        f"deleted {chunk_list(s.deleted)}",
        f"deleted-count {s.deleted_count}",
        "counts " + " ".join(map(str, s.counts)),
        "summary " + " ".join(map(str, s.summary)),
        *(f"option {option}" for option in s.options),
        f"program {s.program}",
        "body " + plain.hex(),
    ]


def deletion_log(v, data):
    words = {"file": "File", "directory": "Directory", "symlink": "Symlink", "other": "Other"}

    def row(d):
        times = [f"{ns // 10**9} {ns % 10**9}" for ns in (d.mtime, d.snapshot_time, d.found)]
        return f"deletion {d.path.hex()} {words[d.kind]} {d.size} {times[0]} {d.snapshot.hex()} {times[1]} {times[2]}"

    return [row(d) for d in o.read_deletions([data[i : i + 7] for i in range(0, len(data), 7)])]


def node_words(node):
    name = type(node).__name__
    if name == "File":
        return f"file of {node.size} bytes, {len(node.holes)} holes"
    if name == "Directory":
        return f"directory of {len(node.listing.chunks)} chunks"
    if name == "Symlink":
        return "symlink to " + node.target.hex()
    return name if not node else f"{name} {{ major: {node.major}, minor: {node.minor} }}"


def tree(v, data):
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)] if len(data) < 4096 else [data]
    if v["stream"] == "chunk list":
        return chunk_lines(o.read_chunk_records(pieces))
    return [f"entry {e.name.hex()} {e.mode:o} {node_words(e.node)}" for e in o.read_entries(pieces)]


def unit(v, data):
    context = int(v["kind"]), int(v["codec"]), int(v["plain-length"]), bytes.fromhex(v["clear"])
    content = f.open_unit(keys_of(v), *context, data)
    return [("content " + f.unpack(context[1], content, context[2]).hex()).strip()]


STRUCTURES = (
    block, body, chunker, config, deletion_log, head, key_slot, key_tree, pack, recovery_code, segment, snapshot, tree, unit,
)  # fmt: skip
RUNNERS = {run.__name__: run for run in STRUCTURES}


def run_vector(path):
    """None when the reader does what the vector expects; else what went otherwise."""
    with open(path, encoding="utf-8") as file:
        v, results, data = parse_vector(file.read())
    expected = v["expect"]
    try:
        found = RUNNERS[v["structure"]](v, data)
        outcome = "accepted"
    except Refused as refused:
        found, outcome = [], "refused " + refused.reason
    if outcome != expected:
        return f"expected: {expected}; found: {outcome}"
    if found != results:
        return f"facts differ: {[x for x in results if x not in found]} / {[x for x in found if x not in results]}"
    return None


def run_all(directory):
    """Prints a JSON line for each vector that fails, and a summary; returns whether all passed."""
    passed = failed = 0
    for folder in sorted(os.listdir(directory)):
        for name in sorted(os.listdir(os.path.join(directory, folder))):
            problem = run_vector(os.path.join(directory, folder, name))
            if problem is None:
                passed += 1
            else:
                failed += 1
                print(json.dumps({"vector": f"{folder}/{name}", "problem": problem}))
    print(json.dumps({"passed": passed, "failed": failed}))
    return failed == 0 and passed > 0
