#!/usr/bin/env python3
"""A repository of 1 GiB to real servers, by `packstone sync` and by `rclone copy` in turn; and one small file straight from a mirror.

    python3 benches/compare/mirror.py --packstone target/release/packstone --tools DIRECTORY/bin [--rounds 3] [seaweedfs|rclone-s3|webdav|sftp ...]

DIRECTORY is a virtual environment made with tests/servers/requirements.txt; sftp needs sshd and root. Printed: medians of wall time and of CPU
seconds, the ratio of each pair, and the largest memory at 4 and at 32 connections.
"""

import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

MEGABYTES = 1024


def ports(count):
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    return [one.getsockname()[1] for one in held]


def wait_for(port):
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"nobody listens on port {port}")


class Server:
    """What is running, where packstone and where rclone find it."""

    def __init__(self, process, address, secrets, remote):
        self.process, self.address, self.secrets, self.remote = process, address, secrets, remote

    def end(self):
        self.process.kill()
        self.process.wait()


def s3_address(port):
    endpoint = quote(f"http://127.0.0.1:{port}", safe="")
    options = f"endpoint={endpoint}&region=us-east-1&access_key_id=AKTEST&disable_config_load=true&disable_ec2_metadata=true"
    return f"s3://test/{{name}}?{options}"


def s3_remote(port, provider):
    return f":s3,provider={provider},endpoint='http://127.0.0.1:{port}',access_key_id=AKTEST,secret_access_key=SKTEST:test/{{name}}"


def start(arguments, log, **more):
    return subprocess.Popen([str(one) for one in arguments], stdout=log, stderr=subprocess.STDOUT, **more)


def seaweedfs(work, tools, log):
    at = ports(10)
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "SKTEST", "GOMEMLIMIT": "300MiB"}
    (work / "weed").mkdir()
    flags = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-bucket=test"]
    flags += ["-s3.autoCreateBucket=false", f"-s3.port={at[0]}", f"-s3.port.grpc={at[1]}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    flags += [f"-master.port={at[2]}", f"-master.port.grpc={at[3]}", f"-volume.port={at[4]}", f"-volume.port.grpc={at[5]}"]
    flags += [f"-filer.port={at[6]}", f"-filer.port.grpc={at[7]}", f"-admin.port={at[8]}", f"-admin.port.grpc={at[9]}"]
    process = start([tools / "weed", "mini", f"-dir={work / 'weed'}", *flags], log, env=environment)
    remote = s3_remote(at[0], "SeaweedFS")
    # It listens before it can store.
    for _ in range(120):
        ready = [tools / "rclone", "--config", "/dev/null", "--retries", "1", "--low-level-retries", "1", "rcat", remote.format(name="ready")]
        if subprocess.run(ready, input=b"ready", stderr=subprocess.DEVNULL).returncode == 0:
            break
        time.sleep(0.5)
    return Server(process, s3_address(at[0]), {"PACKSTONE_MIRROR_SECRET_ACCESS_KEY": "SKTEST"}, remote)


def rclone_s3(work, tools, log):
    (at,) = ports(1)
    (work / "s3" / "test").mkdir(parents=True)
    process = start([tools / "rclone", "--config", "/dev/null", "serve", "s3", "--addr", f"127.0.0.1:{at}", "--auth-key", "AKTEST,SKTEST", work / "s3"], log)
    wait_for(at)
    return Server(process, s3_address(at), {"PACKSTONE_MIRROR_SECRET_ACCESS_KEY": "SKTEST"}, s3_remote(at, "Rclone"))


def webdav(work, tools, log):
    (at,) = ports(1)
    (work / "dav").mkdir()
    process = start([tools / "rclone", "--config", "/dev/null", "serve", "webdav", "--addr", f"127.0.0.1:{at}", "--user", "u", "--pass", "p", work / "dav"], log)
    wait_for(at)
    endpoint = quote(f"http://127.0.0.1:{at}", safe="")
    hidden = subprocess.run([tools / "rclone", "obscure", "p"], capture_output=True, check=True, text=True).stdout.strip()
    remote = f":webdav,url='http://127.0.0.1:{at}',vendor=rclone,user=u,pass={hidden}:{{name}}"
    return Server(process, f"webdav://127.0.0.1/{{name}}?endpoint={endpoint}&username=u", {"PACKSTONE_MIRROR_PASSWORD": "p"}, remote)


def sftp(work, tools, log):
    (at,) = ports(1)
    folder = work / "ssh"
    (folder / "srv").mkdir(parents=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ["host", "id"]:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    settings = f"""Port {at}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/id.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxSessions 100
MaxStartups 100
PidFile none
Subsystem sftp internal-sftp
"""
    (folder / "config").write_text(settings)
    process = start([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", folder / "config"], log)
    wait_for(at)
    remote = f":sftp,host=127.0.0.1,port={at},user=root,key_file={folder}/id:{folder}/srv/{{name}}"
    return Server(process, f"sftp://root@127.0.0.1:{at}{folder}/srv/{{name}}?key={folder}/id&known_hosts_strategy=Accept", {}, remote)


SERVERS = {"seaweedfs": seaweedfs, "rclone-s3": rclone_s3, "webdav": webdav, "sftp": sftp}


def measured(command, environment):
    """Wall and CPU seconds, and the largest memory of the program itself in MiB."""
    begun = time.monotonic()
    process = subprocess.Popen([str(one) for one in command], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command}: ended with {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--packstone", type=Path, default=Path("target/release/packstone"))
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("servers", nargs="*")
    given = parser.parse_args()
    packstone, tools = given.packstone.resolve(), given.tools.resolve()
    work = Path(tempfile.mkdtemp(prefix="packstone-mirror."))
    environment = {**os.environ, "HOME": str(work / "home"), "PACKSTONE_REPOSITORY": str(work / "repository"), "PACKSTONE_KEY_FILE": str(work / "key")}
    (work / "home").mkdir()
    rng = random.Random(1)
    for number in range(MEGABYTES):
        folder = work / "tree" / str(number % 16)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(rng.randbytes(1 << 20))
    (work / "tree" / "small").write_bytes(rng.randbytes(10_000))

    def run(*words):
        return subprocess.run([packstone, "--quiet", *words], env=environment, check=True, capture_output=True, text=True).stdout

    run("init", "--new-key-file", work / "key")
    run("backup", work / "tree")
    for name in given.servers or SERVERS:
        with open(work / f"{name}.log", "wb") as log:
            server = SERVERS[name](work, tools, log)
        try:
            environment.update(server.secrets)
            rclone = [tools / "rclone", "--config", "/dev/null"]
            ours, theirs = [], []
            for turn in range(given.rounds):
                place = f"packstone-{turn}"
                run("mirror", "add", f"{name}-{turn}", server.address.format(name=place))
                ours.append(measured([packstone, "--quiet", "sync", "--connections", "4", f"{name}-{turn}"], environment))
                theirs.append(measured([*rclone, "copy", "--transfers", "4", work / "repository", server.remote.format(name=f"rclone-{turn}")], environment))
                for other in [place, f"rclone-{turn}"]:
                    subprocess.run([*rclone, "purge", server.remote.format(name=other)], stderr=subprocess.DEVNULL)
                run("mirror", "remove", f"{name}-{turn}")
            run("mirror", "add", f"{name}-last", server.address.format(name="last"))
            many = measured([packstone, "--quiet", "sync", "--connections", "32", f"{name}-last"], environment)
            wall, cpu = [[statistics.median(turn[part] for turn in who) for who in [ours, theirs]] for part in [0, 1]]
            memory = [max(turn[2] for turn in who) for who in [ours, theirs]]
            print(
                f"{name}: 1 GiB, {given.rounds} rounds, medians: packstone {wall[0]:.2f} s ({cpu[0]:.2f} s CPU), rclone {wall[1]:.2f} s ({cpu[1]:.2f}), "
                f"ratio {wall[0] / wall[1]:.2f}; memory {memory[0]:.0f} MiB, rclone {memory[1]:.0f}; at 32 connections {many[0]:.2f} s, {many[2]:.0f} MiB",
                flush=True,
            )
            words = ["drill", f"{name}-last", "--sample", "100", "--path", work / "tree" / "small", "--to", work / "drills", "--json"]
            told = json.loads(subprocess.run([packstone, *words], env=environment, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            print(f"{name}: 10 kB out of 1 GiB: {told['fetched_bytes'] / 2**20:.2f} MiB in {told['requests']} requests", flush=True)
            subprocess.run([*rclone, "purge", server.remote.format(name="last")], stderr=subprocess.DEVNULL)
            run("mirror", "remove", f"{name}-last")
        finally:
            server.end()
            for key in server.secrets:
                environment.pop(key, None)
    subprocess.run(["chmod", "-R", "u+rwX", work])
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
