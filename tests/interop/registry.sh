# Functions to source: docker-registry on a free port of loopback.

# serve_registry FOLDER WORK [PORT]: serves the images in FOLDER; settings and log lie in WORK. PORT is the first port
# that is tried. Sets `port`, and `registry` to the process, which the caller ends.
serve_registry() {
  local folder=$1 work=$2
  port=${3:-5200}
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  cat > "$work/registry.yaml" <<YAML
version: 0.1
log: { level: error, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: $folder }, delete: { enabled: true } }
http: { addr: "127.0.0.1:$port" }
YAML
  docker-registry serve "$work/registry.yaml" > "$work/registry.log" 2>&1 &
  registry=$!
  for _ in $(seq 200); do
    ! curl -sf "http://127.0.0.1:$port/v2/" >/dev/null || return 0
    kill -0 "$registry" 2>/dev/null || break
    sleep 0.1
  done
  tail -3 "$work/registry.log"
  return 1
}

# mirror_hosts FOLDER HOST…: hosts.toml in FOLDER so that images of these registries come from the one that is served.
mirror_hosts() {
  local folder=$1 host
  shift
  for host in "$@"; do
    mkdir -p "$folder/$host"
    printf 'server = "http://localhost:%s"\n' "$port" > "$folder/$host/hosts.toml"
  done
}
