import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { buildDist } from '../helpers/build_dist.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { mpirun, type Run, whyNoRanks } from './mpirun.ts'

// `exactmap run` as its users start it: processes of mpirun, the bundled model, WebGPU on a software driver.

const reason = await whyNoRanks()
const probe = await emulatedDevice()
const noCuda = typeof probe === 'string'
if (typeof probe !== 'string') probe.destroy()
const folder = mkdtempSync(join(tmpdir(), 'exactmap-run-ranks-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const cli = join(packageRoot(), 'dist/cli/main.js')
const general = ['run', '-n', '24', '-t', '0', '--context', '128']
const options = [...general, '--driver', 'swiftshader']

function plan(grid: Record<string, number>): string[] {
  const file = join(folder, `${Object.entries(grid).flat().join('_')}.yaml`)
  const content = { cluster: 'cores', grid, schedule: { name: '1f1b' }, microbatches: 1 }
  writeFileSync(file, JSON.stringify(content))
  return ['--plan', file, '--cluster', join(packageRoot(), 'test/data/eight_cores.yaml')]
}

const told = ({ err }: Run): string[] => err.split('\n').filter((line) => line.startsWith('exactmap: '))

describe.skipIf(reason)(`exactmap run on ranks${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let alone: Run
  beforeAll(async () => {
    buildDist()
    alone = await mpirun(1, cli, options)
    expect(alone.code, alone.err).toBe(0)
    expect(alone.out.length).toBeGreaterThan(40)
  }, 120_000)

  it.each([
    [2, { tensor: 2 }],
    [2, { pipeline: 2 }],
    [4, { tensor: 2, pipeline: 2 }],
  ])('%i ranks %o print the text of one, once', { timeout: 60_000 }, async (ranks, grid) => {
    const run = await mpirun(ranks, cli, [...options, ...plan(grid)])
    expect(run.code, run.err).toBe(0)
    expect(run.out).toBe(alone.out)
    expect(run.err.match(/tokens\/s/g)).toHaveLength(1)
    expect(run.err).toContain(`0 of ${ranks}; its memory:`)
  })

  it.skipIf(noCuda)('and so does CUDA, messages inside its graphs', { timeout: 60_000 }, async () => {
    const emulated = [...general, '--backend', 'cuda-emulated']
    const want = await mpirun(1, cli, emulated)
    const got = await mpirun(2, cli, [...emulated, ...plan({ tensor: 2 })])
    expect(got.code, got.err).toBe(0)
    expect(got.out).toBe(want.out)
  })

  it.each<[string, number, string[], RegExp]>([
    ['no plan', 2, [], /invalid_argument: 2 ranks were started: say with --plan/],
    ['another number', 2, plan({ tensor: 3 }), /conflict: the plan has 3 ranks, 2 started: mpirun -np 3 /],
    [
      'what does not divide',
      3,
      plan({ tensor: 3 }),
      /invalid_config: 3 .* must divide the 1024 rows of embed/,
    ],
    [
      'other axes',
      2,
      plan({ data: 2 }),
      /unsupported: inference divides pipeline and tensor; .* 2 along 'data'/,
    ],
    [
      'saving',
      2,
      [...plan({ tensor: 2 }), '--save', 'x'],
      /unsupported: --save and --resume work on one rank/,
    ],
  ])('%s is refused', { timeout: 60_000 }, async (_what, ranks, args, message) => {
    const run = await mpirun(ranks, cli, [...options, ...args])
    expect(run.code).not.toBe(0)
    expect(told(run)[0]).toMatch(message)
    expect(run.out).toBe('')
  })
})
