#!/usr/bin/env bash
# Pods of `strata cri --cni` on a network of Debian's plugins (bridge, host-local, portmap, loopback), in a network
# namespace of its own: addresses, ports of the host, restarts, broken plugins, a crash in the middle.
#   STRATA=path   the binary
# Needs root, and what critest builds. The last line is `interop: N passed, N failed, N skipped`.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
: "${STRATA:?the binary to test}"
STRATA="$(realpath "$STRATA")"
export STRATA PATH="$PATH:/usr/sbin:/sbin"
# Links, rules and the registry are gone with the namespace.
[ -n "${STRATA_CNI_INSIDE:-}" ] || STRATA_CNI_INSIDE=1 exec unshare --net "$0" "$@"
busybox ip link set lo up
cache="${XDG_CACHE_HOME:-$HOME/.cache}/strata/critest"
crictl="$cache/bin/crictl"
[ -x "$crictl" ] && [ -x "$cache/bin/crane" ] || { echo "make critest first: it builds crictl and the images"; exit 1; }
for program in iptables curl; do command -v $program >/dev/null || { echo "$program is missing"; exit 1; }; done
[ -x /usr/lib/cni/bridge ] || { echo "containernetworking-plugins is missing"; exit 1; }
data="$(mktemp -d /tmp/strata-cni-XXXXXX)"
chmod 711 "$data"
out="${INTEROP_OUT:-$data/out}"
mkdir -p "$out" "$data/conf" "$data/bin"
socket="$data/cri.sock"
. "$here/../registry.sh"
server=
cleanup() {
  for process in "$server" "${registry:-}"; do
    [ -z "$process" ] || kill "$process" 2>/dev/null || true
    [ -z "$process" ] || wait "$process" 2>/dev/null || true
  done
  "$STRATA" reset --data-dir "$data/cri" >/dev/null || true
  for pin in /run/netns/cni-*; do
    [ ! -e "$data/pins" ] || ! grep -qxF "$pin" "$data/pins" || { umount -l "$pin" 2>/dev/null || true; rm -f "$pin"; }
  done
  rm -rf --one-file-system "$data"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

printf 'timeout: 60\n' > "$data/crictl.yaml"
cri() { timeout 100 "$crictl" --config "$data/crictl.yaml" --runtime-endpoint "unix://$socket" --image-endpoint "unix://$socket" "$@"; }
start_server() {
  "$STRATA" --log "${STRATA_LOG:-info}" cri --listen "unix://$socket" --data-dir "$data/cri" --registry-hosts "$out/hosts" \
    --cni --cni-conf-dir "$data/conf" --cni-bin-dir "$data/bin,/usr/lib/cni" >> "$out/server.log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    ! cri version >/dev/null 2>&1 || return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  tail -3 "$out/server.log"
  exit 1
}
end_server() { kill "-$1" "$server"; wait "$server" 2>/dev/null || true; server=; }

# network VERSION [PLUGIN…]: the configuration, with more plugins at its end
network() {
  local version=$1 more=
  shift
  for plugin in "$@"; do more="$more, $plugin"; done
  cat > "$data/draft" <<JSON
{ "cniVersion": "$version", "name": "pods", "plugins": [
  { "type": "bridge", "bridge": "cnitest0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
    "ipam": { "type": "host-local", "ranges": [ [ { "subnet": "10.79.0.0/24" } ] ], "routes": [ { "dst": "0.0.0.0/0" } ], "dataDir": "$data/ipam" } },
  { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true }$more ] }
JSON
  mv "$data/draft" "$data/conf/10-pods.conflist"
}
leases() { find "$data/ipam/pods" -name '10.*' 2>/dev/null | wc -l; }
links() { busybox ip -o link show master cnitest0 2>/dev/null | wc -l; }
# What is left of pods: addresses, links, names of namespaces, records.
left() { echo "$(leases) $(ls /sys/class/net/cnitest0/brif 2>/dev/null | wc -l) $(ls "$data/cri/cni" | wc -l)"; }
pod() {
  cat > "$data/pod.json" <<JSON
{ "metadata": { "name": "$1", "uid": "$1-uid", "namespace": "default", "attempt": 0 }, "log_directory": "$data/logs",
  "port_mappings": [ { "container_port": 8080, "host_port": 12080 } ], "linux": {} }
JSON
  cri runp "$data/pod.json"
}
address() { cri inspectp "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["status"]["network"]["ip"])'; }
state() { cri inspectp "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["status"]["state"])'; }
soon() { for _ in $(seq 100); do ! "$@" >/dev/null 2>&1 || return 0; sleep 0.1; done; "$@"; }

passed=0 failed=0
is() { # NAME EXPECTED FOUND
  if [[ "$3" == $2 ]]; then passed=$((passed + 1)); echo "passed $1"; else failed=$((failed + 1)); echo "failed $1: expected $2, found $3"; fi
}

serve_registry "$cache/registry" "$out"
"$here/../critest/images.sh" "$cache" "$port"
mirror_hosts "$out/hosts" registry.k8s.io
start_server
image=registry.k8s.io/e2e-test-images/busybox:1.29-2
cri pull "$image" >/dev/null

is "without a configuration the network is not ready" '*cni plugin not initialized*' "$(cri info)"
is "and pods are refused" '*cni plugin not initialized*' "$(pod none 2>&1 || true)"
is "and nothing is left of them" "0 0 0" "$(left)"

cat > "$data/container.json" <<JSON
{ "metadata": { "name": "web" }, "image": { "image": "$image" }, "log_path": "web.log", "linux": {},
  "command": [ "sh", "-c", "mkdir -p /w; echo hello from the pod > /w/index.html; exec busybox httpd -f -p 8080 -h /w" ] }
JSON
for version in 0.3.1 0.4.0 1.0.0; do
  network $version
  [ "$version" != 0.3.1 ] || is "with one it is" '*"NetworkReady"*' "$(cri info | tr -d ' \n' | grep -o '"status":true,"type":"NetworkReady"' || true)"
  id="$(pod web)"
  ip="$(address "$id")"
  echo "/run/netns/cni-$id" >> "$data/pins"
  is "$version: a pod has an address" '10.79.0.*' "$ip"
  container="$(cri create "$id" "$data/container.json" "$data/pod.json")"
  cri start "$container" >/dev/null
  soon curl -sf "http://$ip:8080/" || true
  is "$version: it answers there" 'hello from the pod' "$(curl -s --max-time 5 "http://$ip:8080/" || true)"
  is "$version: and at the host's port" 'hello from the pod' "$(curl -s --max-time 5 "http://127.0.0.1:12080/" || true)"
  end_server KILL
  start_server
  is "$version: a killed server finds it again" "SANDBOX_READY $ip" "$(state "$id") $(address "$id")"
  is "$version: and it answers" 'hello from the pod' "$(curl -s --max-time 5 "http://$ip:8080/" || true)"
  cri stopp "$id" >/dev/null
  is "$version: a stopped pod gives all back" "0 0 0" "$(left)"
  cri rmp "$id" >/dev/null
  is "$version: and its namespace has no name any more" 0 "$(find /run/netns -name "cni-$id" | wc -l)"
  is "$version: nor do its ports lead anywhere" '' "$(curl -s --max-time 2 "http://127.0.0.1:12080/" || true)"
done

# This portmap looks for rules of IPv6 where pods have none, and says so: CHECK is run, and the others are content.
is "plugins were asked for the pods after a restart" 1 "$(grep -c 'not as it was.*portmap.*(check)' "$out/server.log" | sed 's/[1-9].*/1/')"
is "and found them as they were" 0 "$(grep 'not as it was' "$out/server.log" | grep -vc portmap || true)"

# A plugin that is nowhere, and one that refuses: nothing is left of what the others did.
network 1.0.0 '{ "type": "nowhere" }'
is "a plugin that is missing is named" '*failed to find plugin*nowhere*' "$(cri info)"
network 1.0.0 '{ "type": "refuse" }'
printf '#!/bin/sh\n[ "$CNI_COMMAND" != ADD ] || { echo "{\\"code\\": 11, \\"msg\\": \\"not today\\"}"; exit 1; }\n' > "$data/bin/refuse"
chmod 755 "$data/bin/refuse"
is "a plugin that refuses is heard" '*refuse*failed (add): not today*' "$(pod web 2>&1 || true)"
is "and the others have taken theirs back" "0 0 0" "$(left)"
is "no pod is listed" '' "$(cri pods -q)"

# A plugin whose DEL fails for a while: the pod stays, stopped, until it is taken back.
network 1.0.0 '{ "type": "sticky" }'
cat > "$data/bin/sticky" <<SH
#!/bin/sh
case "\$CNI_COMMAND" in
  DEL) [ ! -e "$data/sticky" ] || { echo '{"code": 11, "msg": "not yet"}'; exit 1; } ;;
  ADD) python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["prevResult"]))' ;;
esac
SH
chmod 755 "$data/bin/sticky"
touch "$data/sticky"
id="$(pod web)"
is "a stop that a plugin refuses is refused" '*not yet*' "$(cri stopp "$id" 2>&1 || true)"
end_server KILL
start_server
rm "$data/sticky"
cri stopp "$id" >/dev/null
is "and succeeds once the plugin does, also after a crash" "0 0 0" "$(left)"
cri rmp "$id" >/dev/null

# A crash in the middle of ADD.
network 1.0.0 '{ "type": "hang" }'
cat > "$data/bin/hang" <<SH
#!/bin/sh
[ "\$CNI_COMMAND" != ADD ] || { touch "$data/hanging"; exec sleep 30; }
SH
chmod 755 "$data/bin/hang"
pod web >/dev/null 2>&1 & making=$!
soon test -e "$data/hanging"
is "a pod that is being made is not listed" '' "$(cri pods -q)"
end_server KILL
wait "$making" || true
start_server
id="$(cri pods -q)"
is "after a crash in the middle the pod is there, stopped" SANDBOX_NOTREADY "$(state "$id")"
is "and holds no addresses" "0 0 0" "$(left)"
cri stopp "$id" >/dev/null
cri rmp "$id" >/dev/null
is "until it is removed" '' "$(cri pods -q)"
end_server TERM
echo "interop: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
