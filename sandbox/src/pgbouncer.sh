#!/bin/sh
# Runs one PgBouncer while its owner holds the other end of standard input, then
# removes this directory.
#
# usage: pgbouncer.sh PROGRAM, in the directory that holds `pgbouncer.ini`

dir=$PWD
exec 3<&0 </dev/null

"$1" pgbouncer.ini 3<&- &
bouncer=$!
while read -r _ <&3; do :; done
kill -KILL "$bouncer" 2>/dev/null
wait "$bouncer"
cd / && rm -rf "$dir"
