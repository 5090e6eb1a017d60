import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { packageRoot } from '../../backends/package_root.ts'
import type { ProfileReport } from '../../src/cli/profile_report.ts'
import type { KernelTime } from '../../src/verify/profile.ts'
import { buildDist } from '../helpers/build_dist.ts'
import { temporaryFolder, tinyConfigs, writeModelFolder } from './tiny.ts'

let folder = ''
beforeAll(async () => {
  buildDist()
  folder = await temporaryFolder()
  await writeModelFolder(folder, tinyConfigs.llama)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function profile(...args: string[]): ProfileReport {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(packageRoot(), 'dist/cli/main.js'), 'profile', ...args, '--json'],
    { encoding: 'utf8', timeout: 120_000 },
  )
  expect(stderr).not.toContain('exactmap:')
  expect(status).toBe(0)
  return JSON.parse(stdout)
}

/** Parts that must add up, and figures that must be there, of any report. */
function checkReport({ roofline, steps }: ProfileReport): void {
  const { memory, flopsPerSecond, launchSeconds, submitSeconds, readBackSeconds } = roofline!
  expect(memory.map(({ bytes }) => bytes)).toEqual([2 ** 21, 2 ** 24, 2 ** 27])
  for (const rate of [...memory.flatMap((m) => [m.read, m.write, m.copy]), flopsPerSecond])
    expect(rate).toBeGreaterThan(1e6)
  for (const seconds of [launchSeconds, submitSeconds, readBackSeconds]) expect(seconds).toBeLessThan(1)
  for (const { name, seconds, parts, host, segments, kernels, launches } of steps) {
    const sum = (of: (k: KernelTime) => number): number => kernels.reduce((n, k) => n + of(k), 0)
    expect(seconds, name).toBeGreaterThan(0)
    expect(parts.kernels + parts.launching + parts.host + parts.rest).toBeCloseTo(seconds, 9)
    expect(sum((k) => k.count)).toBe(launches)
    expect(sum((k) => k.seconds)).toBeCloseTo(parts.kernels, 9)
    expect(host.loop + host.inputs + host.encode + host.submit).toBeCloseTo(parts.host, 9)
    for (const part of Object.values(host)) expect(part).toBeGreaterThan(0)
    for (const { runs, deviceSeconds, kernelSeconds } of segments) {
      expect(runs).toBeGreaterThan(0)
      expect(deviceSeconds).toBeGreaterThan(0)
      expect(kernelSeconds).toBeGreaterThan(0)
    }
    for (const k of kernels) {
      expect(k.bytesRead + k.bytesWritten, k.op).toBeGreaterThan(0)
      expect(k.least!.seconds, k.op).toBeGreaterThan(0)
    }
  }
}

// Compiling a model's kernels takes seconds on a software driver, a minute on a busy machine.
describe('exactmap profile', { timeout: 120_000 }, () => {
  it('accounts for every launch of prefill and decode, as a table, a trace and a picture', () => {
    const [trace, svg] = [join(folder, 'trace.json'), join(folder, 'profile.svg')]
    const report = profile(folder, '--tokens', '10', '--context', '16', '--trace', trace, '--svg', svg)
    expect(report.steps.map(({ name }) => name)).toEqual(['prefill_16', 'decode'])
    checkReport(report)
    for (const { kernels } of report.steps) expect(kernels.map(({ op }) => op)).toContain('attention_paged')
    expect(report.heap!.allocated).toBeGreaterThan(0)
    type Event = { ph: string; pid: number; ts: number; dur: number; name: string }
    const events: Event[] = JSON.parse(readFileSync(trace, 'utf8')).traceEvents
    const timed = events.filter((e) => e.ph === 'X')
    expect(timed).toHaveLength(report.steps[0]!.launches + report.steps[1]!.launches)
    // One queue: an event begins where the one before it ended.
    for (const pid of [0, 1]) {
      const track = timed.filter((e) => e.pid === pid)
      track.slice(1).forEach((e, i) => {
        expect(e.ts).toBeCloseTo(track[i]!.ts + track[i]!.dur, 6)
      })
    }
    expect(timed.some((e) => /^layer\.1\/matmul\.\d+$/.test(e.name))).toBe(true)
    expect(readFileSync(svg, 'utf8')).toContain('decode: ')
  })

  it('measures a training step from its file alone', () => {
    const file = join(folder, 'run.yaml')
    const config = { ...tinyConfigs.llama, vocab_size: 300 }
    const run = { output: '.', model: { config }, data: { files: ['absent.txt'] }, steps: 1 }
    writeFileSync(file, stringify({ ...run, batch: 2, sequence: 32, accumulation: 2 }))
    const report = profile(file)
    checkReport(report)
    const [{ segments, seconds }] = report.steps as [ProfileReport['steps'][number]]
    const runs = Object.fromEntries(segments.map((s) => [s.segment, s.runs]))
    expect(runs).toEqual({
      zero: 1,
      forward: 2,
      backward_input: 2,
      backward_weight: 2,
      reduce: 1,
      optimizer: 1,
    })
    expect(report.stepOverForward).toBeCloseTo(seconds / report.forwardSeconds!, 9)
    expect(report.stepOverForward).toBeGreaterThan(1)
  })
})
