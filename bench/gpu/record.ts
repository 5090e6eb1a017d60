// Turns the journals that bench/gpu/run.py left in folders into kernels-cuda/verified.json, backends/cuda/tuning and
// bench/results/gpu-<device>.json.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { cudaTuningFiles, encodeCudaTuning } from '../../backends/cuda/tuning.ts'
import type { VerifiedRecord } from '../../backends/cuda/verified.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { check } from '../../src/errors.ts'
import { speedCall } from '../../src/verify/cuda_cases.ts'
import { writeResult } from '../result.ts'
import { type CaseRecord, type PreparedCases, readJournal, verifiedKernels } from './journal.ts'
import { speedCases } from './speed_cases.ts'
import { asking, type MeasuredCase, measuredEntries, measuredFile, predictedEntries } from './tuning.ts'

const [folder] = process.argv.slice(2)
check(folder, 'invalid_argument', 'record needs the folder that bench/gpu/run.py wrote')
const root = packageRoot()
const prepared = JSON.parse(readFileSync(join(root, 'dist/gpu/cases.json'), 'utf8')) as PreparedCases
const journal = readJournal(readFileSync(join(folder, 'journal.jsonl'), 'utf8'))
const { device, driver } = journal
const { arch, commit } = prepared
check(
  journal.prepared === prepared.prepared,
  'conflict',
  `${folder} is of what was prepared as ${journal.prepared}, dist/gpu of ${prepared.prepared}: check out its commit and prepare again`,
)
const traits = Object.values(cudaTraits).find((t) => t.arch === arch)
check(
  traits && journal.kernels === arch,
  'invalid_argument',
  `${folder} is of ${device} with ${journal.kernels} kernels, dist/gpu of ${arch}; only hardware is recorded`,
)
const date = new Date().toISOString().slice(0, 10)
const about = { device, driver, commit, date }

const { verified, refused } = verifiedKernels(prepared, journal.of('verify'), about)
for (const [kernel, cases] of Object.entries(refused))
  console.log(`${kernel}: not recorded, ${cases.join(', ')} failed or did not run`)
const file = join(root, 'kernels-cuda', 'verified.json')
const { [arch]: known = {}, ...others } = JSON.parse(readFileSync(file, 'utf8')) as VerifiedRecord
const good = Object.fromEntries(Object.entries(known).filter(([kernel]) => !refused[kernel]))
writeFileSync(file, `${JSON.stringify({ ...others, [arch]: { ...good, ...verified } }, null, 2)}\n`)
console.log(
  `${Object.keys(verified).length} kernels recorded for ${arch}; npx vitest run test/plan/cuda_table.test.ts -u writes the table`,
)

const rates = ({ case: id, ms, bytes, flops }: CaseRecord) => ({
  case: id,
  ms,
  gigabytesPerSecond: Number((bytes / ms / 1e6).toPrecision(4)),
  teraflops: Number((flops / ms / 1e9).toPrecision(4)),
})
const timed = journal.of<CaseRecord>('speed').filter(({ pass }) => pass)
const times = new Map(timed.map((one) => [one.case, one.ms]))
const kernelsOf = new Map(prepared.speed.map((one) => [one.case, one.kernels]))
const target = cudaTarget(traits, readCudaSources())
const questionsOf = asking(traits)
const measured = speedCases.flatMap((one): MeasuredCase[] => {
  // A variant that has not been seen to be right is never the best.
  const right = target
    .variants(speedCall(one))
    .filter((name) => kernelsOf.get(`${one.op}/${one.name}@${name}`)?.every((kernel) => verified[kernel]))
  const known = right.map((name) => [name, times.get(`${one.op}/${one.name}@${name}`)] as const)
  return known.length > 0 && known.every(([, ms]) => ms !== undefined)
    ? [{ questions: questionsOf(one), times: Object.fromEntries(known) as Record<string, number> }]
    : []
})
const command = 'npm run gpu -- speed'
for (const [name, tuning] of Object.entries(cudaTuningFiles).filter(([, one]) => one.arch === arch)) {
  const entries = measuredEntries(measured)
  const next = measuredFile(
    name,
    tuning,
    { ...about, command },
    entries,
    predictedEntries(traits, speedCases),
  )
  if (next) writeFileSync(join(root, 'backends', 'cuda', 'tuning', `${name}.json`), encodeCudaTuning(next))
  const why = entries.length > 0 ? `it was measured on ${tuning.measured?.device}` : 'nothing was measured'
  console.log(
    next
      ? `${name}.json: ${entries.length} shapes measured on ${device}`
      : `${name}.json stays as it is: ${why}`,
  )
}

// The driver's part of the memory is what lies beyond the arenas: kernels, graphs, staging, and pages not used whole.
const programs = journal
  .of<CaseRecord>('programs')
  .filter(({ pass }) => pass)
  .map((one) => ({
    ...rates(one),
    segments: one.segments,
    arenaBytes: one.arenaBytes,
    driverBytes: one.deviceBytes! - one.arenaBytes!,
  }))
const slug = device.toLowerCase().replace(/[^a-z0-9]+/g, '-')
writeResult(`gpu-${slug}`, {
  bench: 'gpu',
  ...about,
  command: 'npm run gpu',
  speed: timed.map(rates),
  peers: journal.of('peers'),
  programs,
  peerModels: journal.of('peer_models'),
  models: journal.of('models'),
  training: journal.of('training'),
  sanitizers: journal.of<{ findings?: string }>('sanitizers').filter(({ findings }) => findings),
})
