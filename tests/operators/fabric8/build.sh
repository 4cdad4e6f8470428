#!/usr/bin/env bash
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
stamp="$(cat "$here/pom.xml" "$here"/src/main/java/example/*.java | sha256sum) $(javac -version 2>&1)"
[ "$(cat "$CACHE/stamp" 2>/dev/null)" = "$stamp" ] && exit 0
rm -rf "$CACHE"
mkdir -p "$CACHE"
cp -r "$here/pom.xml" "$here/src" "$CACHE"
cd "$CACHE"
nice mvn -q -B compile dependency:copy-dependencies -DoutputDirectory=target/jars
echo "$stamp" > "$CACHE/stamp"
