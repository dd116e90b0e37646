#!/usr/bin/env bash
# The whole comparison in one command: a cluster behind HAProxy, with one relay and with three, each under the standard
# load and then under questions alone, with caches cold and warm. The reports lie in target/bench-front. CONNECTIONS,
# DURATION, RATE (events a second; four times as many questions) and EVENTS (stored before) change its size.
set -euo pipefail
cd "$(dirname "$0")/.."
connections=${CONNECTIONS:-1000} duration=${DURATION:-60s} rate=${RATE:-100} events=${EVENTS:-100000}

cargo build --release -p relay -p deploy -p loadtest
export PATH=$PWD/target/release:$PATH
reports=$PWD/target/bench-front
mkdir -p "$reports"
directory=$(mktemp -d /var/tmp/skein-bench-XXXXXX)
# PostgreSQL never runs as root: started by root it runs as the user postgres, who has to get in.
chmod 755 "$directory"
token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
trap 'deploy down --dir "$directory/cluster" --delete; rm -rf "$directory"' EXIT

of() { # of NAME: the URL of a process of the cluster
    deploy status --dir "$directory/cluster" --json |
        python3 -c 'import json, sys; print(next(row["url"] for row in json.load(sys.stdin) if row["name"] == sys.argv[1]))' "$1"
}
admin() { # the first relay's admin listener
    python3 -c 'import json, sys; print("http://127.0.0.1:%d" % json.load(open(sys.argv[1]))["relays"][0]["admin_port"])' \
        "$directory/cluster/cluster.json"
}

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
deploy up --dir "$directory/cluster" --port "$port" --relays 1 --replicas 2 --set "RELAY_ADMIN_TOKEN=$token"
loadtest fill --events "$events" --out "$directory/events.jsonl"
RELAY_DATABASE_URLS=$(of primary) relay import --no-verify "$directory/events.jsonl"

for relays in 1 3; do
    deploy scale --dir "$directory/cluster" --relays "$relays" >/dev/null
    echo "== $relays relays"
    run=(loadtest --url "$(of haproxy)" --connections "$connections" --duration "$duration")
    "${run[@]}" --rate "$rate" --report "$reports/$relays/standard"
    "${run[@]}" --rate "$((4 * rate))" --report "$reports/$relays/query" \
        --workload query --filled "$events" --cache both --admin-url "$(admin)" --admin-token "$token"
done
for load in standard query; do
    both=$reports/$load-one-against-three
    loadtest compare "$reports/1/$load/report.json" "$reports/3/$load/report.json" --out "$both.png" | tee "$both.txt"
done
echo "the reports are in $reports"
