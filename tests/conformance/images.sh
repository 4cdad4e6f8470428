#!/usr/bin/env bash
# Builds the images that the suite names, as upstream's recipes describe them, from CACHE/bin and Debian packages,
# and pushes them to the registry on loopback port PORT.
set -euo pipefail
cache="${1:?usage: images.sh CACHE PORT}"
registry="localhost:${2:?usage: images.sh CACHE PORT}"
here="$(cd "$(dirname "$0")" && pwd)"
bin="$cache/bin"
upstream="$(cd "$here" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)"
work="$cache/images"
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

stamp="$(cat "$cache/programs.stamp") $(sha256sum < "$0")"
[ "$(cat "$cache/images.stamp" 2>/dev/null)" = "$stamp" ] && exit 0
rm -rf "$work"
mkdir -p "$work"

# A root file system of Debian packages and all they need: root NAME PACKAGE…
# Apt resolves, fetches and verifies with the machine's own settings; nothing is installed on the machine.
root() {
  local name=$1 root="$work/$1" debs="$cache/debs/$1"
  shift
  mkdir -p "$debs/partial" "$root"
  : > "$debs/status"
  apt-get install -qq -y --download-only --no-install-recommends -o Dir::State::status="$debs/status" \
    -o Dir::Cache::archives="$debs" -o Debug::NoLocking=1 -o APT::Sandbox::User=root "$@" >/dev/null
  for folder in bin sbin lib lib64; do
    mkdir -p "$root/usr/$folder"
    ln -s "usr/$folder" "$root/$folder"
  done
  for deb in "$debs"/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root"
  done
  cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
  cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
  ln -sf mawk "$root/usr/bin/awk"
  rm -rf "$root"/usr/share/{doc,man,info,locale,bash-completion,lintian,zoneinfo} "$root"/var/lib/dpkg
  chmod 1777 "$root/tmp"
  applets "$root" /usr/bin
  # Most of upstream's bases are Alpine, whose shell is BusyBox's.
  ln -sf busybox "$root/usr/bin/sh"
}

# Links to BusyBox for every command that the root does not have otherwise.
applets() {
  local applet
  for applet in $("$1/bin/busybox" --list); do
    [ -e "$1$2/$applet" ] || [ -e "$1/usr/sbin/$applet" ] || [ -L "$1$2/$applet" ] || ln -s busybox "$1$2/$applet"
  done
}

# Packs a folder as a layer: layer NAME
layer() {
  tar --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 -C "$work/$1" -c . | gzip -n -1 > "$work/$1.tar.gz"
}

# Puts files of the machine into the folder of a layer: put NAME TARGET MODE FILE…
put() {
  local target="$work/$1$2" mode=$3
  mkdir -p "$target"
  install -m "$mode" "${@:4}" "$target"
}

# Makes an image of layers and pushes it: image NAME:TAG "LAYER…" MUTATION…
image() {
  local tag="$registry/$1" layers=()
  for name in $2; do
    [ -e "$work/$name.tar.gz" ] || layer "$name"
    layers+=(-f "$work/$name.tar.gz")
  done
  echo "image $1"
  "$bin/crane" append --insecure --oci-empty-base "${layers[@]}" -t "$tag" >/dev/null 2>&1
  "$bin/crane" mutate --insecure "$tag" --set-platform linux/amd64 --env "PATH=$path" \
    --label "image=$1" -t "$tag" "${@:3}" >/dev/null 2>&1
}

folders() {
  echo "root file systems from Debian packages"
  root debian base-files base-passwd bash bind9-dnsutils bsdutils busybox-static coreutils curl dash debianutils findutils \
    grep gzip hostname iperf iproute2 libc-bin mawk mount ncurses-base netcat-openbsd perl-base procps sed stress tar util-linux
  root nginx base-files base-passwd busybox-static coreutils libc-bin mawk nginx-light sed grep

  mkdir -p "$work"/busybox/{bin,etc,root,tmp,var,home,usr/bin,usr/sbin}
  chmod 1777 "$work/busybox/tmp"
  install -m 755 "$work/debian/bin/busybox" "$work/busybox/bin/busybox"
  cp "$work/debian/etc/passwd" "$work/debian/etc/group" "$work/busybox/etc"
  applets "$work/busybox" /bin

  mkdir -p "$work/nginx/usr/share/nginx/html" "$work/nginx/etc/nginx/conf.d"
  echo '<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>' \
    > "$work/nginx/usr/share/nginx/html/index.html"
  cp "$here/nginx.conf" "$work/nginx/etc/nginx/nginx.conf"

  local agnhost="$upstream/test/images/agnhost"
  put agnhost / 755 "$bin/agnhost"
  put agnhost / 644 "$agnhost"/porter/localhost.{crt,key}
  mkdir -p "$work/agnhost/uploads" "$work/agnhost/var/registry" "$work/agnhost/etc" "$work/agnhost/home/user-defined-in-image"
  ln -s agnhost "$work/agnhost/agnhost-2"
  { cat "$work/debian/etc/passwd"; echo 'user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh'; } > "$work/agnhost/etc/passwd"
  { cat "$work/debian/etc/group"; printf 'user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n'; } \
    > "$work/agnhost/etc/group"
  for name in kitten nautilus; do
    put "$name" / 644 "$upstream/test/images/$name/html"/*
  done
  put etcd /usr/local/bin 755 "$bin"/{etcd,etcdctl}
  mkdir -p -m 1777 "$work/etcd/tmp"
  put sample-apiserver / 755 "$bin/sample-apiserver"
  put resource-consumer / 755 "$bin"/{consumer,consume-cpu}
  put regression / 755 "$bin/regression-issue-74839"
  put nonewprivs /usr/local/bin 6755 "$bin/nnp"
  mkdir -p "$work/pause"
  gcc -Os -static -s -DVERSION=3.10.2 -o "$work/pause/pause" "$upstream/build/pause/linux/pause.c"
}

images() {
  local tests=e2e-test-images version
  image pause:3.10.2 pause --user 65535:65535 --entrypoint /pause
  image etcd:3.6.8-0 etcd --cmd /usr/local/bin/etcd
  for version in 2.63.0 2.55; do
    image "$tests/agnhost:$version" "debian agnhost" --entrypoint /agnhost --cmd pause
  done
  image "$tests/busybox:1.37.0-1" busybox --cmd sh
  for version in 1.15-4 1.27-0; do
    image "$tests/nginx:$version" nginx --cmd nginx,-g,'daemon off;'
  done
  image "$tests/kitten:1.8" "debian agnhost kitten" --entrypoint /agnhost --cmd test-webserver
  image "$tests/nautilus:1.8" "debian agnhost nautilus" --entrypoint /agnhost --cmd test-webserver
  image "$tests/sample-apiserver:1.29.2" "debian sample-apiserver" --entrypoint /sample-apiserver
  image "$tests/resource-consumer:1.14" "debian resource-consumer" --entrypoint /consumer
  image "$tests/regression-issue-74839:1.4" "debian regression" --entrypoint /regression-issue-74839
  image "$tests/nonewprivs:1.4" "debian nonewprivs" --cmd nnp
  image "$tests/nonroot:1.5" debian --user 1234 --cmd bash
  image "$tests/ipc-utils:1.4" debian --cmd sh
  image "$tests/glibc-dns-testing:2.0.0" debian --cmd bash
  image "$tests/perl:5.26" debian --cmd perl
}

folders
images
rm -rf "$work"
echo "$stamp" > "$cache/images.stamp"
