#!/usr/bin/env bash
# Starts the release build of Ringwood on a free port, runs the client scripts, stops it.
set -euo pipefail
here=$(cd -- "$(dirname -- "$0")" && pwd)
data=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$here/../../target/release/ringwood" server --port "$port" --dir "$data" --loglevel warning &
node=$!
trap 'kill $node 2>/dev/null || true; wait $node || true; rm -rf "$data"' EXIT
for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
done
CLIENTS_RUST=1 "$here/run.sh" 127.0.0.1 "$port" --ringwood
