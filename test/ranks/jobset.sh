#!/usr/bin/env bash
# The launcher of a JobSet (exactmap jobset) over two nodes: a pod is a network, host name and /dev/shm of its own, joined
# by a bridge, as in a cluster. Only ssh is stood in for, by a script that enters the pod; what it starts is Open MPI's own
# daemon, and ranks talk over TCP. Needs root and iproute2; skipped with the reason where something is missing.
set -u
cd "$(dirname "$0")/../.."
skip() { echo "jobset: skipped: $1"; exit 0; }
for tool in ip nsenter unshare mpirun; do
  PATH=$PATH:/usr/sbin command -v $tool >/dev/null || skip "$tool is not installed"
done
export PATH=$PATH:/usr/sbin
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
[ -e dist/mpi/exactmap_mpi.node ] || skip "the MPI addon is not built (npx exactmap build mpi)"

work=$(mktemp -d)
bridge=xm$$
pods=()
spaces=()
stop() {
  [ ${#pods[@]} = 0 ] || kill -KILL "${pods[@]}" 2>/dev/null
  for space in "${spaces[@]}"; do ip netns del "$space"; done
  ip link del "$bridge" 2>/dev/null
  rm -rf "$work"
}
trap stop EXIT
ip link add "$bridge" type bridge 2>/dev/null && ip link set "$bridge" up || skip "no bridge can be made here"

# The pods' names and addresses, as the JobSet's headless service gives them.
mkdir "$work/bin"
echo "127.0.0.1 localhost" >"$work/hosts"
i=0
for pod in run-launcher-0-0 run-workers-0-0 run-workers-0-1; do
  i=$((i + 1))
  echo "10.77.0.$i $pod.run $pod" >>"$work/hosts"
done
i=0
for pod in run-launcher-0-0 run-workers-0-0 run-workers-0-1; do
  i=$((i + 1))
  space=xm$$-$i
  ip netns add "$space" || skip "no network namespace can be made here"
  spaces+=("$space")
  ip link add "$bridge-$i" type veth peer name eth0 netns "$space"
  ip link set "$bridge-$i" master "$bridge" up
  ip -n "$space" link set lo up
  ip -n "$space" addr add "10.77.0.$i/24" dev eth0
  ip -n "$space" link set eth0 up
  ip netns exec "$space" unshare -u -m sh -c '
    hostname "$1" && mount --bind "$2" /etc/hosts && mount -t tmpfs none /dev/shm && touch "$3" && exec sleep 300' \
    sh "$pod" "$work/hosts" "$work/$pod" &
  pods+=($!)
  disown
  echo ${pods[-1]} >"$work/bin/$pod.run"
done
for pod in run-launcher-0-0 run-workers-0-0 run-workers-0-1; do
  for _ in $(seq 100); do [ -e "$work/$pod" ] && break; sleep 0.05; done
done

# ssh <options> <host> <command>: enters the pod.
cat >"$work/bin/ssh" <<'S'
#!/usr/bin/env bash
while [ ! -e "$(dirname "$0")/$1" ]; do shift; done
pod=$(cat "$(dirname "$0")/$1")
shift
exec nsenter -t "$pod" -n -u -m -- sh -c "$*"
S
chmod 755 "$work/bin/ssh"
echo "a key" >"$work/ssh-publickey"

npx esbuild test/ranks/rank.ts --bundle --platform=node --format=esm --packages=external --log-level=warning --outfile=dist/test/rank.js
# manifest <rank.ts arguments>: runs the launcher's command of a manifest in its pod.
manifest() {
  node dist/cli/main.js jobset --image any --nodes 2 --ranks-per-node 2 --name run -- node "$PWD/dist/test/rank.js" "$@" >"$work/manifest.yaml"
  cat >"$work/launch.mjs" <<'J'
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
const [work, root] = process.argv.slice(2)
const { parse } = createRequire(`${root}/package.json`)('yaml')
const jobs = parse(readFileSync(`${work}/manifest.yaml`, 'utf8')).spec.replicatedJobs
const { command, env } = jobs.find((job) => job.name === 'launcher').template.spec.template.spec.containers[0]
const given = Object.fromEntries(env.map((e) => [e.name, e.value]))
const ran = spawnSync(command[0], command.slice(1), {
  stdio: 'inherit',
  timeout: 60_000,
  env: { ...process.env, ...given, KEYS: work, TMPDIR: work },
})
process.exit(ran.status ?? 1)
J
  PATH=$work/bin:$PATH nsenter -t "${pods[0]}" -n -u -m -- node "$work/launch.mjs" "$work" "$PWD" >"$work/out" 2>"$work/err"
}

status=0
# report <case> <what went wrong, empty for nothing>
report() {
  if [ -z "$2" ]; then echo "jobset: $1: passed"; else echo "jobset: $1: failed: $2"; status=1; fi
}
manifest contract
code=$?
[ $code = 0 ] && [ "$(grep -c ': close waits' "$work/out")" = 4 ] && problem= || problem="code $code: $(tail -n 5 "$work/err")"
report "4 ranks on 2 nodes keep the contract of transports" "$problem"

manifest agree 3
code=$?
expected="exactmap: rank 0: conflict: rank 3 (host run-workers-0-1) has plan 1a2b, rank 0 has 3c4d: start all ranks with the same plan file"
[ $code != 0 ] && [ "$(grep '^exactmap: ' "$work/err")" = "$expected" ] && problem= || problem="code $code: $(cat "$work/err")"
report "a rank on the other node is refused by name" "$problem"

manifest kill 3
code=$?
after=$(($(date +%s%3N) - $(grep -o '^end [0-9]*' "$work/out" | cut -c5-)))
[ $code != 0 ] && [ $after -lt 5000 ] && ! grep -q '^exactmap: ' "$work/err" && problem= || problem="code $code after $after ms: $(cat "$work/err")"
report "a rank on the other node is killed: all stop ($after ms)" "$problem"
exit $status
