import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
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

// Compiling a model's kernels takes seconds on a software driver, a minute on a busy machine.
describe('exactmap profile', { timeout: 120_000 }, () => {
  it('accounts for every launch of prefill and decode, as a table and as a trace', () => {
    const trace = join(folder, 'trace.json')
    const args = ['profile', folder, '--tokens', '10', '--context', '16', '--trace', trace, '--json']
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(packageRoot(), 'dist/cli/main.js'), ...args],
      { encoding: 'utf8', timeout: 120_000 },
    )
    expect(stderr).not.toContain('exactmap:')
    expect(status).toBe(0)
    const report = JSON.parse(stdout)
    expect(report.segments.map((s: { segment: string }) => s.segment)).toEqual(['prefill_16', 'decode'])
    for (const { launches, stepSeconds, kernelSeconds, overheadSeconds, kernels } of report.segments) {
      const sum = (of: (k: KernelTime) => number): number =>
        kernels.reduce((n: number, k: KernelTime) => n + of(k), 0)
      expect(sum((k) => k.count)).toBe(launches)
      expect(sum((k) => k.seconds)).toBeCloseTo(kernelSeconds, 9)
      expect(stepSeconds - kernelSeconds).toBeCloseTo(overheadSeconds, 9)
      expect(stepSeconds).toBeGreaterThan(0)
      for (const k of kernels as KernelTime[]) expect(k.seconds, k.op).toBeGreaterThan(0)
      expect(kernels.map((k: KernelTime) => k.op)).toContain('attention_paged')
    }
    type Event = { ph: string; pid: number; ts: number; dur: number; name: string }
    const events: Event[] = JSON.parse(readFileSync(trace, 'utf8')).traceEvents
    const timed = events.filter((e) => e.ph === 'X')
    expect(timed).toHaveLength(report.segments[0].launches + report.segments[1].launches)
    // One queue: an event begins where the one before it ended.
    for (const pid of [0, 1]) {
      const track = timed.filter((e) => e.pid === pid)
      track.slice(1).forEach((e, i) => {
        expect(e.ts).toBeCloseTo(track[i]!.ts + track[i]!.dur, 6)
      })
    }
    expect(timed.some((e) => /^layer\.1\/matmul\.\d+$/.test(e.name))).toBe(true)
  })
})
