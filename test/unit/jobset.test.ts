import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { jobsetCommand } from '../../src/cli/jobset.ts'

afterEach(() => vi.restoreAllMocks())

async function printed(...args: string[]): Promise<string> {
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  await jobsetCommand().exitOverride().parseAsync(args, { from: 'user' })
  return write.mock.calls.map(([piece]) => piece).join('')
}

const asked = ['--image', 'here/exactmap:1', '--nodes', '3', '--ranks-per-node', '8']
const run = ['--', 'npx', 'exactmap', 'train', "/runs/it's mine.yaml"]

// The part of the structural schemas that the manifest uses, written from the public reference: JobSet v1alpha2
// (JobSetSpec, ReplicatedJob, Network, SuccessPolicy, FailurePolicy), batch/v1 JobSpec, core/v1 PodSpec. The API server
// drops or refuses fields it does not know, so every object is strict.
const int32 = z
  .number()
  .int()
  .min(0)
  .max(2 ** 31 - 1)
const label = z
  .string()
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/)
  .max(63)
const container = z.strictObject({
  name: label,
  image: z.string(),
  command: z.array(z.string()).min(1).optional(),
  args: z.array(z.string()).optional(),
  env: z.array(z.strictObject({ name: z.string(), value: z.string() })).optional(),
  resources: z
    .strictObject({ limits: z.record(z.string(), z.union([z.string(), z.number()])).optional() })
    .optional(),
  volumeMounts: z
    .array(
      z.strictObject({
        name: label,
        mountPath: z.string().startsWith('/'),
        readOnly: z.boolean().optional(),
      }),
    )
    .optional(),
})
const volume = z.union([
  z.strictObject({
    name: label,
    secret: z.strictObject({ secretName: z.string(), defaultMode: int32.max(0o777).optional() }),
  }),
  z.strictObject({
    name: label,
    emptyDir: z.strictObject({ medium: z.enum(['', 'Memory']).optional() }),
  }),
  z.strictObject({ name: label, persistentVolumeClaim: z.strictObject({ claimName: z.string() }) }),
])
const podAffinityTerm = z.strictObject({
  labelSelector: z.strictObject({ matchLabels: z.record(z.string(), z.string()) }),
  topologyKey: z.string(),
})
const podSpec = z.strictObject({
  restartPolicy: z.enum(['OnFailure', 'Never']),
  affinity: z
    .strictObject({
      podAntiAffinity: z.strictObject({
        requiredDuringSchedulingIgnoredDuringExecution: z.array(podAffinityTerm),
      }),
    })
    .optional(),
  containers: z.array(container).min(1),
  volumes: z.array(volume).optional(),
})
const jobSpec = z.strictObject({
  parallelism: int32.optional(),
  completions: int32.optional(),
  completionMode: z.enum(['NonIndexed', 'Indexed']).optional(),
  backoffLimit: int32.optional(),
  template: z.strictObject({ spec: podSpec }),
})
const jobSetSchema = z.strictObject({
  apiVersion: z.literal('jobset.x-k8s.io/v1alpha2'),
  kind: z.literal('JobSet'),
  metadata: z.strictObject({ name: label }),
  spec: z.strictObject({
    network: z
      .strictObject({
        enableDNSHostnames: z.boolean().optional(),
        subdomain: label.optional(),
        publishNotReadyAddresses: z.boolean().optional(),
      })
      .optional(),
    successPolicy: z
      .strictObject({
        operator: z.enum(['All', 'Any']),
        targetReplicatedJobs: z.array(z.string()).optional(),
      })
      .optional(),
    failurePolicy: z.strictObject({ maxRestarts: int32.optional() }).optional(),
    replicatedJobs: z.array(
      z.strictObject({
        name: label,
        replicas: int32.optional(),
        template: z.strictObject({ spec: jobSpec }),
      }),
    ),
  }),
})
type Manifest = z.infer<typeof jobSetSchema>

const manifest = async (...args: string[]): Promise<Manifest> =>
  jobSetSchema.parse(parse(await printed(...args)))
const podOf = ({ spec }: Manifest, role: string) =>
  spec.replicatedJobs.find((job) => job.name === role)!.template.spec.template.spec

describe('the manifest', () => {
  it('fits the schema of JobSet', async () => {
    const found = await manifest(...asked, ...run)
    const [workers, launcher] = found.spec.replicatedJobs
    expect(workers).toMatchObject({ name: 'workers', template: { spec: { completions: 3, parallelism: 3 } } })
    expect(launcher).toMatchObject({ name: 'launcher', template: { spec: { completions: 1 } } })
    expect(found.spec.successPolicy!.targetReplicatedJobs).toEqual(['launcher'])
  })

  it('mounts what it names, in every pod', async () => {
    const found = await manifest(...asked, '--claim', 'runs:/runs', '--gpus-per-node', '8', ...run)
    for (const role of ['workers', 'launcher']) {
      const { containers, volumes } = podOf(found, role)
      expect(containers[0]!.volumeMounts!.map((m) => m.name)).toEqual(volumes!.map((v) => v.name))
      expect(volumes).toContainEqual({ name: 'data', persistentVolumeClaim: { claimName: 'runs' } })
    }
    expect(podOf(found, 'workers').containers[0]!.resources).toEqual({ limits: { 'nvidia.com/gpu': 8 } })
    expect(podOf(found, 'launcher').containers[0]!.resources).toBeUndefined()
  })

  it('is refused where a field is misspelt', async () => {
    const wrong = (await printed(...asked, ...run)).replace('enableDNSHostnames', 'enableDnsHostnames')
    expect(() => jobSetSchema.parse(parse(wrong))).toThrow('enableDnsHostnames')
  })

  it('refuses names that pods could not have', async () => {
    for (const name of ['Run', 'a_b', '-a', '1a', 'x'.repeat(60)])
      await expect(printed(...asked, '--name', name, ...run)).rejects.toMatchObject({
        code: 'invalid_argument',
      })
  })
})

describe('the scripts in it', () => {
  it('start every rank once all workers answer', async () => {
    const found = await manifest(...asked, '--name', 'my-run', ...run)
    const folder = mkdtempSync(join(tmpdir(), 'exactmap-jobset-'))
    try {
      const command = (name: string, text: string) => {
        writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`)
        chmodSync(join(folder, name), 0o755)
      }
      writeFileSync(join(folder, 'ssh-publickey'), 'ssh-ed25519 AAAA me\n')
      // Each worker answers the second time.
      command(
        'ssh',
        'for host in "$@"; do case $host in *workers*) break ;; esac; done\necho "asked $host"\n[ -e "$0-$host" ] || { touch "$0-$host"; exit 255; }',
      )
      command('sleep', '')
      command(
        'mpirun',
        'for a in "$@"; do echo "argument $a"; done; while [ "$1" != --hostfile ]; do shift; done; cat "$2"; cat "$(dirname "$2")/known_hosts"',
      )
      const { command: line, env } = podOf(found, 'launcher').containers[0]!
      const ran = spawnSync(line![0]!, line!.slice(1), {
        encoding: 'utf8',
        env: {
          ...Object.fromEntries(env!.map((e) => [e.name, e.value])),
          PATH: `${folder}:${process.env.PATH}`,
          KEYS: folder,
          TMPDIR: folder,
        },
      })
      expect(ran).toMatchObject({ status: 0, stderr: '' })
      const lines = ran.stdout.trim().split('\n')
      const hosts = [0, 1, 2].map((i) => `my-run-workers-0-${i}.my-run`)
      expect(lines.filter((l) => l.startsWith('asked'))).toEqual(
        hosts.flatMap((host) => [`asked ${host}`, `asked ${host}`]),
      )
      const given = lines.filter((l) => l.startsWith('argument ')).map((l) => l.slice('argument '.length))
      expect(given.slice(-4)).toEqual(run.slice(1))
      expect(given[given.indexOf('-np') + 1]).toBe('24')
      expect(lines.slice(-4)).toEqual([
        ...hosts.map((host) => `${host} slots=8`),
        '[*]:2222 ssh-ed25519 AAAA me',
      ])
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it.each(['workers', 'launcher'])('of the %s are shell', async (role) => {
    const [, , script] = podOf(await manifest(...asked, ...run), role).containers[0]!.command!
    expect(spawnSync('sh', ['-n', '-c', script!], { encoding: 'utf8' })).toMatchObject({
      status: 0,
      stderr: '',
    })
  })
})
