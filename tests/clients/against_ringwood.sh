#!/usr/bin/env bash
# Starts the release build of Ringwood on free ports, alone and as a cluster of three nodes, runs the
# client scripts, stops it; then sessions of web applications while nodes are killed. Compares how many checks
# have passed with counts.md.
set -euo pipefail
here=$(cd -- "$(dirname -- "$0")" && pwd)
data=$(mktemp -d)
nodes=()
trap 'kill "${nodes[@]}" 2>/dev/null || true; wait || true; rm -rf "$data"' EXIT

# A port that is free on 127.0.0.1 to 127.0.0.3.
free_port() {
    python3 - <<'PYTHON'
import socket
while True:
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            for host in ("127.0.0.2", "127.0.0.3"):
                with socket.socket() as other:
                    other.bind((host, port))
        except OSError:
            continue
        print(port)
        break
PYTHON
}

start() { # HOST PORT FLAGS...
    "$here/../../target/release/ringwood" server --bind "$1" --port "$2" --dir "$data/$1-$2" \
        --loglevel warning "${@:3}" &
    nodes+=($!)
    for _ in $(seq 100); do
        (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null && return
        sleep 0.1
    done
}

# Waits until a node has three members that answer.
knows_three() {
    python3 - "$1" "$2" <<'PYTHON'
import socket, sys, time
host, port = sys.argv[1], int(sys.argv[2])
for _ in range(300):
    with socket.create_connection((host, port), 5) as node:
        node.sendall(b"CLUSTER INFO\r\n")
        if b"cluster_answering_nodes:3" in node.recv(65536):
            sys.exit()
    time.sleep(0.1)
sys.exit(f"{host}:{port} does not find the others")
PYTHON
}

cache=${CLIENTS_CACHE:-$here/../../target/clients}
mkdir -p "$cache"
export CLIENTS_COUNTS=$data/counts

port=$(free_port)
start 127.0.0.1 "$port"
CLIENTS_RUST=1 "$here/run.sh" 127.0.0.1 "$port" --ringwood

port=$(free_port) peer_port=$(free_port)
for host in 127.0.0.1 127.0.0.2 127.0.0.3; do
    start "$host" "$port" --cluster-enabled yes --cluster-secret clients --peer-bind "$host" \
        --peer-port "$peer_port" --seeds "127.0.0.1:$peer_port" --node-name "$host"
done
for host in 127.0.0.1 127.0.0.2 127.0.0.3; do
    knows_three "$host" "$port"
done
CLIENTS_RUST=1 "$here/run.sh" 127.0.0.2 "$port" --cluster

PYTHONDONTWRITEBYTECODE=1 "$cache/venv/bin/python" "$here/sessions.py" "$here/../../target/release/ringwood" "$cache/node" |
    tee "$data/sessions"
sed -n 's/^sessions: \([0-9]*\) passed, 0 failed$/killed sessions \1/p' "$data/sessions" >>"$CLIENTS_COUNTS"
python3 "$here/counts.py" "$CLIENTS_COUNTS"
