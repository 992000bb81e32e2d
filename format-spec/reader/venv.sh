#!/bin/sh
# Makes a virtual environment with what the reader needs: venv.sh DIR, and then DIR/bin/python.
set -eu
directory=${1:?usage: venv.sh DIR}
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
python3 -m venv "$directory"
"$directory/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: -r "$here/requirements.txt"
"$directory/bin/python" -c 'import argon2, blake3, cryptography, zstandard'
