#!/usr/bin/env python3
"""Changes a tree in every way at once, until it is killed.

    writer.py make DIRECTORY
    writer.py PART DIRECTORY SEED       PART: replaced, linked, exchanged, moved, loose

Every content says whose it is: it is one line, repeated and cut off at its size: name, generation, size. A generation
of a name is written once and only grows. So whoever reads a file knows whether the bytes are of one moment, and of which.
What is promised of each part stands in told.rs.
"""

import ctypes
import os
import random
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, EXCHANGE = -100, 2
REPLACED, LINKED, POOL, EXCHANGED, FILES_MOVED, DIRECTORIES_MOVED = 200, 50, 10, 40, 30, 10
LOOSE, CUT, GROWN = 30, 10, 5
PLACES = (b"moved/a", b"moved/n/c", b"moved/z")


def whole(name, generation, size):
    """Never shorter than one line."""
    size = max(size, len(name) + 24)
    line = b"%s %012d %09d\n" % (name, generation, size)
    return (line * (size // len(line) + 1))[:size]


def exchange(one, other):
    if LIBC.renameat2(AT_FDCWD, one, AT_FDCWD, other, EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2", one)


def write(path, data):
    with open(path, "wb", buffering=0) as file:
        file.write(data)


def sizes(rng):
    """Mostly small, now and then several chunks."""
    return rng.randrange(40, 3_000) if rng.random() < 0.93 else rng.randrange(60_000, 400_000)


def replaced_name(n):
    return b"replaced/%d/r%03d" % (n % 4, n)


def make(rng):
    for at in (b"replaced/0", b"replaced/1", b"replaced/2", b"replaced/3", b"linked/pool", b"exchanged/spare", b"loose",
               *PLACES):
        os.makedirs(at, exist_ok=True)
    for n in range(REPLACED):
        path = replaced_name(n)
        write(path, whole(os.path.basename(path), 0, sizes(rng)))
    for n in range(POOL):
        write(b"linked/pool/p%02d" % n, whole(b"p%02d" % n, 0, sizes(rng)))
    for n in range(LINKED):
        os.link(b"linked/pool/p%02d" % (n % POOL), b"linked/l%02d" % n)
    for n in range(EXCHANGED):
        path = (b"exchanged/e%02d" if n % 2 else b"exchanged/spare/e%02d") % n
        kind = n // 2 % 4
        if kind == 0:
            write(path, whole(b"x%02d" % n, 0, sizes(rng)))
        elif kind == 1:
            os.mkdir(path)
            write(path + b"/inside", whole(b"inside%02d" % n, 0, sizes(rng)))
        elif kind == 2:
            os.symlink(b"nowhere-%02d" % n, path)
        else:
            os.mkfifo(path)
    for n in range(FILES_MOVED):
        write(b"moved/a/x%02d" % n, whole(b"x%02d" % n, 0, sizes(rng)))
    for n in range(DIRECTORIES_MOVED):
        path = b"moved/z/d%02d" % n
        os.mkdir(path)
        write(path + b"/inside", whole(b"inside%02d" % n, 0, sizes(rng)))
    for n in range(CUT):
        write(b"loose/t%02d" % n, whole(b"t%02d" % n, 0, sizes(rng)))
    for n in range(GROWN):
        write(b"loose/g%02d" % n, b"")


def replaced(rng):
    """Written beside it and renamed over it; at times with the size and the modification time of the one before."""
    generation = 0
    while True:
        generation += 1
        path = replaced_name(rng.randrange(REPLACED))
        name = os.path.basename(path)
        temporary = os.path.dirname(path) + b"/.t"
        before = os.stat(path) if rng.random() < 0.3 else None
        data = whole(name, generation, before.st_size if before else sizes(rng))
        write(temporary, data)
        if before and len(data) == before.st_size:
            os.utime(temporary, ns=(before.st_mtime_ns, before.st_mtime_ns))
        os.rename(temporary, path)
        yield


def linked(rng):
    """Names that become another file by a link and a rename, while those files are renamed over too."""
    generation = 0
    while True:
        generation += 1
        pool = rng.randrange(POOL)
        path = b"linked/pool/p%02d" % pool
        if rng.random() < 0.3:
            write(b"linked/pool/.t", whole(b"p%02d" % pool, generation, sizes(rng)))
            os.rename(b"linked/pool/.t", path)
        else:
            os.link(path, b"linked/.t")
            os.rename(b"linked/.t", b"linked/l%02d" % rng.randrange(LINKED))
            # A rename of one link over another of the same file does nothing.
            try:
                os.unlink(b"linked/.t")
            except FileNotFoundError:
                pass
        yield


def exchanged(rng):
    """Files, directories, symbolic links and pipes change places. Every name is there at every moment."""
    names = [(b"exchanged/e%02d" if n % 2 else b"exchanged/spare/e%02d") % n for n in range(EXCHANGED)]
    while True:
        exchange(*rng.sample(names, 2))
        yield


def moved(rng):
    """Files and whole directories go from one directory to another. Each is in one of them at every moment."""
    at = {b"x%02d" % n: PLACES[0] for n in range(FILES_MOVED)}
    at |= {b"d%02d" % n: PLACES[2] for n in range(DIRECTORIES_MOVED)}
    names = sorted(at)
    while True:
        name = rng.choice(names)
        to = rng.choice(PLACES)
        os.rename(at[name] + b"/" + name, to + b"/" + name)
        at[name] = to
        yield


def loose(rng):
    """What has no promise but that nothing is made up: made and removed, cut and written in place, grown."""
    generation = 0
    while True:
        generation += 1
        which = rng.random()
        if which < 0.4:
            name = b"u%02d" % rng.randrange(LOOSE)
            path = b"loose/" + name
            try:
                os.unlink(path)
            except FileNotFoundError:
                write(path, whole(name, generation, sizes(rng)))
        elif which < 0.7:
            name = b"t%02d" % rng.randrange(CUT)
            data = whole(name, generation, sizes(rng))
            with open(b"loose/" + name, "r+b", buffering=0) as file:
                file.truncate(0 if rng.random() < 0.5 else min(len(data), file.seek(0, 2)))
                file.seek(0)
                for begin in range(0, len(data), 50_000):
                    file.write(data[begin:begin + 50_000])
                file.truncate(len(data))
        else:
            name = b"g%02d" % rng.randrange(GROWN)
            path = b"loose/" + name
            if os.stat(path).st_size > 2_000_000:
                os.truncate(path, 0)
            with open(path, "ab", buffering=0) as file:
                file.write(b"%s grows\n" % name * rng.randrange(1, 50))
        yield


def main(part, root, seed="0"):
    LIBC.prctl(1, 9)  # PR_SET_PDEATHSIG: whoever started it may be killed.
    os.chdir(root)
    rng = random.Random(f"{part} {seed}")
    if part == "make":
        make(rng)
        return
    for number, _ in enumerate({"replaced": replaced, "linked": linked, "exchanged": exchanged, "moved": moved,
                                "loose": loose}[part](rng)):
        # Bursts and pauses, so that whoever reads gets a turn on one processor too.
        if number % rng.randrange(5, 60) == 0:
            time.sleep(rng.random() * 0.004)


if __name__ == "__main__":
    main(*sys.argv[1:])
