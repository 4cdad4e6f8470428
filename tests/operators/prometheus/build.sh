#!/usr/bin/env bash
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../lib.sh"
base=github.com/prometheus-operator/prometheus-operator
go_programs "$here" "operator=$base/cmd/operator" "webhook=$base/cmd/admission-webhook"
