#!/usr/bin/env bash
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
stamp="$(sha256sum < "$here/requirements.txt") $(python3 --version)"
[ "$(cat "$CACHE/stamp" 2>/dev/null)" = "$stamp" ] && exit 0
rm -rf "$CACHE"
python3 -m venv "$CACHE/venv"
"$CACHE/venv/bin/pip" install --quiet --no-deps -r "$here/requirements.txt"
echo "$stamp" > "$CACHE/stamp"
