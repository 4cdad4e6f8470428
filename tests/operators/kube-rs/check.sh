#!/usr/bin/env bash
# An operator on kube-rs and the client of its resources in one program.
set -euo pipefail
"$CACHE"/x86_64-unknown-linux-gnu/debug/greeter
