#!/usr/bin/env python3
"""An ordinary user who may write the directory that root restores into, and wants root's files to hold his bytes.

    enemy.py PLAN        PLAN: a JSON file, see main.rs; commands come from standard input, one a line

"prepare" fills the target; "lease" keeps others from opening one file until "release"; "race" starts what goes on during the restore
and "stop" ends it; "late" writes through everything that is still open or mapped, and by name wherever the system lets him; "away" takes
away what he mounted. Each is answered by a line.
"""

import ctypes
import fcntl
import json
import mmap
import os
import random
import signal
import stat
import subprocess
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, EXCHANGE = -100, 2
EVIL = b"EVIL bytes of the enemy. "
PREFIX = ".packstone-restore-"
HELD_MAX = 400


def open_to_write(path):
    """Never waits: another hand of his may have put a pipe there, which nobody reads."""
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK, 0o666))


def quietly(action, *words, **options):
    """Nearly everything may fail: others are at work, and the system guards root."""
    try:
        return action(*words, **options)
    except (OSError, ValueError):
        return None


def evil(size):
    return (EVIL * (size // len(EVIL) + 1))[:size]


def exchange(one, other):
    if LIBC.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2", one)


class Enemy:
    def __init__(self, plan):
        self.plan = plan
        self.target, self.stash, self.canary = plan["target"], plan["stash"], plan["canary"]
        self.rng = random.Random(plan["seed"])
        self.files, self.directories = plan["files"], plan["directories"]
        self.held, self.maps, self.children = [], [], []
        self.number = self.turn = 0
        self.mounted = self.to_lease = self.leased = None

    def fresh(self):
        self.number += 1
        return f"{self.stash}/{os.getpid()}-{self.number}"

    def hold(self, path):
        """Keeps a descriptor that can be written through, and a mapping. A store through a mapping takes no bits and no
        capabilities away: of what will be his he could make one at any time, so that proves nothing."""
        name = os.path.basename(path)
        if len(self.held) >= HELD_MAX:
            return
        fd = quietly(os.open, path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if fd is None:
            return
        self.held.append(fd)
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_size and not name.startswith(("his", PREFIX)):
            shared = quietly(mmap.mmap, fd, found.st_size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            if shared is not None:
                self.maps.append((fd, shared))

    # What stands in the target before the restore.

    def file(self, path, entry, content, right_time=True):
        with open_to_write(path) as file:
            file.write(content)
        if right_time:
            os.utime(path, ns=(entry["mtime"], entry["mtime"]))
        os.chmod(path, self.rng.choice((0o644, 0o600, 0o666, 0o755, 0o4755)))

    def prepare(self):
        for at in (self.target, self.stash):
            os.makedirs(at, exist_ok=True)
        for directory in self.directories:
            path = f"{self.target}/{directory}"
            how = self.rng.random()
            if how < 0.10:
                quietly(os.symlink, self.canary, path)
            elif how < 0.15:
                elsewhere = self.fresh()
                os.mkdir(elsewhere)
                quietly(os.symlink, elsewhere, path)
            elif how < 0.85:
                quietly(os.mkdir, path)
                if self.rng.random() < 0.3:
                    for words in (["-d", "-m", "u:65534:rwx"], ["-m", "u:65534:rwx"]):
                        subprocess.run(["setfacl", *words, path], stderr=subprocess.DEVNULL, check=False)
                quietly(os.chmod, path, self.rng.choice((0o755, 0o777, 0o2777, 0o700)))
        # Over FUSE he would be the file system itself.
        if self.plan["mount"]:
            self.mount()
        for entry in self.files:
            if self.rng.random() < self.plan["density"]:
                quietly(self.plant, entry)
        for twin in self.plan["twins"]:
            # A file beside the target that has the bytes of an entry becomes that entry.
            path = f"{self.target}/{twin}"
            if self.rng.random() < 0.5 and quietly(os.link, f"{self.canary}/twins/{twin}", self.fresh()) is None:
                quietly(os.rename, f"{self.stash}/{os.getpid()}-{self.number}", path)
        for n in range(4):
            self.extra(n)

    def mount(self):
        behind = self.fresh()
        os.mkdir(behind)
        at = f"{self.target}/{self.directories[0]}"
        quietly(os.mkdir, at)
        if os.path.islink(at) or os.path.realpath(at) != at:
            return
        words = ["bindfs", "--no-allow-other", "-o", "nonempty", behind, at]
        if subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            self.mounted = at

    def plant(self, entry):
        path = f"{self.target}/{entry['path']}"
        with open(entry["copy"], "rb") as file:
            right = file.read()
        how = self.rng.choice(self.plan["kinds"])
        if how == "right":
            self.file(path, entry, right)
        elif how == "right, other time":
            self.file(path, entry, right, right_time=False)
        elif how == "wrong, right time and size":
            self.file(path, entry, evil(len(right)))
        elif how == "right, linked":
            self.file(path, entry, right)
            os.link(path, self.fresh())
        elif how == "right, with rights for the enemy":
            self.file(path, entry, right)
            subprocess.run(["setfacl", "-m", "u:65534:rwx,m::rwx", path], stderr=subprocess.DEVNULL, check=False)
            quietly(os.setxattr, path, "user.enemy", b"his")
        elif how == "right, elsewhere":
            elsewhere = self.fresh() + "-elsewhere"
            self.file(elsewhere, entry, right)
            os.symlink(elsewhere, path)
            self.hold(elsewhere)
        elif how == "link out":
            os.symlink(f"{self.canary}/{self.rng.choice(self.plan['canaries'])}", path)
        elif how == "hard link out":
            os.link(f"{self.canary}/{self.rng.choice(self.plan['canaries'])}", path, follow_symlinks=False)
        elif how == "pipe":
            os.mkfifo(path)
        elif how == "directory":
            os.mkdir(path)
            if self.rng.random() < 0.5:
                os.symlink(self.canary, f"{path}/out")
        elif how == "twice in the target":
            other = f"{self.target}/{self.rng.choice(self.files)['path']}"
            self.file(path, entry, right)
            quietly(os.link, path, other)
        elif how == "half":
            self.file(path, entry, right[:len(right) // 2])
        elif how == "right, and nobody else may open it":
            self.file(path, entry, right)
            # One a round: whoever waits for it waits for most of a minute.
            self.to_lease = path
            return
        self.hold(path)

    def extra(self, n):
        at = f"{self.target}/{self.rng.choice(['', *[d + '/' for d in self.directories]])}extra-{n}"
        how = self.rng.random()
        if how < 0.3:
            quietly(os.symlink, self.canary, at)
        elif how < 0.6 and quietly(os.mkdir, at) is None:
            for name in self.plan["canaries"]:
                quietly(os.link, f"{self.canary}/{name}", f"{at}/{os.path.basename(name)}", follow_symlinks=False)
            quietly(os.symlink, "../../../canary", f"{at}/up")
        else:
            with open_to_write(self.fresh()) as file:
                file.write(EVIL)
            quietly(os.rename, file.name, at)

    def lease(self):
        """Nobody opens the file before he lets them, or the kernel does after 45 seconds."""
        fd = self.to_lease and quietly(os.open, self.to_lease, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        if fd:
            quietly(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            self.leased = fd

    def release(self):
        if self.leased:
            quietly(fcntl.fcntl, self.leased, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            self.held.append(self.leased)
            self.leased = None

    # What goes on during it.

    def race(self):
        for part in self.plan["parts"]:
            child = os.fork()
            if child == 0:
                LIBC.prctl(1, signal.SIGKILL)
                stop = []
                signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
                self.rng = random.Random(f"{part} {self.plan['seed']}")
                self.held, self.maps = [], []
                action = {"swap": self.swap, "grab": self.grab, "temporary": self.temporary, "tear": self.tear,
                          "trap": self.trap}[part]
                try:
                    while not stop:
                        quietly(action)
                    # His own late writes: what he took hold of during the restore.
                    time.sleep(0.02)
                    self.late()
                finally:
                    os._exit(0)
            self.children.append(child)

    def stop(self):
        for child in self.children:
            os.kill(child, signal.SIGTERM)
        for child in self.children:
            os.waitpid(child, 0)
        self.children = []

    def decoy(self, entry):
        """Something for the place of a file: his bytes, in size and time as the file's, or a way out."""
        path = self.fresh()
        how = self.rng.random()
        if how < 0.6:
            self.file(path, entry, evil(entry["size"]))
            self.hold(path)
        elif how < 0.8:
            os.symlink(f"{self.canary}/{self.rng.choice(self.plan['canaries'])}", path)
        elif how < 0.88:
            quietly(os.link, f"{self.canary}/{self.rng.choice(self.plan['canaries'])}", path, follow_symlinks=False)
        elif how < 0.94:
            os.mkfifo(path)
        else:
            os.mkdir(path)
        return path

    def swap(self):
        """The right file and his own take turns under one name."""
        entry = self.rng.choice(self.files)
        path = f"{self.target}/{entry['path']}"
        if self.rng.random() < 0.3:
            # The number of an inode that has gone is soon another's.
            quietly(os.unlink, path)
            quietly(self.file, path, entry, evil(entry["size"]))
            return
        decoy = self.decoy(entry)
        for _ in range(self.rng.randrange(2, 200)):
            quietly(exchange, path, decoy)

    def everything(self):
        for directory in ["", *self.directories]:
            at = f"{self.target}/{directory}"
            for entry in quietly(os.scandir, at) or ():
                yield entry

    def grab(self):
        """Takes hold of whatever can be opened, and gives it another name."""
        for entry in self.everything():
            if self.rng.random() < 0.5:
                self.hold(entry.path)
            if self.rng.random() < 0.2:
                quietly(os.link, entry.path, self.fresh(), follow_symlinks=False)
            if self.rng.random() < 0.05:
                quietly(os.chmod, entry.path, 0o6777)
            if self.rng.random() < 0.05:
                quietly(os.rename, entry.path, self.fresh())

    def temporary(self):
        """Waits for files that are not finished."""
        for entry in self.everything():
            if not entry.name.startswith(PREFIX):
                continue
            how = self.rng.random()
            self.hold(entry.path)
            if how < 0.25:
                quietly(os.link, entry.path, self.fresh(), follow_symlinks=False)
            elif how < 0.5:
                quietly(os.rename, self.decoy(self.rng.choice(self.files)), entry.path)
            elif how < 0.7:
                quietly(exchange, entry.path, self.decoy(self.rng.choice(self.files)))
            elif how < 0.85 and quietly(os.unlink, entry.path) is None:
                quietly(self.file, entry.path, self.rng.choice(self.files), evil(300))
            else:
                quietly(os.rename, entry.path, self.fresh())

    def tear(self):
        """Directories go elsewhere, and a link out or another directory stands in their place."""
        directory = self.rng.choice(self.directories)
        path, other = f"{self.target}/{directory}", self.fresh()
        if self.rng.random() < 0.5:
            os.symlink(self.canary, other)
        else:
            os.mkdir(other)
            for entry in self.files:
                if os.path.dirname(entry["path"]) == directory and self.rng.random() < 0.5:
                    quietly(self.file, f"{other}/{os.path.basename(entry['path'])}", entry, evil(entry["size"]))
        for _ in range(self.rng.randrange(1, 6)):
            quietly(exchange, path, other)
            time.sleep(self.rng.random() * 0.004)

    def trap(self):
        """Where something will be removed, a way out takes its place and goes again."""
        found = [entry.path for entry in self.everything() if entry.name.startswith("extra-")]
        if not found:
            return
        path, other = self.rng.choice(found), self.fresh()
        if self.rng.random() < 0.5:
            os.symlink(self.canary, other)
        else:
            os.makedirs(f"{other}/deep/deeper")
            os.symlink(self.canary, f"{other}/deep/deeper/out")
            quietly(os.link, f"{self.canary}/shadow", f"{other}/deep/shadow")
        below = f"{path}/deep"
        for _ in range(self.rng.randrange(2, 100)):
            quietly(exchange, path, other)
            quietly(os.rename, below, self.fresh())

    # What he does when root believes that all is well.

    def late(self):
        for fd, shared in self.maps:
            # A store beyond the end of a file that has become shorter would be his own end.
            length = min(len(shared), len(EVIL), os.fstat(fd).st_size)
            if length:
                shared[:length] = EVIL[:length]
                quietly(shared.flush)
        for fd in self.held:
            for offset in (0, 5_000, 100_000):
                found = quietly(os.fstat, fd)
                if found is not None and offset <= found.st_size:
                    quietly(os.pwrite, fd, EVIL, offset)
        # Again by name: rights that were left to him are as good as a descriptor.
        for root in (self.target, self.stash):
            for at, directories, names in os.walk(root):
                for name in names:
                    path = f"{at}/{name}"
                    fd = quietly(os.open, path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                    if fd is not None:
                        quietly(os.pwrite, fd, EVIL, 0)
                        os.close(fd)
                quietly(os.close, quietly(os.open, f"{at}/late-evil-{self.turn}-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644) or -1)
                directories[:] = [name for name in directories if not os.path.islink(f"{at}/{name}")]

    def away(self):
        self.turn += 1
        if self.mounted:
            subprocess.run(["fusermount3", "-u", "-z", self.mounted], stderr=subprocess.DEVNULL, check=False)


def main(plan):
    LIBC.prctl(1, signal.SIGKILL)
    os.umask(0)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # Somebody wants to open what is leased.
    with open(plan, encoding="utf-8") as file:
        enemy = Enemy(json.load(file))
    commands = {"prepare": enemy.prepare, "lease": enemy.lease, "release": enemy.release, "race": enemy.race, "stop": enemy.stop, "late": enemy.late, "away": enemy.away}
    for line in sys.stdin:
        commands[line.strip()]()
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
