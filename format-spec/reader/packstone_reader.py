#!/usr/bin/env python3
"""A reader of packstone repositories, written from the pages of the format alone.

It exists to show that the pages suffice, and to get data back when the program is not at hand. It is slow, only reads,
and shares no line with the program. Start with ../README.md: names of objects, order of trust. The structures are in
packstone_format.py and packstone_objects.py, the vectors in packstone_vectors.py; here are repositories, walks, files.

    packstone_reader.py list REPOSITORY SECRET                     snapshots as JSON lines
    packstone_reader.py verify REPOSITORY SECRET                   every byte of every object
    packstone_reader.py extract REPOSITORY SECRET SNAPSHOT DIR     into a new or an empty directory
    packstone_reader.py vectors DIR                                the test vectors

SECRET is --password-file F, --recovery-code-file F or --key-file F. Whatever must not be used is refused with the
reason that the pages give it, as a JSON line. Exit: 0 good, 1 refused or damaged, 2 usage.
"""
import argparse
import collections
import json
import os
import re
import sys

import packstone_format as f
import packstone_objects as o
from packstone_format import Refused, require

HEAD_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{64})")
DEPTH = 4096  # Directories below each other: tree.md.
CACHED_BLOCKS = 16

Place = collections.namedtuple("Place", "pack offset block begin length")


def say(**line):
    print(json.dumps(line), flush=True)


class Repository:
    """Opened in the order of trust (README): config, newest head, slots, verifying key."""

    def __init__(self, path, kind, secret):
        self.path, self.notes = path, []
        self.config_bytes = self.read("config")
        self.config = f.parse_config(self.config_bytes)
        self.head = self.newest_head()
        self.state = self.head.state
        master = self.unlock(kind, secret)
        require(f.Keys.verifying_key(master) == self.config.vk, "other-signer", "verifying key of the config")
        self.keys = f.Keys(master, self.config.id)
        self.segments, self.places, self.blocks = {}, {}, collections.OrderedDict()

    # Objects.

    def read(self, name):
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise Refused("missing", name) from None

    def object(self, name, expected_id, length=None):
        data = self.read(name)
        require(length is None or len(data) == length, "wrong-length", name)
        require(f.H(data) == expected_id, "object-id", name)
        return data

    def pack(self, name):
        return f"packs/{name.hex()[:2]}/{name.hex()}"

    def listing(self, folder):
        try:
            return sorted(os.listdir(os.path.join(self.path, folder)))
        except FileNotFoundError:
            return []

    # Heads: head.md, "Order of reading".

    def read_head(self, generation, head_id):
        head = f.Head(self.object(f"heads/{generation:016x}-{head_id.hex()}", head_id), self.config.vk, self.config.id)
        require(head.generation == generation, "object-id", "a head under the name of another generation")
        return head

    def newest_head(self):
        newest, matches = None, []
        for name in self.listing("heads"):
            match = HEAD_NAME.fullmatch(name)
            if match:
                matches.append(match)
            else:
                self.notes.append(f"heads/{name}: no name of a head")
        for match in reversed(matches):
            name = match[0]
            if newest and int(match[1], 16) < newest.generation:
                break
            try:
                head = self.read_head(int(match[1], 16), bytes.fromhex(match[2]))
            except Refused as refused:
                self.notes.append(f"heads/{name}: {refused}")
                continue
            require(newest is None, "fork", f"two heads of generation {head.generation}")
            newest = head
        require(newest is not None, "missing", "no head verifies")
        if newest.is_checkpoint:
            return newest.resolve()
        return newest.resolve(self.read_head(newest.checkpoint_generation, newest.checkpoint_id))

    # Slots: key_slot.md, "Opening".

    def unlock(self, kind, secret):
        wrong = Refused("other-secret", "no slot of this type of secret")
        for (slot_id,) in self.state[f.SLOTS]:
            try:
                data = self.object(f"keys/{slot_id.hex()}", slot_id)
                return f.open_slot(data, self.config.id, kind, secret)[1]
            except Refused as refused:
                if refused.reason != "other-secret":
                    wrong = refused
        raise wrong

    # The index: segment.md.

    def load_index(self):
        """Fills `segments` ({id: packs}) and `places` ({(is tree, chunk id): Place}) from the live segments."""
        dead = {row[0] for kind in (f.MARKED, f.SWEPT) for row in self.state[kind]}
        for segment_id, length in self.state[f.SEGMENTS]:
            packs, _ = o.open_segment(self.keys, self.object(f"index/{segment_id.hex()}", segment_id, length))
            self.segments[segment_id] = packs
            for pack in packs:
                if pack.id in dead:
                    continue
                offset = 48
                for block in pack.blocks:
                    begin = 0
                    for chunk in block.chunks:
                        place = Place(pack.id, offset, block, begin, chunk.length)
                        self.places.setdefault((pack.kind == f.TREE_PACK, chunk.id), place)
                        begin += chunk.length
                    offset += block.stored

    def live_packs(self):
        """{id: SegmentPack}: head.md, "The live state"."""
        dead = {row[0] for kind in (f.MARKED, f.SWEPT) for row in self.state[kind]}
        return {pack.id: pack for packs in self.segments.values() for pack in packs if pack.id not in dead}

    # Chunks: block.md, tree.md.

    def chunk(self, chunk, is_tree):
        place = self.places.get((is_tree, chunk.id))
        require(place is not None, "missing", f"chunk {chunk.id.hex()}")
        require(place.length == chunk.length, "plain-length", f"chunk {chunk.id.hex()}")
        key = (place.pack, place.offset)
        if key in self.blocks:
            self.blocks.move_to_end(key)
        else:
            with open(os.path.join(self.path, self.pack(place.pack)), "rb") as file:
                file.seek(place.offset)
                unit = file.read(place.block.stored)
            self.blocks[key] = o.open_block(self.keys, is_tree, place.block, unit)
            if len(self.blocks) > CACHED_BLOCKS:
                self.blocks.popitem(last=False)
        return self.blocks[key][place.begin : place.begin + place.length]

    def pieces(self, chunk_list, is_tree, due=None):
        """The content of a chunk list, a chunk at a time; `due` bytes of it where the length is known."""
        chunks = iter(chunk_list.chunks)
        for depth in range(chunk_list.depth, 0, -1):
            chunks = o.read_chunk_records(self.counted(chunks, depth))
        length = 0
        for chunk in chunks:
            length += chunk.length
            require(due is None or length <= due, "broken-rule", "more data than the size says")
            yield self.chunk(chunk, is_tree)
        require(due is None or length == due, "broken-rule", "less data than the size says")

    def counted(self, chunks, depth):
        """The pieces of a list's stream; at its end, whether the list had to be so deep."""
        length = 0
        for chunk in chunks:
            length += chunk.length
            yield self.chunk(chunk, True)
        o.check_list_stream(length)

    def entries(self, chunk_list):
        return o.read_entries(self.pieces(chunk_list, True))

    # Snapshots.

    def snapshots(self):
        """[(id, Snapshot)], by the times that they claim; the newest is another question (snapshot.md)."""
        found = []
        for snapshot_id, length, _ in self.state[f.SNAPSHOTS]:
            data = self.object(f"snapshots/{snapshot_id.hex()}", snapshot_id, length)
            found.append((snapshot_id, o.open_snapshot(self.keys, data)[0]))
        return sorted(found, key=lambda item: (item[1].time, item[0]))

    def walk(self, snapshot):
        """Yields (path of names, entry), and (path, None) when a directory is done. Stops beyond the counts."""
        stack, path = [self.entries(snapshot.root)], []
        left = dict(snapshot.counts._asdict())
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                if stack:
                    yield tuple(path), None
                    path.pop()
                continue
            kind = o.kind_of(entry)
            counted = {"File": "files", "Directory": "directories"}.get(kind, "others")
            left[counted] -= 1
            left["bytes"] -= entry.node.size if kind == "File" else 0
            require(left[counted] >= 0 and left["bytes"] >= 0, "broken-rule", "more than the snapshot counts")
            yield (*path, entry.name), entry
            if kind == "Directory":
                require(len(stack) <= DEPTH, "out-of-range", "depth of directories")
                path.append(entry.name)
                stack.append(self.entries(entry.node.listing))
        require(not any(left.values()), "broken-rule", f"less than the snapshot counts: {left}")

    def file_pieces(self, node):
        """The data of a file without its holes, checked against size and digest."""
        digest = f.blake3()
        for piece in self.pieces(node.content, False, o.data_length(node)):
            digest.update(piece)
            yield piece
        for offset, length in node.holes:
            digest.update(f.u64(offset) + f.u64(length))
        require(node.digest is None or digest.digest() == node.digest, "wrong-digest", "content of a file")


# Commands ------------------------------------------------------------------------------------------------------------


def path_text(path):
    return b"/".join(path).decode("utf-8", "backslashreplace")


def list_snapshots(repository):
    for snapshot_id, s in repository.snapshots():
        say(
            id=snapshot_id.hex(),
            time=s.time / 10**9,
            host=s.host,
            user=s.user,
            paths=[p.decode("utf-8", "backslashreplace") for p in s.paths],
            label=s.label,
            tags=s.tags,
            held=s.held,
            parent=s.parent and s.parent.hex(),
            original=s.original and s.original.hex(),
            outcome=s.outcome,
            counts=s.counts._asdict(),
            program=s.program,
        )
    return True


class Verification:
    """Every byte that the newest head needs, and the name of every file that is there."""

    def __init__(self, repository):
        self.repository, self.problems = repository, 0
        self.seen = collections.Counter()

    def attempt(self, what, check, *arguments):
        try:
            check(*arguments)
            self.seen[what.split("/")[0]] += 1
        except Refused as refused:
            self.problems += 1
            say(object=what, reason=refused.reason, problem=str(refused))

    def run(self):
        r = self.repository
        for note in r.notes:
            self.problems += 1
            say(object="heads", problem=note)
        self.names()
        self.heads()
        for (slot_id,) in r.state[f.SLOTS]:
            self.attempt(f"keys/{slot_id.hex()}", self.slot, slot_id)
        for pack in r.live_packs().values():
            self.attempt(r.pack(pack.id), self.pack, pack)
        for snapshot_id, snapshot in r.snapshots():
            self.attempt(f"snapshots/{snapshot_id.hex()}", self.snapshot, snapshot)
        say(generation=r.head.generation, problems=self.problems, segments=len(r.segments), **self.seen)
        return self.problems == 0

    def names(self):
        """README, "Names and kinds": each file has the form of an object's name, and the hash that it names."""
        for folder in ("keys", "index", "snapshots"):
            for name in self.repository.listing(folder):
                self.attempt(f"names/{folder}/{name}", self.name, f"{folder}/{name}", name)
        for prefix in self.repository.listing("packs"):
            for name in self.repository.listing(f"packs/{prefix}"):
                self.attempt(f"names/packs/{prefix}/{name}", self.name, f"packs/{prefix}/{name}", name, prefix)

    def name(self, path, name, prefix=""):
        require(re.fullmatch("[0-9a-f]{64}", name) and name.startswith(prefix), "wrong-name", path)
        self.repository.object(path, bytes.fromhex(name))

    def heads(self):
        """All heads that are kept: each resolves, and follows the one before it where that is there."""
        r, known = self.repository, {}

        def check(generation, head_id):
            head = r.read_head(generation, head_id)
            before = known.get(generation - 1)
            if before:
                head.check_link(before)
            checkpoint = None if head.is_checkpoint else r.read_head(head.checkpoint_generation, head.checkpoint_id)
            head.resolve(checkpoint)
            if before:
                head.check_transition(before)
            known[generation] = head

        for name in r.listing("heads"):
            match = HEAD_NAME.fullmatch(name)
            if match:
                self.attempt(f"heads/{name}", check, int(match[1], 16), bytes.fromhex(match[2]))

    def slot(self, slot_id):
        data = self.repository.object(f"keys/{slot_id.hex()}", slot_id)
        f.parse_slot(data, self.repository.config.id)
        f.open_label(data, self.repository.keys)

    def pack(self, told):
        """The pack against what its segment tells; every block opens; the padding is as it must be."""
        r = self.repository
        data = r.object(r.pack(told.id), told.id, told.length)
        kind, footer, blocks, _, prefix = o.open_pack(r.keys, data)
        same = (kind, blocks, prefix, footer.directory_offset) == (told.kind, told.blocks, told.prefix, told.end)
        require(same, "broken-rule", "segment and pack tell different directories")
        o.check_padding(data, footer)
        at = 48
        for block in blocks:
            o.open_block(r.keys, kind == f.TREE_PACK, block, data[at : at + block.stored])
            at += block.stored
            self.seen["blocks"] += 1
            self.seen["chunks"] += len(block.chunks)

    def snapshot(self, snapshot):
        r = self.repository
        for path, entry in r.walk(snapshot):
            if entry is not None and o.kind_of(entry) == "File":
                for _ in r.file_pieces(entry.node):
                    pass
                self.seen["files"] += 1
                self.seen["long_lists"] += entry.node.content.depth > 0
        problems = sum(1 for _ in o.read_problems(r.pieces(snapshot.problems, True)))
        require(problems == snapshot.problem_count, "broken-rule", "number of problems")
        deletions = sum(1 for _ in o.read_deletions(r.pieces(snapshot.deleted, True)))
        require(deletions == snapshot.deleted_count, "broken-rule", "number of deletions")
        self.seen["deletions"] += deletions


def extract(repository, wanted, target):
    """Writes files, directories, symlinks and hard links; says what it left out. Owners and attributes stay behind."""
    found = [s for s in repository.snapshots() if s[0].hex().startswith(wanted)]
    require(len(found) == 1, "missing", f"{len(found)} snapshots begin with {wanted!r}")
    os.makedirs(target, exist_ok=True)
    require(not os.listdir(target), "broken-rule", f"{target} is not empty")
    # The directory was empty and every name is a single component that occurs once: nothing is written through a link.
    directories, links = [], {}
    for path, entry in repository.walk(found[0][1]):
        place = os.path.join(os.fsencode(target), *path)
        if entry is None:
            done = directories.pop()
            os.chmod(place, done.mode)
            os.utime(place, ns=(done.mtime, done.mtime))
            continue
        kind, same = o.kind_of(entry), (entry.device, entry.inode)
        if kind == "Directory":
            os.mkdir(place, 0o700)
            directories.append(entry)
        elif kind == "Symlink":
            os.symlink(entry.node.target, place)
            os.utime(place, ns=(entry.mtime, entry.mtime), follow_symlinks=False)
        elif kind != "File":
            print(f"left out: {path_text(path)}: {kind}", file=sys.stderr)
        elif entry.links > 1 and links.get(same, (None, None))[1] == entry.node:
            os.link(links[same][0], place)
        else:
            write_file(repository, entry, place)
            links[same] = place, entry.node
    return True


def write_file(repository, entry, place):
    holes, at = collections.deque(entry.node.holes), 0
    with open(place, "xb") as file:
        for piece in repository.file_pieces(entry.node):
            while piece:
                while holes and holes[0][0] == at:
                    at += holes.popleft()[1]
                room = holes[0][0] - at if holes else len(piece)
                file.seek(at)
                file.write(piece[:room])
                at, piece = at + len(piece[:room]), piece[room:]
        file.truncate(entry.node.size)
    os.chmod(place, entry.mode)
    os.utime(place, ns=(entry.mtime, entry.mtime))


def read_secret(arguments):
    """README and recovery_code.md: (type of the slot, secret bytes)."""
    if arguments.key_file:
        with open(arguments.key_file, "rb") as file:
            return f.KEY_FILE, f.parse_key_file(file.read(1025))
    with open(arguments.password_file or arguments.recovery_code_file, "rb") as file:
        text = file.read()
    if text.endswith(b"\n"):
        text = text[:-1].removesuffix(b"\r")
    if arguments.password_file:
        return f.PASSPHRASE, text
    return f.RECOVERY_CODE, f.parse_recovery_code(text.decode("utf-8", "replace"))


def main():
    parser = argparse.ArgumentParser(description="An independent reader of packstone repositories.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("vectors").add_argument("directory")
    for name in ("list", "verify", "extract"):
        command = commands.add_parser(name)
        command.add_argument("repository")
        secret = command.add_mutually_exclusive_group(required=True)
        for option in ("--password-file", "--recovery-code-file", "--key-file"):
            secret.add_argument(option)
        if name == "extract":
            command.add_argument("snapshot")
            command.add_argument("target")
    arguments = parser.parse_args()
    if arguments.command == "vectors":
        import packstone_vectors

        return packstone_vectors.run_all(arguments.directory)
    repository = Repository(arguments.repository, *read_secret(arguments))
    for note in repository.notes if arguments.command != "verify" else []:
        print(f"warning: {note}", file=sys.stderr)
    if arguments.command == "list":
        return list_snapshots(repository)
    repository.load_index()
    if arguments.command == "verify":
        return Verification(repository).run()
    return extract(repository, arguments.snapshot, arguments.target)


if __name__ == "__main__":
    try:
        sys.exit(0 if main() else 1)
    except Refused as refused:
        say(reason=refused.reason, problem=str(refused))
        sys.exit(1)
