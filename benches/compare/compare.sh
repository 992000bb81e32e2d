#!/bin/sh
# The same work with packstone and with whichever of restic, rustic and borg are installed. See --help.
exec python3 "$(dirname "$0")/compare.py" "$@"
