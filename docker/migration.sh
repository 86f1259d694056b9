#!/bin/sh
# A migration up to the parallel run, then catch-up for as long as the container lives. Every step may be repeated, so a
# restart goes on where the last one ended. What is given to this script is given to catch-up.
set -eu
python "$(dirname "$0")/legacy.py"
crossfade prepare --reason 'docker compose'
crossfade backfill
crossfade verify
exec crossfade catchup --follow --workers 2 "$@"
