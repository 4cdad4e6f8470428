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
try diff web2
try commit -m made -c 'ENV NEW=1' web2 made
try run --rm made sh -c 'echo $NEW'
try stop -t 0 web2
try stop web2
try wait web2
try rm web2
try system df --format '{{.Type}}'

# Flags, each carried out or refused.
try run --rm --uts host busybox sh -c '[ "$(readlink /proc/self/ns/uts)" = "$(readlink /proc/1/ns/uts)" ] && echo own || echo other'
try run --rm --uts nowhere busybox true
try run --rm --uts host --hostname box busybox true
try run --rm --userns host busybox true
try run --rm --userns remap busybox true
try run --rm --cgroupns private busybox cat /proc/self/cgroup
try run --rm --cgroupns nowhere busybox true
try run --rm --pid nowhere busybox true
try run --rm --ipc nowhere busybox true
try run --rm --ipc none busybox ls /dev/shm
try run --rm --device-cgroup-rule 'c 10:200 rwm' busybox true
try run --rm --device-cgroup-rule nothing busybox true
try run --rm --cgroup-parent /people-test busybox grep -c people-test /proc/self/cgroup
try run --rm --log-driver json-file --log-opt max-size=1m --log-opt max-file=2 busybox echo logged
try run --rm --log-driver json-file --log-opt max-file=0 busybox true
try run --rm --log-driver json-file --log-opt size=1 busybox true
try run --rm --log-driver local --log-opt tag=x busybox true
try run --rm --log-driver syslog busybox true
try run --rm --log-driver none --log-opt a=b busybox true
try run --log-driver none --name silent busybox echo heard
try logs silent
try rm silent
try run --rm --blkio-weight 5 busybox true
try run --rm --blkio-weight 300 busybox true
try run --rm --device-read-bps /dev/nosuch:1mb busybox true
try run --rm --device-read-bps nosuch:1mb busybox true
try run --rm --dns nowhere busybox true
try run --rm --dns 10.9.8.7 --dns-search a.b --dns-option ndots:3 busybox cat /etc/resolv.conf
try run --rm --add-host name busybox true
try run --rm --cpuset-cpus 60000 busybox true
try run --rm --cpu-period 10 busybox true
try run --rm --memory-swappiness 200 busybox true
try run --rm --shm-size x busybox true
try run --rm -w relative busybox true
try run --rm --stop-signal NOSUCH busybox true
try run --rm --runtime nosuch busybox true
try run --rm -e =x busybox true
try run --rm --mount type=bind,src=/nosuch,dst=/x busybox true
try run --rm --mount type=bind,src=/,dst=/x,bind-recursive=readonly busybox true
try run --rm --mount type=bind,src=/etc,dst=/x,readonly,bind-recursive=readonly,bind-propagation=rprivate busybox touch /x/y
try run --rm --mount type=tmpfs,dst=/x,tmpfs-size=1m busybox sh -c 'grep " /x " /proc/mounts | cut -d" " -f3'
try run --rm --health-interval 1us busybox true
try run --rm --health-retries -1 busybox true
try run --rm --restart nosuch busybox true
try run --rm --restart on-failure:x busybox true
try run --rm --security-opt nosuch=1 busybox true
try run --rm --init busybox sh -c 'cat /proc/1/comm | grep -c .'
try run --rm BUSYBOX true
try run --rm --pull never nosuch:image true
try run --rm --pull sometimes busybox true
try run --rm --ulimit nofile busybox true
try run --rm --cpus x busybox true

# Networks with options.
try network create --opt com.docker.network.bridge.enable_icc=maybe bad
try network create --opt com.docker.network.driver.mtu=-1 bad
try network create --subnet 10.210.0.0/16 --ip-range 10.211.0.0/24 bad
try network create --subnet 10.210.0.0/16 --gateway 10.211.0.1 bad
try network create --subnet 10.210.0.5/16 bad
try network create --driver nosuch bad
try network create --subnet 10.210.0.0/16 --ip-range 10.210.5.0/24 --gateway 10.210.0.9 --aux-address other=10.210.5.1 --opt com.docker.network.bridge.name=people0 --opt com.docker.network.driver.mtu=1400 --label a=b ranged
try network create --opt com.docker.network.bridge.name=people0 second
try network inspect --format '{{range .IPAM.Config}}{{.Subnet}} {{.IPRange}} {{.Gateway}}{{end}} {{json .Options}} {{json .Labels}}' ranged
try run --rm --network ranged busybox ip -4 -o addr show eth0
try run --rm --network ranged --ip 10.210.7.7 busybox ip -4 -o addr show eth0
try run --rm --network ranged --ip 10.211.7.7 busybox true
try network ls --filter label=a=b --format '{{.Name}}'
try network ls --filter bad=1
try network rm ranged nosuch

# Images.
try image tag busybox team/busybox:2
try image ls --filter reference='team/*' --format '{{.Repository}}:{{.Tag}}'
try image ls --filter dangling=true -q
try image ls --filter label=none -q
try image ls --filter before=nosuch
try image ls --filter bad=1
try image ls --filter until=1h -q
try image inspect --format '{{json .RepoTags}} {{.Os}} {{json .Config.Cmd}}' team/busybox:2
try image inspect nosuch
try image history --format '{{.CreatedBy}}|{{.Comment}}' busybox
try image save nosuch
try image save nosuch:tag
try image rm team/busybox:2
try image rm nosuch
try image rm busybox:BAD
try image tag busybox BAD
try image tag nosuch x
try run --name holds busybox true
try image rm busybox
try rm holds
try create --name base busybox true
try commit -c 'HEALTHCHECK --interval=1s --retries=2 CMD ["test","-e","/tmp"]' -c 'STOPSIGNAL USR1' -c 'EXPOSE 81' -c 'VOLUME /vol' -c 'ENTRYPOINT ["echo","entry"]' -c 'CMD ["default"]' -c 'LABEL l=1' base made
try image inspect --format '{{json .Config.Healthcheck.Test}} {{.Config.StopSignal}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{json .Config.Entrypoint}}' made
try run --rm made
try run --rm made given
try run --rm --entrypoint ls made -d /vol
try run -d --name healthy --entrypoint sleep made 100
try inspect --format '{{.State.Health.Status}} {{.Config.StopSignal}} {{json .Config.Healthcheck.Test}} {{len .Mounts}}' healthy
try ps --filter health=starting --format '{{.Names}} {{.Ports}}'
try ps --filter publish=80 -q
try ps --filter volume=/vol --format '{{.Names}}'
try rm -fv healthy base
try image rm made

# How a line of words is wrong.
try run --nosuch
try run
try run -z busybox
try run --name
try run --memory x busybox true
try run --memory-swappiness x busybox true
try ps --nosuch
try ps x
try rm
try exec one
try stop -t x one
try logs a b
try kill
try rename a
try network create
try inspect
try system prune --volumes --filter until=1h -f
try system prune --filter x -f

# A longer life.
try create --name life -p 8080-8090:80 --cidfile /nosuch/x busybox true
try run -d --name life --stop-signal USR1 --stop-timeout 1 -l k=v --restart on-failure:2 -p 127.0.0.1:28080-28090:80 busybox sh -c 'trap "echo caught; exit 3" USR1; echo begin; sleep 1000 & wait'
try port life
try update --memory 64m --memory-swap 128m --pids-limit 50 life
try inspect --format '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}} {{.RestartCount}}' life
try update --nosuch life
try update life
try exec -d life touch /made
try exec -w /nosuch life true
try exec -u nosuch life true
try exec -e A=b life sh -c 'echo $A'
try exec -it life true
try attach absent
try top life
try top life aux
try top life -o pid,comm
try top absent
try stats --no-stream --format '{{.Name}} {{.PIDs}}' absent
try diff life
try cp life:/nosuch -
try cp life:/etc/passwd /nosuch/x/y
try stop life
try wait life
try logs life
try logs --tail 1 life
try logs --since 2000-01-01T00:00:00Z --until 2001-01-01T00:00:00Z life
try ps -a --filter exited=3 --format '{{.Names}} {{.State}}'
try ps -a --filter status=nosuch
try ps -n 1 --format '{{.Names}}'
try ps -l -q --no-trunc
try restart absent
try rm -f life absent
try run --rm=true --tty=false busybox echo switches
try run --rm=maybe busybox true
try run --rm busybox ls -d --color=never /etc
try events --since 1 --until 2
