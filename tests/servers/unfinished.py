#!/usr/bin/env python3
"""A sync is killed (SIGKILL) while it sends a large object in parts to a real S3 server; the next one removes what was left, and not what is another
machine's.

    python3 tests/servers/unfinished.py --packstone target/release/packstone --tools DIRECTORY/bin [seaweedfs|rclone ...]

DIRECTORY is a virtual environment made with tests/servers/requirements.txt. What is left is listed by rclone, which signs for itself.
"""

import argparse
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

SECRETS = {"AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "SKTEST"}


def fail(why):
    sys.exit(f"FAILED: {why}")


def ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


def start(words, log, **more):
    environment = {**os.environ, **more}
    return subprocess.Popen([str(one) for one in words], stdout=log, stderr=log, env=environment)


def seaweedfs(work, tools, log):
    at = ports(10)
    names = ["s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"]
    flags = [f"-{name}={port}" for name, port in zip(names, at)]
    (work / "weed").mkdir()
    words = [tools / "weed", "mini", f"-dir={work / 'weed'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-bucket=test", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0", *flags]
    return start(words, log, TMPDIR=str(work), GOMEMLIMIT="300MiB", **SECRETS), at[0]


def rclone(work, tools, log):
    (port,) = ports(1)
    (work / "s3" / "test").mkdir(parents=True)
    words = [tools / "rclone", "--config", "/dev/null", "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", "AKTEST,SKTEST", work / "s3"]
    return start(words, log), port


def one(name, packstone, tools, work):
    log = open(work / "server.log", "wb")
    server, port = {"seaweedfs": seaweedfs, "rclone": rclone}[name](work, tools, log)
    remote = f":s3,provider=Other,endpoint='http://127.0.0.1:{port}',access_key_id=AKTEST,secret_access_key=SKTEST:test"
    quiet = [str(tools / "rclone"), "--config", "/dev/null", "--retries", "1", "--low-level-retries", "1"]

    def uploads():
        listed = subprocess.run([*quiet, "backend", "list-multipart-uploads", remote], capture_output=True, text=True)
        if listed.returncode:
            return None
        found = json.loads(listed.stdout)
        return [upload for all in found.values() for upload in all or []]

    try:
        for _ in range(120):
            ready = subprocess.run([*quiet, "rcat", f"{remote}/ready"], input=b"ready", capture_output=True)
            if ready.returncode == 0:
                break
            time.sleep(0.5)
        else:
            fail(f"{name} does not answer")
        environment = {"PATH": os.environ["PATH"], "HOME": str(work), "PACKSTONE_REPOSITORY": str(work / "repository"), "PACKSTONE_KEY_FILE": str(work / "key"), "PACKSTONE_MIRROR_SECRET_ACCESS_KEY": "SKTEST"}

        def run(*words):
            done = subprocess.run([packstone, *map(str, words)], env=environment, capture_output=True, text=True)
            if done.returncode:
                fail(f"{name}: {words}: {done.stdout}{done.stderr}")
            return done.stdout + done.stderr

        (work / "tree").mkdir()
        (work / "tree" / "large").write_bytes(os.urandom(24 << 20))
        run("init", "--new-key-file", work / "key")
        run("backup", work / "tree")
        endpoint = quote(f"http://127.0.0.1:{port}", safe="")
        run("mirror", "add", "cloud", f"s3://test/a/mirror?endpoint={endpoint}&region=us-east-1&access_key_id=AKTEST&disable_config_load=true&disable_ec2_metadata=true")
        def kill_in_the_middle():
            child = subprocess.Popen([packstone, "sync", "cloud", "--limit-upload", "4096"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # The first part has 8 MiB.
            time.sleep(4.5)
            if child.poll() is not None:
                fail(f"{name}: the sync ended before it was killed")
            child.send_signal(signal.SIGKILL)
            child.wait()

        kill_in_the_middle()
        left = uploads()
        said = run("sync", "cloud")
        after = uploads()
        shown = [line for line in said.splitlines() if "incomplete" in line]
        print(f"{name}: left by the kill: {left if left is None else len(left)}; after the next sync: {after if after is None else len(after)}; it said: {shown}")
        if after is not None and (not left or after):
            fail(f"{name}: {left} and then {after}")
        if "Removed 1 incomplete object" not in said:
            fail(f"{name}: {said}")
        idle = run("sync", "cloud")
        if "incomplete" in idle:
            fail(f"{name}: {idle}")
        # Of a machine that this one knows nothing of: it is young, and stays.
        (work / "tree" / "another").write_bytes(os.urandom(24 << 20))
        run("backup", work / "tree")
        kill_in_the_middle()
        for book in work.glob("**/mirrors/*.sqlite"):
            with sqlite3.connect(book) as database:
                if database.execute("DELETE FROM upload").rowcount != 1:
                    fail(f"{name}: the upload was not noted")
            database.close()
        left, said = uploads(), run("sync", "cloud")
        after = uploads()
        shown = [line for line in said.splitlines() if "incomplete" in line]
        print(f"{name}: another machine's: {left if left is None else len(left)}, after a sync {after if after is None else len(after)}; it said: {shown}")
        if "1 incomplete object left on the mirror: a later sync" not in said or left != after:
            fail(f"{name}: {said}")
    finally:
        server.kill()
        server.wait()
        log.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--packstone", required=True, type=Path)
    parser.add_argument("--tools", required=True, type=Path)
    parser.add_argument("servers", nargs="*")
    given = parser.parse_args()
    for name in given.servers or ["seaweedfs", "rclone"]:
        with tempfile.TemporaryDirectory(prefix="packstone-unfinished.") as work:
            one(name, given.packstone.resolve(), given.tools, Path(work))


main()
