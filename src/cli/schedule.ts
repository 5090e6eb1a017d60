import { Command, Option } from 'commander'
import { check } from '../errors.ts'
import { writeFileAtomic } from '../formats/node_file.ts'
import { scheduleNamed, schedules } from '../parallel/schedules/index.ts'
import { timelineSvg, timelineText } from '../parallel/schedules/picture.ts'
import {
  buildSchedule,
  type Durations,
  type Schedule,
  type ScheduleDefinition,
} from '../parallel/schedules/schedule.ts'
import { type Timeline, timeline } from '../parallel/schedules/timeline.ts'
import { numberIn } from './options.ts'
import { table } from './table.ts'

/** Most forwards a drawn schedule has: more fit neither a screen nor a picture. */
const mostForwards = 1 << 20

/** `exactmap schedule`: what a pipeline schedule does on every rank, its bubble and its activations. */
export function scheduleCommand(): Command {
  const length = (flags: string, what: string, low: number, fallback?: number): Option => {
    const option = new Option(flags, what).argParser(numberIn(low, 1e6))
    return fallback === undefined ? option : option.default(fallback)
  }
  return new Command('schedule')
    .description('draw a pipeline schedule: timeline, bubble, activations of every rank')
    .argument('<name>', Object.keys(schedules).join(', '))
    .addOption(
      new Option('-p, --ranks <n>', 'ranks of the pipeline').default(4).argParser(numberIn(1, 1024, true)),
    )
    .addOption(
      new Option('-m, --microbatches <n>', 'microbatches of a step')
        .default(8)
        .argParser(numberIn(1, 4096, true)),
    )
    .addOption(
      new Option('-v, --chunks <n>', 'chunks a rank (default: what the schedule has)').argParser(
        numberIn(1, 64, true),
      ),
    )
    .addOption(length('--forward <t>', 'length of F: one chunk, one microbatch, any unit', 1e-3, 1))
    .addOption(length('--backward-input <t>', 'length of B, the gradient of the input', 1e-3, 1))
    .addOption(length('--backward-weight <t>', 'length of W, the gradient of the weights', 1e-3, 1))
    .addOption(length('--send <t>', 'latency from rank to rank', 0, 0))
    .addOption(length('--overlapped <t>', 'length of an F and a BW that overlap (default: in turn)', 1e-3))
    .addOption(
      new Option('--send-buffers <n>', 'messages a stage can have under way (default: any number)').argParser(
        numberIn(1, 4096, true),
      ),
    )
    .option('--svg <file>', 'write the picture as SVG')
    .addOption(new Option('--csv', 'print every action as a line of CSV').conflicts('json'))
    .option('--json', 'print everything as JSON')
    .action(async (name: string, o) => {
      const definition = scheduleNamed(name)
      const forwards = o.ranks * o.microbatches * (o.chunks ?? definition.chunks)
      check(
        forwards <= mostForwards,
        'invalid_argument',
        `expected at most ${mostForwards} forwards, got ${forwards}: fewer ranks, microbatches or chunks`,
      )
      const schedule = buildSchedule(definition, o.ranks, o.microbatches, o.chunks)
      const durations: Durations = {
        forward: o.forward,
        backwardInput: o.backwardInput,
        backwardWeight: o.backwardWeight,
        send: o.send,
        ...(o.overlapped === undefined ? {} : { overlapped: o.overlapped }),
      }
      const time = timeline(
        schedule,
        durations,
        o.sendBuffers === undefined ? {} : { sendBuffers: o.sendBuffers },
      )
      if (o.svg)
        await writeFileAtomic(o.svg, [
          new TextEncoder().encode(
            timelineSvg({ title: summary(definition, schedule, time), schedule, timeline: time }),
          ),
        ])
      const { ranks: _, ...shape } = schedule
      const lines = o.csv
        ? csv(time)
        : o.json
          ? [JSON.stringify({ ...shape, durations, ...time }, null, 2)]
          : text(definition, schedule, durations, time)
      process.stdout.write(`${lines.join('\n')}\n`)
    })
}

const number = (n: number): string => String(Number(n.toFixed(3)))

function csv({ ranks }: Timeline): string[] {
  return [
    'rank,action,microbatch,chunk,start,end',
    ...ranks.flatMap(({ actions }, r) =>
      actions.map((a) => [r, a.kind, a.microbatch, a.chunk, number(a.start), number(a.end)].join(',')),
    ),
  ]
}

function summary({ title }: ScheduleDefinition, { p, m, v }: Schedule, time: Timeline): string {
  const bubble = `bubble ${(100 * time.bubbleFraction).toFixed(1)} %`
  return `${title}: ${p} ranks, ${m} microbatches, ${v} chunk${v === 1 ? '' : 's'} a rank: ${number(time.total)} units, ${bubble}, ${time.peakActivations} activations`
}

function text(
  definition: ScheduleDefinition,
  schedule: Schedule,
  durations: Durations,
  time: Timeline,
): string[] {
  const { bubbleText, bubbleOver, peakText, source } = definition
  const over = bubbleOver === 'step' ? 'over the step' : 'inside the longest span'
  const columns = process.stdout.isTTY ? process.stdout.columns : undefined
  return [
    summary(definition, schedule, time),
    '',
    ...timelineText(schedule, time, {
      ...(columns === undefined ? {} : { columns }),
      colour: process.stdout.isTTY === true,
    }),
    '',
    ...table([
      ['rank', 'busy', 'bubble', 'of it inside its span', 'activations'],
      ...time.ranks.map((rank, r) => [
        String(r),
        ...[rank.busy, rank.bubble, rank.idleInSpan, rank.peakActivations].map(number),
      ]),
    ]),
    '',
    `published: bubble, messages free, ${bubbleText} = ${number(definition.bubble(schedule, durations))} ${over}; activations of a chunk ${peakText} = ${definition.peak(schedule)}`,
    `source:    ${source}`,
  ]
}
