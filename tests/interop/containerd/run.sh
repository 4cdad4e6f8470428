#!/usr/bin/env bash
# Debian's containerd with our shim (io.containerd.strata.v2): ctr and crictl as people use them, and what happens when
# containerd or the shim is killed.
#   STRATA=path           the binary, which makes the images       RUNTIME_BINARY=path   strata-runtime
# Needs root, containerd and busybox; the pods need crictl (built where there is Go). The last line is
# `interop: N passed, N failed, N skipped`. Leaves nothing behind.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
strata="$(realpath "${STRATA:?the binary}")" runtime="$(realpath "${RUNTIME_BINARY:?strata-runtime}")"
export PATH="$PATH:/usr/sbin:/sbin"
for program in containerd ctr busybox; do
  command -v $program >/dev/null || { echo "$program is missing; install it from Debian" >&2; echo "interop: 0 passed, 0 failed, 1 skipped"; exit 1; }
done
crictl="${XDG_CACHE_HOME:-$HOME/.cache}/strata/critest/bin/crictl"
work="$(mktemp -d /tmp/strata-containerd-XXXXXX)"
socket="$work/c.sock" kind=io.containerd.strata.v2 image=strata.invalid/busybox:1
passed=0 failed=0 skipped=0 daemon= listener=

cleanup() {
  for process in $listener; do kill "$process" 2>/dev/null || true; done
  if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
    for space in default k8s.io; do
      for id in $(ctr -a "$socket" -n $space task ls -q 2>/dev/null); do ctr -a "$socket" -n $space task rm -f "$id" >/dev/null 2>&1 || true; done
    done
    kill "$daemon"; wait "$daemon" 2>/dev/null || true
  fi
  [ -z "${KEEP:-}" ] || cp "$work/log" "$KEEP"
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

c() { timeout 60 ctr -a "$socket" "$@"; }
moment() { read -rt 0.05 <> <(:) || true; }
# Waits until a command says yes: within DEADLINE-SECONDS COMMAND…
within() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; moment; done
}
check() { # NAME COMMAND…
  local name=$1; shift
  if "$@" > "$work/said" 2>&1; then passed=$((passed + 1)); else
    failed=$((failed + 1)); echo "FAIL $name"; sed 's/^/  /' "$work/said" | tail -5
  fi
}
says() { # TEXT COMMAND…
  local text=$1 said; shift
  said="$("$@" 2>&1)" || true
  grep -qF -- "$text" <<< "$said" || { echo "expected $text in: $said"; return 1; }
}
exits() { # CODE COMMAND…
  local code=0 wanted=$1; shift
  "$@" || code=$?
  [ "$code" = "$wanted" ] || { echo "exit code $code"; return 1; }
}
refuses() { ! "$@"; }
shim_of() { pgrep -f -- "^[^ ]*containerd-shim-strata-v2 .*-id $1( |\$)"; }
cgroups_of() { find /sys/fs/cgroup -type d -name "$1" 2>/dev/null; }
is_gone() { local id; for id in "$@"; do [ -z "$(cgroups_of "$id")" ] || return 1; done; }
state_is() { c "${@:3}" task ls | grep -Eq "^$1 +[0-9]+ +$2"; }
run() { c run --runtime $kind "$@"; }
told() { grep -qE -- "$1" "$work/events"; }

start_containerd() {
  PATH="$work/bin:$PATH" containerd -c "$work/config.toml" >> "$work/log" 2>&1 &
  daemon=$!
  within 30 c version || { tail -5 "$work/log"; echo "containerd does not answer"; exit 1; }
}

mkdir -p "$work/bin" "$work/root/bin" "$work"/root/{etc,tmp,proc,sys,dev}
ln -s "$runtime" "$work/bin/containerd-shim-strata-v2"
cp "$(command -v busybox)" "$work/root/bin/busybox"
for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$work/root/bin/$applet"; done
tar -C "$work/root" -c . | "$strata" --log error image --data-dir "$work/images" import -c 'ENV PATH=/bin' -c 'CMD ["sleep","100000"]' - $image >/dev/null
"$strata" --log error image --data-dir "$work/images" save -o "$work/image.tar" $image
cat > "$work/config.toml" <<TOML
version = 2
root = "$work/data"
state = "$work/state"
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$image"
  disable_tcp_service = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "strata"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.strata]
  runtime_type = "$kind"
TOML
ls /run/containerd/s > "$work/sockets" 2>/dev/null || true
start_containerd
for space in default k8s.io; do c -n $space image import "$work/image.tar" >/dev/null; done
setsid ctr -a "$socket" events > "$work/events" 2>/dev/null & listener=$!

# Streams, exit codes and what cannot be run.
says_both() { run --rm $image both sh -c 'echo to out; echo to err >&2; exit 3' > "$work/out" 2> "$work/err"; }
check 'a container'"'"'s exit code is ctr'"'"'s' exits 3 says_both
check 'output and errors are told apart' grep -q 'to out' "$work/out"
check 'errors come out' grep -q 'to err' "$work/err"
check 'a program that is not there is named' says 'executable file not found in $PATH' run --rm $image none nope
check 'nothing is left of it' refuses test -e "$work/state/io.containerd.runtime.v2.task/default/none"
c container rm none >/dev/null 2>&1 || true
large() { [ "$(run --rm $image large dd if=/dev/zero bs=1M count=20 2>/dev/null | wc -c)" = 20971520 ]; }
check '20 MB of output arrive whole' large
large_in() { [ "$(head -c 5000000 /dev/urandom | tee "$work/in" | run --rm $image input sha256sum | cut -c1-64)" = "$(sha256sum < "$work/in" | cut -c1-64)" ]; }
check 'input arrives whole and has an end' large_in
check 'a log file instead of pipes' run -d --log-uri "file://$work/logs/file.log" $image filed sh -c 'echo into the file'
check 'the log file holds the output' within 10 grep -q 'into the file' "$work/logs/file.log"
c task rm -f filed >/dev/null 2>&1; c container rm filed
printf '#!/bin/sh\nexec 5>&-\ncat <&3 > %s/binary.log\necho $CONTAINER_NAMESPACE/$CONTAINER_ID $1 $2 >> %s/binary.log\n' "$work" "$work" > "$work/logger"
chmod 755 "$work/logger"
check 'a program that logs' run -d --log-uri "binary://$work/logger?key=a%20b" $image logged sh -c 'echo to the program'
check 'it is told whose output it is' within 10 grep -q 'default/logged key a b' "$work/binary.log"
check 'it has got the output' grep -q 'to the program' "$work/binary.log"
within 10 state_is logged STOPPED; c task rm -f logged >/dev/null 2>&1; c container rm logged

# A container that runs.
check 'a detached container' run -d --memory-limit 67108864 $image one sh -c 'trap "exit 7" TERM; echo $$ > /started; while :; do read -t 1 x < /dev/zero || sleep 1 & wait $!; done'
check 'it is running' within 10 state_is one RUNNING
check 'one shim, and its name says whose' test "$(shim_of one | wc -l)" = 1
check 'exec' says 'from inside' c task exec --exec-id a one echo from inside
check 'the exit code of exec' exits 9 c task exec --exec-id b one sh -c 'exit 9'
piped() { [ "$(echo through | c task exec --exec-id d one cat)" = through ]; }
check 'input of exec' piped
check 'exec of what is not there' says 'executable file not found in $PATH' c task exec --exec-id e one nope
check 'a name of exec can be used again' says again c task exec --exec-id a one echo again
tty() { script -qec "ctr -a $socket task exec -t --exec-id t one sh -c 'stty size; test -t 0 && echo is a terminal'" /dev/null < /dev/null; }
check 'a terminal for exec' says 'is a terminal' tty
check 'its processes' says "$(c task ls | awk '$1=="one"{print $2}')" c task ps one
check 'metrics: memory limit' says 67108864 c task metrics one
check 'metrics: processor' says cpuacct.usage c task metrics one
check 'pause' c task pause one
check 'it is paused' state_is one PAUSED
check 'no exec while paused' says paused c task exec --exec-id f one true
check 'resume' c task resume one
check 'it runs again' state_is one RUNNING
check 'checkpoint is refused clearly' says 'not supported' c task checkpoint one
check 'a signal' c task kill -s TERM one
check 'the trap'"'"'s exit code' within 10 told '/tasks/exit .*"exit_status":7'
check 'delete' within 10 c task rm one
c container rm one
for topic in create start exec-added exec-started paused resumed exit delete; do check "the event $topic" within 5 told "/tasks/$topic "; done
check 'a container that eats its memory' run -d --memory-limit 8388608 $image eater sh -c 'tail -c 100m /dev/zero'
check 'the event oom' within 20 told '/tasks/oom .*eater'
within 20 state_is eater STOPPED; c task rm -f eater >/dev/null 2>&1; c container rm eater
terminal() { script -qec "ctr -a $socket run --rm -t --runtime $kind $image console sh -c 'test -t 1 && echo on a terminal'" /dev/null < /dev/null; }
check 'a container with a terminal' says 'on a terminal' terminal
check 'a root file system by path' says rooted run --rm --rootfs "$work/root" rooted echo rooted
check 'and it is unmounted' refuses grep -q "$work/state" /proc/self/mounts
check 'a snapshotter without overlay' says native run --rm --snapshotter native $image native echo native

# containerd is killed under running containers.
check 'a container that goes on' run -d $image stays sh -c 'while :; do date +%N > /beat; sleep 0.05; done'
check 'a container that ends meanwhile' run -d $image ends sh -c 'while [ ! -e /end ]; do sleep 0.05; done; exit 5'
before="$(c task ls | awk '$1=="stays"{print $2}')" ending="$(c task ls | awk '$1=="ends"{print $2}')"
kill -9 "$daemon"; wait "$daemon" 2>/dev/null || true
touch "/proc/$ending/root/end"
check 'it ends while containerd is away' within 10 refuses kill -0 "$ending"
start_containerd
check 'it is found with its pid' says "$before" c task ls
check 'the end is known' within 10 state_is ends STOPPED
check 'exec after the restart' says back c task exec --exec-id g stays echo back
check 'its exit code is known' says 5 c task rm ends
c container rm ends
setsid ctr -a "$socket" events > "$work/events" 2>/dev/null & listener="$listener $!"
turn=0
# Whoever listens to events hears those from the moment on at which it is known.
heard() { turn=$((turn + 1)); c task exec --exec-id "seen$turn" stays true; told /tasks/exec-started; }
check 'events reach the new one' within 10 heard

# The shim is killed.
shim="$(shim_of stays)"
kill -9 "$shim"
check 'containerd tells of the end' within 20 told '/tasks/exit .*stays'
check 'the container is ended' within 10 refuses kill -0 "$before"
check 'its task is forgotten' within 10 refuses grep -q stays <(c task ls)
check 'its cgroup is gone' within 10 is_gone stays
c container rm stays
check 'the same name again' says anew run --rm $image stays echo anew

# The two other forms.
check 'what the runtime supports' says ociVersionMax "$work/bin/containerd-shim-strata-v2" -info
check 'the version' says Version "$work/bin/containerd-shim-strata-v2" -v
check 'no namespace, no shim' refuses "$work/bin/containerd-shim-strata-v2" -id x start
ln -sf "$strata" "$work/bin/containerd-shim-strata-v2"
check 'the large program under the shim'"'"'s name' says large run --rm $image large2 echo large
ln -sf "$runtime" "$work/bin/containerd-shim-strata-v2"

# An idle shim's memory beside that of containerd's own for runc.
if command -v runc >/dev/null && command -v containerd-shim-runc-v2 >/dev/null; then
  for n in 1 2 3 4 5; do
    run -d $image strata-$n sleep 1000
    c run -d --runtime io.containerd.runc.v2 $image runc-$n sleep 1000
  done
  pss() { for pid in $(pgrep -f -- "containerd-shim-$1-v2 .*-address $socket .*-id $1-|containerd-shim-$1-v2 .*-id $1-.*-address $socket"); do awk '/^Pss:/{print $2}' "/proc/$pid/smaps_rollup"; done | awk '{s+=$1} END{print int(s/NR)}'; }
  ours="$(pss strata)" theirs="$(pss runc)"
  echo "an idle shim of five: $ours kB, containerd's own for runc: $theirs kB (PSS)"
  check 'a shim costs a tenth of containerd'"'"'s own' test "$((ours * 10))" -le "$((theirs * 11 / 10))"
  for n in 1 2 3 4 5; do for name in strata runc; do c task rm -f $name-$n >/dev/null 2>&1 || true; c container rm $name-$n; done; done
else
  skipped=$((skipped + 1))
fi

# A pod of two containers by crictl.
if [ ! -x "$crictl" ] && command -v go >/dev/null; then
  mkdir -p "$(dirname "$crictl")"
  (cd "$here/../critest" && GONOSUMDB='sigs.k8s.io/cri-tools,k8s.io/*' CGO_ENABLED=0 nice go build -mod=readonly -ldflags '-s -w' -o "$crictl" sigs.k8s.io/cri-tools/cmd/crictl)
fi
if [ -x "$crictl" ]; then
  cri() { timeout 60 "$crictl" --config /dev/null --runtime-endpoint "unix://$socket" --image-endpoint "unix://$socket" "$@"; }
  mkdir -p "$work/pod"
  cat > "$work/pod/pod.json" <<JSON
{ "metadata": { "name": "two", "uid": "two-uid", "namespace": "default", "attempt": 1 }, "log_directory": "$work/pod",
  "linux": { "security_context": { "namespace_options": { "network": 2, "pid": 0 } } } }
JSON
  for name in first second; do
    cat > "$work/pod/$name.json" <<JSON
{ "metadata": { "name": "$name" }, "image": { "image": "$image" }, "log_path": "$name.log",
  "command": [ "sh", "-c", "echo $name began; exec sleep 1000" ], "linux": { "resources": { "memory_limit_in_bytes": 67108864 } } }
JSON
  done
  pod="$(cri runp --runtime strata "$work/pod/pod.json")" || true
  check 'a pod' test -n "$pod"
  first="$(cri create "$pod" "$work/pod/first.json" "$work/pod/pod.json")" || true
  second="$(cri create "$pod" "$work/pod/second.json" "$work/pod/pod.json")" || true
  check 'its first container' cri start "$first"
  check 'its second container' cri start "$second"
  check 'one shim for the pod' test "$(pgrep -f -c -- "containerd-shim-strata-v2 .*-namespace k8s.io .*$socket|containerd-shim-strata-v2 .*$socket.*-namespace k8s.io")" = 1
  check 'all share its pid namespace' test "$(cri exec "$second" sh -c 'ps | grep -c [s]leep')" -ge 3
  check 'logs' within 10 grep -q 'second began' "$work/pod/second.log"
  check 'exec through crictl' says inside cri exec "$first" echo inside
  check 'update' cri update --memory 33554432 "$first"
  check 'the limit is set' grep -rq 33554432 $(cgroups_of "$first" | sed 's|$|/memory.limit_in_bytes|;' | xargs -r ls 2>/dev/null) $(cgroups_of "$first" | sed 's|$|/memory.max|' | xargs -r ls 2>/dev/null)
  check 'stats' says CPU cri stats
  check 'stop one' cri stop -t 0 "$first"
  check 'the other runs on' says "${second:0:12}" cri ps
  check 'remove one' cri rm "$first"
  kill -9 "$(pgrep -f -- "containerd-shim-strata-v2 .*-namespace k8s.io .*$socket|containerd-shim-strata-v2 .*$socket.*-namespace k8s.io")"
  check 'the shim of a pod is killed: the container has ended' within 20 says Exited cri ps -a
  check 'stop the pod' cri stopp "$pod"
  check 'remove the pod' cri rmp "$pod"
  check 'nothing is left of it in the cgroups' within 10 is_gone "$second" "$pod"
else
  echo "no crictl, and no Go to build it with: pods were not tried"
  skipped=$((skipped + 1))
fi

check 'no shim is left' within 10 refuses pgrep -f -- "containerd-shim-strata-v2 .*$socket"
check 'no socket is left' diff <(ls /run/containerd/s) "$work/sockets"
check 'no mount is left' refuses grep -q "$work/state" /proc/self/mounts
echo "interop: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
