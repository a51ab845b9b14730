#!/bin/sh
# Runs one PostgreSQL server while its owner holds the other end of standard input.
# However the owner ends, its end of the pipe is closed. The server is then stopped,
# and this directory is removed.
#
# A line on standard input requests a restart on the same data.
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
# Fails if the owner has ended.
stop_when_asked() {
    read -r _ <&3
    order=$?
    tries=0
    # The file `exited` is the reliable sign, since another process may get the pid. If the
    # directory was removed, only the pid can be checked.
    until [ -e exited ] || ! kill -0 "$1" 2>/dev/null; do
        # The signal is repeated: a process that was forked just now ignores it.
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
    while read -r _ <&3; do :; done # the owner may read the log
fi
cd / && rm -rf "$dir"
