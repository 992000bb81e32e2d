#!/usr/bin/env python3
"""Fifty daily snapshots of a tree that changes, then forgetting and pruning, with packstone and with whichever of restic,
rustic and borg are installed.

The tree is a copy of --tree. Each day some hundreds of files are edited in the middle, some take the content that they
have in --tree-2, some are deleted, some new ones come, and one file of 4 MiB that does not shrink is made anew: the same
changes whenever the same trees and --seed are given. Every program backs up every state, one after the other, with times a
day apart. Then each keeps 7 daily and 4 weekly snapshots and gives the room back at once; that is measured --runs times,
each time on a copy of the same repository, the programs in turn. Printed are medians: wall seconds, CPU seconds, peak
memory, bytes that came back, bytes that stay. In the end each program checks its repository.

packstone is measured with a passphrase and with a key file: deriving a key from a passphrase takes 64 MiB, and that is then the
peak, whatever a prune takes.

Programs and figures are as in compare.py. --work should be a folder in memory (/dev/shm) with room for three times the tree.
"""

import argparse
import copy
import datetime
import os
import pathlib
import random
import signal
import statistics
import sys
import tempfile

import compare
from compare import MIB

DAYS = 50
FIRST_DAY = datetime.datetime(2025, 6, 1, 12)


class Packstone(compare.Packstone):
    key_file = None

    def settings(self):
        if self.key_file is None:
            return super().settings()
        return {"PACKSTONE_REPOSITORY": self.repository, "PACKSTONE_KEY_FILE": self.key_file}

    def with_key_file(self, key_file):
        """The same repository, opened with a key file; it must have that key."""
        other = copy.copy(self)
        other.name, other.key_file = f"{self.name}, key file", key_file
        return other

    def save(self, source, day):
        return ["backup", "--time", f"{day:%Y-%m-%d %H:%M:%S}", str(source)]

    forget = [["forget", "--keep-daily", "7", "--keep-weekly", "4", "--prune", "--instant"]]


class Restic(compare.Restic):
    def save(self, source, day):
        return ["backup", "--time", f"{day:%Y-%m-%d %H:%M:%S}", str(source)]

    forget = [["forget", "--keep-daily", "7", "--keep-weekly", "4", "--prune"]]


class Rustic(compare.Rustic):
    def save(self, source, day):
        return ["backup", "--time", f"{day:%Y-%m-%d %H:%M:%S}", str(source)]

    forget = [["forget", "--keep-daily", "7", "--keep-weekly", "4", "--prune", "--instant-delete", "--keep-delete", "0s"]]


class Borg(compare.Borg):
    def save(self, source, day):
        self.backups += 1
        stamp = f"{day:%Y-%m-%dT%H:%M:%S}"
        return ["create", "--compression", "zstd,3", "--timestamp", stamp, f"::backup-{self.backups}", str(source)]

    forget = [["prune", "--keep-daily", "7", "--keep-weekly", "4"], ["compact"]]


def files_of(tree):
    found = []
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                found.append(os.path.relpath(path, tree))
    return sorted(found)


class Evolution:
    """The tree, from day to day."""

    def __init__(self, tree, tree_2, at, seed):
        compare.copy(tree, at)
        self.at, self.tree_2, self.random = at, tree_2, random.Random(seed)
        self.files = files_of(at)
        self.newer = [name for name in self.files if self.differs(name)] if tree_2 else []
        self.random.shuffle(self.newer)
        self.slice = -(-len(self.newer) // (DAYS - 1))

    def differs(self, name):
        other = self.tree_2 / name
        return other.is_file() and other.read_bytes() != (self.at / name).read_bytes()

    def write(self, name, content):
        path = self.at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A new file under the name: neither permissions nor links of the old one matter.
        path.unlink(missing_ok=True)
        path.write_bytes(content)

    def edited(self, name, day):
        content = (self.at / name).read_bytes()
        middle = len(content) // 2
        return content[:middle] + b"\n/* day %d */\n" % day + content[middle:]

    def next(self, day):
        """The changes of one day; returns how many files were edited, deleted and added."""
        for name in self.newer[:self.slice]:
            if (self.at / name).is_file():
                self.write(name, (self.tree_2 / name).read_bytes())
        replaced, self.newer = self.newer[:self.slice], self.newer[self.slice:]
        count = self.random.randint(300, 1000)
        for name in self.random.sample(self.files, count):
            self.write(name, self.edited(name, day))
        gone = set(self.random.sample(self.files, self.random.randint(50, 150)))
        new = []
        for number, name in enumerate(self.random.sample(self.files, self.random.randint(50, 200))):
            new.append(f"{os.path.dirname(name)}/day-{day}-{number}.c".lstrip("/"))
            self.write(new[-1], self.edited(name, day) * 2)
        for name in gone:
            (self.at / name).unlink()
        self.files = sorted(set(self.files) - gone | set(new))
        self.write("built.image", self.random.randbytes(4 * MIB))
        return count + len(replaced), len(gone), len(new)


def find_tools(work, password_file):
    ours = {"packstone": Packstone, "restic": Restic, "rustic": Rustic, "borg": Borg}
    return [ours[tool.name](tool.program, work, password_file) for tool in compare.find_tools(work, password_file)]


def measure(options, work):
    password_file = work / "password"
    password_file.write_text(compare.PASSPHRASE + "\n")
    password_file.chmod(0o600)
    tools = find_tools(work, password_file)
    broken, results, backups = {}, {}, {}
    for tool in tools:
        tool.begin("begin")
        print(f"{tool.name}: {tool.version()}")
        compare.attempt(broken, tool, lambda tool=tool: compare.run(tool, tool.init(), work))
    source = work / "source"
    tree = Evolution(options.tree, options.tree_2, source, options.seed)
    changed = [0, 0, 0]
    for day in range(DAYS):
        if day > 0:
            changed = [sum(pair) for pair in zip(changed, tree.next(day))]
        for tool in tools:
            if tool.name not in broken:
                words = tool.save(source, FIRST_DAY + datetime.timedelta(days=day))
                took = compare.attempt(broken, tool, lambda: compare.run(tool, words, work))
                backups.setdefault(tool.name, []).append(took)
        print(f"  day {day + 1} of {DAYS}", flush=True)
    edited, gone, new = (number // (DAYS - 1) for number in changed)
    print(f"{options.tree}: {len(tree.files)} files in the end; a day: {edited} edited, {gone} deleted, {new} added")
    for tool in tools:
        if tool.name not in broken:
            later = backups[tool.name][1:]
            wall, cpu = (statistics.median(took[n] for took in later) for n in range(2))
            peak = max(took[2] for took in later)
            print(f"{tool.name}: {tool.stored() / 1e6:.1f} MB; a later backup: {wall:.2f} s, CPU {cpu:.2f} s, "
                  f"{peak / MIB:.0f} MiB")
    compare.remove(source)

    for tool in list(tools):
        if tool.name == "packstone" and tool.name not in broken:
            key_file = work / "key-file"
            compare.attempt(broken, tool, lambda: compare.run(tool, ["key", "add", "--new-key-file", str(key_file)], work))
            tools.insert(tools.index(tool) + 1, tool.with_key_file(key_file))
    homes = {tool.home: None for tool in tools}
    for home in homes:
        homes[home] = home.with_name(f"{home.name}-saved")
        os.rename(home, homes[home])
    for number in range(options.runs):
        for tool in tools[number % len(tools):] + tools[:number % len(tools)]:
            if tool.name in broken:
                continue
            compare.copy(homes[tool.home], tool.home)
            before = tool.stored()
            steps = [compare.attempt(broken, tool, lambda words=words: compare.run(tool, words, work))
                     for words in tool.forget]
            if None in steps:
                continue
            after = tool.stored()
            took = (sum(step[0] for step in steps), sum(step[1] for step in steps), max(step[2] for step in steps))
            results.setdefault(tool.name, []).append((*took, before - after, after))
            print(f"  round {number + 1}, {tool.name}: {took[0]:.2f} s", flush=True)
            if number + 1 == options.runs:
                compare.attempt(broken, tool, lambda: compare.run(tool, tool.command(compare.CHECK, None, None), work))
            compare.remove(tool.home)
    show(tools, results)
    for message in broken.values():
        print(f"\n{message}", file=sys.stderr)
    return 1 if broken else 0


def show(tools, results):
    print(f"\n{'forget and prune':20}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}{'freed MB':>10}{'stays MB':>10}"
          f"{'wall x':>8}{'CPU x':>8}")
    base = None
    for tool in tools:
        if not results.get(tool.name):
            print(f"{tool.name:20}{'failed':>9}")
            continue
        wall, cpu, peak, freed, stays = (statistics.median(row[n] for row in results[tool.name]) for n in range(5))
        base = base or (wall, cpu)
        print(f"{tool.name:20}{wall:>9.2f}{cpu:>9.2f}{peak / MIB:>10.0f}{freed / 1e6:>10.1f}{stays / 1e6:>10.1f}"
              f"{wall / base[0]:>8.2f}{cpu / base[1]:>8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=pathlib.Path, required=True, metavar="DIR", help="what changes")
    parser.add_argument("--tree-2", type=pathlib.Path, metavar="DIR", help="a newer version of it")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="other changes (1)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds to take the median of (3)")
    parser.add_argument("--work", type=pathlib.Path, metavar="DIR", help="where to work (the temporary folder)")
    options = parser.parse_args()
    for tree in (options.tree, options.tree_2):
        if tree is not None and not tree.is_dir():
            parser.error(f"{tree} is not a directory")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="evolve-", dir=options.work)).resolve()
    try:
        return measure(options, work)
    finally:
        compare.remove(work)


if __name__ == "__main__":
    sys.exit(main())
