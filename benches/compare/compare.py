#!/usr/bin/env python3
"""The same work with packstone and with whichever of restic, rustic and borg are installed, in turn.

Steps: first backup; unchanged backup; one file in a hundred edited; a newer version of the tree (with --tree-2); restore
of the newest snapshot; check; check with all data. In every round each tool has a new repository and an empty cache of
its own, and every step is done by all tools, one after another, before the next step begins; who goes first changes
from round to round. Printed are medians: wall seconds, CPU seconds (user + system, with children), peak memory of the
largest process, bytes added to the repository, and how many times packstone's wall and CPU seconds each tool takes.

Programs: $PACKSTONE, $RESTIC, $RUSTIC, $BORG, or the name on PATH (packstone: also target/release of this source tree);
a variable that is set and empty leaves its program out.
Nothing is fetched. --tree and --tree-2 are only read: the work is done on a copy. Restores go to /dev/shm when they fit.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
PASSPHRASE = "a passphrase for measurements only"
FIRST, UNCHANGED, EDITED, NEWER, RESTORE, CHECK, CHECK_DATA = (
    "first backup", "unchanged backup", "1 % edited", "newer version", "restore", "check", "check, all data")


class Tool:
    """One program with its repository, cache and home in a folder of its own."""

    name = ""

    def __init__(self, program, work, password_file):
        self.program, self.work, self.password_file = program, work, password_file
        self.backups = 0

    def begin(self, number):
        """A new repository and an empty cache for round `number`."""
        self.home = self.work / f"{self.name}-{number}"
        self.home.mkdir()
        self.repository = self.home / "repository"
        self.backups = 0

    def environment(self):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PACKSTONE", "RESTIC_", "RUSTIC_", "BORG_"))}
        return kept | {
            "HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / "cache"),
            "XDG_CONFIG_HOME": str(self.home / "config"), "XDG_STATE_HOME": str(self.home / "state"),
        } | {key: str(value) for key, value in self.settings().items()}

    def version(self):
        out = subprocess.run([self.program, *self.version_command], capture_output=True, text=True, check=False)
        return (out.stdout.strip() or "version unknown").splitlines()[0]

    version_command = ["version"]

    def settings(self):
        raise NotImplementedError

    def command(self, step, source, target):
        """Arguments of a step."""
        if step in (FIRST, UNCHANGED, EDITED, NEWER):
            return ["backup", str(source)]
        if step == RESTORE:
            return ["restore", "latest", "--target", str(target)]
        return ["check", "--read-data"] if step == CHECK_DATA else ["check"]

    def init(self):
        return ["init"]

    def stored(self):
        return sum(path.lstat().st_size for path in self.repository.rglob("*") if path.is_file())


class Packstone(Tool):
    name = "packstone"

    def settings(self):
        return {"PACKSTONE_REPOSITORY": self.repository, "PACKSTONE_PASSWORD_FILE": self.password_file}

    def init(self):
        return ["-r", str(self.repository), "init", "--password-file", str(self.password_file)]


class Restic(Tool):
    name = "restic"

    def settings(self):
        return {"RESTIC_REPOSITORY": self.repository, "RESTIC_PASSWORD_FILE": self.password_file}


class Rustic(Tool):
    name = "rustic"
    version_command = ["--version"]

    def settings(self):
        return {"RUSTIC_REPOSITORY": self.repository, "RUSTIC_PASSWORD_FILE": self.password_file,
                "RUSTIC_NO_PROGRESS": "true"}

    def command(self, step, source, target):
        return ["restore", "latest", str(target)] if step == RESTORE else super().command(step, source, target)


class Borg(Tool):
    name = "borg"
    version_command = ["--version"]

    def settings(self):
        return {"BORG_REPO": self.repository, "BORG_BASE_DIR": self.home, "BORG_PASSCOMMAND": f"cat {self.password_file}"}

    def init(self):
        return ["init", "--encryption", "repokey-blake2"]

    def command(self, step, source, target):
        if step == RESTORE:
            return ["extract", f"::backup-{self.backups}"]
        if step in (CHECK, CHECK_DATA):
            return ["check", "--verify-data"] if step == CHECK_DATA else ["check"]
        self.backups += 1
        return ["create", "--compression", "zstd,3", f"::backup-{self.backups}", str(source)]


class Failed(Exception):
    """A tool's command failed."""


# Runs in an interpreter of its own: a child's peak memory begins with that of the process it was started from, and this
# one holds lists of files.
WATCH = """
import os, sys, time
began = time.monotonic()
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
wall = time.monotonic() - began
with open(sys.argv[1], "w") as out:
    print(os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, file=out)
"""


def warm(tree):
    """Reads every file: some programs drop what they read from the page cache, and the next one must not pay for that."""
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    while file.read(1 << 20):
                        pass


def run(tool, arguments, cwd):
    """Runs one command; returns wall seconds, CPU seconds and peak bytes."""
    figures = tool.work / "figures"
    os.sync()
    done = subprocess.run([sys.executable, "-I", "-S", "-c", WATCH, str(figures), tool.program, *arguments], cwd=cwd,
                          env=tool.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    text = done.stdout.decode(errors="backslashreplace").strip()
    if done.returncode != 0:
        raise Failed(f"{tool.name}: could not be run\n{text[-2000:]}")
    code, wall, cpu, peak = figures.read_text().split()
    if code != "0":
        raise Failed(f"{tool.name} {' '.join(arguments)}: exit code {code}\n{text[-2000:]}")
    return float(wall), float(cpu), int(peak)


def remove(path):
    """Removes a tree that may hold folders its owner cannot write."""
    if not path.exists():
        return
    for folder, _, _ in os.walk(path):
        os.chmod(folder, stat.S_IRWXU)
    shutil.rmtree(path)


def copy(tree, to):
    remove(to)
    subprocess.run(["cp", "-a", "--reflink=never", str(tree), str(to)], check=True)


def edit(tree):
    """Changes the same one regular file in a hundred whenever it is given the same tree; returns how many."""
    chosen = []
    for path in (path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()):
        name = os.fsencode(path.relative_to(tree))
        chosen.append((hashlib.sha256(name).digest(), path))
    chosen = [path for _, path in sorted(chosen)[: -(-len(chosen) // 100)]]
    for path in chosen:
        os.chmod(path, path.stat().st_mode | stat.S_IWUSR)
        with open(path, "r+b") as file:
            content = file.read()
            middle = len(content) // 2
            file.seek(middle)
            file.write(b"\n/* edited */\n" + content[middle:])
    return len(chosen)


def same(source, target):
    """True when `source` was restored somewhere beneath `target`, by content."""
    for place in (target / source.relative_to("/"), target / source.name, target):
        if place.is_dir() and place.name == source.name or place == target:
            found = subprocess.run(["diff", "-rq", "--no-dereference", str(source), str(place)], capture_output=True,
                                   check=False)
            return found.returncode == 0
    return False


def bytes_of(tree):
    return sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink())


def find_tools(work, password_file):
    tools = []
    here = pathlib.Path(__file__).resolve().parents[2] / "target" / "release" / "packstone"
    for kind in (Packstone, Restic, Rustic, Borg):
        program = os.environ.get(kind.name.upper(), shutil.which(kind.name))
        if program is None and kind is Packstone and here.is_file():
            program = str(here)
        if program == "":
            print(f"{kind.name}: left out")
        elif program is None:
            print(f"{kind.name}: not installed (set {kind.name.upper()}=/path/to/it), left out")
        elif (found := shutil.which(program)) is None:
            sys.exit(f"${kind.name.upper()} is {program}, which is not a program")
        else:
            tools.append(kind(os.path.abspath(found), work, password_file))
    return tools


def median(values):
    return statistics.median(values) if values else None


def show(steps, tools, results):
    print(f"\n{'':18}{'':11}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}{'stored MB':>11}{'wall x':>8}{'CPU x':>8}")
    for step in steps:
        base = None
        for tool in tools:
            rounds = results.get((step, tool.name), [])
            label = f"{step if tool is tools[0] else '':18}{tool.name:11}"
            if not rounds:
                print(f"{label}{'failed':>9}")
                continue
            wall, cpu, peak, stored = (median([r[n] for r in rounds]) for n in range(4))
            if tool.name == "packstone":
                base = (wall, cpu)
            ratios = f"{wall / base[0]:>8.2f}{cpu / base[1]:>8.2f}" if base and all(base) else f"{'-':>8}{'-':>8}"
            added = f"{stored / 1e6:>11.2f}" if step in (FIRST, UNCHANGED, EDITED, NEWER) else f"{'':11}"
            print(f"{label}{wall:>9.2f}{cpu:>9.2f}{peak / MIB:>10.0f}{added}{ratios}")
    print("\nstored: bytes added to the repository by this step. x: times packstone's.")


def measure(options, work):
    password_file = work / "password"
    password_file.write_text(PASSPHRASE + "\n")
    password_file.chmod(0o600)
    tools = find_tools(work, password_file)
    if not tools:
        sys.exit("none of packstone, restic, rustic and borg is installed")
    for tool in tools:
        tool.begin("version")
        print(f"{tool.name}: {tool.version()}")
        remove(tool.home)
    source = work / "source"
    size = bytes_of(options.tree)
    memory = pathlib.Path("/dev/shm")
    fits = memory.is_dir() and shutil.disk_usage(memory).free > 2 * max(size, bytes_of(options.tree_2 or options.tree))
    restores = pathlib.Path(tempfile.mkdtemp(prefix="compare-", dir=memory if fits else work))
    print(f"{options.tree}: {size / 1e6:.1f} MB in files; {options.runs} rounds; restores to {restores}")

    steps = [FIRST, UNCHANGED, EDITED] + ([NEWER] if options.tree_2 else []) + [RESTORE, CHECK, CHECK_DATA]
    results, broken = {}, {}
    try:
        for number in range(options.runs):
            order = tools[number % len(tools):] + tools[:number % len(tools)]
            copy(options.tree, source)
            for tool in order:
                tool.begin(number)
                attempt(broken, tool, lambda tool=tool: run(tool, tool.init(), work))
            for step in steps:
                if step == EDITED:
                    edited = edit(source)
                    if number == 0:
                        print(f"{edited} files are edited")
                if step == NEWER:
                    copy(options.tree_2, source)
                for tool in order:
                    if tool.name in broken:
                        continue
                    target = restores / tool.name
                    target.mkdir(exist_ok=True)
                    warm(tool.home if step in (RESTORE, CHECK, CHECK_DATA) else source)
                    before = tool.stored()
                    took = attempt(broken, tool, lambda tool=tool, target=target: run(
                        tool, tool.command(step, source, target), target if step == RESTORE else work))
                    if took is not None:
                        results.setdefault((step, tool.name), []).append((*took, tool.stored() - before))
                        print(f"  round {number + 1}, {step}, {tool.name}: {took[0]:.2f} s", flush=True)
                    if step == RESTORE:
                        if took is not None and number == 0 and not same(source, target):
                            broken[tool.name] = f"{tool.name}: what was restored differs from {source}"
                        remove(target)
            for tool in order:
                remove(tool.home)
    finally:
        remove(restores)
    show(steps, tools, results)
    for message in broken.values():
        print(f"\n{message}", file=sys.stderr)
    return 1 if broken else 0


def attempt(broken, tool, call):
    """The result of `call`; a failure is kept, and the tool does no more."""
    try:
        return call()
    except Failed as failure:
        broken[tool.name] = str(failure)
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=pathlib.Path, required=True, metavar="DIR", help="what to back up")
    parser.add_argument("--tree-2", type=pathlib.Path, metavar="DIR", help="a newer version of it")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds to take the median of (3)")
    parser.add_argument("--work", type=pathlib.Path, metavar="DIR", help="where to work (the temporary folder)")
    options = parser.parse_args()
    for tree in (options.tree, options.tree_2):
        if tree is not None and not tree.is_dir():
            parser.error(f"{tree} is not a directory")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="compare-", dir=options.work)).resolve()
    try:
        return measure(options, work)
    finally:
        remove(work)


if __name__ == "__main__":
    sys.exit(main())
