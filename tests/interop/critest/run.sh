#!/usr/bin/env bash
# Runs the validation suite of cri-tools, and crictl by a script, against `strata cri`.
#   STRATA=path    the binary                 FOCUS=regex   only names that match (CRITEST.md stays as it is)
#   PROCS=4        specs at a time            TIMEOUT=30m
# Needs root and Go. The last line is `interop: N passed, N failed, N skipped`; the exit code is 0 when nothing
# fails but what needs the image that is pinned by its digest.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/strata/critest"
bin="$cache/bin"
: "${STRATA:?the binary to test}" "${FOCUS:=}" "${PROCS:=4}" "${TIMEOUT:=30m}"
STRATA="$(realpath "$STRATA")"
out="${INTEROP_OUT:-$cache/runs/$(date -u +%Y%m%dT%H%M%S)-$$}"
data="$(mktemp -d /tmp/strata-critest-XXXXXX)"
# Root of a user namespace has to reach its root file system.
chmod 711 "$data"
socket="$data/cri.sock"
export PATH="$PATH:/usr/sbin:/sbin"
. "$here/../registry.sh"
mkdir -p "$out" "$bin"

cleanup() {
  for process in "${suite:-}" "${server:-}" "${registry:-}"; do
    [ -z "$process" ] || kill "$process" 2>/dev/null || true
  done
  [ -z "${server:-}" ] || wait "$server" 2>/dev/null || true
  "$STRATA" reset --data-dir "$data" || true
  rm -rf --one-file-system "$data"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

build() {
  export GONOSUMDB='sigs.k8s.io/cri-tools,k8s.io/*' CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath -buildvcs=false"
  cd "$here"
  nice go build -o "$bin/report" ./report
  local stamp
  stamp="$(cat go.mod go.sum | sha256sum) $(go version)"
  if [ "$(cat "$cache/programs.stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "building critest and crictl"
    nice go build -ldflags '-s -w' -o "$bin/ginkgo" github.com/onsi/ginkgo/v2/ginkgo
    nice go build -ldflags '-s -w' -o "$bin/crictl" sigs.k8s.io/cri-tools/cmd/crictl
    nice go test -c -ldflags '-s -w' -o "$bin/critest.test" sigs.k8s.io/cri-tools/cmd/critest
    cd "$here/../../conformance"
    nice go build -ldflags '-s -w' -o "$bin/crane" github.com/google/go-containerregistry/cmd/crane
    nice go build -ldflags '-s -w' -o "$bin/nnp" k8s.io/kubernetes/test/images/nonewprivs
    echo "$stamp" > "$cache/programs.stamp"
  fi
}

# A registry of the images; its content stays in the cache. What the suite takes from the world's registries
# comes from there.
start_registry() {
  serve_registry "$cache/registry" "$out"
  mirror_hosts "$out/hosts" registry.k8s.io gcr.io
}

start_server() {
  "$STRATA" --log "${STRATA_LOG:-info}" cri --listen "unix://$socket" --data-dir "$data" --registry-hosts "$out/hosts" \
    > "$out/server.log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    "$bin/crictl" --runtime-endpoint "unix://$socket" version >/dev/null 2>&1 && return
    kill -0 "$server" || { tail -3 "$out/server.log"; exit 1; }
    sleep 0.1
  done
  echo "the server does not answer: $out/server.log"; exit 1
}

build
start_registry
"$here/images.sh" "$cache" "$port"
start_server
focus=()
[ -z "$FOCUS" ] || focus=("--focus=$FOCUS")
"$bin/ginkgo" run --procs="$PROCS" --timeout="$TIMEOUT" --no-color --skip=benchmark "${focus[@]}" \
  --output-dir="$out" --json-report=critest.json "$bin/critest.test" -- \
  --runtime-endpoint="unix://$socket" --image-endpoint="unix://$socket" > "$out/critest.log" 2>&1 &
suite=$!
wait "$suite" || true
suite=
[ -s "$out/critest.json" ] || { tail -20 "$out/critest.log"; echo "the suite did not run: $out/critest.log"; exit 1; }
failed=0
if [ -z "$FOCUS" ]; then
  "$here/crictl.sh" "$bin/crictl" "unix://$socket" "$data" > "$out/crictl.log" 2>&1 || { tail -5 "$out/crictl.log"; failed=1; }
fi
echo "logs: $out"
results=()
[ -n "$FOCUS" ] || results=(--results "$here/../CRITEST.md" --commit "$(git -C "$here" rev-parse --short HEAD)" --crictl "$failed")
"$bin/report" "${results[@]}" "$out/critest.json"
exit "$failed"
