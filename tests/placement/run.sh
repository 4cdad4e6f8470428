#!/usr/bin/env bash
# Random clusters about which kube-scheduler's own plugins and ours are asked [CLUSTERS=500] [SEED=1]; needs Go.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${PLACEMENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/strata-placement}"
mkdir -p "$cache"
cd "$here/oracle"
stamp="$(cat go.mod go.sum ./*.go | sha256sum) $(go version)"
if [ "$(cat "$cache/oracle.stamp" 2>/dev/null)" != "$stamp" ]; then
  echo "building the oracle (minutes when nothing is cached)"
  CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath -buildvcs=false" nice go build -o "$cache/oracle" .
  echo "$stamp" > "$cache/oracle.stamp"
fi
cd "$here/../.."
# Only the whole set of clusters is worth a file.
results=()
[ -n "${CLUSTERS:-}${SEED:-}" ] || results=(--results "$here/RESULTS.md")
exec "${CARGO:-cargo}" run --quiet --locked --package strata-placement -- \
  --oracle "$cache/oracle" --clusters "${CLUSTERS:-500}" --seed "${SEED:-1}" "${results[@]}"
