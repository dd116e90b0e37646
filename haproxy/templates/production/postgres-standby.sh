#!/bin/bash
# Runs a standby: copies the primary when there are no data yet.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    slot=${SKEIN_STANDBY//-/_}
    # The copy makes its slot; one that a broken-off copy has left is taken again.
    pg_basebackup -h primary -U replicator -D "$PGDATA" -R -X stream -C -S "$slot" ||
        pg_basebackup -h primary -U replicator -D "$PGDATA" -R -X stream -S "$slot"
    chmod 700 "$PGDATA"
fi
exec postgres -c config_file=/etc/skein/replica.conf -c listen_addresses='*' -c cluster_name="$SKEIN_STANDBY"
