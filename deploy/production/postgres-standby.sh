#!/bin/bash
# Runs a standby: copies the primary when there is no complete copy yet.
set -euo pipefail
# What a copy moves here last: a copy that was broken off lacks it.
if [ ! -e "$PGDATA/global/pg_control" ]; then
    find "$PGDATA" -mindepth 1 -delete
    copy=$PGDATA/copy slot=${SKEIN_STANDBY//-/_}
    # The copy makes its slot; one that a broken-off copy has left is taken again.
    pg_basebackup -h primary -U replicator -D "$copy" -R -X stream -C -S "$slot" ||
        pg_basebackup -h primary -U replicator -D "$copy" -R -X stream -S "$slot"
    find "$copy" -mindepth 1 -maxdepth 1 ! -name global -exec mv -t "$PGDATA" {} +
    mv "$copy/global" "$PGDATA" && rmdir "$copy"
    chmod 700 "$PGDATA"
fi
exec postgres -c config_file=/etc/skein/replica.conf -c listen_addresses='*' -c cluster_name="$SKEIN_STANDBY"
