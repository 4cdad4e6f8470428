#!/usr/bin/env bash
# Runs the validation programs of OCI runtime-tools against strata-runtime, and crun and runc where they are.
#   RUNTIME_BINARY=path   the strata-runtime to test        ONLY="default mounts"   only these programs
#   PEERS=no              without crun and runc (and without writing RUNTIME-TOOLS.md)
# Needs root and Go. The last line is `interop: N passed, N failed, N skipped`; the exit code is 0 when each
# program passes that a peer passes, and no other failure lacks a cause in causes.txt.
set -euo pipefail
# Some leave mounts behind: they go with this namespace, and none reaches the machine.
if [ -z "${INTEROP_APART:-}" ]; then INTEROP_APART=1 exec unshare --mount --propagation slave "$0" "$@"; fi
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/strata/interop/runtime-tools"
: "${RUNTIME_BINARY:?the strata-runtime to test}" "${ONLY:=}" "${PEERS:=yes}"
RUNTIME_BINARY="$(realpath "$RUNTIME_BINARY")"
tools=github.com/opencontainers/runtime-tools

mkdir -p "$cache/bin" "$cache/place"
cd "$here"
export CGO_ENABLED=0 GOFLAGS=-mod=readonly
if [ go.sum -nt "$cache/bin/runtimetest" ]; then
  echo "building runtime-tools"
  nice go build -p 2 -ldflags '-s -w' -o "$cache/bin/" "$tools/validation/..." "$tools/cmd/runtimetest"
  touch "$cache/bin/runtimetest"
fi
nice go build -o "$cache/runner" ./runner
# The programs look for these beside where they run.
source="$(go list -m -f '{{.Dir}}' "$tools")"
cp -f "$source"/rootfs-*.tar.gz "$cache/bin/runtimetest" "$cache/place/"
chmod -R u+w "$cache/place"

scratch="$(mktemp -d)"
cleanup() {
  # What a program that failed left behind.
  for wrapper in "$scratch"/runtimes/*; do
    for id in $("$wrapper" list -q 2>/dev/null); do "$wrapper" delete --force "$id" >/dev/null 2>&1 || true; done
  done
  awk -v at="$scratch/" 'index($5, at) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r mount; do
    umount --lazy "$mount" || true
  done
  rm -rf --one-file-system "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
# Root of a user namespace has to reach the root file systems made here.
chmod 711 "$scratch"
mkdir -p "$scratch/runtimes" "$scratch/tmp"
wrap() { # NAME COMMAND…
  local name="$1"
  shift
  printf '#!/bin/sh\nexec %s --root %s "$@"\n' "$*" "$scratch/state-$name" > "$scratch/runtimes/$name"
  chmod +x "$scratch/runtimes/$name"
}
wrap strata "$RUNTIME_BINARY"
if [ "$PEERS" = yes ]; then
  export PATH="$PATH:/usr/sbin:/sbin"
  if runc="$(command -v runc)"; then wrap runc "$runc"; fi
  if crun="$(command -v crun)"; then
    # It refuses a machine with a cgroup v2 mount beside v1's: it does not get to see that.
    if mountpoint -q /sys/fs/cgroup/unified; then
      crun="unshare --mount --propagation unchanged sh -c 'mount --make-private /sys/fs/cgroup/unified; umount -l /sys/fs/cgroup/unified; exec $crun \"\$@\"' crun"
    fi
    wrap crun "$crun"
  fi
fi
TMPDIR="$scratch/tmp" "$cache/runner" -programs "$cache/bin" -work "$cache/place" -runtimes "$scratch/runtimes" \
  -causes "$here/causes.txt" -only "$ONLY" -report "$([ -n "$ONLY" ] || [ "$PEERS" != yes ] || echo "$here/../RUNTIME-TOOLS.md")"
