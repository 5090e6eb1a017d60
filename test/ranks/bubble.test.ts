import { beforeAll, describe, expect, it } from 'vitest'
import { bundled, mpirun, whyNoRanks } from './mpirun.ts'

const reason = await whyNoRanks()

describe.skipIf(reason)(`bubbles of four processes${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let script = ''
  beforeAll(async () => {
    if (!reason) script = await bundled('bubble', 'bench/ranks')
  })

  // A rank hears of a message up to a millisecond late (docs/parallel.md): passes of 100 ms make that a hundredth. What
  // else the machine does only adds, so a disturbed measurement is repeated.
  it.each(['1f1b', 'zb_h1', 'zb_v'])('%s: within a twentieth of the published', {
    retry: 2,
  }, async (schedule) => {
    const { out, err, code } = await mpirun(4, script, ['--schedules', schedule, '--chunk', '100', '--json'])
    expect(err).toBe('')
    expect(code).toBe(0)
    const [{ p, durations, formula, measured, measuredStep, simulatedStep }] = JSON.parse(out)
    console.log(`${schedule}: bubble ${measured} ms, published ${formula} ms`)
    const { forward, backwardInput, backwardWeight } = durations
    // ZB-V has none: 5 % of what 1F1B has.
    const whole = formula || (p - 1) * (forward + backwardInput + backwardWeight)
    expect(Math.abs(measured - formula)).toBeLessThan(0.05 * whole)
    expect(Math.abs(measuredStep - simulatedStep)).toBeLessThan(0.05 * simulatedStep)
  })
})
