#!/usr/bin/env bash
# Installs the Debian packages that building and testing need; with `build`, only what building needs.
# Does nothing where all are there.
set -euo pipefail
only=${1:-}
declare -A packages=([gcc]=gcc [make]=make)
[ "$only" = build ] || packages+=(
  [busybox]=busybox-static [docker-registry]=docker-registry [skopeo]=skopeo [buildah]=buildah [umoci]=umoci [nginx]=nginx-light
  [crun]=crun [runc]=runc [containerd]=containerd [hyperfine]=hyperfine [nft]=nftables [git]=git [openssl]=openssl [curl]=curl
  [qemu-system-x86_64]=qemu-system-x86 [python3]=python3 [mkfs.ext4]=e2fsprogs [iptables]=iptables
  [/usr/lib/cni/bridge]=containernetworking-plugins
)
missing=()
# The compiler alone links nothing: without its recommendations it comes without the C library's files.
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
for program in "${!packages[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # Services of these packages are peers to measure beside, started by the tests that need them.
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
[ "$only" != build ] || exit 0

# kubectl of these days and helm have no Debian package; where there is Go, they are built from modules.
bin="${XDG_CACHE_HOME:-$HOME/.cache}/strata/bin"
if ! PATH="$PATH:$bin" command -v kubectl >/dev/null; then
  command -v go >/dev/null || { echo "kubectl is needed: install it, any version from 1.30 on, or Go to build it with"; exit 1; }
  echo "building kubectl"
  mkdir -p "$bin"
  version=k8s.io/component-base/version
  (cd "$(dirname "$0")/conformance" && CGO_ENABLED=0 nice go build -mod=readonly -o "$bin/kubectl" \
    -ldflags "-s -w -X $version.gitVersion=v1.36.3 -X $version.gitMajor=1 -X $version.gitMinor=36" k8s.io/kubernetes/cmd/kubectl)
fi
if command -v go >/dev/null && ! PATH="$PATH:$bin" command -v helm >/dev/null; then
  echo "building helm"
  GOBIN="$bin" GOFLAGS=-p=2 nice go install helm.sh/helm/v3/cmd/helm@v3.22.0
fi
