import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { executableFile } from '../../backends/cuda/build/native.ts'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { writeImages } from '../../backends/cuda/build/write_images.ts'
import { encodeCaseFile } from '../../backends/cuda/case_file.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { decodeCase, trainCase } from '../../bench/gpu/model_cases.ts'
import { cudaProgramCase, type ProgramCase } from '../../src/verify/cuda_cases.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { tinyConfigs } from '../models/tiny.ts'

// Whole programs that `npm run gpu` times, at a size that the emulated device runs.
const device = await emulatedDevice()
const reason =
  typeof device === 'string' ? device : existsSync(executableFile()) ? '' : 'the executable is not built'
if (typeof device !== 'string') device.destroy()
const folder = mkdtempSync(join(tmpdir(), 'exactmap-programs-'))
afterAll(() => rmSync(folder, { recursive: true }))

const target = cudaTarget(cudaTraits['cuda-sm_90a']!, readCudaSources())
// A context of 1,024 positions, as the timed ones have.
const wide = { ...tinyConfigs.llama, max_position_embeddings: 1024 }

async function timed(one: ProgramCase): Promise<Record<string, unknown>> {
  const [kind] = one.id.split('/') as [string, string]
  mkdirSync(join(folder, 'cases', kind), { recursive: true })
  writeFileSync(join(folder, 'cases', `${one.id}.case`), encodeCaseFile(cudaProgramCase(one, target)))
  await writeImages(folder, [one.program], target, { emulated: true, note: () => {} })
  const args = ['verify', folder, '--json', '--only', one.id, '--driver', emulatedDriver()]
  const { stdout, stderr } = spawnSync(executableFile(), args, { encoding: 'utf8' })
  expect(stderr).toContain('1 passed, 0 failed')
  return JSON.parse(stdout)
}

describe.skipIf(reason)(`programs that are timed whole${reason && ` (skipped: ${reason})`}`, () => {
  it.each([
    ['a decode step', () => decodeCase(target, 'llama_1b', 'bf16', 2, wide), ['decode']],
    ['a training step', () => trainCase(target, 2, 64, wide), undefined],
  ] as const)('%s: every segment, and the memory', async (_, make, segments) => {
    const one = make()
    const got = await timed(one)
    const names = one.program.segments.map((s) => s.name)
    if (segments) expect(names).toEqual(segments)
    const parts = got.segments as { name: string; ms: number }[]
    expect(parts.map((s) => s.name)).toEqual(names)
    expect(got.ms).toBeCloseTo(
      parts.reduce((sum, { ms }) => sum + ms, 0),
      3,
    )
    expect(got.arenaBytes).toBe(one.program.arenas.reduce((sum, { bytes }) => sum + bytes, 0))
  })

  it('names an input that is not given', () => {
    const { given, ...one } = decodeCase(target, 'llama_1b', 'bf16', 1, wide)
    const { position, ...rest } = given
    expect(() => cudaProgramCase({ ...one, given: rest }, target)).toThrow(/input 'position'.*not given/)
    expect(() =>
      cudaProgramCase({ ...one, given: { ...rest, position: new Uint32Array(2) } }, target),
    ).toThrow(/'position' is u32\[1\], 4 bytes, got 8/)
  })
})
