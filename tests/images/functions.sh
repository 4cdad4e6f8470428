# Making images from Debian packages and programs; sourced. Expects: work (folder of roots), cache (debs are kept
# there), bin (crane is there), registry (HOST:PORT that is pushed to).
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

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
