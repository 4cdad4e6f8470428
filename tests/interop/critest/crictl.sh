#!/usr/bin/env bash
# crictl as people use it: pull, runp, create, start, exec, logs, stats, events, stop, rmp. Every step must do what it says.
set -euo pipefail
crictl="${1:?usage: crictl.sh CRICTL ENDPOINT FOLDER}" endpoint="${2:?}" folder="${3:?}/crictl"
image=registry.k8s.io/e2e-test-images/busybox:1.29-2
cri() { "$crictl" --runtime-endpoint "$endpoint" --image-endpoint "$endpoint" "$@"; }
must() { [[ "$1" == *"$2"* ]] || { echo "expected $2 in: $1"; exit 1; }; }
mkdir -p "$folder"

must "$(cri info)" RuntimeReady
cri pull "$image"
must "$(cri images)" e2e-test-images/busybox
must "$(cri inspecti "$image")" '"repoTags"'
must "$(cri imagefsinfo)" usedBytes
cat > "$folder/pod.json" <<JSON
{ "metadata": { "name": "people", "uid": "people-uid", "namespace": "default", "attempt": 1 }, "hostname": "people-host",
  "log_directory": "$folder/logs", "port_mappings": [ { "container_port": 8080, "host_port": 12080 } ],
  "dns_config": { "servers": [ "192.0.2.1" ] }, "linux": {} }
JSON
cat > "$folder/container.json" <<JSON
{ "metadata": { "name": "shell" }, "image": { "image": "$image" }, "stdin": true,
  "command": [ "sh", "-c", "echo started; mkdir -p /www; echo hello from the pod > /www/index.html; busybox httpd -f -p 8080 -h /www" ],
  "log_path": "shell.log", "linux": { "resources": { "memory_limit_in_bytes": 67108864 } } }
JSON
timeout 120 "$crictl" --runtime-endpoint "$endpoint" events > "$folder/events" 2>&1 & events=$!
trap 'kill $events 2>/dev/null || true; rm -f /var/run/cdi/strata-interop.json; rmdir /var/run/cdi 2>/dev/null || true' EXIT
pod="$(cri runp "$folder/pod.json")"
if cri runp "$folder/pod.json" 2>/dev/null; then echo "a second pod of the same name was made"; exit 1; fi
must "$(cri pods --name people -q)" "$pod"
must "$(cri inspectp "$pod")" SANDBOX_READY
container="$(cri create "$pod" "$folder/container.json" "$folder/pod.json")"
must "$(cri ps -a)" Created
cri start "$container"
must "$(cri ps)" Running
must "$(cri exec -s "$container" cat /etc/resolv.conf)" 'nameserver 192.0.2.1'
must "$(cri exec -s "$container" hostname)" people-host
must "$(cri exec "$container" echo streamed)" streamed
must "$(echo over spdy | cri exec -i "$container" cat)" 'over spdy'
must "$(script -qec "$crictl --runtime-endpoint $endpoint exec -it $container sh -c 'test -t 0 && echo terminal'" /dev/null)" terminal
for _ in $(seq 50); do curl -sf http://127.0.0.1:12080/ >/dev/null && break; sleep 0.1; done
must "$(curl -s http://127.0.0.1:12080/)" 'hello from the pod'
must "$(cri logs "$container")" started
must "$(cri stats -o json)" usageCoreNanoSeconds
must "$(cri statsp -o json)" rxBytes
must "$(cri metricdescs)" container_cpu_usage_seconds_total
cri update --memory 33554432 "$container"
must "$(cri inspect "$container")" 33554432

# Files of an image and a device by name in a second container.
cri pull gcr.io/k8s-staging-cri-tools/test-image-1:latest
cat > "$folder/volumes.json" <<JSON
{ "metadata": { "name": "volumes" }, "image": { "image": "$image" }, "log_path": "volumes.log",
  "command": [ "sh", "-c", "cat /whole/name; cat /part/passwd | head -1; touch /whole/new; ls /dev/vendor-null; echo vendor \$VENDOR; sleep 1000" ],
  "mounts": [ { "container_path": "/whole", "readonly": true, "image": { "image": "gcr.io/k8s-staging-cri-tools/test-image-1:latest" } },
    { "container_path": "/part", "readonly": true, "image_sub_path": "etc", "image": { "image": "gcr.io/k8s-staging-cri-tools/test-image-1:latest" } } ],
  "CDI_devices": [ { "name": "strata.invalid/test=null" } ], "linux": {} }
JSON
if cri create "$pod" "$folder/volumes.json" "$folder/pod.json" 2>/dev/null; then echo "a device that nobody describes was found"; exit 1; fi
mkdir -p /var/run/cdi
cat > /var/run/cdi/strata-interop.json <<JSON
{ "cdiVersion": "0.6.0", "kind": "strata.invalid/test", "devices": [ { "name": "null",
  "containerEdits": { "env": [ "VENDOR=here" ], "deviceNodes": [ { "path": "/dev/vendor-null", "hostPath": "/dev/null" } ] } } ] }
JSON
volumes="$(cri create "$pod" "$folder/volumes.json" "$folder/pod.json")"
cri start "$volumes"
for _ in $(seq 50); do [[ "$(cri logs "$volumes" 2>&1)" == *vendor* ]] && break; sleep 0.1; done
logs="$(cri logs "$volumes" 2>&1)"
must "$logs" 1
must "$logs" 'root:'
must "$logs" 'Read-only file system'
must "$logs" /dev/vendor-null
must "$logs" 'vendor here'
cri rm -f "$volumes"
if grep -qF "$folder/../engine/containers/$volumes" /proc/self/mountinfo; then echo "the image volume is still mounted"; exit 1; fi
if cri rmi "$image" 2>/dev/null; then echo "an image in use was removed"; exit 1; fi
cri stop "$container"
must "$(cri ps -a)" Exited
cri rm "$container"
cri stopp "$pod"
must "$(cri pods)" NotReady
cri rmp "$pod"
[ -z "$(cri pods -q --name people)" ]
cri rmi "$image"
must "$(cat "$folder/events")" CONTAINER_STARTED_EVENT
must "$(cat "$folder/events")" CONTAINER_DELETED_EVENT
echo "crictl: all steps did what they say"
