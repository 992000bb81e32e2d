#!/usr/bin/env bash
# The main job on a large tree, such as the source of Linux: first backup, unchanged backup, backup with one file in a hundred
# edited, restore, and a comparison by rsync that must print nothing.
#
#     tests/linux-tree.sh DIRECTORY
#
# DIRECTORY is only read: the work is done on a copy, in TMPDIR. Nothing is fetched. Needs rsync and python3; PACKSTONE or
# target/release/packstone is the program. Prints wall and CPU seconds, peak memory and stored bytes of each step.
set -euo pipefail
if [ $# -ne 1 ] || [ ! -d "$1" ]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
packstone=$(realpath "${PACKSTONE:-$here/../target/release/packstone}")
tree=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/linux-tree.XXXXXX")
clean() {
    chmod -R u+rwX "$work"
    rm -rf "$work"
}
trap clean EXIT
export HOME=$work/home XDG_DATA_HOME=$work/home/data XDG_CACHE_HOME=$work/home/cache XDG_STATE_HOME=$work/home/state
export PACKSTONE_REPOSITORY=$work/repository PACKSTONE_KEY_FILE=$work/key
mkdir "$HOME"
cd "$work"
cp -a "$tree" "$work/tree"
printf '%d entries, %d bytes in files\n' "$(find tree | tr -dc '\n' | wc -c)" \
    "$(find tree -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }')"
env -u PACKSTONE_KEY_FILE "$packstone" init --new-key-file "$work/key" >/dev/null

# Runs one step with its figures. The interpreter is small, because a child's peak memory begins with its parent's.
measure() {
    local name=$1
    shift
    python3 -I -S -c '
import os, sys, time

def stored(folder):
    total, folders = 0, [folder]
    while folders:
        for entry in os.scandir(folders.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                total += entry.stat(follow_symlinks=False).st_size
    return total

name, repository, program = sys.argv[1:4]
before, began = stored(repository), time.monotonic()
child = os.posix_spawn(program, sys.argv[3:], os.environ)
_, status, usage = os.wait4(child, 0)
wall = time.monotonic() - began
print(f"{name:18} {wall:8.2f} s wall {usage.ru_utime + usage.ru_stime:8.2f} s CPU {usage.ru_maxrss / 1024:6.0f} MiB peak"
      f" {stored(repository) - before:12,} bytes stored", flush=True)
sys.exit(os.waitstatus_to_exitcode(status))
' "$name" "$work/repository" "$@"
}

compare() {
    rsync -aHAXn --delete --checksum --itemize-changes "$work/tree/" "$work/restored/tree/" | tee "$work/differences"
    [ ! -s "$work/differences" ]
    echo "rsync: restored and source are the same"
}

measure "first backup" "$packstone" -q backup tree
measure "unchanged backup" "$packstone" -q backup tree
python3 - "$work/tree" <<'PYTHON'
import hashlib, os, pathlib, stat, sys
files = [path for path in pathlib.Path(os.fsencode(sys.argv[1]).decode(errors="surrogateescape")).rglob("*")
         if path.is_file() and not path.is_symlink()]
files.sort(key=lambda path: hashlib.sha256(os.fsencode(path)[len(sys.argv[1]):]).digest())
chosen = files[: -(-len(files) // 100)]
for path in chosen:
    os.chmod(path, path.stat().st_mode | stat.S_IWUSR)
    content = path.read_bytes()
    with open(path, "r+b") as file:
        file.write(content[: len(content) // 2] + b"\n/* edited */\n" + content[len(content) // 2 :])
print(f"{len(chosen)} files are edited")
PYTHON
measure "1 % edited" "$packstone" -q backup tree
measure "restore" "$packstone" -q restore latest --target "$work/restored"
compare
measure "restore in place" "$packstone" -q restore latest --target "$work/restored" --delete
compare
measure "check" "$packstone" -q check
measure "check, all data" "$packstone" -q check --read-data
