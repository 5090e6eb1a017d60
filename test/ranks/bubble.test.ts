import { beforeAll, describe, expect, it } from 'vitest'
import { bundled, mpirun, whyNoRanks } from './mpirun.ts'

const reason = await whyNoRanks()

// A rank hears of a message up to a millisecond late (docs/parallel.md): passes of 100 ms make that a hundredth.
describe.skipIf(reason)(`bubbles of four processes${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let script = ''
  beforeAll(async () => {
    if (!reason) script = await bundled('bubble', 'bench/ranks')
  })

  it('are those that are published, within 5 %', async () => {
    const { out, err, code } = await mpirun(4, script, [
      '--schedules',
      '1f1b,zb_h1,zb_v',
      '--chunk',
      '100',
      '--json',
    ])
    expect(err).toBe('')
    expect(code).toBe(0)
    const rows: Record<string, number>[] = JSON.parse(out)
    expect(rows.map(({ schedule }) => schedule)).toEqual(['1f1b', 'zb_h1', 'zb_v'])
    const [of1f1b] = rows
    for (const { schedule, formula, measured, measuredStep, simulatedStep } of rows) {
      console.log(`${schedule}: bubble ${measured!.toFixed(1)} ms, published ${formula!.toFixed(1)} ms`)
      // ZB-V has none inside a rank's span: 5 % of what 1F1B idles.
      expect(Math.abs(measured! - formula!)).toBeLessThan(0.05 * (formula! || of1f1b!.formula!))
      expect(Math.abs(measuredStep! - simulatedStep!)).toBeLessThan(0.05 * simulatedStep!)
    }
  })
})
