#!/usr/bin/env python3
"""Follows a printed recovery kit to the letter, on a terminal, as a person would who has nothing else.

    follow_kit.py PAGE PACKSTONE DIRECTORY [NAME=VALUE ...]

PAGE is the kit as text. DIRECTORY is the new machine: home and working directory, empty. The values are what was written into the blanks by hand; a
blank without one stays empty, and its line is not typed. Everything else that is typed stands on the page. The environment is empty.
"""
import os
import pty
import re
import select
import signal
import sys
import time

page_path, packstone, directory, *blanks = sys.argv[1:]
values = dict(blank.split("=", 1) for blank in blanks)
with open(page_path, encoding="utf-8") as file:
    page = file.read()

code = re.search(r"^Recovery code\n\n    (\S+)$", page, re.M).group(1)
steps = page.split("\nOn a new machine\n", 1)[1]
typed, left = [], dict(values)
for line in steps.splitlines():
    if not line.startswith("       "):
        continue
    line = line[7:]
    if len(line) > 100:
        sys.exit(f"a line is broken in print: {line}")
    if re.search(r"_{10,}$", line):
        name = re.match(r"export (\w+)=", line).group(1)
        if name not in values:
            continue
        line = f"export {name}='{left.pop(name)}'"
    typed.append(line)
if left:
    sys.exit(f"the page has no blank for {', '.join(left)}:\n{steps}")

os.makedirs(f"{directory}/bin")
os.symlink(packstone, f"{directory}/bin/packstone")
script = f"{directory}/typed"
with open(script, "w", encoding="utf-8") as file:
    file.write("set -e\n" + "\n".join(typed) + "\n")

child, terminal = pty.fork()
if child == 0:
    os.chdir(directory)
    environment = {"PATH": f"{directory}/bin:/usr/bin:/bin", "HOME": directory, "TERM": "dumb"}
    os.execve("/bin/sh", ["sh", script], environment)

said, answered, end = "", 0, time.monotonic() + 300
# What is asked, and what a person answers.
answers = [("recovery code: ", code), ("(yes/no/[fingerprint])? ", "yes")]
while time.monotonic() < end:
    if not select.select([terminal], [], [], 1)[0]:
        continue
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    if not piece:
        break
    said += piece.decode("utf-8", "replace")
    for question, answer in answers:
        asked = said.find(question, answered)
        if asked >= 0:
            answered = asked + len(question)
            # Nobody types before the question is there.
            time.sleep(0.3)
            os.write(terminal, answer.encode() + b"\n")
else:
    os.kill(child, signal.SIGKILL)
_, status = os.waitpid(child, 0)
if os.waitstatus_to_exitcode(status) != 0:
    sys.exit(f"FAILED, ended with {os.waitstatus_to_exitcode(status)}:\n" + "\n".join(typed) + f"\n---\n{said}")
if code in said:
    sys.exit("FAILED: the recovery code was shown on the terminal")
