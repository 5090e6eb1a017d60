// Turns what bench/gpu/run.sh left in a folder into kernels-cuda/verified.json, backends/cuda/tuning and
// bench/results/gpu-<device>.json.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { cudaTuningFiles, encodeCudaTuning } from '../../backends/cuda/tuning.ts'
import type { VerifiedKernel, VerifiedRecord } from '../../backends/cuda/verified.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { ExactmapError } from '../../src/errors.ts'
import { speedCall } from '../../src/verify/cuda_cases.ts'
import { speedCases } from './speed_cases.ts'
import { type MeasuredCase, measuredEntries, questionsOf } from './tuning.ts'

const [folder] = process.argv.slice(2)
if (!folder) throw new ExactmapError('invalid_argument', 'record needs the folder that run.sh wrote')
const root = packageRoot()
const read = (...path: string[]): string => readFileSync(join(...path), 'utf8')
const lines = (file: string) =>
  existsSync(join(folder, file))
    ? read(folder, file)
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line))
    : []

interface CaseRecord {
  readonly case: string
  readonly pass: boolean
  readonly worst: number
  readonly ms: number
  readonly bytes: number
  readonly flops: number
}

interface ProgramRecord extends CaseRecord {
  readonly segments: readonly { readonly name: string; readonly ms: number }[]
  readonly arenaBytes: number
  readonly deviceBytes: number
}

const info = JSON.parse(read(folder, 'info.json')) as {
  readonly version: number
  readonly devices: readonly { readonly name: string; readonly kernels: string }[]
}
const device = info.devices[0]!.name
const driver = `CUDA ${Math.floor(info.version / 1000)}.${(info.version % 1000) / 10}`
const { arch, commit, cases, texts } = JSON.parse(read(root, 'dist/gpu/vectors/kernels.json')) as {
  readonly arch: string
  readonly commit: string
  readonly cases: Readonly<Record<string, readonly string[]>>
  readonly texts: Readonly<Record<string, string>>
}
if (info.devices[0]!.kernels !== arch)
  throw new ExactmapError(
    'invalid_argument',
    `${folder} is of ${device} with ${info.devices[0]!.kernels} kernels, dist/gpu of ${arch}; only hardware is recorded`,
  )
const traits = Object.values(cudaTraits).find((t) => t.arch === arch)!
const target = cudaTarget(traits, readCudaSources())
const date = new Date().toISOString().slice(0, 10)

// A kernel is verified when every case that selects it passed.
const verdicts = new Map((lines('verify.jsonl') as CaseRecord[]).map((v) => [v.case, v]))
const verified: Record<string, VerifiedKernel> = {}
for (const kernel of new Set(Object.values(cases).flat())) {
  const own = Object.entries(cases).filter(([, kernels]) => kernels.includes(kernel))
  const results = own.flatMap(([id]) => verdicts.get(id) ?? [])
  if (results.length !== own.length || !results.every((r) => r.pass)) {
    const bad = own.filter(([id]) => !verdicts.get(id)?.pass).map(([id]) => id)
    console.log(`${kernel}: not recorded, ${bad.join(', ')} failed or did not run`)
    continue
  }
  const worst = Math.max(...results.map((r) => Number(r.worst)))
  verified[kernel] = { textHash: texts[kernel]!, device, driver, commit, date, cases: own.length, worst }
}
const file = join(root, 'kernels-cuda', 'verified.json')
const known = JSON.parse(readFileSync(file, 'utf8')) as VerifiedRecord
const merged = { ...known, [arch]: { ...known[arch], ...verified } }
writeFileSync(file, `${JSON.stringify(merged, null, 2)}\n`)
console.log(
  `${Object.keys(verified).length} kernels recorded for ${arch}; npx vitest run test/plan/cuda_table.test.ts -u writes the table`,
)

const rates = ({ case: id, ms, bytes, flops }: CaseRecord) => ({
  case: id,
  ms,
  gigabytesPerSecond: Number((bytes / ms / 1e6).toPrecision(4)),
  teraflops: Number((flops / ms / 1e9).toPrecision(4)),
})
const speed = (lines('speed.jsonl') as CaseRecord[]).map(rates)
// The driver's part of the memory is what lies beyond the arenas: kernels, graphs, staging, and pages not used whole.
const programs = (lines('programs.jsonl') as ProgramRecord[]).map((one) => ({
  ...rates(one),
  segments: one.segments,
  arenaBytes: one.arenaBytes,
  driverBytes: one.deviceBytes - one.arenaBytes,
}))
const times = new Map(speed.map((one) => [one.case, one.ms]))
const entries = measuredEntries(
  speedCases.flatMap((one): MeasuredCase[] => {
    const id = `${one.op}/${one.name}`
    const names = target.variants(speedCall(one))
    const known = names.flatMap((name) => {
      const ms = times.get(`${id}@${name}`)
      return ms === undefined ? [] : [[name, ms] as const]
    })
    return known.length > 0 && known.length === names.length
      ? [{ questions: questionsOf(traits, one), times: Object.fromEntries(known) }]
      : []
  }),
)
if (entries.length > 0) {
  const [name, tuning] = Object.entries(cudaTuningFiles).find(([, file]) => file.arch === arch)!
  const measured = { device, driver, date, commit, command: 'npm run gpu -- speed' }
  const text = encodeCudaTuning({ ...tuning, measured, entries })
  writeFileSync(join(root, 'backends', 'cuda', 'tuning', `${name}.json`), text)
  console.log(`${entries.length} entries measured for ${name}.json`)
}

const optional = (name: string): unknown =>
  existsSync(join(folder, name)) ? JSON.parse(read(folder, name)) : undefined
const [peers, peerModels] = [optional('peers.json'), optional('peer_models.json')]
const slug = device.toLowerCase().replace(/[^a-z0-9]+/g, '-')
const figures = {
  bench: 'gpu',
  device,
  driver,
  date,
  commit,
  command: 'npm run gpu',
  speed,
  peers,
  programs,
  peerModels,
}
writeFileSync(join(root, 'bench', 'results', `gpu-${slug}.json`), `${JSON.stringify(figures, null, 2)}\n`)
