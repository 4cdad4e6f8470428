# What the scripts of the operators share; sourced. OUT is the folder of this run.

# The first port from a number on that nobody listens on: free_port FROM
free_port() {
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}

# Asks until it is so, or fails: eventually SECONDS WHAT COMMAND…
eventually() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { echo "not in time: $what"; return 1; }
    sleep 0.1
  done
  echo "$what"
}

# Starts a process that ends with the script: start NAME COMMAND…
started=()
start() {
  local name=$1
  shift
  "$@" > "$OUT/$name.log" 2>&1 &
  started+=("$!")
}
stop_started() {
  local pid
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
}

# Whether a field of an object has a value that matches: field KIND NAME JSONPATH REGEX
field() {
  kubectl get "$1" "$2" -o "jsonpath={$3}" | grep -Eq -- "$4"
}

# Passes when the command is refused with words that match: refused REGEX COMMAND…
refused() {
  local words=$1 said
  shift
  if said=$("$@" 2>&1); then echo "not refused: $*"; return 1; fi
  grep -Eq -- "$words" <<<"$said" || { echo "refused otherwise: $said"; return 1; }
  echo "refused: $words"
}

# Builds programs of modules that go.sum verifies: go_programs FOLDER NAME=PACKAGE…
go_programs() {
  local folder=$1 stamp program
  shift
  mkdir -p "$CACHE/bin"
  cd "$folder"
  stamp="$(cat go.mod go.sum | sha256sum) $(go version) $*"
  [ "$(cat "$CACHE/stamp" 2>/dev/null)" = "$stamp" ] && return 0
  for program in "$@"; do
    CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath -buildvcs=false -p=${GO_JOBS:-2}" \
      nice go build -ldflags "-s -w" -o "$CACHE/bin/${program%%=*}" "${program#*=}"
  done
  echo "$stamp" > "$CACHE/stamp"
}

# The folder of a module in the module cache: module FOLDER PATH
module() {
  (cd "$1" && go list -m -f '{{.Dir}}' "$2")
}
