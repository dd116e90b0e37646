#!/usr/bin/env bash
# Skein next to strfry, one after the other, by the same load tester: scripts/bench-strfry.sh PATH/TO/strfry
# The figures go to target/bench-strfry. EVENTS (stored before) and ROUNDS change its size; an odd number of rounds has a median.
set -euo pipefail
strfry=$(realpath "${1:?usage: scripts/bench-strfry.sh PATH/TO/strfry}")
cd "$(dirname "$0")/.."
events=${EVENTS:-300000} rounds=${ROUNDS:-3}

cargo build --release -p relay -p loadtest
export PATH=$PWD/target/release:$PATH
reports=$PWD/target/bench-strfry
mkdir -p "$reports"
directory=$(mktemp -d /var/tmp/skein-bench-XXXXXX)
running=
stop() {
    [ -z "$running" ] || { kill "$running" && wait "$running"; } || true
    running=
}
trap 'stop; rm -rf "$directory"' EXIT
ulimit -n "$(ulimit -Hn)"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=ws://127.0.0.1:$port
until_it_listens() {
    python3 - "$port" <<'PYTHON'
import socket, sys, time
end = time.monotonic() + 30
while True:
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)
        break
    except OSError:
        if time.monotonic() > end:
            sys.exit("the relay does not listen after 30 s")
        time.sleep(0.05)
PYTHON
}

start_strfry() { # start_strfry DATABASE
    cat >"$directory/strfry.conf" <<CONF
db = "$1/"
events { rejectEventsOlderThanSeconds = 946080000 }
relay { bind = "127.0.0.1" port = $port nofiles = $(ulimit -n) }
CONF
    "$strfry" --config "$directory/strfry.conf" relay >"$reports/strfry.log" 2>&1 &
    running=$!
    until_it_listens
}
start_skein() { # start_skein DATABASE
    RELAY_DATABASE_URLS=sqlite://$1/relay.db RELAY_LISTEN=127.0.0.1:$port RELAY_ADMIN_LISTEN=127.0.0.1:0 \
        relay serve >"$reports/skein.log" 2>&1 &
    running=$!
    until_it_listens
}
measure() { # measure NAME: on a file with the events, then the standard load on a fresh one
    echo "== $1"
    "start_$1" "$directory/$1"
    loadtest bench --url "$url" --pid "$running" --events "$events" --rounds "$rounds" --only query,live,publish \
        --json "$reports/$1.json"
    stop
    "start_$1" "$directory/$1-fresh"
    # A verdict with faults is a result, too.
    loadtest --url "$url" --connections 1000 --duration 40s --rate 100 --report "$reports/$1-load" || true
    stop
}

mkdir "$directory"/{strfry,strfry-fresh,skein,skein-fresh}
loadtest fill --events "$events" --out "$directory/events.jsonl"
start_strfry "$directory/strfry" # for its configuration file
stop
"$strfry" --config "$directory/strfry.conf" import --no-verify <"$directory/events.jsonl" >"$reports/strfry.log" 2>&1
RELAY_DATABASE_URLS=sqlite://$directory/skein/relay.db relay import --no-verify "$directory/events.jsonl"
measure strfry
measure skein
echo "the figures are in $reports"
