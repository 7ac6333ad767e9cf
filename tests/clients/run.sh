#!/bin/sh
# Runs the client scripts against a server: run.sh HOST PORT [--ringwood | --cluster]
#
# With --cluster the server is one of three nodes on 127.0.0.1 to 127.0.0.3 with the same port, and the
# cluster-aware clients are run. What passed is added to the file $CLIENTS_COUNTS, where that is set.
# All databases of that server are emptied. The pinned libraries go into $CLIENTS_CACHE (default:
# target/clients of the repository) once. CLIENTS_RUST=1 also builds and runs redis_rs.
set -eu

if [ $# -lt 2 ]; then
    echo "usage: $0 HOST PORT [--ringwood | --cluster]" >&2
    exit 2
fi
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache=${CLIENTS_CACHE:-$here/../../target/clients}
mkdir -p "$cache/node"
cache=$(CDPATH='' cd -- "$cache" && pwd)
export PYTHONDONTWRITEBYTECODE=1

# Installs again only when the pinned versions have changed.
if ! cmp -s "$here/requirements.txt" "$cache/venv/requirements.txt"; then
    python3 -m venv --clear "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$cache/venv/"
fi
# Node looks for node_modules next to the script, so the scripts run as copies.
cp -r "$here"/*.mjs "$here/sessions" "$here/package.json" "$here/package-lock.json" "$cache/node/"
if ! cmp -s "$here/package-lock.json" "$cache/node/node_modules/.pinned"; then
    (cd "$cache/node" && npm ci --silent --no-audit --no-fund >&2)
    cp "$here/package-lock.json" "$cache/node/node_modules/.pinned"
fi

passed=0 failed=0
where=one
[ "${3:-}" != --cluster ] || where=three
# Runs one script, shows its output and adds up its summary line `NAME: N passed, M failed`.
run() {
    name=$1
    shift
    "$@" >"$cache/summary" || true
    cat "$cache/summary"
    counts=$(sed -n "s/^$name: \([0-9]*\) passed, \([0-9]*\) failed\$/\1 \2/p" "$cache/summary")
    if [ -z "$counts" ]; then
        echo "$name: no summary line, counted as one failure"
        counts="0 1"
    fi
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    [ -z "${CLIENTS_COUNTS:-}" ] || echo "$where $name ${counts% *}" >>"$CLIENTS_COUNTS"
}

rust() {
    name=$1
    shift
    if [ "${CLIENTS_RUST:-0}" = 1 ]; then
        run "$name" env CARGO_TARGET_DIR="$cache/rust" cargo run --quiet --release \
            --manifest-path "$here/redis_rs/Cargo.toml" --bin "$name" -- "$@"
    fi
}
if [ "${3:-}" = --cluster ]; then
    run redis_py_cluster "$cache/venv/bin/python" "$here/redis_py_cluster.py" "$1" "$2"
    run ioredis_cluster node "$cache/node/ioredis_cluster.mjs" "$1" "$2"
    run scripts_py "$cache/venv/bin/python" "$here/scripts.py" "$1" "$2" --cluster
    run scripts_js node "$cache/node/scripts.mjs" "$1" "$2" --cluster
    run streams_py "$cache/venv/bin/python" "$here/streams.py" "$1" "$2" --cluster
    run streams_js node --no-warnings "$cache/node/streams.mjs" "$1" "$2" --cluster
    run phpredis php "$here/phpredis.php" "$@"
    run redis_rb ruby "$here/redis_rb.rb" "$@"
    run cart_example "$cache/venv/bin/python" "$here/cart_example.py" "$@"
    rust redis_rs_cluster "$1" "$2"
else
    run redis_py "$cache/venv/bin/python" "$here/redis_py.py" "$@"
    run redis_py_types "$cache/venv/bin/python" "$here/redis_py_types.py" "$@"
    run django_cache "$cache/venv/bin/python" "$here/django_cache.py" "$@"
    run ioredis node "$cache/node/ioredis.mjs" "$@"
    run ioredis_types node "$cache/node/ioredis_types.mjs" "$@"
    run node_redis node "$cache/node/node_redis.mjs" "$@"
    run node_redis_types node "$cache/node/node_redis_types.mjs" "$@"
    run scripts_py "$cache/venv/bin/python" "$here/scripts.py" "$1" "$2"
    run scripts_js node "$cache/node/scripts.mjs" "$1" "$2"
    run streams_py "$cache/venv/bin/python" "$here/streams.py" "$1" "$2"
    run streams_js node --no-warnings "$cache/node/streams.mjs" "$1" "$2"
    run connect_redis node "$cache/node/connect_redis.mjs" "$@"
    run phpredis php "$here/phpredis.php" "$@"
    run redis_rb ruby "$here/redis_rb.rb" "$@"
    [ "${3:-}" != --ringwood ] || run cart_example "$cache/venv/bin/python" "$here/cart_example.py" "$@"
    rust redis_rs "$@"
fi

echo "clients: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
