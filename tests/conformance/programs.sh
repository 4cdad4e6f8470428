#!/usr/bin/env bash
# Builds the suite and the programs of its images into CACHE/bin, from the modules that go.sum verifies.
set -euo pipefail
cache="${1:?usage: programs.sh CACHE}"
here="$(cd "$(dirname "$0")" && pwd)"
version=v1.36.3
mkdir -p "$cache/bin"
cd "$here"

# What is built: name, package. The programs of images are static, as upstream builds them.
programs=(
  "ginkgo github.com/onsi/ginkgo/v2/ginkgo"
  "crane github.com/google/go-containerregistry/cmd/crane"
  "agnhost k8s.io/kubernetes/test/images/agnhost"
  "kubectl k8s.io/kubernetes/cmd/kubectl"
  "etcd go.etcd.io/etcd/server/v3"
  "etcdctl go.etcd.io/etcd/etcdctl/v3"
  "sample-apiserver k8s.io/sample-apiserver"
  "nnp k8s.io/kubernetes/test/images/nonewprivs"
  "regression-issue-74839 k8s.io/kubernetes/test/images/regression-issue-74839"
  "consumer k8s.io/kubernetes/test/images/resource-consumer"
  "consume-cpu k8s.io/kubernetes/test/images/resource-consumer/consume-cpu"
)

export CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath -buildvcs=false"
go build -o "$cache/bin/report" ./report

stamp="$(cat go.mod go.sum programs.sh | sha256sum) $(go version)"
[ "$(cat "$cache/programs.stamp" 2>/dev/null)" = "$stamp" ] && exit 0

flags="-s -w"
for at in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $at.gitVersion=$version -X $at.gitMajor=1 -X $at.gitMinor=36"
done
for line in "${programs[@]}"; do
  read -r name package <<<"$line"
  echo "building $name"
  nice go build -ldflags "$flags" -o "$cache/bin/$name" "$package"
done
echo "building e2e.test (minutes when nothing is cached)"
nice go test -c -ldflags "$flags" -o "$cache/bin/e2e.test" k8s.io/kubernetes/test/e2e
echo "$stamp" > "$cache/programs.stamp"
