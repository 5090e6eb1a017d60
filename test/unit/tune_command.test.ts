import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { readTuning, shippedTuning } from '../../backends/webgpu/node/tuning.ts'
import { encodeTuning, type TuningFile } from '../../backends/webgpu/tuning.ts'
import { buildDist } from '../helpers/build_dist.ts'

// The built command on SwiftShader, which linux x64 always has; timing itself is test/unit/tune_search.test.ts.
const cli = join(packageRoot(), 'dist/cli/main.js')
const folder = mkdtempSync(join(tmpdir(), 'exactmap-tune-'))
const out = join(folder, 'tuning.json')

beforeAll(buildDist, 180_000)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function tune(...args: string[]) {
  const all = [cli, 'tune', '--driver', 'swiftshader', '--out', out, ...args]
  const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: 'utf8', timeout: 60_000 })
  return { status, stdout, stderr }
}

describe.runIf(process.platform === 'linux' && process.arch === 'x64')('exactmap tune', () => {
  it('--dry-run lists decisions with what would be tried, and writes nothing', () => {
    const { status, stdout } = tune('matmul', '--fresh', '--dry-run', '--json')
    expect(status).toBe(0)
    const plan: { op: string; kernel: string; alternatives: object[] }[] = JSON.parse(stdout)
    expect(new Set(plan.map(({ op }) => op))).toEqual(new Set(['matmul']))
    expect(plan[0]).toMatchObject({ kernel: 'matmul_column_f32', shape: { columns: 4096, depth: 4096 } })
    expect(plan.every(({ alternatives }) => alternatives.length > 0)).toBe(true)
    expect(() => readTuning(out)).toThrow(expect.objectContaining({ code: 'not_found' }))
  })

  it('goes on after what a file already holds, and says what is left when the time is over', () => {
    const shipped = shippedTuning('swiftshader')
    // The signature is that of this machine's driver, which the file was measured on.
    writeFileSync(out, encodeTuning(shipped))
    const left = (...args: string[]): number =>
      JSON.parse(tune('matmul', '--json', ...args).stdout).left.length
    expect(left('--time', '0')).toBeLessThan(left('--time', '0', '--fresh'))
    expect(readTuning(out)).toEqual(shipped)
  })

  it('refuses a file of another adapter, a broken one, and an op without parameters', () => {
    const other: TuningFile = {
      ...shippedTuning('swiftshader'),
      signature: { ...shippedTuning('lavapipe').signature },
    }
    writeFileSync(out, encodeTuning(other))
    expect(tune()).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/conflict: .* was measured on lavapipe/),
    })
    writeFileSync(out, '{}')
    expect(tune()).toMatchObject({ status: 1, stderr: expect.stringMatching(/invalid_format: .*version/) })
    expect(tune('add')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/op 'add' has no parameters; those that have: matmul,/),
    })
  })
})
