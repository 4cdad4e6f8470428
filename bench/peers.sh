#!/usr/bin/env bash
# Builds the peers that come as Go modules into CACHE/bin, once. One that cannot be had is skipped with a line.
set -euo pipefail
cache="${1:?usage: peers.sh CACHE}"
etcd=3.6.16
kubernetes=1.36.3
mkdir -p "$cache/bin"

# A module of its own outside the repository, so that nothing of Go enters it.
module() {
  mkdir -p "$cache/$1"
  cd "$cache/$1"
  printf 'module strata.local/bench/%s\n\ngo 1.26\n\nrequire %s %s\n' "$1" "$2" "$3" > go.mod
}

build() {
  echo "building the peer $1 (once)"
  GOFLAGS=-mod=mod nice go build -ldflags "${3:-}" -o "$cache/bin/$1.new" "$2"
  mv "$cache/bin/$1.new" "$cache/bin/$1"
}

build_etcd() (
  module etcd go.etcd.io/etcd/server/v3 "v$etcd"
  build etcd go.etcd.io/etcd/server/v3 '-s -w'
)

# Kubernetes names its own staging modules at v0.0.0: they are replaced by the published ones.
build_kube_apiserver() (
  module kubernetes k8s.io/kubernetes "v$kubernetes"
  own=$(go mod download -json "k8s.io/kubernetes@v$kubernetes" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
  awk -v to="v0.${kubernetes#1.}" '$1 ~ /^k8s.io\// && $2 == "v0.0.0" { print "replace " $1 " => " $1 " " to }' "$own" >> go.mod
  version=k8s.io/component-base/version
  build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver \
    "-s -w -X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=36"
)

for peer in etcd kube_apiserver; do
  name=${peer//_/-}
  [ -x "$cache/bin/$name" ] && continue
  command -v go >/dev/null || { echo "skipped: no go to build the peer $name with"; continue; }
  "build_$peer" || echo "skipped: the peer $name could not be built"
done
