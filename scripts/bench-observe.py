#!/usr/bin/env python3
"""What observing costs: the relay's processor time for each delivered event, with everything on against off.

Pairs of runs, interleaved, each on a fresh relay with an empty SQLite file: off is observe.metrics = false and no journey
sampled; on is the defaults, and asks /metrics and /cluster.json every second, as Prometheus and an open dashboard do. Fails
where the median ratio is above --most, and by more than the pairs differ: so is the lower end of its 95 % interval. Takes
about four minutes.
Usage: scripts/bench-observe.py [--pairs 10] [--most 1.03] [--relay PATH] [--loadtest PATH]"""

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


def wait_until_ready(admin, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit("the relay ended")
        try:
            get(f"{admin}/ready")
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the relay was not ready within a minute")


def run(options, observed):
    """Microseconds of the relay's processor for each delivery."""
    with tempfile.TemporaryDirectory() as folder:
        listen, admin_port = free_port(), free_port()
        admin = f"http://127.0.0.1:{admin_port}"
        settings = {
            "RELAY_LISTEN": f"127.0.0.1:{listen}",
            "RELAY_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
            "RELAY_OBSERVE_METRICS": "true" if observed else "false",
        } | ({} if observed else {"RELAY_OBSERVE_SAMPLE_PERCENT": "0"})
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RELAY_")} | settings
        with open(f"{folder}/relay.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen([options.relay, "serve"], cwd=folder, env=environment, stderr=log)
        try:
            wait_until_ready(admin, process)
            over, looks = threading.Event(), []

            def watch():
                while observed and not over.wait(1.0):
                    looks.append(len(get(f"{admin}/metrics")))
                    get(f"{admin}/cluster.json?since={int(time.time() * 1000) - 15000}")

            watcher = threading.Thread(target=watch)
            watcher.start()
            command = [options.loadtest, "bench", "--url", f"ws://127.0.0.1:{listen}", "--pid", str(process.pid)]
            command += ["--only", "live", "--rounds", "4", "--seconds", "1", "--subscribers", str(options.subscribers)]
            command += ["--events", "1000", "--authors", "1000", "--json", f"{folder}/bench.json"]
            loaded = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            over.set()
            watcher.join()
            if loaded.returncode:
                sys.exit(f"{' '.join(command)}:\n{loaded.stdout}")
            if observed and len(looks) < 3:
                sys.exit(f"only {len(looks)} looks at the relay: on was not on")
            with open(f"{folder}/bench.json", encoding="utf-8") as file:
                rows = json.load(file)["rows"]
            # The flood, whose deliveries are what the processor is busy with.
            return next(row["server_cpu_us"] for row in rows if row["server_cpu_us"] and "flood" in row["name"])
        finally:
            process.kill()
            process.wait()


def interval(values):
    """The values between which their median lies in 95 of 100 cases, whatever their distribution (by the sign test)."""
    ordered, tail, out = sorted(values), 0.0, -1
    for k in range(len(ordered) // 2):
        tail += math.comb(len(ordered), k) / 2 ** len(ordered)
        if tail > 0.025:
            break
        out = k
    if out < 0:
        return -math.inf, math.inf
    return ordered[out], ordered[-1 - out]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--most", type=float, default=1.03)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--relay", default="target/release/relay")
    parser.add_argument("--loadtest", default="target/release/loadtest")
    options = parser.parse_args()
    options.relay, options.loadtest = os.path.abspath(options.relay), os.path.abspath(options.loadtest)
    ratios = []
    for pair in range(options.pairs):
        # Each comes first in turn, so that a machine that slows down favours neither.
        order = (False, True) if pair % 2 == 0 else (True, False)
        cost = {observed: run(options, observed) for observed in order}
        ratios.append(cost[True] / cost[False])
        print(f"pair {pair + 1}: off {cost[False]:.2f} µs, on {cost[True]:.2f} µs, ratio {ratios[-1]:.3f}", flush=True)
    median = statistics.median(ratios)
    low, high = interval(ratios)
    print(f"median ratio {median:.3f}, 95 % of cases {low:.3f} to {high:.3f}, all {min(ratios):.3f} to {max(ratios):.3f}")
    if median <= options.most:
        print(f"at most {options.most}, as asked for")
        return 0
    beyond = low > options.most
    print(f"above {options.most}" + ("" if beyond else ", but not by more than the pairs differ"))
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
