#!/usr/bin/env python3
"""Random histories and random rules, given to restic and to packstone: both must keep the same snapshots.

    tests/forget-as-restic.py PACKSTONE [RESTIC] [HISTORIES] [POLICIES] [SEED]

Run by hand; needs restic 0.17 or newer, and Python's `cryptography`. Each history is a host of one repository of each
program. restic's snapshots are written by this script, because thousands of backups take it long; packstone's are made
by `backup --time`. What packstone keeps in addition (the newest complete snapshot) does not occur: every policy here has
a rule that keeps the newest. TZ is taken from the environment.
"""
import base64
import datetime
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305


class Sealed:
    """restic's AES-256-CTR and Poly1305-AES."""

    def __init__(self, encrypt, k, r):
        self.encrypt, self.k, self.r = encrypt, k, r

    def counter(self, iv, data):
        cipher = Cipher(algorithms.AES(self.encrypt), modes.CTR(iv)).encryptor()
        return cipher.update(data) + cipher.finalize()

    def mac(self, iv, data):
        block = Cipher(algorithms.AES(self.k), modes.ECB()).encryptor()
        return Poly1305.generate_tag(self.r + block.update(iv) + block.finalize(), data)

    def open(self, data):
        iv, text, tag = data[:16], data[16:-16], data[-16:]
        assert self.mac(iv, text) == tag
        return self.counter(iv, text)

    def seal(self, plain):
        iv = os.urandom(16)
        text = self.counter(iv, plain)
        return iv + text + self.mac(iv, text)


def master(repository, password):
    (name,) = os.listdir(f"{repository}/keys")
    key = json.load(open(f"{repository}/keys/{name}"))
    salt = base64.b64decode(key["salt"])
    raw = hashlib.scrypt(password, salt=salt, n=key["N"], r=key["r"], p=key["p"], maxmem=1 << 30, dklen=64)
    user = Sealed(raw[:32], raw[32:48], raw[48:])
    keys = json.loads(user.open(base64.b64decode(key["data"])))
    mac = keys["mac"]
    return Sealed(*(base64.b64decode(value) for value in (keys["encrypt"], mac["k"], mac["r"])))


def history(rng, now):
    """Times that never go back, and tags."""
    at, made = now - rng.randrange(3600, 30 * 86400), []
    for _ in range(rng.randrange(1, 15)):
        made.append((at, rng.sample(["a", "b"], rng.choice([0, 0, 1, 2]))))
        at -= rng.choice([rng.randrange(60, 7200), rng.randrange(3600, 2 * 86400), rng.randrange(86400, 60 * 86400), 0])
    return made[::-1]


def policy(rng):
    words = []
    span = lambda: "".join(f"{rng.randrange(1, 40)}{unit}" for unit in "ymdh" if rng.random() < 0.4) or "20d"
    for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly"):
        if rng.random() < 0.3:
            words += [f"--keep-{name}", rng.choice(["1", "2", "3", "5", "8", "unlimited"])]
    for name in ("", "-hourly", "-daily", "-weekly", "-monthly", "-yearly"):
        if rng.random() < 0.15:
            words += [f"--keep-within{name}", span()]
    if not words:
        words = ["--keep-last", "2"]
    if rng.random() < 0.3:
        words += ["--keep-tag", rng.choice(["a", "a,b", ""])]
    return words


def main(packstone, restic="restic", histories="200", policies="40", seed="1"):
    rng, now = random.Random(int(seed)), 1_780_000_000
    root = tempfile.mkdtemp(prefix="forget-as-restic.")
    environment = dict(os.environ, HOME=root, RESTIC_REPOSITORY=f"{root}/restic", RESTIC_PASSWORD="x",
                       PACKSTONE_REPOSITORY=f"{root}/packstone", PACKSTONE_KEY_FILE=f"{root}/key")  # fmt: skip
    environment.pop("PACKSTONE_HOST", None)
    environment.pop("RESTIC_HOST", None)

    def run(*words):
        done = subprocess.run(words, env=environment, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    os.mkdir(f"{root}/tree")
    run(restic, "init", "--repository-version", "1")
    first = dict(environment)
    del first["PACKSTONE_KEY_FILE"]
    subprocess.run([packstone, "init", "--new-key-file", f"{root}/key"], env=first, check=True, capture_output=True)
    seal, known = master(f"{root}/restic", b"x"), {}
    for number in range(int(histories)):
        host = f"host{number}"
        for place, (at, tags) in enumerate(history(rng, now)):
            local = datetime.datetime.fromtimestamp(at).astimezone()
            snapshot = {"time": local.isoformat(), "tree": "0" * 64, "paths": ["/tree"], "hostname": host, "tags": tags}
            # Among equal times restic's order is that of its files, so the nanoseconds tell them apart.
            claimed = local.replace(microsecond=place * 1000)
            snapshot["time"] = claimed.isoformat()
            data = seal.seal(json.dumps(snapshot).encode())
            name = hashlib.sha256(data).hexdigest()
            open(f"{root}/restic/snapshots/{name}", "wb").write(data)
            words = ["--tag", ",".join(tags)] if tags else []
            utc = claimed.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            out = run(packstone, "backup", "--json", "--force", "--host", host, "--time", utc, *words, "tree")
            summary = [json.loads(line) for line in out.splitlines()][-1]
            known[name] = known[summary["snapshot_id"]] = (host, place)

    def kept(program, words):
        out = run(program, "forget", "--json", "--dry-run", *words)
        groups = json.loads(out.splitlines()[0])
        reasons = {known[r["snapshot"]["id"]]: sorted(r["matches"]) for g in groups for r in g["reasons"]}
        return {known[s["id"]] for g in groups for s in g["keep"]}, reasons

    compared = differing = 0
    for _ in range(int(policies)):
        words = policy(rng)
        (theirs, why), (ours, because) = kept(restic, words), kept(packstone, words)
        compared += int(histories)
        for host, place in sorted(theirs ^ ours):
            differing += 1
            print("differs:", words, host, place, why.get((host, place)), because.get((host, place)))
    print(f"{compared} histories compared under {policies} policies, {len(known) // 2} snapshots, {differing} differ")
    subprocess.run(["rm", "-rf", root], check=True)
    sys.exit(differing != 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
