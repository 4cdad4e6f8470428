#!/usr/bin/env bash
# Gives docker's client and ours the same commands against one daemon of ours, and compares what they print.
# run.sh STRATA [WORK]: the built binary; a folder to work in. Needs root, busybox-static. Without docker's client ours
# is compared with what that printed when RECORD=1 was set (recorded.txt).
# Last line: `people: N same, N different`; differences stand before it, docker's lines with -, ours with +.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
strata=$(realpath "${1:?the built binary}")
# A folder of our own goes with us; one that was named stays for whoever wants to look into it.
own=
work=${2:-$(mktemp -d)}
[ -n "${2:-}" ] || own=1
mkdir -p "$work"
docker=$(command -v docker || true)
export STRATA_DATA_DIR=$work/data STRATA_HOST=unix://$work/engine.sock DOCKER_HOST=unix://$work/engine.sock
export DOCKER_CONFIG=$work/config DOCKER_CLI_HINTS=false
"$strata" engine >"$work/engine.log" 2>&1 &
engine=$!
registry=
trap '[ -z "$registry" ] || kill "$registry" 2>/dev/null || true; kill $engine; wait $engine || true; "$strata" reset >>"$work/engine.log" 2>&1; rmdir /sys/fs/cgroup/people-test /sys/fs/cgroup/*/people-test 2>/dev/null || true; [ -z "$own" ] || rm -rf --one-file-system "$work"' EXIT

# An image of busybox, as people would make one.
root=$work/root
mkdir -p "$root"/{bin,etc,tmp,data,var/www,proc,sys,dev}
cp /bin/busybox "$root/bin/"
for applet in sh echo cat ls id hostname touch chown ip grep cut readlink httpd sleep pwd true test; do
  ln -sf busybox "$root/bin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nada:x:1000:\n' >"$root/etc/group"
echo from-image >"$root/data/file"
echo page >"$root/var/www/index.html"
mkdir -p "$work/context"
echo 'FROM busybox' >"$work/context/Dockerfile"
tar -C "$root" --numeric-owner --owner 0 --group 0 -c . |
  "$strata" image --data-dir "$work/data" import -c 'CMD ["sh"]' -c 'ENV PATH=/bin' - busybox:latest >/dev/null
until "$strata" version >/dev/null 2>&1; do kill -0 $engine; done

# Identities, moments and the programs' names differ from run to run.
plain() {
  sed -E -e 's/\b[0-9a-f]{64}\b/ID/g' -e 's/\b[0-9a-f]{12}\b/SHORTID/g' \
    -e 's/(Less than a second|About a minute|[0-9]+ (seconds?|minutes?)|[0-9]+ seconds? ago)/TIME/g' \
    -e 's/TIME ago/TIME/g' -e 's/ {2,}/ /g' -e 's/\b(docker|strata): /CLIENT: /g' -e "s/'(docker|strata) /'CLIENT /g" \
    -e 's/^Usage: (docker|strata) /Usage: CLIENT /' -e 's/^(root|1000) [0-9]+ .* (sh|sleep|httpd)\b/PROCESS \2/' \
    -e 's/^[0-9]+ (sh|sleep)$/PROCESS \1/' -e 's/[0-9]{2}:[0-9]{2}(:[0-9]{2})?/CLOCK/g' \
    -e 's/available: .*/available: SOME/' -e 's/there are only [0-9]+ CPUs/there are only SOME CPUs/'
}
try() {
  local code=0
  timeout 30 "$C" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
  { printf '$ %s\n' "$*"; plain <"$work/out"; plain <"$work/err" | sed 's/^/2> /'; echo "= $code"; } >>"$work/$name.txt"
}
clean() {
  local all
  all=$("$strata" ps -aq)
  # shellcheck disable=SC2086
  [ -z "$all" ] || "$strata" rm -f $all >/dev/null
  "$strata" network prune -f >/dev/null
  "$strata" volume prune -af >/dev/null
  "$strata" image rm -f made >/dev/null 2>&1 || true
  "$strata" image prune -f >/dev/null
}
names=(docker strata)
if [ -z "$docker" ]; then
  names=(strata)
  cp "$here/recorded.txt" "$work/docker.txt"
fi
for name in "${names[@]}"; do
  C=${!name}
  : >"$work/$name.txt"
  clean
  # shellcheck source=commands.sh
  source "$here/commands.sh"
  clean
done
[ -z "${RECORD:-}" ] || cp "$work/docker.txt" "$here/recorded.txt"
# One record a command, so that a difference is counted once.
split() { awk 'BEGIN { RS = "\\$ "; ORS = "" } NR > 1 { gsub(/\n/, "\x01"); print $0 "\n" }' "$1"; }
split "$work/docker.txt" >"$work/docker.rows"
split "$work/strata.txt" >"$work/strata.rows"
total=$(wc -l <"$work/docker.rows")
different=$(diff "$work/docker.rows" "$work/strata.rows" | grep -c '^<' || true)
diff -U 3 "$work/docker.txt" "$work/strata.txt" | tail -n +3 || true

says() {
  local wanted=$1 got
  shift
  got=$(timeout 60 "$@" 2>&1 || true)
  total=$((total + 1))
  # shellcheck disable=SC2053
  [[ $got == $wanted ]] && return
  different=$((different + 1))
  printf '$ %s\n-%s\n+%s\n' "$*" "$wanted" "$got"
}
if [ -n "$docker" ] && command -v docker-registry >/dev/null; then
  # shellcheck source=images.sh
  source "$here/images.sh"
fi
echo "people: $((total - different)) same, $different different"
[ "$different" -eq 0 ]
