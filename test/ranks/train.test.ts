import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { buildDist } from '../helpers/build_dist.ts'
import { FABLES } from '../models/tiny.ts'
import { models } from './grid.ts'
import { mpirunArguments, type Run, whyNoRanks } from './mpirun.ts'

// `exactmap train` as its users start it: processes of mpirun, WebGPU on a software driver.

const reason = await whyNoRanks()
const folder = mkdtempSync(join(tmpdir(), 'exactmap-train-ranks-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const cli = join(packageRoot(), 'dist/cli/main.js')
const cluster = join(packageRoot(), 'test/data/eight_cores.yaml')

/** Writes a run that saves every three steps; returns its file. */
function runFile(name: string, changes: Record<string, unknown> = {}): string {
  const file = join(folder, `${name}.yaml`)
  const run = {
    output: name,
    model: { config: { ...models.llama, vocab_size: 280, max_position_embeddings: 64 } },
    tokenizer: { train: { vocabulary: 280 } },
    data: { files: [FABLES] },
    steps: 6,
    batch: 2,
    sequence: 32,
    accumulation: 4,
    checkpoint_every: 3,
    evaluate_batches: 1,
    ...changes,
  }
  writeFileSync(file, JSON.stringify(run))
  return file
}

function planFile(
  name: string,
  grid: Record<string, number>,
  microbatches: number,
  schedule = '1f1b',
): string {
  const file = join(folder, `${name}.plan.yaml`)
  writeFileSync(file, JSON.stringify({ cluster: 'cores', grid, schedule: { name: schedule }, microbatches }))
  return file
}

const trainArguments = (run: string, plan?: string): string[] => [
  ...[process.execPath, cli, 'train', run, '--driver', 'swiftshader'],
  ...(plan ? ['--plan', plan, '--cluster', cluster] : []),
]

/** Starts a command; `watch` is called with everything it has written to stdout so far. */
function start(
  command: string,
  args: readonly string[],
  watch: (text: string, pid: number) => void = () => {},
) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const text = { out: '', err: '' }
  const done = new Promise<Run>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      text.out += chunk
      watch(text.out, child.pid!)
    })
    child.stderr.on('data', (chunk) => (text.err += chunk))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, ...text }))
  })
  return { done, pid: child.pid! }
}
const onRanks = (ranks: number, args: readonly string[], watch?: Parameters<typeof start>[2]): Promise<Run> =>
  start('mpirun', [...mpirunArguments(ranks), ...args], watch).done
const told = ({ err }: Run): string[] => err.split('\n').filter((line) => line.startsWith('exactmap: '))
const model = (name: string): Buffer => readFileSync(join(folder, name, 'model.safetensors'))

/** Processes below a process. */
function below(pid: number): number[] {
  const parentOf = (child: string): number => {
    try {
      return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${child}/status`, 'utf8'))?.[1])
    } catch {
      return -1
    }
  }
  const children = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && parentOf(name) === pid)
  return children.flatMap((child) => [Number(child), ...below(Number(child))])
}

describe.skipIf(reason)(`exactmap train on ranks${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let single: Buffer
  beforeAll(async () => {
    buildDist()
    const { code, err } = await start(process.execPath, trainArguments(runFile('one')).slice(1)).done
    expect(code, err).toBe(0)
    single = model('one')
  }, 120_000)

  it('four pipeline ranks write the model of one, and rank 0 alone speaks', {
    timeout: 120_000,
  }, async () => {
    const run = await onRanks(
      4,
      trainArguments(runFile('pipeline'), planFile('pipeline', { pipeline: 4 }, 4)),
    )
    expect(run.code, run.err).toBe(0)
    expect(Buffer.compare(model('pipeline'), single)).toBe(0)
    expect(run.err.match(/done: 6 steps/g)).toHaveLength(1)
    expect(readdirSync(join(folder, 'pipeline/checkpoint-0000006')).sort()).toEqual([
      ...[0, 1, 2, 3].map((rank) => `state.${rank}.safetensors`),
      'state.json',
    ])
  })

  it('a killed rank ends all within 5 seconds; another grid goes on', { timeout: 180_000 }, async () => {
    const file = runFile('killed')
    let killed = 0
    const args = [...trainArguments(file, planFile('killed', { pipeline: 4 }, 4)), '--json']
    const first = await onRanks(4, args, (text, pid) => {
      if (killed > 0 || !/"step":4/.test(text)) return
      const ranks = below(pid).filter((p) => readFileSync(`/proc/${p}/cmdline`, 'utf8').includes('main.js'))
      expect(ranks).toHaveLength(4)
      killed = performance.now()
      process.kill(ranks[2]!, 'SIGKILL')
    })
    expect(killed, first.err).toBeGreaterThan(0)
    expect(performance.now() - killed).toBeLessThan(5000)
    expect(first.code).not.toBe(0)
    const second = await onRanks(2, trainArguments(file, planFile('other', { pipeline: 2 }, 4, 'zb_h1')))
    expect(second.code, second.err).toBe(0)
    expect(second.err).toContain('resumed from step 3')
    expect(Buffer.compare(model('killed'), single)).toBe(0)
  })

  it('another number of ranks than the plan has is refused', async () => {
    const run = await onRanks(2, trainArguments(runFile('world'), planFile('world', { pipeline: 4 }, 4)))
    expect(run.code).not.toBe(0)
    // All find it, one says so.
    expect(told(run)).toHaveLength(1)
    expect(told(run)[0]).toContain(
      'rank 0: conflict: the plan has 4 ranks, 2 were started: mpirun -np 4 npx exactmap train',
    )
  }, 60_000)

  it('ranks of two training files are refused by name', { timeout: 60_000 }, async () => {
    const [a, b] = [runFile('mixed'), runFile('mixed_b', { output: 'mixed', seed: 2 })]
    const [first, second] = [trainArguments(a), trainArguments(b)]
    const run = await onRanks(1, [...first, ':', '-np', '1', ...second])
    expect(run.code).not.toBe(0)
    expect(told(run)).toHaveLength(1)
    expect(told(run)[0]).toMatch(/rank 1 \(host .*\) has model \w+, rank 0 has \w+/)
  })
})
