// Bubbles of the pipeline schedules, one process per rank: real training programs, schedules and messages, on a device
// that takes the modelled time of every launch and computes nothing.
//   npx esbuild bench/ranks/bubble.ts --bundle --platform=node --format=esm --packages=external \
//     --outfile=dist/bench/bubble.js && mpirun --oversubscribe -np 4 node dist/bench/bubble.js
// Options: --schedules <a,b>, -m <microbatches>, --chunk <ms of each pass of a chunk>, --steps <n>,
//   --recompute none|layer, --json, --out <folder for traces and pictures>, --save <name>
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openRanks } from '../../backends/mpi/open.ts'
import { NullDevice, type Pace, segmentSeconds } from '../../backends/null/device.ts'
import { referenceTarget } from '../../backends/reference/device.ts'
import { table } from '../../src/cli/table.ts'
import { check } from '../../src/errors.ts'
import { chromeTrace } from '../../src/parallel/chrome_trace.ts'
import { rankEntries } from '../../src/parallel/entries.ts'
import { everyRank, gatherNumbers, hostChannel } from '../../src/parallel/host_messages.ts'
import { runAsRank } from '../../src/parallel/run_as_rank.ts'
import { scheduleNamed, schedules } from '../../src/parallel/schedules/index.ts'
import { timelineSvg } from '../../src/parallel/schedules/picture.ts'
import {
  buildSchedule,
  type Durations,
  type Schedule,
  stageCount,
} from '../../src/parallel/schedules/schedule.ts'
import { type Timeline, timeline } from '../../src/parallel/schedules/timeline.ts'
import { trainSchema } from '../../src/train/config.ts'
import { actionsOf, measuredTimelines, StepTrace } from '../../src/train/step_trace.ts'
import { type BatchSource, type RankOfMany, Trainer } from '../../src/train/trainer.ts'
import { saveResult, takeSave } from '../result.ts'
import { linearModel, linearShape, PASS_FLOPS, ROWS } from './linear_model.ts'

const args = process.argv.slice(2)
const saved = takeSave(args)
const { values: options } = parseArgs({
  args,
  options: {
    schedules: { type: 'string', default: Object.keys(schedules).join() },
    microbatches: { type: 'string', short: 'm' },
    chunk: { type: 'string', default: '80' },
    steps: { type: 'string', default: '3' },
    recompute: { type: 'string' },
    json: { type: 'boolean', default: false },
    out: { type: 'string' },
  },
})
const transport = await openRanks()
const main = transport.rank === 0
const steps = Number(options.steps)
// Launches take their arithmetic alone; a chunk is one layer.
const pace: Pace = {
  bytesPerSecond: 1e15,
  flopsPerSecond: PASS_FLOPS / (Number(options.chunk) / 1000),
  launchSeconds: 0,
}

/** A schedule as measured; times in milliseconds. */
interface Row {
  readonly schedule: string
  readonly p: number
  readonly m: number
  readonly v: number
  readonly recompute: 'none' | 'layer'
  readonly durations: Durations
  readonly formula: number
  readonly simulated: number
  readonly measured: number
  readonly simulatedStep: number
  readonly measuredStep: number
}

const zeros: BatchSource = {
  batch: async () => ({
    tokens: new Uint32Array(ROWS),
    targets: new Uint32Array(ROWS),
    weights: new Float32Array(ROWS).fill(1),
    counted: ROWS,
    documents: new Uint32Array(ROWS),
    positions: Uint32Array.from({ length: ROWS }, (_, i) => i),
  }),
}

const toMicroseconds = (ms: number): number => Number(ms.toFixed(3))

/** Modelled times of the passes of a chunk in milliseconds, of all ranks: equal ones. */
async function durationsOf({ executable }: Trainer): Promise<Durations> {
  const passes = ['forward', 'backward_input', 'backward_weight', 'backward']
  const own = passes.map((pass) => {
    const times = executable.program.segments
      .filter(({ name, steps }) => name.replace(/\..*/, '') === pass && steps.length > 0)
      .map((segment) => 1000 * segmentSeconds(segment.steps, pace))
    return times.reduce((a, b) => a + b, 0) / Math.max(1, times.length)
  })
  const ranks = await gatherNumbers(
    transport,
    everyRank(transport),
    hostChannel.report,
    Float64Array.from(own),
  )
  const [forward, backwardInput, backwardWeight, backward] = passes.map((pass, i) => {
    const times = ranks.map((times) => times[i]!)
    const mean = times.reduce((a, b) => a + b, 0) / times.length
    const even = times.every((time) => Math.abs(time - mean) <= 0.01 * mean)
    check(even, 'internal', () => `ranks differ in the time of ${pass}: ${times.join(', ')} ms`)
    return mean
  })
  // A backward pass in one piece counts as one long B.
  return {
    forward: toMicroseconds(forward!),
    backwardInput: toMicroseconds(backwardInput! + backward!),
    backwardWeight: toMicroseconds(backwardWeight!),
    send: 0,
  }
}

/** Trains one step to warm up and then `steps`, whose traces rank 0 gets. */
async function train(schedule: Schedule, recompute: Row['recompute']) {
  const config = trainSchema.parse({
    output: 'unused',
    model: { config: {} },
    data: { files: ['unused'] },
    steps: steps + 1,
    batch: 1,
    sequence: ROWS,
    accumulation: schedule.m,
    recompute,
  })
  const rank: RankOfMany = {
    grid: { schedule, tensor: 1, data: 1, zero: 0 },
    place: { pipeline: transport.rank, tensor: 0, data: 0 },
    transport,
    rankAt: ({ pipeline }) => pipeline,
  }
  const trace = new StepTrace(rank, recompute, steps)
  const device = new NullDevice(referenceTarget, pace)
  const shape = linearShape(stageCount(schedule))
  const trainer = await Trainer.create(device, linearModel, shape, config, { rank, onTrace: trace.add })
  trainer.initialise()
  while (trainer.step < config.steps) await trainer.train(zeros)
  await trainer.executable.finished()
  const durations = await durationsOf(trainer)
  const traces = await trace.gather()
  trainer.destroy()
  return { durations, traces }
}

/** On rank 0: a schedule's row. Of the steps the quickest counts, since what else the machine does only adds. */
async function measure(name: string): Promise<Row | undefined> {
  const definition = scheduleNamed(name)
  const p = transport.size
  // With fewer some bubbles are longer (docs/parallel.md), with more none is shorter.
  const enough = definition.placement === 'v' ? 2 * p : p
  const schedule = buildSchedule(definition, p, Number(options.microbatches ?? enough))
  const { m, v } = schedule
  // Published bubbles of schedules that know no B and W are of backward passes in one piece.
  const whole = schedule.ranks.flat().every(({ kind }) => kind !== 'B')
  const { recompute } = trainSchema.pick({ recompute: true }).parse({
    recompute: options.recompute ?? (whole ? 'layer' : 'none'),
  })
  const { durations, traces } = await train(schedule, recompute)
  if (!main) return undefined
  // A BW that is run in two parts sends between them, so what is expected of it is simulated too.
  const executed: Schedule = {
    ...schedule,
    ranks: schedule.ranks.map((_, r) => actionsOf(rankEntries(schedule, r, recompute === 'layer').entries)),
  }
  const bubble = ({ ranks, longestSpanIdle }: Timeline): number =>
    definition.bubbleOver === 'span'
      ? longestSpanIdle
      : ranks.reduce((sum, rank) => sum + rank.bubble, 0) / ranks.length
  const simulated = timeline(executed, durations)
  const measured = measuredTimelines(traces).reduce((a, b) => (b.total < a.total ? b : a))
  if (options.out) {
    const file = (ending: string): string => join(options.out!, `${name}.${ending}`)
    await mkdir(options.out, { recursive: true })
    await writeFile(file('trace.json'), JSON.stringify(chromeTrace(traces)))
    const drawn = (how: string, { total }: Timeline): string =>
      `${definition.title}, ${p} ranks, ${m} microbatches, ${how}: ${total.toFixed(1)} ms`
    const picture = timelineSvg(
      { title: drawn('as planned', simulated), schedule: executed, timeline: simulated },
      { title: drawn('as measured', measured), schedule: executed, timeline: measured },
    )
    await writeFile(file('svg'), picture)
  }
  return {
    ...{ schedule: name, p, m, v, recompute, durations },
    formula: toMicroseconds(definition.bubble(schedule, durations)),
    simulated: toMicroseconds(bubble(simulated)),
    measured: toMicroseconds(bubble(measured)),
    simulatedStep: toMicroseconds(simulated.total),
    measuredStep: toMicroseconds(measured.total),
  }
}

const percent = (part: number, of: number): string => `${((100 * part) / of).toFixed(1)} %`
const ms = (time: number): string => time.toFixed(1)
const lines = (all: readonly Row[]): string[] =>
  table([
    ['schedule', 'p', 'm', 'v', 'F', 'B', 'W', 'step', 'formula', 'simulated', 'measured', 'off', 'of step'],
    ...all.map((row) => [
      ...[row.schedule, row.p, row.m, row.v].map(String),
      ...[row.durations.forward, row.durations.backwardInput, row.durations.backwardWeight].map(ms),
      ...[row.measuredStep, row.formula, row.simulated, row.measured].map(ms),
      // Not of what is none but for the loss.
      row.formula > 0 ? percent(row.measured - row.simulated, row.simulated) : '',
      percent(row.measured - row.simulated, row.simulatedStep),
    ]),
  ])

await runAsRank(transport, async () => {
  const rows: Row[] = []
  for (const name of options.schedules.split(',')) rows.push(...[(await measure(name)) ?? []].flat())
  if (!main) return
  if (options.json) console.log(JSON.stringify(rows))
  else console.log(['bubbles and other times in ms', ...lines(rows)].join('\n'))
  if (saved) saveResult(saved, 'ranks/bubble', { transport: transport.name, rows })
})
process.exit(0)
