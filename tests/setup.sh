#!/usr/bin/env bash
# Installs the Debian packages that building and testing need. Does nothing where all are there.
set -euo pipefail
declare -A packages=(
  [busybox]=busybox-static [docker-registry]=docker-registry [skopeo]=skopeo [umoci]=umoci [nginx]=nginx-light
  [crun]=crun [runc]=runc [containerd]=containerd [hyperfine]=hyperfine [nft]=nftables [gcc]=gcc [make]=make [git]=git [openssl]=openssl [curl]=curl
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
command -v kubectl >/dev/null || { echo "kubectl is needed: install it, any version from 1.30 on"; exit 1; }

# helm has no Debian package; where there is Go, the test of charts gets it as a module.
bin="${XDG_CACHE_HOME:-$HOME/.cache}/strata/bin"
if command -v go >/dev/null && ! PATH="$PATH:$bin" command -v helm >/dev/null; then
  echo "building helm"
  GOBIN="$bin" GOFLAGS=-p=2 nice go install helm.sh/helm/v3/cmd/helm@v3.22.0
fi
