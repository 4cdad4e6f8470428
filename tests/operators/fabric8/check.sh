#!/usr/bin/env bash
# An operator on fabric8's client and the client of its resources in one program.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
java -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$CACHE/target/classes:$CACHE/target/jars/*" example.Greeter "$here/../kopf/crd.yaml"
