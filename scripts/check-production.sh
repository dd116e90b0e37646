#!/usr/bin/env bash
# Has the production files and the alerts read by the tools that know them. That they are what the cluster file renders to is a test's
# work (haproxy/tests/model.rs).
set -euo pipefail
cd "$(dirname "$0")/../deploy/production"

check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
kubernetes-validate --strict --quiet kubernetes.yaml
for script in *.sh; do bash -n "$script"; done

# systemd wants the programs to be there: something that is stands in for them.
units=$(mktemp -d)
trap 'rm -r "$units"' EXIT
for unit in *.service; do
    sed -E 's#^(Exec[A-Za-z]+=)/usr/(local/bin/relay|sbin/haproxy)#\1/bin/true#' "$unit" >"$units/$unit"
done
# A template is checked as one of its instances.
mv "$units/skein-relay@.service" "$units/skein-relay@relay-1.service"
# It only mentions most faults, and succeeds.
said=$(systemd-analyze verify "$units"/*.service 2>&1) || { echo "$said" >&2; exit 1; }
if grep "$units" <<<"$said" >&2; then exit 1; fi

# Prometheus finds its rules beside its configuration.
cp prometheus.yaml ../observe/rules.yaml "$units"
(cd "$units" && promtool check config prometheus.yaml >/dev/null)
promtool test rules ../observe/rules.test.yaml >/dev/null

# Only where Docker's tools are.
if docker compose version >/dev/null 2>&1; then
    POSTGRES_PASSWORD=x REPLICATION_PASSWORD=x docker compose -f compose.yaml config --quiet
elif command -v docker-compose >/dev/null; then
    POSTGRES_PASSWORD=x REPLICATION_PASSWORD=x docker-compose -f compose.yaml config --quiet
fi
