import { check } from '../errors.ts'

/** A run on Kubernetes: `nodes` pods of `ranksPerNode` ranks each. */
export interface JobSetRequest {
  readonly name: string
  /** Image with exactmap and its MPI addon, Open MPI, an ssh client and sshd. */
  readonly image: string
  readonly nodes: number
  readonly ranksPerNode: number
  readonly gpusPerNode: number
  /** Persistent volume claim that all ranks see, and where. */
  readonly claim?: { readonly name: string; readonly path: string }
  /** Secret with a pair of ssh keys made for this: `ssh-privatekey`, `ssh-publickey`. */
  readonly secret: string
  /** What a rank runs. */
  readonly command: readonly string[]
}

/** Where the keys are mounted, and the port of the workers' sshd. */
const KEYS = '/etc/exactmap/ssh'
const PORT = 2222

/**
 * A worker is an sshd that knows one key: the launcher's, which is its own host key as well, so that both sides know whom
 * they talk to. A secret's files are links, which StrictModes would refuse.
 */
const WORKER = `mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e -f /dev/null -p ${PORT} -h "$KEYS/ssh-privatekey" -o PidFile=none \\
  -o AuthorizedKeysFile="$KEYS/ssh-publickey" -o StrictModes=no -o PasswordAuthentication=no`

/** The launcher waits until every worker answers, then is mpirun: its end is the end of the JobSet. */
const LAUNCHER = `set -eu
work=$(mktemp -d)
printf '[*]:${PORT} %s\\n' "$(cat "$KEYS/ssh-publickey")" >"$work/known_hosts"
options="-p ${PORT} -i $KEYS/ssh-privatekey -o UserKnownHostsFile=$work/known_hosts -o BatchMode=yes -o ConnectTimeout=5"
i=0
while [ "$i" -lt "$NODES" ]; do
  host=$WORKERS-$i.$SUBDOMAIN
  tries=0
  until ssh $options "$host" true; do
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || { echo "exactmap: worker $host does not answer" >&2; exit 1; }
    sleep 5
  done
  echo "$host slots=$RANKS_PER_NODE" >>"$work/hosts"
  i=$((i + 1))
done
exec mpirun --allow-run-as-root --hostfile "$work/hosts" -np $((NODES * RANKS_PER_NODE)) --map-by slot --bind-to none \\
  --mca orte_keep_fqdn_hostnames 1 --mca plm_rsh_agent ssh --mca plm_rsh_args "$options" --mca plm_rsh_no_tree_spawn 1 \\
  -x PATH "$@"`

/**
 * The manifest (jobset.x-k8s.io/v1alpha2) of two jobs: workers, one pod a node, and a launcher, whose result is the run's.
 * A pod that fails fails the whole; nothing is restarted by itself.
 *
 * @throws ExactmapError `invalid_argument` where names would not be names of Kubernetes
 */
export function jobSet(request: JobSetRequest): object {
  const { name, image, nodes, ranksPerNode, gpusPerNode, claim, secret, command } = request
  const longest = `${name}-workers-0-${nodes - 1}`
  check(
    /^[a-z]([-a-z0-9]*[a-z0-9])?$/.test(name) && longest.length <= 63,
    'invalid_argument',
    `the name must be small letters, digits and dashes, begin with a letter, and leave room for pods such as '${longest}' in 63 characters; got '${name}'`,
  )
  const pod = (script: string, args: readonly string[], more: Container, where: object = {}) => ({
    spec: {
      restartPolicy: 'Never',
      ...where,
      containers: [
        {
          name: 'exactmap',
          image,
          command: ['sh', '-c', script, 'exactmap', ...args],
          env: variables({ KEYS, ...more.env }),
          ...(more.resources ? { resources: more.resources } : {}),
          volumeMounts: [
            { name: 'ssh', mountPath: KEYS, readOnly: true },
            { name: 'shm', mountPath: '/dev/shm' },
            ...(claim ? [{ name: 'data', mountPath: claim.path }] : []),
          ],
        },
      ],
      volumes: [
        { name: 'ssh', secret: { secretName: secret, defaultMode: 0o400 } },
        // Ranks of a node talk through shared memory, of which pods have little.
        { name: 'shm', emptyDir: { medium: 'Memory' } },
        ...(claim ? [{ name: 'data', persistentVolumeClaim: { claimName: claim.name } }] : []),
      ],
    },
  })
  const job = (role: string, pods: number, template: object) => ({
    name: role,
    replicas: 1,
    template: {
      spec: { parallelism: pods, completions: pods, completionMode: 'Indexed', backoffLimit: 0, template },
    },
  })
  const labels = {
    'jobset.sigs.k8s.io/jobset-name': name,
    'jobset.sigs.k8s.io/replicatedjob-name': 'workers',
  }
  const apart = { labelSelector: { matchLabels: labels }, topologyKey: 'kubernetes.io/hostname' }
  const workers = pod(
    WORKER,
    [],
    { ...(gpusPerNode > 0 ? { resources: { limits: { 'nvidia.com/gpu': gpusPerNode } } } : {}) },
    { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [apart] } } },
  )
  const launcher = pod(LAUNCHER, command, {
    env: {
      NODES: `${nodes}`,
      RANKS_PER_NODE: `${ranksPerNode}`,
      WORKERS: `${name}-workers-0`,
      SUBDOMAIN: name,
    },
  })
  return {
    apiVersion: 'jobset.x-k8s.io/v1alpha2',
    kind: 'JobSet',
    metadata: { name },
    spec: {
      network: { enableDNSHostnames: true, subdomain: name },
      successPolicy: { operator: 'All', targetReplicatedJobs: ['launcher'] },
      failurePolicy: { maxRestarts: 0 },
      replicatedJobs: [job('workers', nodes, workers), job('launcher', 1, launcher)],
    },
  }
}

interface Container {
  readonly env?: Readonly<Record<string, string>>
  readonly resources?: object
}

const variables = (env: Readonly<Record<string, string>>) =>
  Object.entries(env).map(([name, value]) => ({ name, value }))
