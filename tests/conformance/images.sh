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

stamp="$(cat "$cache/programs.stamp") $(cat "$0" "$here/../images/functions.sh" | sha256sum)"
[ "$(cat "$cache/images.stamp" 2>/dev/null)" = "$stamp" ] && exit 0
rm -rf "$work"
mkdir -p "$work"

. "$here/../images/functions.sh"

folders() {
  echo "root file systems from Debian packages"
  root debian base-files base-passwd bash bind9-dnsutils bsdutils busybox-static coreutils curl dash debianutils findutils \
    grep gzip hostname iperf iproute2 libc-bin mawk mount ncurses-base netcat-openbsd perl-base procps sed stress tar util-linux
  # BusyBox' of Debian speaks no UDP, which that of upstream's images does.
  ln -sf nc.openbsd "$work/debian/usr/bin/nc"
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
