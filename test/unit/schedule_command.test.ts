import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { scheduleCommand } from '../../src/cli/schedule.ts'

afterEach(() => vi.restoreAllMocks())

/** What `exactmap schedule` prints for these arguments. */
async function schedule(...args: string[]): Promise<string> {
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  await scheduleCommand().exitOverride().parseAsync(args, { from: 'user' })
  return write.mock.calls.map(([text]) => text).join('')
}

describe('exactmap schedule', () => {
  it('draws a row per rank with what is published beside what was measured', async () => {
    expect(await schedule('zb_h1', '-p', '2', '-m', '3')).toBe(
      [
        'ZB-H1: 2 ranks, 3 microbatches, 1 chunk a rank: 10 units, bubble 10.0 %, 2 activations',
        '',
        'rank 0  F0 F1 ...B0 W0 F2 B1 W1 B2 W2',
        'rank 1  ...F0 B0 F1 B1 W0 F2 B2 W1 W2',
        '',
        'rank  busy  bubble  of it inside its span  activations',
        '0        9       1                      1            2',
        '1        9       1                      0            2',
        '',
        'published: bubble, messages free, (p-1)(F+B-W) = 1 over the step; activations of a chunk min(p, m) = 2',
        'source:    Qi et al. 2023, arXiv 2401.10241',
        '',
      ].join('\n'),
    )
  })

  it('prints CSV with every action and its time', async () => {
    const lines = (
      await schedule('1f1b', '-p', '2', '-m', '1', '--csv', '--backward-input', '2', '--send', '0.5')
    ).split('\n')
    expect(lines).toEqual([
      'rank,action,microbatch,chunk,start,end',
      '0,F,0,0,0,1',
      '0,BW,0,0,6,9',
      '1,F,0,0,1.5,2.5',
      '1,BW,0,0,2.5,5.5',
      '',
    ])
  })

  it('prints JSON with the same figures', async () => {
    const report = JSON.parse(await schedule('interleaved', '-p', '2', '-m', '4', '-v', '3', '--json'))
    expect(report).toMatchObject({ name: 'interleaved', p: 2, m: 4, v: 3, total: 39, peakActivations: 7 })
    expect(report.ranks).toHaveLength(2)
    expect(report.ranks[1].actions).toHaveLength(24)
  })

  it('draws overlapped pairs as one box, and writes an SVG', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'exactmap-schedule-'))
    try {
      const file = join(folder, 'picture.svg')
      const out = await schedule('dualpipe_v', '-p', '2', '-m', '4', '--overlapped', '2.5', '--svg', file)
      expect(out).toContain('F3a&BW1b')
      expect(readFileSync(file, 'utf8')).toMatch(/^<svg .*<title>rank 0: F3a&amp;BW1b, /s)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it.each([
    ['an unknown schedule', ['nope'], /among gpipe, 1f1b, interleaved, zb_h1, zb_v, dualpipe_v, got 'nope'/],
    ['microbatches it is not defined for', ['interleaved', '-p', '3'], /whole groups of p = 3, got 8/],
    ['no ranks', ['gpipe', '-p', '0'], /expected a whole number from 1 to 1024, got '0'/],
    [
      'what nobody can look at',
      ['1f1b', '-p', '1024', '-m', '2048'],
      /at most 1048576 forwards, got 2097152/,
    ],
    ['two formats', ['gpipe', '--csv', '--json'], /'--csv' cannot be used with option '--json'/],
  ])('refuses %s', async (_what, args, message) => {
    await expect(schedule(...args)).rejects.toThrow(message)
  })
})
