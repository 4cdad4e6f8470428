#!/usr/bin/env bash
# Builds the images that critest names, as their recipes describe them, from Debian packages, and pushes them to the
# registry on loopback port PORT. test-image-digest is pinned by its digest and cannot be built again.
set -euo pipefail
cache="${1:?usage: images.sh CACHE PORT}"
registry="localhost:${2:?usage: images.sh CACHE PORT}"
here="$(cd "$(dirname "$0")" && pwd)"
bin="$cache/bin"
work="$cache/images"

stamp="$(cat "$0" "$here"/*.conf "$here/../../images/functions.sh" | sha256sum)"
[ "$(cat "$cache/images.stamp" 2>/dev/null)" = "$stamp" ] && exit 0
rm -rf "$work"
mkdir -p "$work"
. "$here/../../images/functions.sh"

echo "root file systems from Debian packages"
root nginx base-files base-passwd busybox-static coreutils libc-bin mawk nginx-light sed grep
root httpd base-files base-passwd busybox-static coreutils libc-bin mawk apache2-bin
root nnp base-files base-passwd busybox-static coreutils libc-bin mawk
# The shell of the other flavour looks for programs in files, as Alpine's does; ipcs and pgrep are not among its own.
root busybox base-files base-passwd busybox libc-bin procps util-linux

for applet in top ps free kill uptime watch w vmstat slabtop; do rm -f "$work/busybox"/usr/bin/$applet; done
applets "$work/busybox" /usr/bin
for name in nginx httpd busybox nnp; do
  # What the packages' scripts would have made.
  rm -rf "$work/$name/var/run"
  ln -s /run "$work/$name/var/run"
done
# Hard links, as in the image that this one stands for: a link may not be masked.
find "$work/busybox/usr/bin" "$work/busybox/usr/sbin" -lname busybox -exec ln -f "$work/busybox/usr/bin/busybox" {} \;

mkdir -p "$work/nginx/usr/share/nginx/html" "$work/httpd/usr/share/httpd" "$work"/{hostnet,groups}/etc
echo '<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>' \
  > "$work/nginx/usr/share/nginx/html/index.html"
cp "$here/../../conformance/nginx.conf" "$work/nginx/etc/nginx/nginx.conf"
mkdir -p "$work/hostnet/etc/nginx"
sed 's/listen 80;/listen 12003;/' "$here/../../conformance/nginx.conf" > "$work/hostnet/etc/nginx/nginx.conf"
echo '<html><body><h1>It works!</h1></body></html>' > "$work/httpd/usr/share/httpd/index.html"
cp "$here/httpd.conf" "$work/httpd/etc/httpd.conf"
ln -s apache2 "$work/httpd/usr/sbin/httpd"
put nnp /usr/local/bin 6755 "$bin/nnp"
{ cat "$work/nnp/etc/passwd"; echo 'default-user:x:1000:1000::/home/default-user:/bin/sh'; } > "$work/groups/etc/passwd"
{ cat "$work/nnp/etc/group"; printf 'default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n'; } > "$work/groups/etc/group"
for n in latest tag all 1 2 3 tags; do
  mkdir -p "$work/test-$n"
  echo "$n" > "$work/test-$n/name"
done

tests=e2e-test-images tools=k8s-staging-cri-tools
image "$tests/busybox:1.29-2" busybox --cmd sh
image "$tests/nginx:1.14-2" nginx --cmd nginx,-g,'daemon off;'
image "$tests/httpd:2.4.39-4" httpd --cmd httpd,-f,/etc/httpd.conf,-D,FOREGROUND
image "$tests/nonewprivs:1.3" nnp --cmd nnp
image "$tools/hostnet-nginx-amd64:latest" "nginx hostnet" --cmd nginx,-g,'daemon off;'
image "$tools/test-image-predefined-group:latest" "busybox groups" --user 1000 --cmd sh
image "$tools/test-image-user-uid:latest" busybox --user 1002 --cmd sh
image "$tools/test-image-user-username:latest" busybox --user www-data --cmd sh
image "$tools/test-image-user-uid-group:latest" busybox --user 1003:users --cmd sh
image "$tools/test-image-user-username-group:latest" busybox --user www-data:100 --cmd sh
image "$tools/test-image-latest:latest" "busybox test-latest" --cmd sh
image "$tools/test-image-tag:test" "busybox test-tag" --cmd sh
image "$tools/test-image-tag:all" "busybox test-all" --cmd sh
for n in 1 2 3; do
  image "$tools/test-image-$n:latest" "busybox test-$n" --cmd sh
done
image "$tools/test-image-tags:1" "busybox test-tags" --cmd sh
for n in 2 3; do
  "$bin/crane" copy --insecure "$registry/$tools/test-image-tags:1" "$registry/$tools/test-image-tags:$n" >/dev/null 2>&1
done
rm -rf "$work"
echo "$stamp" > "$cache/images.stamp"
