#!/usr/bin/env bash
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../lib.sh"
# The last release whose programs are packages of the module itself.
base=github.com/cert-manager/cert-manager/cmd
go_programs "$here" "controller=$base/controller" "webhook=$base/webhook" "cainjector=$base/cainjector"
