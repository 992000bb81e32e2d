#!/usr/bin/env python3
"""A tree with every kind of file that Linux has, and the comparison of two such trees.

    every-kind.py make DIRECTORY [--entries N] [--sparse BYTES]
    every-kind.py compare ONE OTHER
    every-kind.py remove DIRECTORY

`make` makes what the user may make: devices, capabilities, other owners and immutable inodes only as root. It says what
it could not make. `compare` compares all that can be set on a file, also what rsync does not look at (holes, inode flags,
paths longer than 4,096 bytes), prints each difference and ends with 1 when there is one. No path is ever longer than the
system takes: everything is reached from its directory's descriptor.
"""

import array
import errno
import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import sys

GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602
SYNC, IMMUTABLE, APPEND, NO_DUMP, NO_ATIME = 0x08, 0x10, 0x20, 0x40, 0x80
# What a person sets (chattr +acdijstuACDST); the rest is the file system's own business.
FLAGS = SYNC | IMMUTABLE | APPEND | NO_DUMP | NO_ATIME
DEEP = b"deep" * 60
ROOT = os.geteuid() == 0


def flags_of(fd):
    """The inode flags, or none where the file system has none."""
    value = array.array("L", [0])
    try:
        fcntl.ioctl(fd, GET_FLAGS, value)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            return 0
        raise
    return value[0] & FLAGS


def set_flags(fd, flags):
    value = array.array("L", [0])
    fcntl.ioctl(fd, GET_FLAGS, value)
    value[0] = (value[0] & ~FLAGS) | flags
    fcntl.ioctl(fd, SET_FLAGS, value)


class Maker:
    """Makes the tree beneath a directory, and remembers what it could not make."""

    def __init__(self, root, entries, sparse):
        self.root, self.entries, self.sparse = os.fsencode(root), entries, sparse
        self.without = []

    def path(self, name):
        return os.path.join(self.root, name if isinstance(name, bytes) else name.encode())

    def file(self, name, content=b"content\n"):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def attempt(self, what, action):
        """Does what may be refused for lack of privilege or of a file system that can do it."""
        try:
            action()
        except (OSError, subprocess.CalledProcessError) as error:
            self.without.append(f"{what} ({error})")

    def make(self):
        os.mkdir(self.root)
        for part in (self.contents, self.names, self.links, self.special, self.modes, self.attributes, self.holes,
                     self.deep, self.many, self.times, self.flags):
            part()
        for what in self.without:
            print(f"not made: {what}")

    def contents(self):
        self.file("contents/empty", b"")
        self.file("contents/one byte", b"x")
        noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(300_000))
        self.file("contents/several chunks", noise)
        self.file("contents/the same again", noise)
        self.file("contents/one byte inserted", noise[:4_000_000] + b"!" + noise[4_000_000:])
        self.file("contents/zeros that are no hole", bytes(3 << 20))
        os.makedirs(self.path("contents/an empty directory"))

    def names(self):
        for name in (b"no utf-8 \xff\xfe\x80", b"a\nnewline", b"tab\tand\rreturn", b"\x1b[31mred\x1b[0m", b"\x1b]0;title\x07",
                     b" ", b"-rf", b"--", b"...", b"*", b"quote'\"`$(touch x)", b"back\\slash", "e\u0301".encode(),
                     "\u00e9".encode(), "\u202etxt.exe".encode(), b"n" * 255, b"\x01\x7f", b"%s%n", b".hidden", b"C:"):
            self.file(b"names/" + name, name)
            os.symlink(name, self.path(b"names/link to " + name[:200]))

    def links(self):
        first = self.file("links/z first", b"linked\n")
        os.makedirs(self.path("links/below"))
        for name in ("links/a second", "links/below/third"):
            os.link(first, self.path(name))
        for name, target in (("dangling", b"nowhere"), ("absolute", b"/etc/passwd"), ("up", b"../../.."),
                             ("itself", b"itself"), ("long", b"x/" * 2_000), ("no utf-8", b"\xff\n\x1b[1m")):
            os.symlink(target, self.path("links/" + name))
        os.link(self.path("links/dangling"), self.path("links/a linked symlink"), follow_symlinks=False)
        os.mkfifo(self.path("links/fifo"))
        os.link(self.path("links/fifo"), self.path("links/the same fifo"))

    def special(self):
        os.makedirs(self.path("special"))
        os.mkfifo(self.path("special/fifo"), 0o620)
        # A socket's path has at most 107 bytes: it is bound from its directory.
        here = os.open(".", os.O_RDONLY)
        os.chdir(self.path("special"))
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
        os.fchdir(here)
        os.close(here)
        for name, kind, major, minor in (("null", stat.S_IFCHR, 1, 3), ("large numbers", stat.S_IFCHR, 511, 0xFFFFF),
                                         ("block", stat.S_IFBLK, 7, 200)):
            self.attempt(f"device {name}", lambda name=name, kind=kind, major=major, minor=minor: os.mknod(
                self.path("special/" + name), kind | 0o640, os.makedev(major, minor)))

    def modes(self):
        for mode in (0o400, 0o4755, 0o2755, 0o6711, 0o1644, 0o777, 0o604):
            path = self.file(f"modes/file {mode:o}")
            if ROOT:
                os.chown(path, 12_345, 54_321)
            os.chmod(path, mode)
        for mode in (0o1777, 0o2775, 0o500, 0o711):
            os.makedirs(self.path(f"modes/directory {mode:o}"))
            self.file(f"modes/directory {mode:o}/inside")
            os.chmod(self.path(f"modes/directory {mode:o}"), mode)
        if ROOT:
            os.chmod(self.file("modes/file 0"), 0)
            os.symlink("x", self.path("modes/a link of another"))
            os.chown(self.path("modes/a link of another"), 4_000_000_000, 77, follow_symlinks=False)

    def attributes(self):
        path = self.file("attributes/user")
        for name, value in (("user.plain", b"value"), ("user.empty", b""), ("user.binary", bytes(range(256))),
                            ("user.large", b"v" * 2_000), ("user.no utf-8 \udcff", b"x")):
            self.attempt(f"attribute {name!r}", lambda name=name, value=value: os.setxattr(path, name, value))
        read_only = self.file("attributes/read only")
        self.attempt("attribute", lambda: os.setxattr(read_only, "user.kept", b"1"))
        os.chmod(read_only, 0o444)
        os.makedirs(self.path("attributes/directory"))
        self.attempt("attribute", lambda: os.setxattr(self.path("attributes/directory"), "user.directory", b"1"))
        run = lambda *words: subprocess.run(words, check=True, stderr=subprocess.PIPE)
        self.attempt("ACL", lambda: run("setfacl", "-m", "u:4711:rw-,g:4712:r--,m::rw-", self.file("attributes/acl")))
        self.attempt("default ACL", lambda: run("setfacl", "-d", "-m", "u:4711:rwx", self.path("attributes/directory")))
        self.file("attributes/directory/without the ACL of its directory")
        self.attempt("no ACL", lambda: run("setfacl", "-b", self.path(
            "attributes/directory/without the ACL of its directory")))
        if ROOT:
            self.attempt("capability", lambda: run("setcap", "cap_net_raw+ep", self.file("attributes/capability")))
            self.attempt("trusted", lambda: os.setxattr(self.file("attributes/trusted"), "trusted.x", b"\x00\xff"))
            os.symlink("x", self.path("attributes/link"))
            self.attempt("attribute of a link", lambda: os.setxattr(
                self.path("attributes/link"), "trusted.link", b"1", follow_symlinks=False))

    def holes(self):
        os.makedirs(self.path("holes"))
        with open(self.path("holes/only a hole"), "wb") as file:
            file.truncate(5 << 20)
        with open(self.path("holes/hole at the end"), "wb") as file:
            file.write(b"a" * 70_000)
            file.truncate(3 << 20)
        with open(self.path("holes/comb"), "wb") as file:
            for n in range(64):
                file.seek(n << 17)
                file.write(b"%064d" % n)
        with open(self.path("holes/nearly all"), "wb") as file:
            file.write(b"begin")
            file.seek(self.sparse // 2)
            file.write(b"middle")
            file.seek(self.sparse - 3)
            file.write(b"end")

    def deep(self):
        """More than 4,096 bytes of path: 20 directories with names of 240 bytes."""
        at = os.open(self.root, os.O_RDONLY)
        for _ in range(20):
            os.mkdir(DEEP, dir_fd=at)
            below = os.open(DEEP, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        fd = os.open(b"at the bottom", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=at)
        os.write(fd, b"found\n")
        os.close(fd)
        os.symlink(b"target", b"link", dir_fd=at)
        os.close(at)

    def many(self):
        os.makedirs(self.path("many"))
        at = os.open(self.path("many"), os.O_RDONLY)
        for n in range(self.entries):
            fd = os.open(f"entry {n:07}", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=at)
            if n % 100 == 0:
                os.write(fd, b"%d" % n)
            os.close(fd)
        os.close(at)

    def times(self):
        # Before 1970, to the nanosecond, the edges of 32 bits, beyond them.
        for n, time in enumerate((-1, -86_400 * 365 * 10 * 10**9 - 1, 0, 1, (1 << 31) * 10**9 - 1, (1 << 31) * 10**9 + 5,
                                  1_700_000_000_123_456_789, 4_000_000_000 * 10**9 + 7, -(1 << 31) * 10**9)):
            os.utime(self.file(f"times/{n}"), ns=(time, time))
            os.makedirs(self.path(f"times/directory {n}"))
            os.utime(self.path(f"times/directory {n}"), ns=(time, time))
            os.symlink("x", self.path(f"times/link {n}"))
            os.utime(self.path(f"times/link {n}"), ns=(time, time), follow_symlinks=False)
        os.utime(self.path("times"), ns=(-5, -5))

    def flags(self):
        kinds = [("no dump", NO_DUMP)]
        if ROOT:
            kinds += [("no atime", NO_ATIME), ("sync", SYNC), ("append only", APPEND), ("immutable", IMMUTABLE)]
        for name, flags in kinds:
            directory = self.path(f"flags/directory {name}")
            self.file(f"flags/directory {name}/inside")
            for path in (self.file(f"flags/{name}"), directory):
                fd = os.open(path, os.O_RDONLY)
                self.attempt(f"inode flag {name}", lambda fd=fd, flags=flags: set_flags(fd, flags))
                os.close(fd)


def holes_of(fd, size):
    """Where the holes are, as a list of (begin, end)."""
    holes, at = [], 0
    while at < size:
        begin = os.lseek(fd, at, os.SEEK_HOLE)
        if begin >= size:
            break
        try:
            at = os.lseek(fd, begin, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            at = size
        holes.append((begin, at))
    return holes


def content_of(fd, size, holes):
    """The hash of what lies outside the holes."""
    state, at = hashlib.blake2b(), 0
    for begin, end in [*holes, (size, size)]:
        while at < begin:
            piece = os.pread(fd, min(begin - at, 1 << 22), at)
            if not piece:
                break
            state.update(piece)
            at += len(piece)
        at = end
    return state.hexdigest()


def attributes_of(path, follow):
    try:
        return {name: os.getxattr(path, name, follow_symlinks=follow) for name in os.listxattr(path, follow_symlinks=follow)}
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise


def facts(at, name, groups, number):
    """Everything that can be set on an entry. Hard links are told by the first entry that has the same inode."""
    found = os.stat(name, dir_fd=at, follow_symlinks=False)
    kind = stat.S_IFMT(found.st_mode)
    facts = {"type": oct(kind), "mode": oct(stat.S_IMODE(found.st_mode)), "owner": found.st_uid, "group": found.st_gid,
             "mtime": found.st_mtime_ns}
    if kind != stat.S_IFDIR:
        facts["links"] = found.st_nlink
        facts["linked with"] = groups.setdefault((found.st_dev, found.st_ino), number)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        facts["device"] = (os.major(found.st_rdev), os.minor(found.st_rdev))
    if kind == stat.S_IFLNK:
        facts["target"] = os.readlink(name, dir_fd=at)
    link = b"/proc/self/fd/%d/" % at + name
    facts["attributes"] = attributes_of(link, False)
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at)
        facts["inode flags"] = hex(flags_of(fd))
        if kind == stat.S_IFREG:
            facts["size"] = found.st_size
            facts["holes"] = holes_of(fd, found.st_size)
            facts["content"] = content_of(fd, found.st_size, facts["holes"])
        os.close(fd)
    return facts, kind == stat.S_IFDIR


def compare(one, other):
    """Compares two directories; no recursion and no long paths."""
    differences = compared = 0

    def differ(path, what):
        nonlocal differences
        differences += 1
        print(f"{path!r}: {what}")

    groups = ({}, {})
    pairs = [(os.open(one, os.O_RDONLY), os.open(other, os.O_RDONLY), b".")]
    top = [facts(os.open(os.path.dirname(os.path.abspath(tree)), os.O_RDONLY), os.path.basename(os.path.abspath(tree)).encode(),
                 groups[n], 0)[0] for n, tree in enumerate((one, other))]
    for key in top[0].keys() | top[1].keys():
        if top[0].get(key) != top[1].get(key):
            differ(b".", f"{key}: {top[0].get(key)!r}, {top[1].get(key)!r}")
    while pairs:
        first, second, path = pairs.pop()
        names = [set(os.fsencode(name) for name in os.listdir(fd)) for fd in (first, second)]
        for name in sorted(names[0] ^ names[1]):
            differ(path + b"/" + name, "only in " + ("the first" if name in names[0] else "the second"))
        for name in sorted(names[0] & names[1]):
            compared += 1
            here = path + b"/" + name
            (a, directory), (b, _) = facts(first, name, groups[0], compared), facts(second, name, groups[1], compared)
            for key in sorted(a.keys() | b.keys()):
                if a.get(key) != b.get(key):
                    differ(here, f"{key}: {a.get(key)!r}, {b.get(key)!r}")
            if directory and a["type"] == b["type"]:
                pairs.append(tuple(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd) for fd in (first, second))
                             + (here if len(here) < 200 else here[:100] + b"[...]" + here[-90:],))
        os.close(first)
        os.close(second)
    print(f"{compared} entries compared, {differences} differences")
    return differences


def remove(path):
    """Removes a tree whatever its flags, modes and depth."""
    def empty(at):
        for name in os.listdir(at):
            name = os.fsencode(name)
            found = os.stat(name, dir_fd=at, follow_symlinks=False)
            if stat.S_IFMT(found.st_mode) in (stat.S_IFREG, stat.S_IFDIR):
                if stat.S_ISDIR(found.st_mode) and not ROOT:
                    os.chmod(name, 0o700, dir_fd=at)
                try:
                    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at)
                except PermissionError:
                    fd = None
                if fd is not None:
                    if flags_of(fd) & (IMMUTABLE | APPEND):
                        set_flags(fd, 0)
                    if stat.S_ISDIR(found.st_mode):
                        empty(fd)
                    os.close(fd)
            (os.rmdir if stat.S_ISDIR(found.st_mode) else os.unlink)(name, dir_fd=at)

    at = os.open(path, os.O_RDONLY)
    empty(at)
    os.close(at)
    os.rmdir(path)


def main(words):
    options = {"--entries": 3_000, "--sparse": 1 << 30}
    for name in options:
        if name in words:
            at = words.index(name)
            options[name] = int(words[at + 1])
            del words[at:at + 2]
    match words:
        case ["make", root]:
            Maker(root, options["--entries"], options["--sparse"]).make()
        case ["compare", one, other]:
            return 1 if compare(one, other) else 0
        case ["remove", root]:
            remove(root)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
