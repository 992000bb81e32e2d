#!/usr/bin/env python3
"""Restores to one file system and compares with what it can hold. Called by run.sh.

    trial.py prepare WORK EVERY_KIND [--full]                               makes the source, the repository and the snapshot
    trial.py on WORK EVERY_KIND NAME MOUNT [--user UID] [--fuse] [--full]   the trial
    trial.py control EVERY_KIND                                             shows that the comparison can fail

What a file system holds is found out by doing it: `Reference` makes every entry of the source there with plain system calls, sets
everything on it, lets the caches go and looks. The restored tree must be that tree. What the file system did not hold must be named by the
restore, in few lines. Nothing may be left behind, and nothing beside the target may have changed.
"""

import hashlib
import importlib.util
import json
import os
import re
import stat
import subprocess
import sys
import threading
import time

# More than a restore keeps open (384), so that some are opened again.
DIRECTORIES, DIRECTORIES_FULL = 500, 1_500
# A cause is a line, however many entries it concerns. Beside these, each entry that is not there at all may be named.
LINES_MAX = 25
LEFT_BEHIND = b".packstone-restore-"
CAPABILITY = "security.capability"
EVERY_KIND = None


def load(path):
    spec = importlib.util.spec_from_file_location("every_kind", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drop_caches(what=3):
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write(str(what))


# A tree as a dictionary: path to facts.

def content_of(fd, size):
    state = hashlib.blake2b()
    for at in range(0, size, 1 << 20):
        state.update(os.pread(fd, 1 << 20, at))
    return state.hexdigest()


def facts_of(at, name):
    """Everything that can be set on an entry, and its stat. What the file system does not give is the number of its error."""
    def ask(action, *words, **options):
        try:
            return action(*words, **options)
        except OSError as error:
            return f"error {error.errno}"

    found = ask(os.stat, name, dir_fd=at, follow_symlinks=False)
    if isinstance(found, str):
        return {"kind": found}, None
    kind = stat.S_IFMT(found.st_mode)
    facts = {"kind": kind, "mode": stat.S_IMODE(found.st_mode), "owner": (found.st_uid, found.st_gid), "mtime": found.st_mtime_ns}
    attributes = ask(EVERY_KIND.attributes_of, b"/proc/self/fd/%d/" % at + name, False)
    # XFS shows root the same ACL under a name of its own too.
    facts["attributes"] = attributes if isinstance(attributes, str) else {
        key: value for key, value in attributes.items() if not key.startswith("trusted.SGI_ACL_")}
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        facts["device"] = (os.major(found.st_rdev), os.minor(found.st_rdev))
    elif kind == stat.S_IFLNK:
        facts["target"] = ask(os.readlink, name, dir_fd=at)
    elif kind in (stat.S_IFREG, stat.S_IFDIR):
        fd = ask(os.open, name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at)
        if isinstance(fd, str):
            return {**facts, "content": fd}, found
        facts["inode flags"] = EVERY_KIND.flags_of(fd)
        if kind == stat.S_IFREG:
            facts["content"] = ask(lambda: (found.st_size, content_of(fd, found.st_size)))
            facts["allocated"] = found.st_blocks * 512
        os.close(fd)
    return facts, found


def look(root):
    """Every entry beneath a directory, whatever the length of its path."""
    tree, groups = {}, {}

    def walk(at, path):
        for name in sorted(os.fsencode(name) for name in os.listdir(at)):
            here = path + name
            facts, found = facts_of(at, name)
            if found is not None and facts["kind"] != stat.S_IFDIR and found.st_nlink > 1:
                facts["links"] = groups.setdefault((found.st_dev, found.st_ino), here)
            tree[here] = facts
            if facts["kind"] == stat.S_IFDIR and "content" not in facts:
                below = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at)
                walk(below, here + b"/")
                os.close(below)

    fd = os.open(root, os.O_RDONLY)
    walk(fd, b"")
    os.close(fd)
    return tree


KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "pipe",
         stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


def differences(one, other):
    """What the second tree does not hold of the first, as (path, class)."""
    for path, facts in one.items():
        if path not in other:
            # What lies in a missing directory is missing with it.
            if path.rpartition(b"/")[0] in other or b"/" not in path:
                yield path, "entry: " + KINDS[facts["kind"]]
            continue
        there = other[path]
        if facts["kind"] != there["kind"]:
            yield path, "kind"
            continue
        for key in sorted((facts.keys() | there.keys()) - {"allocated"}):
            if facts.get(key) != there.get(key):
                yield path, key
        if facts.get("allocated") is not None and there.get("allocated", 0) > 2 * facts["allocated"] + (256 << 10):
            yield path, "holes"


class Reference:
    """Makes a tree again with the system's calls, as a user."""

    def __init__(self, source, to, user):
        self.user, self.links = user, {}
        self.directory(os.open(source, os.O_RDONLY), os.open(to, os.O_RDONLY))

    def become(self, user):
        # Back to root first, with its groups last.
        os.seteuid(0)
        if user:
            os.setgroups([])
            os.setegid(user)
            os.seteuid(user)
        else:
            os.setegid(0)

    def attempt(self, action, *words, **options):
        try:
            return action(*words, **options)
        except (OSError, OverflowError, subprocess.CalledProcessError):
            return None

    def directory(self, source, to):
        for name in sorted(os.fsencode(name) for name in os.listdir(source)):
            self.become(0)
            facts, found = facts_of(source, name)
            below = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=source) if facts["kind"] in (stat.S_IFDIR, stat.S_IFREG) else -1
            self.become(self.user)
            try:
                if self.make(facts, found, below, name, to):
                    self.set(facts, below, name, to)
            except OSError:
                pass  # It cannot be held.
            self.become(0)
            if below >= 0:
                os.close(below)

    def make(self, facts, found, below, name, to):
        kind, key = facts["kind"], (found.st_dev, found.st_ino)
        if kind != stat.S_IFDIR and found.st_nlink > 1 and key in self.links:
            first, first_name = self.links[key]
            try:
                os.link(first_name, name, src_dir_fd=first, dst_dir_fd=to, follow_symlinks=False)
                return False
            except OSError:
                pass
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=to)
            inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=to)
            self.directory(below, inner)
            os.close(inner)
            self.become(self.user)
        elif kind == stat.S_IFREG:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=to)
            for begin, end in data_of(below, found.st_size):
                for at in range(begin, end, 1 << 20):
                    os.pwrite(fd, os.pread(below, min(1 << 20, end - at), at), at)
            os.ftruncate(fd, found.st_size)
            os.close(fd)
        elif kind == stat.S_IFLNK:
            os.symlink(facts["target"], name, dir_fd=to)
        else:
            os.mknod(name, kind | 0o600, found.st_rdev, dir_fd=to)
        if found.st_nlink > 1 and kind != stat.S_IFDIR:
            self.links[key] = (os.dup(to), name)
        return True

    def set(self, facts, below, name, to):
        """In the order that keeps everything: owner, attributes, mode, capabilities, times, flags."""
        at = b"/proc/self/fd/%d/" % to + name
        if self.attempt(os.chown, name, *facts["owner"], dir_fd=to, follow_symlinks=False) is None:
            self.attempt(os.chown, name, -1, facts["owner"][1], dir_fd=to, follow_symlinks=False)
        for extra in (self.attempt(EVERY_KIND.attributes_of, at, False) or {}).keys() - facts["attributes"].keys():
            self.attempt(os.removexattr, at, extra, follow_symlinks=False)
        later = lambda attribute: attribute == CAPABILITY
        for attribute, value in sorted(facts["attributes"].items(), key=lambda item: later(item[0])):
            if not later(attribute):
                self.attempt(os.setxattr, at, attribute, value, follow_symlinks=False)
        mode = facts["mode"]
        found = os.stat(name, dir_fd=to, follow_symlinks=False)
        if (found.st_uid, found.st_gid) != facts["owner"]:
            mode &= ~0o6000
        if facts["kind"] != stat.S_IFLNK:
            self.attempt(os.chmod, name, mode, dir_fd=to)
        if CAPABILITY in facts["attributes"]:
            self.attempt(os.setxattr, at, CAPABILITY, facts["attributes"][CAPABILITY], follow_symlinks=False)
        self.attempt(os.utime, name, ns=(facts["mtime"], facts["mtime"]), dir_fd=to, follow_symlinks=False)
        if facts.get("inode flags"):
            fd = self.attempt(os.open, name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=to)
            if fd is not None:
                for bit in (1 << n for n in range(32)):
                    if facts["inode flags"] & bit and not bit & (EVERY_KIND.IMMUTABLE | EVERY_KIND.APPEND):
                        self.attempt(lambda bit=bit: EVERY_KIND.set_flags(fd, EVERY_KIND.flags_of(fd) | bit))
                self.attempt(lambda: EVERY_KIND.set_flags(fd, EVERY_KIND.flags_of(fd) | facts["inode flags"]))
                os.close(fd)


def data_of(fd, size):
    at = 0
    for begin, end in EVERY_KIND.holes_of(fd, size):
        if begin > at:
            yield at, begin
        at = end
    if at < size:
        yield at, size


# The program.

class Program:
    def __init__(self, work, user, fuse=False):
        self.work, self.user, self.fuse = work, user, fuse
        self.home = f"{work}/home-{user}"
        os.makedirs(self.home, exist_ok=True)
        os.chown(self.home, user, user)

    def run(self, *words):
        environment = {"HOME": self.home, "TZ": "UTC", "PATH": os.environ["PATH"], "PACKSTONE_REPOSITORY": f"{self.work}/repository"}
        if words[0] != "init":
            environment["PACKSTONE_KEY_FILE"] = f"{self.work}/key"
        who = ["setpriv", "--reuid", str(self.user), "--regid", str(self.user), "--clear-groups"] if self.user else []
        stop = threading.Event()

        def forget():
            # The kernel forgets inodes when it likes: over FUSE one that comes again may have another number.
            while not stop.wait(0.05):
                drop_caches(2)

        thread = threading.Thread(target=forget)
        if self.fuse:
            thread.start()
        try:
            return subprocess.run([*who, f"{self.work}/packstone", *words], env=environment, cwd=self.home, stdin=subprocess.DEVNULL,
                                  capture_output=True, check=False, timeout=600)
        finally:
            stop.set()
            if self.fuse:
                thread.join()

    def restore(self, target, *words):
        return self.run("restore", "--json", f"latest:{self.work}/source", "--target", target, *words)


def prepare(work, directories):
    source = f"{work}/source"
    EVERY_KIND.ROOT = True
    maker = EVERY_KIND.Maker(f"{source}/kinds", 50, 64 << 20)
    os.mkdir(f"{source}/kinds")
    for part in (maker.names, maker.links, maker.special, maker.modes, maker.attributes, maker.holes, maker.deep, maker.many, maker.times,
                 maker.flags):
        part()
    for what in maker.without:
        print(f"not made: {what}")
    maker.file("contents/empty", b"")
    maker.file("contents/large", b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(40_000)))
    maker.file("contents/zeros", bytes(1 << 20))
    # Where upper and lower case are the same, one of them cannot be held; the other must keep its own content.
    maker.file("case/README", b"upper case\n")
    maker.file("case/readme", b"lower case, and longer\n")
    # Beyond what ext4 holds (2446), before what FAT and NTFS hold (1980, 1601).
    for year, seconds in ((2477, 16_000_000_000), (2200, 7_258_118_400), (1910, -1_893_456_000), (1500, -14_831_769_600)):
        path = maker.file(f"far/{year}")
        os.utime(path, ns=(seconds * 10**9 + 7, seconds * 10**9 + 7))
    for n in range(directories):
        os.makedirs(f"{source}/many/d{n:04}")
        with open(f"{source}/many/d{n:04}/f", "wb") as file:
            file.write(b"file %d\n" % n * (1 + n % 30))
        os.utime(file.name, ns=(1_700_000_000 * 10**9 + n * 10**6, 1_700_000_000 * 10**9 + n * 10**6))
    program = Program(work, 0)
    for words in (("init", "--new-key-file", f"{work}/key"), ("backup", "--json", source)):
        ran = program.run(*words)
        if ran.returncode:
            sys.exit(f"{words}: {ran.returncode} {ran.stdout.decode()} {ran.stderr.decode()}")
    # Whoever restores may read it.
    subprocess.run(["chown", "-R", "65534:65534", f"{work}/repository", f"{work}/key"], check=True)


# What a message about a class must say.
NAMED = {"owner": r"owner|not permitted", "mode": r"mode|set-id|permission", "mtime": r"time", "attributes": r"attribute|ACL",
         "inode flags": r"flag", "links": r"link", "holes": r"", "content": r".", "target": r"link", "device": r"device", "kind": r"."}


def remove(path):
    try:
        EVERY_KIND.remove(path)
    except OSError as error:
        # It holds something that it does not let go. The whole file system goes soon.
        print(f"not removed: {path}: {error}")


class Trial:
    def __init__(self, work, name, mount, user, fuse, full):
        self.work, self.mount, self.user, self.full = work, mount, user, full
        self.who = f"{name} as {'root' if user == 0 else f'user {user}'}"
        self.program = Program(work, user, fuse)
        self.faults, self.told = [], []
        self.target, self.outside = f"{mount}/target-{user}", f"{mount}/outside-{user}"

    def fault(self, text):
        self.faults.append(text)

    def own(self, path):
        os.mkdir(path)
        if self.user:
            try:
                os.chown(path, self.user, self.user)
            except OSError:
                pass

    def play(self):
        # Some file systems keep every other second only.
        self.begun = time.time_ns() - 2 * 10**9
        self.source = look(f"{self.work}/source")
        self.own(f"{self.mount}/reference-{self.user}")
        Reference(f"{self.work}/source", f"{self.mount}/reference-{self.user}", self.user)
        os.sync()
        drop_caches()
        self.reference = look(f"{self.mount}/reference-{self.user}")
        self.unheld = {}
        for path, what in differences(self.source, self.reference):
            self.unheld.setdefault(what, []).append(path)
        remove(f"{self.mount}/reference-{self.user}")
        self.own(self.outside)
        for n in range(20):
            with open(f"{self.outside}/f{n}", "wb") as file:
                file.write(b"beside it %d\n" % n)
        drop_caches()
        self.beside = self.look_beside()
        self.own(self.target)
        self.first()
        self.again()
        self.edited("always", True)
        if self.full:
            for overwrite in ("if-changed", "always", "if-newer", "never"):
                for delete in (False, True):
                    self.edited(overwrite, delete)
            self.restored("with --verify", "--verify", "--delete")
        remove(self.target)
        remove(self.outside)
        not_held = ", ".join(f"{len(paths)} {what}" for what, paths in sorted(self.unheld.items())) or "nothing"
        print(f"{self.who}: {len(self.source)} entries; not held: {not_held}; {'; '.join(self.told)}; {len(self.faults)} faults", flush=True)
        for fault in self.faults[:12]:
            print(f"    {self.who}: {fault}", flush=True)
        return not self.faults

    def restored(self, what, *words):
        """Runs a restore; its exit code, its lines and what it left are judged."""
        began = time.monotonic()
        ran = self.program.restore(self.target, *words)
        took = time.monotonic() - began
        errors = ran.stderr.decode(errors="replace").splitlines()
        lines = [line for line in [*ran.stdout.decode(errors="replace").splitlines(), *errors] if line.startswith("{")]
        parsed = [json.loads(line) for line in lines]
        summary = next((line for line in reversed(parsed) if line.get("message_type") == "summary"), {})
        said = [line for line in errors if not line.startswith("{")]
        said += [json.dumps(line) for line in parsed if line.get("message_type") in ("error", "warning")]
        text = "\n".join(said)
        self.told.append(f"{what}: exit code {ran.returncode}, {len(said)} lines, {took:.1f} s")
        # To an ordinary user owners, devices and set-id bits are a note; what else only root can set may be one.
        lacking = set(self.unheld) - {"holes"}
        if self.user:
            lacking -= {"owner", "mode", "entry: device"}
        allowed = {0} if not lacking else {0, 1} if self.user and lacking <= {"attributes", "inode flags"} else {1}
        if "never" in words or "if-newer" in words:
            allowed = {0, 1}
        if ran.returncode not in allowed:
            self.fault(f"{what}: exit code {ran.returncode}, expected {sorted(allowed)}: {text[-400:]!r}")
        absent = sum(len(paths) for kind, paths in self.unheld.items() if kind.startswith("entry") or kind == "kind")
        if len(said) > LINES_MAX + absent:
            self.fault(f"{what}: {len(said)} lines for {absent} entries that cannot be there, such as {said[0][:200]!r} and {said[-2][:200]!r}")
        if what == "first":
            for kind, paths in self.unheld.items():
                wanted = NAMED.get(kind, re.escape(kind.removeprefix("entry: ").split()[-1]) + r"|name|" +
                                   "|".join(re.escape(os.fsdecode(path)[-12:]) for path in paths[:50]))
                if not re.search(wanted, text, re.IGNORECASE):
                    self.fault(f"{what}: {len(paths)} times {kind} ({paths[0]!r}) is not as in the snapshot, and no line says so")
        return ran.returncode, summary

    def compare(self, what, leave=lambda path: False, extra=False):
        drop_caches()
        found = look(self.target)
        wrong = {}
        # What comes out as another kind of file is better not made.
        twisted = set(self.unheld.get("kind", ()))
        for path, kind in differences(self.reference, found):
            if leave(path) or path in twisted or (kind == "mode" and self.reference[path]["mode"] & ~0o6000 == found[path]["mode"] & ~0o6000
                               and "owner" in self.unheld and path in self.unheld["owner"]):
                continue
            if kind == "mtime" and self.is_of_writing(path, found):
                continue
            wrong.setdefault(kind, []).append(path)
        for path in found.keys() - self.reference.keys():
            if path.rpartition(b"/")[2].startswith(LEFT_BEHIND):
                wrong.setdefault("left behind", []).append(path)
            elif not extra and not leave(path):
                wrong.setdefault("should not be there", []).append(path)
        beside = self.look_beside()
        if beside != self.beside:
            self.fault(f"{what}: beside the target: {[path for path in self.beside if beside.get(path) != self.beside[path]][:5]}")
        for kind, paths in wrong.items():
            path = paths[0]
            one, other = self.reference.get(path, {}).get(kind), found.get(path, {}).get(kind)
            self.fault(f"{what}: {len(paths)} of {len(self.reference)} entries: {kind}, {path[-80:]!r}: {one!r} expected, {other!r} found")
        return found

    def is_of_writing(self, path, found):
        """Where a time cannot be set, both trees show when each was made, and these are two times."""
        times = [facts[path]["mtime"] for facts in (self.source, self.reference, found)]
        return times[1] != times[0] and all(time >= self.begun for time in times[1:])

    def first(self):
        self.code, _ = self.restored("first")
        self.compare("first")

    def again(self):
        drop_caches()
        code, summary = self.restored("again", "--delete")
        # These are made again each time: an inode with other names, with set-id bits, a capability or a group that may write, that is
        # not right in everything; and what its owner may not read.
        unheld = {path for paths in self.unheld.values() for path in paths}
        wrong = {facts["links"] for path, facts in self.source.items() if "links" in facts and path in unheld}
        allowed = sum(facts["content"][0] for path, facts in self.source.items() if "content" in facts and (
            path in wrong or self.user and not facts["mode"] & 0o400
            or path in unheld and (facts["mode"] & 0o6020 or CAPABILITY in facts["attributes"])))
        if summary.get("bytes_restored", 0) > allowed:
            self.fault(f"again: {summary['bytes_restored']} bytes were written to an unchanged tree, {allowed} are expected")
        if code != self.code:
            self.fault(f"again: exit code {code} after {self.code}")
        self.compare("again")

    def edit(self):
        """What people do to a tree. Returns what is newer than the snapshot, and what is more than in it."""
        at = lambda n: f"{self.target}/many/d{n:04}"
        has_links = any(facts["kind"] == stat.S_IFLNK for facts in self.reference.values())
        newer, extra = set(), set()

        def write(n, change):
            path = f"{at(n)}/f"
            with open(path, "rb") as file:
                content = change(file.read())
            os.unlink(path)
            with open(path, "wb") as file:
                file.write(content)
            newer.add(b"many/d%04d/f" % n)

        Reference.become(None, self.user)
        try:
            write(1, lambda content: content.replace(b"file", b"FILE"))
            write(2, lambda content: content + b"more\n")
            os.unlink(f"{at(3)}/f")
            os.rmdir(at(3))
            os.unlink(f"{at(4)}/f")
            os.unlink(f"{at(5)}/f")
            os.mkdir(f"{at(5)}/f")
            newer.add(b"many/d0005/f")
            if has_links:
                os.unlink(f"{at(6)}/f")
                os.symlink(f"{self.outside}/f1", f"{at(6)}/f")
                newer.add(b"many/d0006/f")
                os.unlink(f"{self.target}/kinds/links/up")
                os.symlink(self.outside, f"{self.target}/kinds/links/up")
                newer.add(b"kinds/links/up")
            os.unlink(f"{at(7)}/f")
            os.rmdir(at(7))
            with open(at(7), "wb") as file:
                file.write(b"a file in the place of a directory")
            newer.update((b"many/d0007", b"many/d0007/f"))
            os.makedirs(f"{self.target}/extra/deep/er")
            with open(f"{self.target}/extra/deep/er/f", "wb") as file:
                file.write(b"extra")
            extra.add(b"extra")
            os.chmod(f"{at(8)}/f", 0o600)
            os.utime(f"{at(8)}/f")
            newer.add(b"many/d0008/f")
            os.unlink(f"{at(9)}/f")
            try:
                # Another name of a file that lies beside the target: it must not change with this one.
                os.link(f"{self.outside}/f2", f"{at(9)}/f")
            except OSError:
                with open(f"{at(9)}/f", "wb") as file:
                    file.write(b"no links here")
            newer.add(b"many/d0009/f")
        finally:
            Reference.become(None, 0)
        return newer, extra

    def edited(self, overwrite, delete):
        what = f"edited, --overwrite {overwrite}{' --delete' if delete else ''}"
        if not all(f"many/d{n:04}/f".encode() in look(self.target) for n in range(1, 10)):
            return self.fault(f"{what}: there is nothing to be edited")
        newer, extra = self.edit()
        drop_caches()
        words = ["--overwrite", overwrite, *(["--delete"] if delete else [])]
        self.restored(what, *words)
        keeps = overwrite in ("if-newer", "never")
        # What stays of the edits, and the times of the directories that they lie in.
        leave = lambda path: keeps and any(path == kept or path.startswith(kept + b"/") or kept.startswith(path + b"/") for kept in newer)
        found = self.compare(what, leave, extra=not delete)
        if delete and any(path in found for path in extra):
            self.fault(f"{what}: {sorted(extra)} is still there")
        if not delete and not all(path in found for path in extra):
            self.fault(f"{what}: {sorted(extra)} is gone")
        if keeps and found.get(b"many/d0001/f", {}).get("content") == self.reference[b"many/d0001/f"]["content"]:
            self.fault(f"{what}: what is newer was written over")
        self.restored("put right", "--overwrite", "always", "--delete")
        self.told.pop()
        self.compare(f"{what}, then put right")

    def look_beside(self):
        """What lies beside the target. An edit gives it another name, and the restore takes that away."""
        return {path: {key: value for key, value in facts.items() if key != "links"} for path, facts in look(self.outside).items()}


def control():
    """A tree and the same tree after a harm: each harm is found, and nothing without one."""
    import tempfile
    harms = {
        "entry: file": lambda at: os.unlink(f"{at}/d/f"),
        "entry: directory": lambda at: (os.unlink(f"{at}/d/f"), os.rmdir(f"{at}/d")),
        "content": lambda at: open(f"{at}/d/f", "r+b").write(b"X"),
        "mode": lambda at: os.chmod(f"{at}/d/f", 0o604),
        "mtime": lambda at: os.utime(f"{at}/d/f", ns=(1, 1)),
        "target": lambda at: (os.unlink(f"{at}/l"), os.symlink("elsewhere", f"{at}/l")),
        "kind": lambda at: (os.unlink(f"{at}/l"), os.mkdir(f"{at}/l")),
        "links": lambda at: (os.unlink(f"{at}/two"), open(f"{at}/two", "wb").write(b"one")),
        "holes": lambda at: open(f"{at}/hole", "r+b").write(bytes(4 << 20)),
        "attributes": lambda at: os.setxattr(f"{at}/d/f", "user.more", b"1"),
        LEFT_BEHIND.decode(): lambda at: open(f"{at}/d/{LEFT_BEHIND.decode()}0123", "wb").close(),
    }
    found = 0
    for wanted, harm in harms.items():
        with tempfile.TemporaryDirectory() as at:
            os.mkdir(f"{at}/d")
            for name in ("d/f", "one"):
                with open(f"{at}/{name}", "wb") as file:
                    file.write(b"one")
            os.link(f"{at}/one", f"{at}/two")
            os.symlink("one", f"{at}/l")
            with open(f"{at}/hole", "wb") as file:
                file.truncate(4 << 20)
            before = look(at)
            assert list(differences(before, look(at))) == []
            harm(at)
            os.sync()
            after = look(at)
            kinds = {kind for _, kind in differences(before, after)} | {
                LEFT_BEHIND.decode() for path in after.keys() - before.keys() if path.rpartition(b"/")[2].startswith(LEFT_BEHIND)}
            if wanted in kinds:
                found += 1
            else:
                print(f"the harm to {wanted} is not found: {kinds}")
    print(f"{found} of {len(harms)} harms to a tree are found")
    return 0 if found == len(harms) else 1


def main(words):
    global EVERY_KIND
    match words:
        case ["prepare", work, every_kind, *rest]:
            EVERY_KIND = load(every_kind)
            prepare(work, DIRECTORIES_FULL if "--full" in rest else DIRECTORIES)
        case ["on", work, every_kind, name, mount, *rest]:
            EVERY_KIND = load(every_kind)
            user = int(rest[rest.index("--user") + 1])
            return 0 if Trial(work, name, mount, user, "--fuse" in rest, "--full" in rest).play() else 1
        case ["control", every_kind]:
            EVERY_KIND = load(every_kind)
            return control()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
