# Images that come and go by docker's own client: what it prints must fit a pattern. Sourced by run.sh; `says` counts.
# What is pushed goes to a registry on loopback.

# shellcheck source=../interop/registry.sh
source "$here/../interop/registry.sh"
mkdir -p "$work/registry"
serve_registry "$work/registry" "$work" 5300
place=localhost:$port

says 'Loaded image: busybox:latest' sh -c "'$docker' save busybox | '$docker' load"
says '*No such image: nosuch' "$docker" save nosuch
says '*reference does not exist' "$docker" save nosuch:tag
says '*archive*' sh -c "echo nothing | '$docker' load"
says 'page' sh -c "'$docker' create --name files busybox true >/dev/null; '$strata' cp files:/var/www/index.html - | tar -xO; '$docker' rm files >/dev/null"
says 'sha256:*' sh -c "tar -C '$root' -c etc | '$docker' import -c 'CMD [\"x\"]' -m why - imported:1"
says '\["x"\] why' "$docker" image inspect -f '{{json .Config.Cmd}} {{.Comment}}' imported:1
says '' "$docker" tag busybox "$place/team/box:1"
says '' "$docker" tag busybox "$place/team/box:2"
says "*$place/team/box*tag does not exist: $place/team/box:latest" "$docker" push "$place/team/box"
says "*1: digest: sha256:* size: *" "$docker" push "$place/team/box:1"
says "*Layer already exists*2: digest: sha256:*" "$docker" push -a "$place/team/box"
says '*An image does not exist locally with the tag: nosuch' "$docker" push nosuch
says "Untagged: $place/team/box:1*" "$docker" rmi "$place/team/box:1"
says "Untagged: $place/team/box:2*" "$docker" rmi "$place/team/box:2"
says "*Pulling from team/box*Status: * $place/team/box:1*" "$docker" pull "$place/team/box:1"
says "*Status: * $place/team/box:1*" "$docker" pull -a "$place/team/box"
says 'hello' "$docker" run --rm "$place/team/box:2" echo hello
says '*not found*' "$docker" pull "$place/team/box:nosuch"
says '*"Descriptor":{"digest":"sha256:*"Platforms":*"architecture"*' \
  curl -s --unix-socket "$work/engine.sock" "http://engine/v1.44/distribution/$place/team/box:1/json"
says '*Login Succeeded*' sh -c "echo secret | '$docker' login -u somebody --password-stdin '$place'"
says '*images are not built here*' env DOCKER_BUILDKIT=0 "$docker" build "$work/context"
says '*not supported*' "$docker" search busybox
says '*This node is not a swarm manager*' "$docker" service ls
says '*load*import*push*untag*pull*' "$docker" events --since 1h --until "$(($(date +%s) + 1))" --filter type=image --format '{{.Action}}'
says '*Error response from daemon: conflict: unable to remove repository reference*' sh -c \
  "'$docker' run --name user imported:1 2>/dev/null; '$docker' rmi imported:1"
says 'user*Untagged: imported:1*' sh -c "'$docker' rm user; '$docker' rmi imported:1"
"$docker" rmi -f "$place/team/box:1" "$place/team/box:2" >/dev/null
kill "$registry"
