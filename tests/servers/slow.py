#!/usr/bin/env python3
"""Syncs over lines that are slow, far away and torn, made by the kernel (tbf in a network namespace) and by a proxy of its own.

    python3 tests/servers/slow.py --packstone target/release/packstone --tools DIRECTORY/bin [--full]

DIRECTORY is a virtual environment made with tests/servers/requirements.txt. Needs root, `ip` and `tc` (iproute2). Two packs, four connections:

- an uplink of 40 kB/s: nothing is sent twice, and everything is there at the first try;
- 256 kB/s, 300 ms away, one request in twenty (in the short form: six) reset in its middle: everything is there at the first try.

In the short form the packs have 2 MiB, in the full form 32 MiB; the full form also holds the time against that of the line, and the estimates
after the first minute against what it took then.
"""

import argparse
import asyncio
import fcntl
import json
import os
import pty
import random
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path
from urllib.parse import quote

# Of 1,514 bytes of a frame 1,448 are of TCP's stream.
SHARE_OF_FRAMES = 1448 / 1514


def fail(why):
    sys.exit(f"FAILED: {why}")


def run(*words, **more):
    return subprocess.run([str(one) for one in words], check=True, capture_output=True, text=True, **more).stdout


class Proxy:
    """Relays to a server: a limit of bytes a second upwards, a delay in both directions, and one request in so many is reset."""

    def __init__(self, target, rate, delay, one_in):
        self.target, self.rate, self.delay, self.one_in = target, rate, delay, one_in
        self.requests, self.resets, self.bytes, self.free_at = 0, 0, 0, 0.0
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()
        self.ready.wait()

    def serve(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.connection, "127.0.0.1", 0, limit=1 << 16))
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()

    async def turn(self, count):
        now = self.loop.time()
        begins = max(now, self.free_at)
        self.free_at = begins + count / self.rate
        await asyncio.sleep(self.free_at - now)

    async def connection(self, reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        # What may be on its way is little, as on a line.
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        down = asyncio.ensure_future(self.down(there_reader, writer))
        try:
            await self.up(reader, there_writer, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            down.cancel()
            there_writer.close()
            writer.close()

    async def up(self, reader, there, here):
        """Request by request: its head tells how long it is."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            found = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
            length = int(found.group(1)) if found else 0
            cut = length // 2 if self.requests % self.one_in == 0 else None
            await asyncio.sleep(self.delay / 2)
            there.write(head)
            sent = 0
            while sent < length or cut == 0:
                if cut is not None and sent >= cut:
                    self.resets += 1
                    sock = here.transport.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    here.transport.abort()
                    raise ConnectionResetError
                part = await reader.read(min(16 << 10, length - sent))
                if not part:
                    raise ConnectionResetError
                await self.turn(len(part))
                self.bytes += len(part)
                there.write(part)
                await there.drain()
                sent += len(part)

    async def down(self, reader, writer):
        while part := await reader.read(1 << 16):
            await asyncio.sleep(self.delay / 2)
            writer.write(part)
            await writer.drain()


class Store:
    """rclone's S3 server, counting what was put."""

    def __init__(self, tools, folder, address):
        (folder / "test").mkdir(parents=True)
        held = socket.socket()
        held.bind((address, 0))
        self.port = held.getsockname()[1]
        held.close()
        self.log, self.folder = folder.parent / f"{folder.name}.log", folder
        words = [tools / "rclone", "--config", "/dev/null", "-vv", "serve", "s3", "--addr", f"{address}:{self.port}", "--auth-key", "AKTEST,SKTEST", folder]
        self.process = subprocess.Popen([str(one) for one in words], stdout=open(self.log, "wb"), stderr=subprocess.STDOUT)
        for _ in range(100):
            try:
                socket.create_connection((address, self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        fail("rclone does not serve")


def bar_of(command, environment, notes):
    """Runs it on a terminal; notes what is said to be left, with the time at which it was said. Gives the exit code and the seconds it took."""
    begun = time.monotonic()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, environment)
    # Wide enough for all of the bar.
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    shown = b""
    while True:
        try:
            more = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not more:
            break
        shown = (shown + more)[-(1 << 16):]
        for found in re.findall(rb"((?:\d+ (?:d|h|min|s) ?)+) left", more):
            notes.append((time.monotonic() - begun, found.decode().strip()))
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - begun, shown


def is_line_made(space, here):
    """A network namespace whose only way out is an uplink of 40 kB/s; false, with the reason, where this system makes none."""
    try:
        run("ip", "netns", "add", space)
        run("ip", "link", "add", here, "type", "veth", "peer", "name", "psn0", "netns", space)
        run("ip", "addr", "add", "10.213.7.1/30", "dev", here)
        run("ip", "link", "set", here, "up")
        for words in [["addr", "add", "10.213.7.2/30", "dev", "psn0"], ["link", "set", "psn0", "up"], ["link", "set", "lo", "up"]]:
            run("ip", "-n", space, *words)
        # Frames as a card sends them, and not segments of 64 kB.
        subprocess.run(["ip", "netns", "exec", space, "ethtool", "-K", "psn0", "tso", "off", "gso", "off"], capture_output=True)
        run("ip", "-n", space, "link", "set", "psn0", "gso_max_segs", "1")
        run("tc", "-n", space, "qdisc", "add", "dev", "psn0", "root", "tbf", "rate", "320kbit", "burst", "5kb", "latency", "400ms")
        return True
    except FileNotFoundError as error:
        print(f"SKIPPED 40 kB/s: {error.filename} is missing (iproute2)", flush=True)
    except subprocess.CalledProcessError as error:
        print(f"SKIPPED 40 kB/s: this system does not make the line: {shlex.join(error.cmd)}: {error.stderr.strip()}", flush=True)
    return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--packstone", type=Path, default=Path("target/release/packstone"))
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", choices=["slow", "torn"])
    given = parser.parse_args()
    packstone, tools = str(given.packstone.resolve()), given.tools.resolve()
    megabytes = 64 if given.full else 4
    work = Path(tempfile.mkdtemp(prefix="packstone-slow."))
    environment = {**os.environ, "HOME": str(work / "home"), "PACKSTONE_REPOSITORY": str(work / "repository"), "PACKSTONE_KEY_FILE": str(work / "key")}
    environment["PACKSTONE_MIRROR_SECRET_ACCESS_KEY"] = "SKTEST"
    environment.setdefault("TERM", "xterm")
    (work / "home").mkdir()
    (work / "tree").mkdir()
    rng = random.Random(1)
    run(packstone, "--quiet", "init", "--new-key-file", work / "key", env=environment)
    # Each half becomes a pack.
    for number in range(megabytes):
        (work / "tree" / str(number)).write_bytes(rng.randbytes(1 << 20))
        if number + 1 in (megabytes // 2, megabytes):
            run(packstone, "--quiet", "backup", work / "tree", env=environment)
    run(packstone, "--quiet", "mirror", "add", "all", work / "all", env=environment)
    repository = json.loads(run(packstone, "sync", "--dry-run", "--json", "all", env=environment).splitlines()[-1])["to_send_bytes"]
    run(packstone, "--quiet", "mirror", "remove", "all", env=environment)
    space, here, processes = f"packstone-{os.getpid()}", f"ps{os.getpid()}", []
    try:
        if given.only != "torn" and is_line_made(space, here):
            store = Store(tools, work / "s3-slow", "10.213.7.1")
            processes.append(store.process)
            check("40 kB/s", given.full, packstone, environment, store, f"10.213.7.1:{store.port}", ["ip", "netns", "exec", space], repository / 40_000 / SHARE_OF_FRAMES)
        if given.only != "slow":
            store = Store(tools, work / "s3-torn", "127.0.0.1")
            processes.append(store.process)
            proxy = Proxy(store.port, 256_000, 0.3, 20 if given.full else 6)
            check("256 kB/s, 300 ms, resets", given.full, packstone, environment, store, f"127.0.0.1:{proxy.port}", [], repository / 256_000)
            print(f"    {proxy.resets} of {proxy.requests} requests were reset, {proxy.bytes / repository:.3f} times the repository went up", flush=True)
            if proxy.resets == 0:
                fail("nothing was reset")
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
        if given.only != "torn":
            # The other end goes with it.
            subprocess.run(["ip", "netns", "del", space], capture_output=True)
        subprocess.run(["chmod", "-R", "u+rwX", str(work)])
        shutil.rmtree(work)


def seconds_of(text):
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (d|h|min|s)", text))


def check(name, is_full, packstone, environment, store, at, inside, line):
    options = f"endpoint={quote('http://' + at, safe='')}&region=us-east-1&access_key_id=AKTEST&disable_config_load=true&disable_ec2_metadata=true"
    mirror = "m-" + re.sub(r"\W", "", name)
    # Without asking the store, which is as slow.
    run(*inside, packstone, "--quiet", "mirror", "add", mirror, f"s3://test/{mirror}?{options}", env=environment)
    notes = []
    code, took, shown = bar_of([*inside, packstone, "sync", "--connections", "4", mirror], environment, notes)
    if code != 0:
        fail(f"{name}: exit code {code}: {shown[-2000:].decode(errors='replace')}")
    if run(*inside, packstone, "sync", "--json", mirror, env=environment).find('"to_send":0,') < 0:
        fail(f"{name}: not all of it was there")
    print(f"{name}: whole at the first try, {took:.0f} s, {took / line:.3f} times the line's own {line:.0f} s", flush=True)
    after = [(took - at_second, seconds_of(text)) for at_second, text in notes if at_second >= 60]
    if after:
        errors = [said / left - 1 for left, said in after if left > 30]
        seconds = [said - left for left, said in after]
        print(f"    time left, {len(errors)} estimates after the first minute: {min(errors):+.0%} to {max(errors):+.0%} while more than 30 s were left", flush=True)
        print(f"    in seconds, to the end: {min(seconds):+.0f} to {max(seconds):+.0f}", flush=True)
    if is_full and took > 1.15 * line:
        fail(f"{name}: more than 1.15 times the line's time")
    # At the end it is a few answers that are waited for, and no bytes.
    if is_full and (not after or any(abs(said - left) > max(left / 5, 10) for left, said in after)):
        fail(f"{name}: the time left was not right within a fifth or ten seconds")


if __name__ == "__main__":
    main()
