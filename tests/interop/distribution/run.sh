#!/usr/bin/env bash
# What skopeo, buildah and Strata push to docker-registry, and pull from it, in every combination:
# the digests must be the same everywhere. STRATA is the binary; needs root. Leaves nothing behind.
set -euo pipefail
strata=${STRATA:?the binary to try}
for program in docker-registry skopeo buildah busybox; do
  PATH="$PATH:/usr/sbin:/sbin" command -v $program >/dev/null || { echo "interop: 0 passed, 0 failed, 1 skipped"; echo "$program is missing; install it from Debian" >&2; exit 1; }
done
work=$(mktemp -d)
registry=
cleanup() {
  [ -z "$registry" ] || { kill "$registry" 2>/dev/null || true; wait "$registry" 2>/dev/null || true; }
  rm -rf "$work"
}
trap cleanup EXIT
export DOCKER_CONFIG=$work/docker XDG_RUNTIME_DIR=$work/run HOME=$work/home
mkdir -p "$DOCKER_CONFIG" "$XDG_RUNTIME_DIR" "$HOME"
echo "{}" > "$DOCKER_CONFIG/config.json"
passed=0 failed=0

same() { # NAME EXPECTED FOUND
  if [ "$2" = "$3" ] && [ -n "$2" ]; then passed=$((passed + 1)); else
    failed=$((failed + 1)); echo "FAIL $1: expected $2, found $3"
  fi
}

. "$(dirname "$0")/../registry.sh"
serve_registry "$work/registry" "$work" 5400
R=127.0.0.1:$port

image() { "$strata" --log error image --data-dir "$work/$store" "$@"; }
skopeo() { command skopeo --insecure-policy "$@"; }
buildah() { command buildah --root "$work/buildah" --runroot "$work/buildah-run" --storage-driver vfs "$@"; }
remote() { skopeo inspect --raw --tls-verify=false "docker://$R/$1" | sha256sum | cut -d' ' -f1; }

# The sources: one layer and two, in both kinds of manifest, gzip and zstd, and an index.
store=maker
mkdir -p "$work/root/bin" "$work/root/etc"
cp "$(command -v busybox)" "$work/root/bin/busybox"
ln -s busybox "$work/root/bin/sh"
ln "$work/root/bin/busybox" "$work/root/bin/ls"
head -c 6000000 /dev/urandom > "$work/root/etc/noise"
tar -C "$work/root" -c . | image import -c 'CMD ["/bin/sh"]' - "$R/source/oci:1" >/dev/null
image push -q "$R/source/oci:1" >/dev/null
skopeo copy -q --src-tls-verify=false --dest-tls-verify=false --format v2s2 "docker://$R/source/oci:1" "docker://$R/source/docker:1"
skopeo copy -q --src-tls-verify=false --dest-tls-verify=false --dest-compress-format zstd --format oci \
  "docker://$R/source/oci:1" "docker://$R/source/zstd:1"
printf 'FROM %s/source/oci:1\nRUN echo more > /etc/more && rm /etc/noise && mkdir /empty\nLABEL made=here\n' "$R" > "$work/Containerfile"
if buildah bud -q --isolation chroot --tls-verify=false -t built "$work" >/dev/null 2>"$work/bud.log"; then
  buildah push -q --tls-verify=false built "docker://$R/source/built:1" >/dev/null
  kinds="oci docker zstd built"
else
  echo "buildah cannot build here: $(tail -1 "$work/bud.log")"; kinds="oci docker zstd"
fi

# What the first program pushes ...
push_strata() { store=pusher-strata; image pull -q "$R/source/$1:1" >/dev/null; image tag "$R/source/$1:1" "$R/strata/$1:1"; image push -q "$R/strata/$1:1" >/dev/null; }
push_skopeo() { skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "docker://$R/source/$1:1" "docker://$R/skopeo/$1:1"; }
push_buildah() { buildah pull -q --tls-verify=false "docker://$R/source/$1:1" >/dev/null; buildah push -q --tls-verify=false "$R/source/$1:1" "docker://$R/buildah/$1:1" >/dev/null; }
# ... the second one pulls: the digest it believes to have.
pull_strata() { store=puller-strata; image pull -q "$R/$1" >/dev/null; image inspect -f '{{range .RepoDigests}}{{println .}}{{end}}' "$R/$1" | sed -n "s|^$R/${1%:*}@sha256:||p" | head -1; }
pull_skopeo() { rm -rf "$work/layout"; skopeo copy -q --src-tls-verify=false --preserve-digests "docker://$R/$1" "dir:$work/layout"; sha256sum "$work/layout/manifest.json" | cut -d' ' -f1; }
pull_buildah() { buildah pull -q --tls-verify=false "docker://$R/$1" >/dev/null; buildah inspect --type image -f '{{.FromImageDigest}}' "$R/$1" | sed s/sha256://; }

for kind in $kinds; do
  for pusher in strata skopeo buildah; do
    push_$pusher $kind
    pushed=$(remote "$pusher/$kind:1")
    # These two pass on what they got; buildah packs layers anew.
    [ $pusher = buildah ] || same "$kind pushed by $pusher" "$(remote "source/$kind:1")" "$pushed"
    for puller in strata skopeo buildah; do
      same "$kind pushed by $pusher, pulled by $puller" "$pushed" "$(pull_$puller "$pusher/$kind:1")"
    done
    # And on: what Strata pulled from there and pushes elsewhere.
    store=puller-strata
    image tag "$R/$pusher/$kind:1" "$R/onward/$pusher-$kind:1"
    image push -q "$R/onward/$pusher-$kind:1" >/dev/null
    same "$kind pushed by $pusher, passed on by strata" "$pushed" "$(remote "onward/$pusher-$kind:1")"
  done
done

# Archives: what Strata saves skopeo puts into the registry as it was, and the other way round.
for kind in $kinds; do
  store=puller-strata
  image save --format oci-archive "$R/skopeo/$kind:1" > "$work/saved.tar"
  skopeo copy -q --dest-tls-verify=false --preserve-digests "oci-archive:$work/saved.tar" "docker://$R/saved/$kind:1"
  same "$kind saved by strata, pushed by skopeo" "$(remote "skopeo/$kind:1")" "$(remote "saved/$kind:1")"
  image save -o "$work/saved.tar" "$R/skopeo/$kind:1"
  store=loader
  image load -q -i "$work/saved.tar"
  image push -q "$R/skopeo/$kind:1" >/dev/null
  same "$kind saved and loaded by strata" "$(remote "saved/$kind:1")" "$(remote "skopeo/$kind:1")"
  rm -f "$work/copy.tar"
  skopeo copy -q --src-tls-verify=false "docker://$R/skopeo/$kind:1" "docker-archive:$work/copy.tar:example.com/$kind:1"
  image load -q "$work/copy.tar"
  same "$kind saved by skopeo for docker, loaded by strata" \
    "$(skopeo inspect --config --raw --tls-verify=false "docker://$R/skopeo/$kind:1" | sha256sum | cut -d' ' -f1)" \
    "$(image inspect -f '{{.Id}}' "example.com/$kind:1" | sed s/sha256://)"
done

# An index with two platforms goes whole.
for architecture in amd64 arm64; do
  store=maker
  tar -C "$work/root" -c bin | image import --platform linux/$architecture - "$R/multi/part:$architecture" >/dev/null
  image push -q "$R/multi/part:$architecture" >/dev/null
done
buildah manifest create multi >/dev/null
for architecture in amd64 arm64; do buildah manifest add --tls-verify=false multi "docker://$R/multi/part:$architecture" >/dev/null; done
buildah manifest push -q --tls-verify=false --all multi "docker://$R/multi/all:1" >/dev/null
store=indexes
image pull -q --all-platforms "$R/multi/all:1" >/dev/null
image tag "$R/multi/all:1" "$R/multi/strata:1"
image push -q "$R/multi/strata:1" >/dev/null
same "an index passed on by strata" "$(remote multi/all:1)" "$(remote multi/strata:1)"
skopeo copy -q --all --src-tls-verify=false --preserve-digests "docker://$R/multi/strata:1" "dir:$work/index"
same "that index pulled by skopeo" "$(remote multi/all:1)" "$(sha256sum "$work/index/manifest.json" | cut -d' ' -f1)"

echo "interop: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
