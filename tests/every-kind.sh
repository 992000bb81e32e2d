#!/usr/bin/env bash
# A tree with every kind of file is backed up, restored, and compared by rsync and by tests/every-kind.py; as root (then also
# as an ordinary user) or as whoever runs it.
#
#     tests/every-kind.sh            a directory of 3,000 entries, a file of 1 GiB that is nearly all a hole
#     tests/every-kind.sh --full     300,000 entries, 10 GiB
#
# Needs rsync, python3, setfacl, setcap, setpriv; PACKSTONE or target/release/packstone is the program. Works in TMPDIR,
# whose file system must know extended attributes and holes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
packstone=$(realpath "${PACKSTONE:-$here/../target/release/packstone}")
entries=3000 sparse=$((1 << 30)) role=first
for word in "$@"; do
    case $word in
    --full) entries=300000 sparse=$((10 << 30)) ;;
    --second) role=second ;; # started by this script, as the ordinary user
    *)
        sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
done

work=$(mktemp -d "${TMPDIR:-/tmp}/every-kind.XXXXXX")
clean() {
    python3 "$work.py" remove "$work" || echo "left behind: $work" >&2
    rm -f "$work.py" "$work.bin"
}
trap clean EXIT
# An ordinary user may not be able to reach the program or this directory where they are.
cp "$here/every-kind.py" "$work.py"
cp "$packstone" "$work.bin"
export HOME=$work/home XDG_DATA_HOME=$work/home/data XDG_CACHE_HOME=$work/home/cache XDG_STATE_HOME=$work/home/state
export PACKSTONE_REPOSITORY=$work/repository PACKSTONE_KEY_FILE=$work/key
mkdir "$HOME"
cd "$work"

who="user $(id -u)"
python3 "$work.py" make "$work/tree" --entries "$entries" --sparse "$sparse"
# Reading changes access times only; a second reading makes sure that what follows compares what is at rest.
env -u PACKSTONE_KEY_FILE "$work.bin" init --new-key-file "$work/key" >/dev/null
"$work.bin" backup tree
"$work.bin" restore latest --target "$work/restored" --verify

same() { # rsync prints a line for everything that it would do; paths over 4,096 bytes are beyond it
    rsync -aHAXn --delete --checksum --itemize-changes --exclude='/deep*' "$work/tree/" "$work/$1/" | tee "$work/differences"
    [ ! -s "$work/differences" ]
    python3 "$work.py" compare "$work/tree" "$work/$1"
}
same restored/tree
echo "every kind: $who: restored, the same"

# A second backup of the unchanged tree reads nothing and stores next to nothing; in place, a second restore changes nothing.
"$work.bin" backup --json tree | python3 -c '
import json, sys
for line in sys.stdin:
    summary = json.loads(line)
assert summary["files_new"] == summary["files_changed"] == 0, summary
assert summary["data_added_packed"] < 100_000, summary
'
"$work.bin" restore latest --target "$work/restored" --delete --verify
same restored/tree
echo "every kind: $who: backed up again and restored in place, the same"
"$work.bin" check --read-data

if [ "$role" = first ] && [ "$(id -u)" -eq 0 ]; then
    cp "$here/every-kind.sh" "$here/every-kind.py" "$work/home/"
    cp "$packstone" "$work/home/packstone"
    mkdir "$work/ordinary"
    chown 65534:65534 "$work/ordinary"
    chmod 755 "$work" "$work/home"
    words=(--second)
    [ "$entries" -eq 3000 ] || words+=(--full)
    env -u PACKSTONE_REPOSITORY -u PACKSTONE_KEY_FILE TMPDIR="$work/ordinary" PACKSTONE="$work/home/packstone" \
        setpriv --reuid 65534 --regid 65534 --clear-groups bash "$work/home/every-kind.sh" "${words[@]}"
fi
