#!/usr/bin/env bash
# Runs a pod under an upstream kubelet of Kubernetes v1.36.3 that has `strata cri` as its container runtime.
#   STRATA=path   the binary
# Needs root and Go. The last line is `interop: N passed, N failed, N skipped`.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/strata/kubelet"
images="${XDG_CACHE_HOME:-$HOME/.cache}/strata/critest"
bin="$cache/bin"
: "${STRATA:?the binary to test}"
STRATA="$(realpath "$STRATA")"
out="${INTEROP_OUT:-$cache/runs/$(date -u +%Y%m%dT%H%M%S)-$$}"
data="$(mktemp -d /tmp/strata-kubelet-XXXXXX)"
chmod 711 "$data"
name="$(basename "$data")"
socket="$data/cri.sock"
export PATH="$PATH:/usr/sbin:/sbin"
. "$here/../registry.sh"
mkdir -p "$out" "$bin" "$data/manifests"
# What a kubelet sets on the machine, to be set back.
sysctls=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes)
for sysctl in "${sysctls[@]}"; do [ ! -e "/proc/sys/$sysctl" ] || cat "/proc/sys/$sysctl" > "$out/${sysctl//\//.}"; done

cleanup() {
  for process in "${kubelet:-}" "${server:-}" "${registry:-}"; do
    [ -z "$process" ] || kill "$process" 2>/dev/null || true
    [ -z "$process" ] || wait "$process" 2>/dev/null || true
  done
  "$STRATA" reset --data-dir "$data/cri" || true
  awk -v at="$data/" 'index($5, at) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r mount; do umount -l "$mount" || true; done
  for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ ! -d "$hierarchy/$name" ] || find "$hierarchy/$name" -depth -type d -exec rmdir {} \; || true
  done
  for sysctl in "${sysctls[@]}"; do
    [ ! -e "$out/${sysctl//\//.}" ] || cat "$out/${sysctl//\//.}" > "/proc/sys/$sysctl" || true
  done
  rm -rf --one-file-system "$data"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

build() {
  local stamp
  stamp="$(cat "$here/../../conformance/go.sum" | sha256sum) $(go version)"
  [ "$(cat "$cache/programs.stamp" 2>/dev/null)" != "$stamp" ] || return 0
  echo "building the kubelet (minutes when nothing is cached)"
  local version=k8s.io/component-base/version
  (cd "$here/../../conformance" && CGO_ENABLED=0 nice go build -mod=readonly -trimpath -buildvcs=false -o "$bin/kubelet" \
    -ldflags "-s -w -X $version.gitVersion=v1.36.3 -X $version.gitMajor=1 -X $version.gitMinor=36" k8s.io/kubernetes/cmd/kubelet)
  echo "$stamp" > "$cache/programs.stamp"
}

# free PORT: the first port from there on that nobody listens on
free() {
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}

# The images of critest, made if that has not run yet.
start_registry() {
  serve_registry "$images/registry" "$out" 5300
  mirror_hosts "$out/hosts" registry.k8s.io
}

# await WHAT COMMAND…: until the command succeeds, for a minute
await() {
  local what=$1
  shift
  for _ in $(seq 300); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.2
  done
  echo "$what: not so within a minute"
  return 1
}

# The kubelet's own root of cgroups, so that nothing of the machine's is touched.
make_cgroups() {
  local hierarchy file
  for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -e "$hierarchy/cgroup.procs" ] && [ ! -L "$hierarchy" ] || continue
    mkdir -p "$hierarchy/$name"
    for file in cpuset.cpus cpuset.mems; do
      [ ! -e "$hierarchy/$file" ] || cat "$hierarchy/$file" > "$hierarchy/$name/$file" || true
    done
  done
}

start_kubelet() {
  make_cgroups
  api=$(free 10350)
  cat > "$out/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$socket
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$name
enforceNodeAllocatable: []
staticPodPath: $data/manifests
podLogsDir: $data/logs
address: 127.0.0.1
port: $api
readOnlyPort: $((api + 1))
healthzPort: 0
authentication: { anonymous: { enabled: true }, webhook: { enabled: false } }
authorization: { mode: AlwaysAllow }
makeIPTablesUtilChains: false
failSwapOn: false
oomScoreAdj: 0
evictionHard: { memory.available: 1Mi, nodefs.available: 1% , imagefs.available: 1% }
localStorageCapacityIsolation: false
fileCheckFrequency: 1s
syncFrequency: 2s
clusterDNS: [ 192.0.2.53 ]
clusterDomain: cluster.local
YAML
  mkdir -p "$data/kubelet"
  "$bin/kubelet" --config "$out/kubelet.yaml" --root-dir "$data/kubelet" --cert-dir "$data/pki" --hostname-override node \
    --v 2 > "$out/kubelet.log" 2>&1 &
  kubelet=$!
  pods="http://127.0.0.1:$((api + 1))/pods"
  await "the kubelet" curl -sf "$pods"
}

passed=0 failed=0
# step NAME COMMAND…
step() {
  if await "$1" "${@:2}"; then passed=$((passed + 1)); echo "passed $1"; else failed=$((failed + 1)); echo "failed $1"; fi
}
pod_is() { curl -sf "$pods" | python3 -c "
import json, sys
pods = [p for p in json.load(sys.stdin)['items'] or [] if p['metadata']['name'].startswith('web')]
sys.exit(not ($1))"; }
kubelet_api() { curl -skf "https://127.0.0.1:$api$1"; }
run() { curl -skf -X POST "https://127.0.0.1:$api/run/default/web-node/web?cmd=$1"; }
says() { grep -qF -- "$2" <<<"$($1)"; }

build
start_registry
[ -x "$images/bin/crane" ] && "$here/../critest/images.sh" "$images" "$port" || { echo "make critest first: it builds the images"; exit 1; }
"$STRATA" --log "${STRATA_LOG:-info}" cri --listen "unix://$socket" --data-dir "$data/cri" --registry-hosts "$out/hosts" > "$out/server.log" 2>&1 &
server=$!
await "the runtime" test -S "$socket"
start_kubelet
host_port=$(free 12100)
sed "s/HOST_PORT/$host_port/" "$here/pod.yaml" > "$data/manifests/web.yaml"
step "the pod runs and is ready" pod_is "pods and pods[0]['status']['phase'] == 'Running' and all(c['ready'] for c in pods[0]['status']['containerStatuses'])"
step "its init container ended first" pod_is "pods[0]['status']['initContainerStatuses'][0]['state']['terminated']['exitCode'] == 0"
step "what the init container wrote is served on a port of the host" says "curl -sf http://127.0.0.1:$host_port/" 'written by init'
step "the log comes through the kubelet" says "kubelet_api /containerLogs/default/web-node/web" 'serving'
step "a command runs through the kubelet" says "run hostname" web-node
step "names are looked up as the kubelet says" says "run cat%20/etc/resolv.conf" nameserver
run rm%20/www/alive >/dev/null
step "a container that is not alive is started again" pod_is "pods[0]['status']['containerStatuses'][0]['restartCount'] >= 1 and 'running' in pods[0]['status']['containerStatuses'][0]['state']"
kill "$server"; wait "$server" 2>/dev/null || true
"$STRATA" --log info cri --listen "unix://$socket" --data-dir "$data/cri" --registry-hosts "$out/hosts" >> "$out/server.log" 2>&1 &
server=$!
step "the pod outlives the runtime's restart, ports included" says "curl -sf http://127.0.0.1:$host_port/" 'written by init'
step "the kubelet finds it again" pod_is "pods[0]['status']['phase'] == 'Running' and pods[0]['status']['containerStatuses'][0]['restartCount'] == 1"
rm "$data/manifests/web.yaml"
step "a pod whose file goes is taken away" pod_is "not pods"
no_sandbox() { [ -z "$("$images/bin/crictl" --runtime-endpoint "unix://$socket" pods -q -s ready)" ]; }
step "nothing of it runs any more" no_sandbox
echo "logs: $out"
echo "interop: $passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
