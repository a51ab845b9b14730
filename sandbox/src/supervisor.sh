#!/bin/sh
# Runs one PostgreSQL server for as long as its owner holds the other end of
# standard input. The owner may be killed in any way: its end is closed then,
# and the server goes, and this directory with it.
#
# A line on standard input asks for a restart on the same data.
#
# usage: supervisor.sh BINDIR, in the directory that holds `sandbox.conf` and `password`

bin=$1
dir=$PWD
exec 3<&0 </dev/null

create_cluster() {
    "$bin/initdb" --pgdata=data --no-sync --username=postgres --pwfile=password \
        --encoding=UTF8 --locale=C --auth-local=trust --auth-host=scram-sha-256 &&
        echo "include '../sandbox.conf'" >>data/postgresql.conf
}

# Waits for the owner, then stops the server at once, whatever its sessions do.
# Fails when the owner is gone.
stop_when_asked() {
    read -r _ <&3
    order=$?
    tries=0
    # Without the directory nobody can say that it has exited, and its pid may be another's.
    until [ -e exited ] || ! kill -0 "$1" 2>/dev/null; do
        # More than once: a process that was forked just now ignores the signal.
        signal=QUIT
        [ "$tries" -lt 500 ] || signal=KILL
        kill "-$signal" "$1" 2>/dev/null
        tries=$((tries + 1))
        sleep 0.02
    done
    return "$order"
}

serve() {
    rm -f exited
    "$bin/postgres" -D "$dir/data" 3<&- &
    server=$!
    stop_when_asked "$server" &
    owner=$!
    wait "$server"
    echo "$server" >exited
    wait "$owner"
}

if create_cluster; then
    while serve; do :; done
else
    echo initdb >exited
    while read -r _ <&3; do :; done # the owner may want to read the log
fi
cd / && rm -rf "$dir"
