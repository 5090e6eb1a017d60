#!/usr/bin/env bash
# Ranks started by srun: a Slurm cluster of this one machine, in a temporary folder and with processes of its own, runs the
# contract of transports and ranks that end. Needs root, as slurmd does; skipped with the reason where something is missing.
# Prints a line per case; fails if one fails.
set -u
cd "$(dirname "$0")/../.."
start=$(date +%s%3N)

skip() { echo "slurm: skipped: $1"; exit 0; }
for tool in munged slurmctld slurmd srun; do
  PATH=$PATH:/usr/sbin command -v $tool >/dev/null ||
    skip "$tool is not installed (Debian, Ubuntu: apt-get install slurmctld slurmd slurm-client munge)"
done
export PATH=$PATH:/usr/sbin
[ "$(id -u)" = 0 ] || skip "slurmd needs root"
[ -e dist/mpi/exactmap_mpi.node ] || skip "the MPI addon is not built (npx exactmap build mpi)"
host=$(hostname -s)
getent hosts "$host" >/dev/null || skip "the name of this machine, $host, has no address (add it to /etc/hosts)"

work=$(mktemp -d)
status=0
daemons=()
stop() {
  # Nothing of theirs is kept, so they need not put anything in order, which takes seconds. A step's own daemon is known by
  # its configuration.
  for pid in $(pgrep -x slurmstepd); do
    grep -qsz "^SLURM_CONF=$work/" "/proc/$pid/environ" && daemons+=("$pid")
  done
  [ ${#daemons[@]} = 0 ] || kill -KILL "${daemons[@]}" 2>/dev/null
  rm -rf "$work"
}
trap stop EXIT

# report <case> <what went wrong, empty for nothing> [time]
report() {
  if [ -z "$2" ]; then
    echo "slurm: $1: passed${3:+ ($3)}"
  else
    echo "slurm: $1: failed: $2"
    status=1
  fi
}

# Names and ports are this run's own: a cluster of the machine is left alone.
read -r control daemon < <(node -e '
  const servers = [0, 1].map(() => require("node:net").createServer().listen(0, () => {
    if (!servers.every((s) => s.listening)) return
    console.log(servers.map((s) => s.address().port).join(" "))
    for (const s of servers) s.close()
  }))')
mkdir -p "$work"/{state,spool,munge}
# munged refuses a key and a socket that others could write.
chmod 700 "$work/munge"
chmod 755 "$work"
(umask 077 && head -c 128 /dev/urandom >"$work/munge/key")
export SLURM_CONF=$work/slurm.conf
cat >"$SLURM_CONF" <<C
ClusterName=exactmap
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$control
SlurmdPort=$daemon
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
# More CPUs than there are, so that four ranks fit.
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
KillWait=2
NodeName=$host NodeAddr=127.0.0.1 NodeHostname=$host CPUs=8 State=UNKNOWN
PartitionName=ranks Nodes=$host Default=YES MaxTime=INFINITE State=UP
C

munged --foreground --force --key-file="$work/munge/key" --socket="$work/munge/socket" \
  --pid-file="$work/munge/pid" --log-file="$work/munge/log" --seed-file="$work/munge/seed" >/dev/null 2>&1 &
daemons+=($!)
disown
for _ in $(seq 50); do [ -S "$work/munge/socket" ] && break; sleep 0.1; done
slurmctld -D -i >/dev/null 2>&1 &
daemons+=($!)
disown
slurmd -D >/dev/null 2>&1 &
daemons+=($!)
disown
for _ in $(seq 100); do
  sinfo -h -o %t 2>/dev/null | grep -q idle && break
  sleep 0.1
done
if ! sinfo -h -o %t 2>/dev/null | grep -q idle; then
  report "the daemons start" "no idle node after 10 s: $(tail -n 3 "$work"/*.log "$work/munge/log" 2>/dev/null | tr '\n' ' ')"
  exit 1
fi
report "the daemons start" "" "$(($(date +%s%3N) - start)) ms"

rank=dist/test/rank.js
npx esbuild test/ranks/rank.ts --bundle --platform=node --format=esm --packages=external --log-level=warning --outfile=$rank ||
  exit 1

# ranks <options of srun> <arguments of rank.ts>
ranks() { timeout -k 5 60 srun $1 --oversubscribe -n 4 node $rank ${2} >"$work/out" 2>"$work/err"; }
told() { grep -c '^exactmap: ' "$work/err"; }

begun=$(date +%s%3N)
ranks "--mpi=pmix -K1" start
code=$?
[ $code = 0 ] && [ "$(grep -c '^up .* mpi (' "$work/out")" = 4 ] && problem= || problem="code $code: $(cat "$work/err")"
report "4 ranks start" "$problem" "$(($(grep -o '^up [0-9]*' "$work/out" | sort -n | tail -n 1 | cut -c4-) - begun)) ms"

ranks "--mpi=pmix -K1" contract
code=$?
[ $code = 0 ] && [ "$(grep -c ': close waits' "$work/out")" = 4 ] && problem= || problem="code $code: $(cat "$work/err")"
report "4 ranks keep the contract of transports" "$problem"

# A rank ends: the others are gone within 5 s.
for how in throw kill exit; do
  ranks "--mpi=pmix -K1" "$how 2"
  code=$?
  ended=$(date +%s%3N)
  after=$((ended - $(grep -o '^end [0-9]*' "$work/out" | cut -c5-)))
  problem=
  [ $code != 0 ] || problem="the exit code is 0"
  [ $after -lt 5000 ] || problem="only after $after ms"
  for pid in $(grep -o '^pid [0-9]*' "$work/out" | cut -c5-); do
    grep -qsP '^State:\t[^Z]' "/proc/$pid/status" && problem="rank with pid $pid still runs"
  done
  case $how in
  throw) grep -q '^exactmap: rank 2: device_lost: the device of this rank is gone' "$work/err" && [ "$(told)" = 1 ] ;;
  *) [ "$(told)" = 0 ] ;;
  esac || problem="ranks said: $(grep '^exactmap: ' "$work/err")"
  report "$how: all ranks stop" "$problem" "$after ms"
done

# Training as its users start it: two data ranks, since there is no plan.
cat >"$work/run.yaml" <<END
output: $work/trained
model: { config: { architectures: [LlamaForCausalLM], model_type: llama, hidden_size: 32, intermediate_size: 48,
  num_hidden_layers: 2, num_attention_heads: 2, max_position_embeddings: 32, vocab_size: 280 } }
tokenizer: { train: { vocabulary: 280 } }
data: { files: [$PWD/test/data/fables.txt] }
steps: 2
sequence: 16
accumulation: 2
evaluate_batches: 1
END
timeout -k 5 120 srun --mpi=pmix -K1 --oversubscribe -n 2 node dist/cli/main.js train "$work/run.yaml" --driver swiftshader \
  >"$work/out" 2>"$work/err"
code=$?
[ $code = 0 ] && [ -s "$work/trained/model.safetensors" ] && [ "$(grep -c '^done: 2 steps' "$work/err")" = 1 ] &&
  problem= || problem="code $code: $(tail -n 5 "$work/err")"
report "2 ranks train" "$problem"

ranks "--mpi=none -K1" contract
code=$?
grep -q '^exactmap: conflict: srun started 4 ranks that do not know of each other: use srun --mpi=pmix$' "$work/err" &&
  [ $code != 0 ] && problem= || problem="code $code: $(cat "$work/err")"
report "without --mpi=pmix" "$problem"
exit $status
