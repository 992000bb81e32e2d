#!/usr/bin/env bash
# A repository of 1 GiB to SeaweedFS, by packstone sync and by rclone copy, in turn; and one small file straight from the mirror.
#
#     PACKSTONE=target/release/packstone TOOLS=DIRECTORY/bin bash benches/compare/mirror.sh [ROUNDS]
#
# TOOLS holds weed and rclone: a virtual environment made with tests/servers/requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."

packstone=$(realpath "${PACKSTONE:-target/release/packstone}")
tools=$(realpath "${TOOLS:?a directory with weed and rclone}")
rounds=${1:-3} connections=4

work=$(mktemp -d "${TMPDIR:-/tmp}/packstone-mirror.XXXXXX")
weed=
finish() {
    [ -z "$weed" ] || kill -9 "$weed" 2>/dev/null || true
    wait 2>/dev/null || true
    chmod -R u+rwX "$work"
    rm -rf "$work"
}
trap finish EXIT

export HOME=$work/home PACKSTONE_REPOSITORY=$work/repository PACKSTONE_KEY_FILE=$work/key
mkdir -p "$work/tree" "$work/weed" "$HOME"
python3 - "$work/tree" <<'PYTHON'
import os, random, sys
rng = random.Random(1)
for n in range(1024):
    os.makedirs(f"{sys.argv[1]}/{n % 16}", exist_ok=True)
    with open(f"{sys.argv[1]}/{n % 16}/{n}", "wb") as file:
        file.write(rng.randbytes(1 << 20))
with open(f"{sys.argv[1]}/small", "wb") as file:
    file.write(rng.randbytes(10_000))
PYTHON
"$packstone" --quiet init --new-key-file "$work/key" >/dev/null
"$packstone" --quiet backup "$work/tree"

mapfile -t ports < <(python3 - <<'PYTHON'
import socket
held = [socket.socket() for _ in range(10)]
for s in held:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])
PYTHON
)
env AWS_ACCESS_KEY_ID=AKTEST AWS_SECRET_ACCESS_KEY=SKTEST GOMEMLIMIT=300MiB "$tools/weed" mini -dir="$work/weed" -ip=127.0.0.1 \
    -ip.bind=127.0.0.1 -master.telemetry=false -admin.ui=false -webdav=false -bucket=test -s3.autoCreateBucket=false \
    -s3.port="${ports[0]}" -s3.port.grpc="${ports[1]}" -s3.port.iceberg=0 -s3.port.lance=0 -master.port="${ports[2]}" \
    -master.port.grpc="${ports[3]}" -volume.port="${ports[4]}" -volume.port.grpc="${ports[5]}" -filer.port="${ports[6]}" \
    -filer.port.grpc="${ports[7]}" -admin.port="${ports[8]}" -admin.port.grpc="${ports[9]}" >"$work/weed.log" 2>&1 &
weed=$!
endpoint=http://127.0.0.1:${ports[0]}
remote=":s3,provider=SeaweedFS,endpoint='$endpoint',access_key_id=AKTEST,secret_access_key=SKTEST:test"
rclone=("$tools/rclone" --config /dev/null)
for _ in $(seq 60); do
    "${rclone[@]}" --retries 1 --low-level-retries 1 rcat "$remote/ready" <<<ready 2>/dev/null && break
    sleep 0.5
done

export PACKSTONE_MIRROR_SECRET_ACCESS_KEY=SKTEST
options="endpoint=http%3A%2F%2F127.0.0.1%3A${ports[0]}&region=us-east-1&access_key_id=AKTEST&disable_config_load=true&disable_ec2_metadata=true"
TIMEFORMAT='%R %U %S'
for ((round = 1; round <= rounds; round++)); do
    "$packstone" --quiet mirror add "m$round" "s3://test/packstone-$round?$options" >/dev/null
    { time "$packstone" --quiet sync --connections "$connections" "m$round" >/dev/null; } 2>"$work/time-packstone-$round"
    { time "${rclone[@]}" copy --transfers "$connections" "$work/repository" "$remote/rclone-$round"; } 2>"$work/time-rclone-$round"
    for who in packstone rclone; do
        printf '%-10s wall, user, system s: %s\n' "$who" "$(tail -n 1 "$work/time-$who-$round")"
        "${rclone[@]}" purge "$remote/$who-$round" || true
    done
    "$packstone" --quiet mirror remove "m$round" >/dev/null
done
python3 - "$work" "$rounds" <<'PYTHON'
import statistics, sys
def median(who):
    return statistics.median(float(open(f"{sys.argv[1]}/time-{who}-{n}").read().split()[-3]) for n in range(1, int(sys.argv[2]) + 1))
ours, theirs = median("packstone"), median("rclone")
print(f"1 GiB, {sys.argv[2]} rounds, medians: packstone {ours:.1f} s, rclone {theirs:.1f} s, ratio {ours / theirs:.2f}")
PYTHON

"$packstone" --quiet mirror add last "s3://test/last?$options" >/dev/null
"$packstone" --quiet sync last >/dev/null
"$packstone" drill last --sample 100 --path "$work/tree/small" --to "$work/drills" --json | python3 -c '
import json, sys
told = json.loads(sys.stdin.read())
print("10 kB out of 1 GiB: {:.2f} MiB in {} requests, the index included".format(told["fetched_bytes"] / 2**20, told["requests"]))'
