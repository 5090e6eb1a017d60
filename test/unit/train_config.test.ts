import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { ExactmapError } from '../../src/errors.ts'
import { learningRate, parseTrainConfig } from '../../src/train/config.ts'

const bundled = readFileSync(join(packageRoot(), 'assets', 'shakespeare', 'train.yaml'), 'utf8')
const minimal = 'output: out\nmodel: { from: m }\ndata: { files: [a.txt] }\nsteps: 100\n'
const refusal = (text: string): string => {
  try {
    parseTrainConfig(text, 'run.yaml')
  } catch (error) {
    if (error instanceof ExactmapError && error.code === 'invalid_config') return error.message
    throw error
  }
  return ''
}

describe('training configuration', () => {
  it('reads the one of the bundled model and fills defaults', () => {
    const config = parseTrainConfig(bundled, 'train.yaml')
    expect(config.steps * config.batch * config.sequence).toBe(1200 * 2048)
    const small = parseTrainConfig(minimal, 'run.yaml')
    expect(small.optimizer).toEqual({
      learning_rate: 1e-3,
      beta1: 0.9,
      beta2: 0.95,
      eps: 1e-8,
      weight_decay: 0.1,
      clip: 1,
    })
    expect(small.recipe).toBe('f32')
  })

  it('names the field, what was expected and the file', () => {
    expect(refusal('')).toMatch(/whole file.*run\.yaml/)
    expect(refusal(minimal.replace('100', '-3'))).toMatch(/steps: .*>0/)
    expect(refusal(`${minimal}typo: 1\n`)).toMatch(/typo/)
    expect(refusal(`${minimal}schedule: { kind: step }\n`)).toMatch(/schedule\.kind: .*cosine/)
    expect(refusal(`${minimal}recipe: fp16\n`)).toMatch(/recipe: .*f32.*bf16.*fp8/)
    expect(refusal(`${minimal}optimizer: { learning_rate: fast }\n`)).toMatch(
      /optimizer\.learning_rate: .*number/,
    )
    expect(refusal('output: [')).toMatch(/not valid YAML/)
  })

  it('refuses a bomb of aliases instead of expanding it', () => {
    const bomb = `a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [${'*a, '.repeat(9)}*a]\nc: &c [${'*b, '.repeat(9)}*b]\nd: [${'*c, '.repeat(9)}*c]\n`
    expect(refusal(bomb)).toMatch(/not valid YAML|whole file|nrecognized/)
  })

  it('gives a configuration or a typed refusal for every changed byte', () => {
    const bytes = Buffer.from(bundled)
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), fc.boolean(), (at, byte, cut) => {
        const changed = cut ? bytes.subarray(0, at) : Buffer.from(bytes)
        if (!cut) changed[at] = byte
        refusal(changed.toString('utf8'))
      }),
      { numRuns: 1500, seed: 7 },
    )
  })

  it('warms up, then follows the schedule to its end', () => {
    const config = parseTrainConfig(
      `${minimal}schedule: { kind: linear, warmup: 10, final: 0.5 }\n`,
      'run.yaml',
    )
    expect(learningRate(config, 0)).toBeCloseTo(1e-4, 12)
    expect(learningRate(config, 9)).toBeCloseTo(1e-3, 12)
    expect(learningRate(config, 55)).toBeCloseTo(0.75e-3, 12)
    expect(learningRate(config, 100)).toBeCloseTo(0.5e-3, 12)
    const cosine = parseTrainConfig(`${minimal}schedule: { warmup: 0, final: 0 }\n`, 'run.yaml')
    expect(learningRate(cosine, 50)).toBeCloseTo(0.5e-3, 12)
  })
})
