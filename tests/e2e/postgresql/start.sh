#!/bin/sh
# Make the database that was asked for, if there is none; listen by TCP only once it is made.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
    initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile /tmp/password --auth-host scram-sha-256 --auth-local trust \
        --no-sync > /dev/null
    rm /tmp/password
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    pg_ctl --pgdata "$PGDATA" --wait --options '-c listen_addresses= -k /tmp' start > /dev/null
    createdb --host /tmp --username "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --pgdata "$PGDATA" --wait --mode fast stop > /dev/null
fi
exec postgres -D "$PGDATA" -c 'listen_addresses=*' -k /tmp
