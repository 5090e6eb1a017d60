import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { afterEach, describe, expect, test } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { Child } from '../../bench/suite/child.ts'
import type { Answer, Hello } from '../../bench/suite/contender.ts'
import { driverEnvironment } from '../../bench/suite/drivers.ts'
import { expectedOf } from '../../bench/suite/expected.ts'
import { judge, OURS, type Rows } from '../../bench/suite/goals.ts'
import { type Measured, measure, median, ratioOf } from '../../bench/suite/measure.ts'
import { goalSummaries, report, type SuiteResult } from '../../bench/suite/report.ts'
import { nameOf, suites, type Work } from '../../bench/suite/works.ts'

const small: Work = { kind: 'matmul', rows: 2, depth: 8, columns: 3, weights: 'f32' }
const decode: Work = suites.decode[0]
const right = expectedOf(small)!.values

const children: Child[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.stop()
})

/** An engine's process by script: `onRun` is JavaScript that a run executes before it answers, `runs` counts them. */
async function engine(label: string, values: readonly number[], onRun = ''): Promise<Child> {
  const script = `
    const say = (value) => console.log(JSON.stringify(value))
    say({ hello: { name: '${label}', version: '1', kind: 'webgpu', device: 'script' } })
    let runs = 0
    const answers = {
      prepare: () => say({ ready: { notes: 'by script' } }),
      run: ({ times }) => { runs++; ${onRun}; say({ ms: 100 }) },
      sample: ({ indices }) => say({ values: ${JSON.stringify(values)}.slice(0, indices.length) }),
      release: () => say({ released: { facts: { runs } } }),
    }
    require('node:readline').createInterface({ input: process.stdin })
      .on('line', (line) => { const q = JSON.parse(line); answers[q.ask](q) })`
  const started = await Child.start(label, [process.execPath, '-e', script], {})
  if ('missing' in started) throw new Error(started.missing)
  children.push(started.child)
  return started.child
}

describe('engines in their processes', () => {
  test('what is not there is named', async () => {
    const line = JSON.stringify({ missing: 'not installed' } satisfies Answer)
    const says = [process.execPath, '-e', `console.log('${line}')`]
    expect(await Child.start('a', says, {})).toEqual({ missing: 'not installed' })
    const nowhere = await Child.start('b', [join(tmpdir(), 'no such program')], {})
    expect(nowhere).toEqual({ missing: expect.stringContaining('did not start') })
    const fails = [process.execPath, '-e', 'console.error("no driver"); process.exit(3)']
    const failed = await Child.start('c', fails, {})
    expect(failed).toEqual({ missing: expect.stringMatching(/ended with code 3: no driver/) })
  })

  test('rounds give figures; text that is no answer is passed over', async () => {
    const plain = await engine('plain', right)
    const noisy = await engine('noisy', right, `console.log('native text')`)
    const results = await measure(small, [plain, noisy], 3)
    // Once to warm up, once to see how often, then the rounds.
    for (const label of ['plain', 'noisy'])
      expect(results.get(label)).toEqual({
        best: 100,
        median: 100,
        rounds: [100, 100, 100],
        notes: 'by script',
        facts: { runs: 5 },
      })
  })

  test('one that dies is left out with its last words, and answers at once from then on', async () => {
    const dies = await engine(
      'dies',
      right,
      `if (runs === 4) { console.error('out of memory'); process.exit(7) }`,
    )
    const other = await engine('other', right)
    const results = await measure(small, [dies, other], 3)
    expect(results.get('dies')).toEqual({
      missing: expect.stringMatching(/ended with code 7: out of memory/),
    })
    expect(results.get('other')).toMatchObject({ best: 100 })
    expect(dies.alive).toBe(false)
    expect(await dies.ask({ ask: 'release' })).toEqual({ error: expect.stringContaining('code 7') })
  })

  test('one that hangs is ended', async () => {
    const hangs = await engine('hangs', right, 'for (;;);')
    expect(await hangs.ask({ ask: 'run', times: 1 }, 0.2)).toEqual({ error: 'no answer within 0.2 s' })
    expect(hangs.alive).toBe(false)
  })

  test('one with a wrong result has no figure', async () => {
    const tolerance = expectedOf(small)!.tolerance(right[1]!)
    const close = await engine(
      'close',
      right.map((v) => v + 0.9 * tolerance),
    )
    const wrong = await engine(
      'wrong',
      right.map((v, i) => (i === 1 ? v + 1.1 * tolerance : v)),
    )
    const nothing = await engine('nothing', [])
    const results = await measure(small, [close, wrong, nothing], 1)
    expect(results.get('close')).toMatchObject({ best: 100 })
    expect(results.get('wrong')).toEqual({ missing: expect.stringMatching(/wrong result: element \d+ is/) })
    expect(results.get('nothing')).toEqual({ missing: expect.stringContaining('is undefined') })
  })

  test('where no formula gives the result, engines must agree with the first', async () => {
    const ids = [5, 4, 3, 2, 1, 0, 9, 8]
    const all = await Promise.all([
      engine('first', ids),
      engine('same', [...ids, 77]),
      engine('other', [...ids.slice(0, 7), 7]),
    ])
    const results = await measure(decode, all, 1)
    expect(results.get('first')).toMatchObject({ best: 100 })
    expect(results.get('same')).toMatchObject({ best: 100 })
    expect(results.get('other')).toEqual({ missing: expect.stringContaining('element 7 is 7, expected 8') })
  })

  test('the worker asks our engine on a driver', async () => {
    const environment = driverEnvironment('swiftshader')
    if (typeof environment === 'string') return expect(environment).toContain('SwiftShader')
    const outfile = join(packageRoot(), 'dist', 'test', 'bench_worker.js')
    await build({
      entryPoints: [join(packageRoot(), 'bench', 'suite', 'worker.ts')],
      outfile,
      bundle: true,
      platform: 'node',
      format: 'esm',
      packages: 'external',
    })
    const command = [process.execPath, outfile, OURS, 'swiftshader']
    const started = await Child.start(OURS, command, environment)
    if ('missing' in started) throw new Error(started.missing)
    children.push(started.child)
    expect(started.hello).toMatchObject({ name: OURS, kind: 'webgpu' })
    // Nothing is prepared yet: an error is an answer, and the process goes on.
    expect(await started.child.ask({ ask: 'run', times: 1 })).toEqual({ error: expect.any(String) })
    const results = await measure(small, [started.child], 1)
    expect(results.get(OURS)).toMatchObject({ best: expect.any(Number), notes: expect.any(String) })
  })
})

describe('goals, judged on planted figures', () => {
  const hello = (name: string, kind: Hello['kind']): Hello => ({
    name,
    kind,
    version: '1',
    device: 'planted',
  })
  const hellos = [
    hello(OURS, 'webgpu'),
    hello('slow', 'webgpu'),
    hello('fast', 'webgpu'),
    hello('native', 'native'),
  ]
  const figure = (rounds: readonly number[], facts: Readonly<Record<string, number>> = {}): Measured => ({
    best: Math.min(...rounds),
    median: median(rounds),
    rounds,
    facts,
  })
  const rows = (work: Work, row: Readonly<Record<string, Measured>>): Rows => new Map([[nameOf(work), row]])
  const square: Work = suites.kernels[0]

  test('a ratio is the middle of the rounds, each compared with itself', () => {
    // The second round met a machine ten times slower.
    expect(ratioOf(figure([1, 10, 2]), figure([3, 30, 8]))).toBe(3)
    expect(ratioOf(figure([1]), { missing: 'no' })).toBeUndefined()
  })

  test('the best WebGPU engine counts, and no native one', () => {
    const row = { [OURS]: figure([1]), slow: figure([20]), fast: figure([3]), native: figure([0.1]) }
    const judged = (driver: 'lavapipe' | 'swiftshader', fast: number) =>
      judge(square, driver, rows(square, { ...row, fast: figure([fast]) }), hellos)[0]
    expect(judged('lavapipe', 3)).toMatchObject({ against: 'fast', value: 3, reached: true })
    expect(judged('lavapipe', 2.9)).toMatchObject({ value: 2.9, reached: false })
    expect(judged('swiftshader', 2.5)).toMatchObject({ value: 2.5, reached: true })
    expect(judged('swiftshader', 2.4)).toMatchObject({ value: 2.4, reached: false })
  })

  test('without anything to compare with, a goal is not measured', () => {
    const missing = { missing: 'crashed' }
    const alone = judge(square, 'lavapipe', rows(square, { [OURS]: figure([1]), fast: missing }), hellos)
    expect(alone[0]).toMatchObject({ value: undefined, reached: undefined })
    const without = judge(square, 'lavapipe', rows(square, { [OURS]: missing, fast: figure([1]) }), hellos)
    expect(without[0]).toMatchObject({ value: undefined, reached: undefined })
  })

  test('figures an engine gives of itself, times, and other works of ours', () => {
    const [, ofKernels] = judge(
      decode,
      'lavapipe',
      rows(decode, { [OURS]: figure([1], { step_over_kernels: 1.31 }) }),
      hellos,
    )
    expect(ofKernels).toMatchObject({ value: 1.31, reached: false })
    const startup: Work = suites.startup[1]
    const [time] = judge(startup, 'lavapipe', rows(startup, { [OURS]: figure([1000, 90, 5000]) }), hellos)
    expect(time).toMatchObject({ value: 1000, reached: true })
    const q8: Work = { kind: 'matmul', rows: 1, depth: 4096, columns: 4096, weights: 'q8_0' }
    const both: Rows = new Map([
      [nameOf(q8), { [OURS]: figure([1]) }],
      [nameOf({ ...q8, weights: 'f32' }), { [OURS]: figure([1.5]) }],
    ])
    expect(judge(q8, 'lavapipe', both, hellos)).toMatchObject([{ value: 1.5, reached: false }])
  })

  test('over several runs the middle one decides; the report names what is missing', () => {
    const run = (ours: number, fast: number): SuiteResult['runs'][number] => ({
      loadAverage: 1,
      rows: { [nameOf(square)]: { [OURS]: figure([ours]), fast: figure([fast]), slow: { missing: 'lost' } } },
    })
    const result: SuiteResult = {
      suite: 'kernels',
      driver: 'lavapipe',
      date: '2026-01-01',
      commit: 'abc',
      command: 'npm run bench',
      cpu: '2 x planted',
      node: 'v20',
      realTime: false,
      engines: Object.fromEntries(hellos.map((h) => [h.name, h])),
      missing: { absent: 'not installed' },
      runs: [run(1, 4), run(1, 2), run(1, 3)],
    }
    expect(goalSummaries(result)).toMatchObject([
      { against: 'fast', values: [4, 2, 3], reached: true, goal: { kind: 'webgpu', atLeast: 3 } },
    ])
    const text = report(result)
    expect(text).toContain('absent is missing: not installed')
    expect(text).toContain('slow: lost')
    expect(text).toMatch(/best WebGPU engine +4\.00, 2\.00, 3\.00 +yes +fast/)
  })
})
