#!/usr/bin/env bash
# Runs operators and clients that others wrote, unmodified, each against a fresh control plane.
#   STRATA=path   the binary            ONLY="kopf cert-manager"   only these
# What is fetched and built stays in the cache; all else goes away again.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
: "${STRATA:?the binary to test}" "${ONLY:=cert-manager prometheus kube-rs kopf fabric8}"
STRATA="$(realpath "$STRATA")"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/strata/operators"
out="${OPERATORS_OUT:-$cache/runs/$(date -u +%Y%m%dT%H%M%S)-$$}"
passed=0 failed=0 server=
mkdir -p "$out"

stop_server() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server" || true; fi
  server=
}
trap 'stop_server' EXIT
trap 'exit 130' INT TERM

# A control plane of its own: serve FOLDER
serve() {
  . "$here/lib.sh"
  local port
  port=$(free_port 7700)
  "$STRATA" server --no-node --data-dir "$1/data" --port "$port" --kubeconfig "$1/kubeconfig" > "$1/server.log" 2>&1 &
  server=$!
  eventually 20 "the server answers" curl -skf "https://127.0.0.1:$port/readyz"
}

# One operator or client: one NAME FOLDER
one() {
  mkdir -p "$2"
  CACHE="$cache/$1" OUT="$2" "$here/$1/build.sh" > "$2/build.log" 2>&1 || { echo "$1: not built"; tail -5 "$2/build.log"; return 1; }
  serve "$2" || { echo "$1: no server"; tail -5 "$2/server.log"; return 1; }
  local good=yes
  CACHE="$cache/$1" OUT="$2" KUBECONFIG="$2/kubeconfig" timeout 400 "$here/$1/check.sh" > "$2/check.log" 2>&1 || good=
  stop_server
  [ -n "$good" ] || { echo "$1: failed; logs in $2"; grep -v '^$' "$2/check.log" | tail -5; return 1; }
  rm -rf "$2/data"
  echo "$1: passed"
}

for name in $ONLY; do
  if one "$name" "$out/$name"; then passed=$((passed + 1)); else failed=$((failed + 1)); stop_server; fi
done
echo "operators: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
