#!/usr/bin/env bash
# Measures sandboxes and containers through the container runtime interface with critest's own benchmarks: `strata cri`
# and Debian's containerd in turn, each idle while the other runs. Medians, in milliseconds.
#   STRATA=path   the binary      SAMPLES=50
# Needs root, Go, and the packages containerd, runc and containernetworking-plugins; `run.sh` first, for the programs.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/strata/critest"
bin="$cache/bin"
: "${STRATA:?the binary to test}" "${SAMPLES:=50}"
STRATA="$(realpath "$STRATA")"
data="$(mktemp -d /tmp/strata-cribench-XXXXXX)"
export PATH="$PATH:/usr/sbin:/sbin"
for program in "$bin/critest.test" "$(command -v containerd)" /usr/lib/cni/bridge; do
  [ -x "$program" ] || { echo "$program is missing"; exit 1; }
done

cleanup() {
  for process in "${server:-}" "${registry:-}"; do
    [ -z "$process" ] || kill "$process" 2>/dev/null || true
    [ -z "$process" ] || wait "$process" 2>/dev/null || true
  done
  "$STRATA" reset --data-dir "$data/cri" || true
  ip link delete cribench0 2>/dev/null || true
  awk -v at="$data/" 'index($5, at) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r mount; do umount -l "$mount" || true; done
  rm -rf --one-file-system "$data"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

. "$here/../registry.sh"
serve_registry "$cache/registry" "$data" 5400
"$here/images.sh" "$cache" "$port"
mkdir -p "$data"/{hosts/registry.k8s.io,cni,roots/pause}
printf 'server = "http://localhost:%s"\n[host."http://localhost:%s"]\n  capabilities = ["pull", "resolve"]\n' "$port" "$port" \
  > "$data/hosts/registry.k8s.io/hosts.toml"
upstream="$(cd "$here/../../conformance" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)"
gcc -Os -static -s -DVERSION=3.10.2 -o "$data/roots/pause/pause" "$upstream/build/pause/linux/pause.c"
work="$data/roots" registry_of="localhost:$port"
(registry="$registry_of"; . "$here/../../images/functions.sh"; image pause:3.10.2 pause --user 65535:65535 --entrypoint /pause)
cat > "$data/cni/net.conflist" <<JSON
{ "cniVersion": "0.4.0", "name": "bench", "plugins": [ { "type": "bridge", "bridge": "cribench0", "isGateway": true,
  "ipam": { "type": "host-local", "ranges": [ [ { "subnet": "10.77.0.0/16" } ] ], "dataDir": "$data/ipam" } } ] }
JSON
cat > "$data/containerd.toml" <<TOML
version = 2
root = "$data/containerd"
state = "$data/containerd-run"
[grpc]
  address = "$data/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10.2"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$data/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$data/hosts"
TOML
printf 'podsNumber: %s\npodsNumberParallel: 1\ncontainersNumber: %s\ncontainersNumberParallel: 1\n' "$SAMPLES" "$SAMPLES" > "$data/parameters.yaml"

# measure NAME SOCKET: runs the benchmarks against whoever listens there
measure() {
  for _ in $(seq 100); do "$bin/crictl" --runtime-endpoint "unix://$2" info >/dev/null 2>&1 && break; sleep 0.1; done
  "$bin/crictl" --runtime-endpoint "unix://$2" pull registry.k8s.io/e2e-test-images/busybox:1.29-2 >/dev/null
  mkdir -p "$data/$1"
  "$bin/critest.test" -benchmark -benchmarking-params-file "$data/parameters.yaml" -benchmarking-output-dir "$data/$1" \
    --runtime-endpoint="unix://$2" --image-endpoint="unix://$2" > "$data/$1.log" 2>&1 || { tail -30 "$data/$1.log"; exit 1; }
  kill "$server"
  wait "$server" 2>/dev/null || true
  server=
}

"$STRATA" --log warn cri --listen "unix://$data/cri.sock" --data-dir "$data/cri" --registry-hosts "$data/hosts" 2>"$data/strata.err" &
server=$!
measure strata "$data/cri.sock"
containerd --config "$data/containerd.toml" > "$data/containerd.log" 2>&1 &
server=$!
measure containerd "$data/containerd.sock"
python3 - "$data" <<'PYTHON'
import json, statistics, sys
def medians(name):
    found = {}
    for file in ("pod", "container"):
        results = json.load(open(f"{sys.argv[1]}/{name}/{file}_benchmark_data.json"))
        for index, operation in enumerate(results["operationsNames"]):
            found[operation] = statistics.median(d["operationsDurationsNs"][index] for d in results["datapoints"]) / 1e6
    return found
ours, theirs = medians("strata"), medians("containerd")
print("| through CRI | strata | containerd | ratio |\n|---|---|---|---|")
for operation, time in ours.items():
    print(f"| {operation} | {time:.2f} ms | {theirs[operation]:.2f} ms | {time / theirs[operation]:.2f}x |")
PYTHON
