#!/usr/bin/env python3
"""Mirrors in buckets with object lock, on a real server (SeaweedFS, which has it since 3.9x): what is said of a deletion is true, --max-delete counts,
and the probes of `mirror add` do not pile up under the lock.

    python3 tests/servers/object_lock.py --packstone target/release/packstone --tools DIRECTORY/bin

DIRECTORY is a virtual environment made with tests/servers/requirements.txt.
"""

import argparse
import base64
import datetime
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KEY, SECRET = "AKTEST", "SKTEST"


def fail(why):
    sys.exit(f"FAILED: {why}")


def call(port, method, path, query="", body=b"", **more):
    """A signed request: Signature Version 4."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": f"127.0.0.1:{port}", "x-amz-date": now, "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), **{name.replace("_", "-"): value for name, value in more.items()}}
    if body:
        headers["content-md5"] = base64.b64encode(hashlib.md5(body).digest()).decode()
    names = ";".join(sorted(headers))
    asked = "\n".join([method, path, query, "".join(f"{name}:{headers[name]}\n" for name in sorted(headers)), names, headers["x-amz-content-sha256"]])
    scope = [now[:8], "us-east-1", "s3", "aws4_request"]
    key = ("AWS4" + SECRET).encode()
    for part in scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = "\n".join(["AWS4-HMAC-SHA256", now, "/".join(scope), hashlib.sha256(asked.encode()).hexdigest()])
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={KEY}/{'/'.join(scope)}, SignedHeaders={names}, Signature={signature}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path + ("?" + query if query else ""), body, {name: value for name, value in headers.items() if name != "host"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def versions(port, bucket):
    """How many versions of objects there are, and how many markers that hide one."""
    _, text = call(port, "GET", f"/{bucket}", "prefix=m%2F&versions=")
    return len(re.findall("<Version>", text)), len(re.findall("<DeleteMarker>", text))


def start(work, tools):
    sockets = [socket.socket() for _ in range(10)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    names = ["s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"]
    at = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    (work / "weed").mkdir()
    flags = [f"-{name}={port}" for name, port in zip(names, at)]
    words = [tools / "weed", "mini", f"-dir={work / 'weed'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-bucket=plain", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0", *flags]
    environment = {**os.environ, "TMPDIR": str(work), "GOMEMLIMIT": "300MiB", "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    with open(work / "weed.log", "wb") as log:
        server = subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, env=environment)
    for _ in range(120):
        try:
            if call(at[0], "GET", "/")[0] == 200:
                return server, at[0]
        except OSError:
            pass
        time.sleep(0.5)
    server.kill()
    fail("SeaweedFS does not answer")


def one(mode, port, packstone, work):
    bucket, home = mode.lower(), work / mode
    (home / "tree").mkdir(parents=True)
    rule = f'<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>{mode}</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>'
    made = call(port, "PUT", f"/{bucket}", x_amz_bucket_object_lock_enabled="true")[0], call(port, "PUT", f"/{bucket}", "object-lock=", rule.encode())[0]
    if made != (200, 200):
        fail(f"no bucket with object lock can be made: {made}")
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PACKSTONE_REPOSITORY": str(home / "repository"), "PACKSTONE_KEY_FILE": str(home / "key"), "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}

    def run(*words, code=0, says=()):
        done = subprocess.run([packstone, *map(str, words)], env=environment, capture_output=True, text=True)
        said = done.stdout + done.stderr
        if done.returncode != code or not all(one in said for one in says):
            fail(f"{mode}: {words}: exit code {done.returncode}, expected {code} and {says}:\n{said}")
        return said

    (home / "tree" / "file").write_bytes(os.urandom(1_000_000))
    run("init", "--new-key-file", home / "key")
    run("backup", home / "tree")
    address = f"s3://{bucket}/m?endpoint=http://127.0.0.1:{port}&region=us-east-1"
    who = "and nobody can change" if mode == "COMPLIANCE" else "nobody without a special right"
    for _ in range(3):
        run("mirror", "add", "locked", address, says=["object lock: each object stays 1 day from", who])
        if versions(port, bucket) != (1, 0):
            fail(f"{mode}: the probes leave {versions(port, bucket)} versions and markers")
        run("mirror", "remove", "locked")
    run("mirror", "add", "locked", address)
    run("sync", "locked")
    first = json.loads(run("snapshots", "--json").splitlines()[0])
    first = (first[0] if isinstance(first, list) else first)["id"]
    (home / "tree" / "file").write_bytes(os.urandom(1_000_000))
    run("backup", home / "tree")
    run("forget", first)
    run("prune", "--instant")
    run("sync", "locked", says=["will be deleted there, the first in 30 days"])
    before = versions(port, bucket)
    run("sync", "locked", "--grace", "0h", "--max-delete", "10", code=20, says=["nothing was deleted there"])
    if versions(port, bucket) != before:
        fail(f"{mode}: {before}, and then {versions(port, bucket)}")
    said = run("sync", "locked", "--grace", "0h", "--max-delete", "100", says=["deleted", "keeps them as earlier versions: their space is not free yet"])
    count, after = int(re.search("([0-9]+) objects? deleted", said)[1]), versions(port, bucket)
    if after != (before[0], before[1] + count):
        fail(f"{mode}: {count} objects deleted: {before}, and then {after}")
    run("sync", "locked", "--grace", "0h")
    run("check", "--mirror", "locked", "--read-data")
    run("status")
    print(f"{mode}: {count} objects deleted, {after[0]} versions stay behind {after[1]} markers; four probes left one object; the mirror is whole")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--packstone", required=True, type=Path)
    parser.add_argument("--tools", required=True, type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="packstone-lock.") as work:
        server, port = start(Path(work), given.tools)
        try:
            for mode in ("COMPLIANCE", "GOVERNANCE"):
                one(mode, port, given.packstone.resolve(), Path(work))
        finally:
            server.kill()
            server.wait()


main()
