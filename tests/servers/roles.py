#!/usr/bin/env python3
"""A mirror whose credentials AWS STS lends: by the token of another identity provider, for a role on top of keys, and for one on top of the other.

    python3 tests/servers/roles.py --packstone target/release/packstone [--tools DIRECTORY/bin] [--full]

Run as root. Everything happens in a network and a mount namespace of its own: there sts.us-east-1.amazonaws.com is this script, with a certificate of a
CA that is made on the spot. The store is this script too, and looks at the key of each request; with --tools it is `rclone serve s3` of a virtual
environment made with tests/servers/requirements.txt, which checks signatures. --full waits for time-outs as well.
"""

import argparse
import datetime
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

STS = "sts.us-east-1.amazonaws.com"
ROLE, SECOND = "arn:aws:iam::123456789012:role/backup", "arn:aws:iam::210987654321:role/vault"
# Keys that last, and those that STS lends: first for the first role, and so on. None of the secrets may ever be printed.
LASTING = ("AKIALASTINGLASTING12", "lasting-secret-lasting")
LENT = [(f"ASIALENTLENTLENT{number:04}", f"lent-secret-{number:04}", f"lent-session-token-{number:04}") for number in range(64)]
TOKEN = "header.identity-token-of-kubernetes.signature"
SECRETS = [LASTING[1], TOKEN, "lent-secret", "lent-session-token"]


def fail(why):
    sys.exit(f"FAILED: {why}")


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


class Sts(BaseHTTPRequestHandler):
    """Answers as `how` says: a function of the question and its number, or a list of seconds that credentials last, the last for all further ones."""

    protocol_version = "HTTP/1.1"
    how, asked = [3600], []

    def log_message(self, *words):
        pass

    def do_POST(self):
        self.do_GET()

    def do_GET(self):
        length = int(self.headers.get("content-length") or 0)
        question = dict(parse_qsl(urlsplit(self.path).query + "&" + self.rfile.read(length).decode()))
        question["by"] = (re.findall("Credential=([^/]*)", self.headers.get("authorization", "")) or [None])[0]
        self.asked.append(question)
        how = Sts.__dict__["how"]
        if callable(how):
            return how(self, question)
        lasts = how[min(len(self.asked), len(how)) - 1]
        key, secret, token = LENT[len(self.asked) - 1]
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=lasts)
        action = question["Action"]
        self.say(200, f"<{action}Response><{action}Result><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken><Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials></{action}Result></{action}Response>")

    def say(self, status, text):
        self.send_response(status)
        self.send_header("content-length", str(len(text.encode())))
        self.send_header("content-type", "text/xml")
        self.end_headers()
        self.wfile.write(text.encode())


def refuses(status, code, message):
    return lambda sts, question: sts.say(status, f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>")


def never_ends(sts, question):
    sts.send_response(200)
    sts.end_headers()
    while True:
        sts.wfile.write(b"<x>" * 20000)


def drips(sts, question):
    sts.send_response(200)
    sts.end_headers()
    while True:
        sts.wfile.write(b" ")
        time.sleep(0.5)


class Store(BaseHTTPRequestHandler):
    """As much of S3 as a small mirror needs. It keeps the key of each request; a token that does not belong to its key is refused."""

    protocol_version = "HTTP/1.1"
    objects, keys = {}, []

    def log_message(self, *words):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.do
        raise AttributeError(name)

    def do(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        key = (re.findall("Credential=([^/]*)", self.headers.get("authorization", "")) or [None])[0]
        self.keys.append(key)
        lent = next((one for one in LENT if one[0] == key), None)
        if (lent is None and key != LASTING[0]) or (lent and self.headers.get("x-amz-security-token") != lent[2]):
            return self.answer(403, b"<Error><Code>InvalidAccessKeyId</Code><Message>No</Message></Error>")
        at = urlsplit(self.path)
        query, name = dict(parse_qsl(at.query, keep_blank_values=True)), unquote(at.path).removeprefix("/test/")
        if self.command == "GET" and "list-type" in query:
            found = "".join(f"<Contents><Key>{escape(one)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag><Size>{len(bytes)}</Size></Contents>" for one, bytes in sorted(self.objects.items()) if one.startswith(query.get("prefix", "")))
            return self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode(), content_type="application/xml")
        if self.command == "PUT" and not query:
            self.objects[name] = body
            return self.answer(200, ETag='"x"')
        if self.command == "DELETE":
            self.objects.pop(name, None)
            return self.answer(204)
        if self.command in ("GET", "HEAD") and not query and name in self.objects:
            bytes, range = self.objects[name], re.match("bytes=([0-9]+)-([0-9]*)", self.headers.get("range", ""))
            if not range:
                return self.answer(200, bytes)
            first, last = int(range[1]), min(int(range[2] or len(bytes)), len(bytes) - 1)
            return self.answer(206, bytes[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(bytes)}")
        return self.answer(404, b"<Error><Code>NoSuchKey</Code><Message>No</Message></Error>")


class Machine(BaseHTTPRequestHandler):
    """The metadata of a machine. It keeps what it was sent."""

    protocol_version = "HTTP/1.1"
    lasts, bodies, lent = [3600], [], 0

    def log_message(self, *words):
        pass

    def do_PUT(self):
        self.bodies.append(self.rfile.read(int(self.headers.get("content-length") or 0)))
        self.say("metadata-token")

    def do_GET(self):
        if self.path.endswith("/security-credentials/"):
            return self.say("machine-role")
        lasts = Machine.lasts[min(Machine.lent, len(Machine.lasts) - 1)]
        Machine.lent += 1
        key, secret, token = LENT[Machine.lent]
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=lasts)
        self.say(json.dumps({"Code": "Success", "AccessKeyId": key, "SecretAccessKey": secret, "Token": token, "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}"}))

    def say(self, text):
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def command(*words, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    if done.returncode:
        fail(f"{words}: {done.stderr}")
    return done.stdout


def certificate(work):
    """A CA, and a certificate of it for the host of STS."""
    ca, key, request, host = (work / name for name in ("ca.pem", "host.key", "host.csr", "host.pem"))
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command(*new, "-x509", "-days", "2", "-subj", "/CN=test CA", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", work / "ca.key", "-out", ca)
    command(*new, "-subj", f"/CN={STS}", "-keyout", key, "-out", request)
    (work / "names").write_text(f"subjectAltName=DNS:{STS}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
    command("openssl", "x509", "-req", "-days", "2", "-in", request, "-CA", ca, "-CAkey", work / "ca.key", "-set_serial", "7", "-extfile", work / "names", "-out", host)
    return ca, host, key


def serve(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def world(work):
    """The network, the name of STS, and STS itself."""
    command("ip", "link", "set", "lo", "up")
    command("ip", "address", "add", "169.254.169.254/32", "dev", "lo")
    (work / "hosts").write_text(f"127.0.0.1 localhost {STS}\n")
    command("mount", "--bind", work / "hosts", "/etc/hosts")
    ca, host, key = certificate(work)
    sts = Quiet(("127.0.0.1", 443), Sts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host, key)
    sts.socket = context.wrap_socket(sts.socket, server_side=True, do_handshake_on_connect=False)
    serve(sts)
    return ca


def rclone(work, tools):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    (work / "s3" / "test").mkdir(parents=True)
    keys = [word for key, secret, *_ in [LASTING, *LENT] for word in ("--auth-key", f"{key},{secret}")]
    server = subprocess.Popen([tools / "rclone", "--config", "/dev/null", "serve", "s3", "--addr", f"127.0.0.1:{port}", *keys, work / "s3"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server, port
        except OSError:
            time.sleep(0.1)
    fail("rclone does not answer")


class Trial:
    def __init__(self, packstone, work, port, ca):
        self.packstone, self.work, self.count = packstone, work, 0
        self.plain = {"PATH": os.environ["PATH"], "HOME": str(work), "PACKSTONE_REPOSITORY": str(work / "repository"), "PACKSTONE_KEY_FILE": str(work / "key"), "SSL_CERT_FILE": str(ca), "AWS_EC2_METADATA_DISABLED": "true"}
        self.place = f"?endpoint=http://127.0.0.1:{port}&region=us-east-1"
        self.token = work / "token"
        self.token.write_text(TOKEN + "\n")
        self.identity = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": str(self.token)}
        self.keys = {"AWS_ACCESS_KEY_ID": LASTING[0], "AWS_SECRET_ACCESS_KEY": LASTING[1]}
        (work / "tree").mkdir()
        (work / "tree" / "file").write_bytes(os.urandom(300_000))
        self.run({}, "init", "--new-key-file", work / "key")
        self.run({}, "backup", work / "tree")

    def run(self, environment, *words, code=0, says=()):
        done = subprocess.run([self.packstone, *map(str, words)], env={**self.plain, **environment}, capture_output=True, text=True, timeout=400)
        said = done.stdout + done.stderr
        if done.returncode != code or not all(one in said for one in says):
            fail(f"{words} in {environment}: exit code {done.returncode}, expected {code} and {says}:\n{said}")
        if shown := [secret for secret in SECRETS if secret in said]:
            fail(f"{words}: {shown} is printed:\n{said}")
        return said

    def lent(self, what, environment, options="", asked=(), how=(3600,)):
        """A mirror is added, filled, read back, and STS was asked just this, each time."""
        Sts.how = list(how)
        self.count += 1
        address = f"s3://test/{self.count}{self.place}{options}"
        for words in (["mirror", "add", f"m{self.count}", address], ["sync", f"m{self.count}", "--verbose"], ["check", "--mirror", f"m{self.count}"]):
            Sts.asked.clear()
            self.run(environment, *words)
            found = [(one["Action"], one["RoleArn"], one["by"], one.get("ExternalId")) for one in Sts.asked]
            if found != list(asked):
                fail(f"{what}: {words[0]} asked {found}, expected {asked}")
            if any(one.get("WebIdentityToken", TOKEN) != TOKEN or not one["RoleSessionName"] for one in Sts.asked):
                fail(f"{what}: {Sts.asked}")
        print(f"{what}: works; each command asked STS {len(asked)} times")
        return f"m{self.count}"

    def refused(self, what, mirror, environment, how, code, *says):
        Sts.how, begun = how, time.time()
        Sts.asked.clear()
        self.run(environment, "sync", mirror, "--verbose", code=code, says=(f"mirror {mirror} cannot be listed", *says))
        print(f"{what}: exit code {code}, {len(Sts.asked)} questions, {time.time() - begun:.0f} s")


def trials(trial, full, real):
    token = ("AssumeRoleWithWebIdentity", ROLE, None, None)
    on_keys = ("AssumeRole", SECOND, LASTING[0], None)
    web = trial.lent("web identity", trial.identity, asked=[token])
    role = trial.lent("role_arn on keys", trial.keys, f"&role_arn={SECOND}", asked=[on_keys])
    both = trial.lent("role_arn on web identity", trial.identity, f"&role_arn={SECOND}&external_id=EXT", asked=[token, ("AssumeRole", SECOND, LENT[0][0], "EXT")])
    aws = trial.work / ".aws"
    aws.mkdir()
    (aws / "config").write_text(
        f"[profile base]\naws_access_key_id = {LASTING[0]}\naws_secret_access_key = {LASTING[1]}\n"
        f"[profile role]\nrole_arn = {ROLE}\nsource_profile = base\nexternal_id = FROM-FILE\n"
        f"[profile both]\nrole_arn = {SECOND}\nsource_profile = role\n"
        f"[profile web]\nrole_arn = {ROLE}\nweb_identity_token_file = {trial.token}\n"
        f"[profile typed]\nrole_arn = {ROLE}\nsource_profile = base\nmfa_serial = arn:aws:iam::1:mfa/x\n"
        f"[profile environment]\nrole_arn = {SECOND}\ncredential_source = Environment\n"
    )
    of_file = ("AssumeRole", ROLE, LASTING[0], "FROM-FILE")
    trial.lent("profile with source_profile", {"AWS_PROFILE": "role"}, asked=[of_file])
    trial.lent("profile with two roles", {}, "&profile=both", asked=[of_file, ("AssumeRole", SECOND, LENT[0][0], None)])
    trial.lent("profile with web_identity_token_file", {"AWS_PROFILE": "web"}, asked=[token])
    trial.run({"AWS_PROFILE": "typed"}, "sync", web, code=1, says=["profile typed", "mfa_serial"])
    (aws / "config").unlink()

    refused = trial.refused
    missing = {**trial.identity, "AWS_WEB_IDENTITY_TOKEN_FILE": str(trial.work / "nowhere")}
    refused("token file missing", web, missing, [3600], 1, ROLE, "nowhere", "AWS_WEB_IDENTITY_TOKEN_FILE")
    trial.run({"AWS_WEB_IDENTITY_TOKEN_FILE": str(trial.token)}, "sync", web, code=1, says=["AWS_ROLE_ARN is not"])
    denied = refuses(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
    refused("AccessDenied", web, trial.identity, denied, 1, ROLE, "AWS STS does not lend this role", "trust policy", "Not authorized")
    refused("AccessDenied for the second role", both, trial.identity, lambda sts, question: denied(sts, question) if question["Action"] == "AssumeRole" else sts.say(200, lends(question)), 1, SECOND, "trust policy")
    refused("ExpiredToken", web, trial.identity, refuses(400, "ExpiredTokenException", f"Token expired: {TOKEN}"), 1, ROLE, "identity token", "write a new one")
    refused("keys that STS does not know", role, trial.keys, refuses(403, "InvalidClientTokenId", "The security token is invalid"), 1, SECOND, "AWS_ACCESS_KEY_ID")
    refused("a wrong clock", role, trial.keys, refuses(403, "SignatureDoesNotMatch", "Signature expired: 20200101 is now earlier than 20260101"), 1, "clock")
    refused("garbage", web, trial.identity, lambda sts, question: sts.say(200, f"<html>{LENT[0][1]}"), 1, ROLE, "hold no credentials")
    refused("a body without end", web, trial.identity, never_ends, 1, ROLE, "longer than")
    refused("credentials that have ended", web, trial.identity, [-5], 1, ROLE, "hold no credentials")
    refused("a certificate that is not trusted", web, {**trial.identity, "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}, [3600], 1, ROLE, "certificate")
    (trial.work / "tree" / "more").write_bytes(os.urandom(300_000))
    trial.run({}, "backup", trial.work / "tree")
    Sts.how = [60, 3600]
    Sts.asked.clear()
    Store.keys.clear()
    trial.run(trial.identity, "sync", web)
    used = [key for number, key in enumerate(Store.keys) if number == 0 or Store.keys[number - 1] != key]
    if len(Sts.asked) != 2 or not (real or used == [LENT[0][0], LENT[1][0]]):
        fail(f"credentials of a minute: {len(Sts.asked)} questions, {used}")
    print(f"credentials of a minute, and then of an hour: {len(Sts.asked)} questions; the store was asked with {used or 'both'}")
    serve(Quiet(("169.254.169.254", 80), Machine))
    Machine.lasts = [60] * 4 + [3600]
    (trial.work / "tree" / "yet more").write_bytes(os.urandom(3_000_000))
    trial.run({}, "backup", trial.work / "tree")
    trial.run({"AWS_EC2_METADATA_DISABLED": "false"}, "sync", web)
    if any(Machine.bodies) or Machine.lent < 2:
        fail(f"a machine's metadata was sent {[len(body) for body in Machine.bodies]} bytes, and lent {Machine.lent} times")
    print(f"credentials of a machine: lent {Machine.lent} times in one sync, and nothing was sent there")
    if full:
        refused("no answer", web, trial.identity, lambda sts, question: time.sleep(300), 1, ROLE, "does not answer")
        refused("an answer drop by drop", web, trial.identity, drips, 1, ROLE, "does not answer")
        refused("busy", web, trial.identity, refuses(503, "ServiceUnavailable", "Later"), 1, ROLE, "does not answer", "Later")


def lends(question):
    key, secret, token = LENT[0]
    action = question["Action"]
    return f"<{action}Response><{action}Result><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></{action}Result></{action}Response>"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--packstone", required=True, type=Path)
    parser.add_argument("--tools", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.inside:
        os.execvp("unshare", ["unshare", "-n", "-m", "--propagation", "private", sys.executable, *sys.argv, "--inside"])
    with tempfile.TemporaryDirectory(prefix="packstone-roles.") as work:
        work = Path(work)
        ca = world(work)
        server, port = rclone(work, given.tools) if given.tools else (None, serve(Quiet(("127.0.0.1", 0), Store)))
        try:
            trials(Trial(given.packstone.resolve(), work, port, ca), given.full, server is not None)
        finally:
            command("umount", "/etc/hosts")
            if server:
                server.kill()
                server.wait()


main()
