#!/usr/bin/env bash
# Every suite of others, one after another: STRATA and RUNTIME_BINARY are the programs, suites' names may be given.
# The last line is the sum of theirs, `interop: N passed, N failed, N skipped`; the exit code is 0 when each suite ended as
# it should, which allows for what its results file gives a cause for.
set -uo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
: "${STRATA:?the binary to test}" "${RUNTIME_BINARY:?the runtime to test}"
said="$(mktemp)"
trap 'rm -f "$said"' EXIT
passed=0 failed=0 skipped=0 bad=()
for run in "$here"/*/run.sh; do
  suite="$(basename "$(dirname "$run")")"
  if [ $# -gt 0 ] && [[ " $* " != *" $suite "* ]]; then continue; fi
  echo "== $suite"
  "$run" 2>&1 | tee "$said" || bad+=("$suite")
  if [[ "$(tail -n 1 "$said")" =~ ^interop:\ ([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
    passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2])) skipped=$((skipped + BASH_REMATCH[3]))
  else
    echo "$suite ended without its last line"
    bad+=("$suite")
  fi
done
[ ${#bad[@]} -eq 0 ] || echo "not as they should be: ${bad[*]}"
echo "interop: $passed passed, $failed failed, $skipped skipped"
[ ${#bad[@]} -eq 0 ]
