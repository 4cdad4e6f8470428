# Commands that docker's client and ours are both given, against the same daemon. $C is the client.
# Each line's output, errors and exit code are compared. Sourced by run.sh.

try run --name one busybox echo hello
try run --name one busybox echo again
try ps -a
try ps -aq --no-trunc --filter name=one
try ps -a --format '{{.Names}} {{.Image}} {{.Command}} {{.State}} {{.Networks}}'
try ps -a --format json --filter name=nothing
try ps --filter bad=1
try logs one
try logs --tail 0 one
try logs absent
try start one
try wait one
try start -a one
try start absent one
try wait one
try inspect --format '{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{json .Config.Cmd}}' one
try inspect absent
try rm one
try rm one
try rm -f one
try run --rm busybox sh -c 'echo out; echo err >&2; exit 5'
try run --rm busybox nosuch
try run --rm busybox /etc
try run --rm busybox /data/file
try run --rm --network absent busybox true
try run --rm -v relative/x:/y busybox true
try run --rm -p 99999:80 busybox true
try run --rm --memory 1m busybox true
try run --rm --restart always busybox true
try run --rm -e A=b -e HOME -w /tmp -u 1000:44 --hostname box busybox sh -c 'echo $A; pwd; id; hostname'
try run --rm --read-only --tmpfs /t busybox sh -c 'touch /t/x && ls /t; touch /x'
try run --rm --entrypoint echo busybox over ride
try run --rm --cap-drop ALL busybox sh -c 'chown 1:1 /tmp'
try run --rm --network none busybox ip -o link
try run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -n'
try run --rm --add-host name:1.2.3.4 busybox grep name /etc/hosts
try run --rm -v store:/data busybox cat /data/file
try volume ls
try volume ls -q
try volume inspect --format '{{.Name}} {{.Driver}} {{.Scope}}' store
try volume rm store
try volume rm store
try run -d --name web -p 127.0.0.1:18080:80 -l a=b busybox httpd -f -p 80 -h /var/www
try ps
try ps --filter label=a=b --format '{{.Names}} {{.Ports}} {{.Labels}}'
try port web
try port web 80
try port web 81/udp
try exec web sh -c 'echo in; exit 4'
try exec -u ada -w /tmp -e X=y web sh -c 'id -un; pwd; echo $X'
try exec web nosuch
try exec absent true
try top web
try kill -s USR1 absent
try pause web
try ps
try exec web true
try unpause web
try unpause web
try rename web web2
try rename web2 web2
try update --restart always web2
try network create net
try network create net
try network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'
try network connect net web2
try network connect net web2
try network inspect --format '{{.Name}} {{.Driver}} {{.Internal}} {{len .Containers}}' net
try network rm net
try network disconnect net web2
try network rm net
try network rm bridge
try cp web2:/var/www/index.html -
try diff web2
try commit -m made -c 'ENV NEW=1' web2 made
try run --rm made sh -c 'echo $NEW'
try stop -t 0 web2
try stop web2
try wait web2
try rm web2
try system df --format '{{.Type}}'
