#!/usr/bin/env bash
# Runs Kubernetes' conformance suite against a two-node cluster of the given binary.
#   STRATA=path   the binary                     SIG="auth cli"   only these areas
#   FOCUS=regex   only names that match          PROCS=4          specs at a time
#   RERUN=failed  only what RESULTS.md lists as failing           TIMEOUT=3h
#   SHARE=1       the names in share.txt; compares with RESULTS.md instead of writing it
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/strata/conformance"
bin="$cache/bin"
name="conformance-$$"
out="${CONFORMANCE_OUT:-$cache/runs/$(date -u +%Y%m%dT%H%M%S)-$$}"
: "${STRATA:?the binary to test}" "${SIG:=}" "${FOCUS:=}" "${PROCS:=4}" "${RERUN:=}" "${SHARE:=}" "${TIMEOUT:=3h}"
mkdir -p "$out"
STRATA="$(realpath "$STRATA")"

cleanup() {
  # Ginkgo passes no signal on to its workers.
  if [ -n "${suite:-}" ]; then kill -KILL "$suite" $(ps -o pid= --ppid "$suite") 2>/dev/null || true; fi
  "$STRATA" cluster delete "$name" --kubeconfig "$out/kubeconfig" >/dev/null 2>&1 || true
  if [ -n "${registry:-}" ]; then kill "$registry" 2>/dev/null || true; fi
}
trap 'cleanup' EXIT
trap 'exit 130' INT TERM

# A registry of the images; its content stays in the cache.
start_registry() {
  port=5100
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  printf 'version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: 127.0.0.1:%s\n' \
    "$cache/registry" "$port" > "$out/registry.yaml"
  docker-registry serve "$out/registry.yaml" > "$out/registry.log" 2>&1 &
  registry=$!
  for _ in $(seq 100); do
    curl -sf "http://127.0.0.1:$port/v2/" >/dev/null && return
    kill -0 "$registry" || { tail -3 "$out/registry.log"; exit 1; }
    sleep 0.1
  done
  echo "the registry does not answer"; exit 1
}

# What the suite takes from the world's registries comes from there.
mirror() {
  local host
  for host in registry.k8s.io docker.io gcr.io; do
    mkdir -p "$out/hosts/$host"
    printf 'server = "http://localhost:%s"\n' "$port" > "$out/hosts/$host/hosts.toml"
  done
  export STRATA_REGISTRY_HOSTS="$out/hosts"
}

# Which specs: Ginkgo's label filter and focus expressions, shared by both halves of a run.
choose() {
  areas=""
  for area in $SIG; do areas+="${areas:+ || }sig-${area#sig-}"; done
  filter="Conformance${areas:+ && ($areas)}"
  focus=()
  if [ -n "$FOCUS" ]; then focus+=("--focus=$FOCUS"); fi
  if [ "$RERUN" = failed ]; then
    while read -r line; do focus+=("--focus=$line"); done < <("$bin/report" failed "$here/RESULTS.md")
    if [ ${#focus[@]} -eq 0 ]; then echo "nothing is listed as failing"; exit 0; fi
  fi
  if [ -n "$SHARE" ]; then
    while read -r line; do focus+=("--focus=$line"); done < <(grep -v '^#' "$here/share.txt" | sed 's/[][\.*^$()+?{}|]/\\&/g')
  fi
}

# One half: specs HALF PROCS FILTER
specs() {
  echo "running the $1 specs, $2 at a time"
  "$bin/ginkgo" run --procs="$2" --timeout="$TIMEOUT" --no-color --silence-skips --label-filter="$3" "${focus[@]}" \
    --output-dir="$out" --json-report="$1.json" --junit-report="$1.xml" "$bin/e2e.test" -- \
    --provider=skeleton --kubeconfig="$out/kubeconfig" --kubectl-path="$bin/kubectl" --num-nodes=2 \
    --node-os-distro=custom --dump-logs-on-failure=false > "$out/$1.log" 2>&1 &
  suite=$!
  wait "$suite" || true
  suite=
  [ -s "$out/$1.json" ] || { tail -20 "$out/$1.log"; echo "the suite did not run: $out/$1.log"; exit 1; }
  grep -E '^Ran [0-9]+ of' "$out/$1.log" || true
}

"$here/programs.sh" "$cache"
start_registry
"$here/images.sh" "$cache" "$port"
mirror
choose
"$STRATA" cluster create "$name" --nodes 2 --forward "$port" --kubeconfig "$out/kubeconfig"
export KUBECONFIG="$out/kubeconfig"
specs parallel "$PROCS" "$filter && !Serial"
specs serial 1 "$filter && Serial"
cp "${STRATA_CLUSTERS:-/var/lib/strata-clusters}/$name"/*.log "$out" 2>/dev/null || true
echo "logs and junit files: $out"
if [ -n "$SHARE" ]; then
  "$bin/report" share "$here/RESULTS.md" "$here/share.txt" "$out"/{parallel,serial}.json
else
  upstream="$(cd "$here" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)"
  commit="$(git -C "$here" rev-parse --short HEAD)"
  "$bin/report" results "$upstream/test/conformance/testdata/conformance.yaml" "$here/RESULTS.md" "$commit" "$out"/{parallel,serial}.json
fi
