import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { kernelRules } from '../../backends/webgpu/kernels/index.ts'
import type { Decision } from '../../backends/webgpu/kernels/parameter.ts'
import { readKernelLibrary } from '../../backends/webgpu/node/library.ts'
import { storedTarget } from '../../backends/webgpu/node/stored_targets.ts'
import { findTuning, shippedTuning, userTuningPath } from '../../backends/webgpu/node/tuning.ts'
import { baselineTraits, webGpuTarget } from '../../backends/webgpu/target.ts'
import {
  encodeTuning,
  keyOf,
  parseTuning,
  type TunedChoice,
  type TuningEntry,
  type TuningFile,
  tuningOf,
} from '../../backends/webgpu/tuning.ts'
import type { OpCall } from '../../src/ops/contract.ts'
import { checkCall, opContract, ops } from '../../src/ops/index.ts'
import { tensorType } from '../../src/tensor/type.ts'

const library = readKernelLibrary()
const bytes = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))
const parse = (value: unknown): TuningFile => parseTuning(bytes(value), 'tuning.json')

const entry: TuningEntry = {
  op: 'matmul',
  kernel: 'matmul_tile_f32',
  shape: { rows: 64, columns: 256, depth: 128 },
  choice: { tile_rows: 4 },
  ratio: 1.25,
  runMs: 0.5,
  compileMs: 80,
  heuristicCompileMs: 150,
}
const signature = {
  driver: 'lavapipe',
  device: 'some device',
  description: 'some driver 1.0',
  features: ['shader-f16', 'subgroups'],
  subgroupSize: 8,
}
const file: TuningFile = {
  format: 'exactmap-tuning',
  version: 1,
  signature,
  date: '2026-01-31',
  commit: 'abcdef0',
  command: 'exactmap tune',
  loadAverage: 0.5,
  entries: [entry],
}

function product(rows: number, columns: number, depth: number): OpCall {
  const inputs = { x: tensorType('f32', rows, depth), w: tensorType('f32', columns, depth) }
  return checkCall(opContract('matmul'), { activation: 'none' }, inputs)
}

/** The constant of a call's first launch. */
function constant(target: ReturnType<typeof webGpuTarget>, call: OpCall, name: string): unknown {
  const choice = target.choose(call)
  return 'launches' in choice ? choice.launches[0]!.constants[name] : choice.unsupported
}

describe('a tuning file', () => {
  it('is read as it was written, its entries in one order', () => {
    const other = { ...entry, shape: { rows: 8, columns: 256, depth: 128 } }
    const one = encodeTuning({ ...file, entries: [entry, other] })
    expect(encodeTuning({ ...file, entries: [other, entry] })).toBe(one)
    expect(parseTuning(new TextEncoder().encode(one), 'f').entries.map(keyOf)).toEqual(
      [other, entry].map(keyOf).sort(),
    )
  })

  it.each([
    ['another version', { ...file, version: 2 }, 'invalid_format', /version/],
    ['another file', { some: 'thing' }, 'invalid_format', /exactmap tune.* writes one/],
    ['a field nobody knows', { ...file, entries: [{ ...entry, color: 1 }] }, 'invalid_format', /color/],
    ['an op there is not', { ...file, entries: [{ ...entry, op: 'mat_mul' }] }, 'not_found', /op 'mat_mul'/],
    [
      'a parameter the op has not',
      { ...file, entries: [{ ...entry, choice: { tile_depth: 4 } }] },
      'not_found',
      /op 'matmul' has no parameter 'tile_depth'; it has tile_rows, tile_columns/,
    ],
    [
      'a parameter of an op without any',
      { ...file, entries: [{ ...entry, op: 'add' }] },
      'not_found',
      /'add'/,
    ],
    [
      'a value the parameter has not',
      { ...file, entries: [{ ...entry, choice: { tile_rows: 5 } }] },
      'not_found',
      /'tile_rows' of op 'matmul' has no value 5; it has 4, 8, 16/,
    ],
  ])('with %s is refused', (_name, value, code, message) => {
    expect(() => parse(value)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    )
  })
})

describe.each(['lavapipe', 'swiftshader'])('the tuning that comes for %s', (driver) => {
  const shipped = shippedTuning(driver)
  const target = storedTarget(`webgpu-${driver}`, library)

  it('was measured on that driver with the kernels of its stored target', () => {
    expect(shipped.signature.driver).toBe(driver)
    expect(shipped.signature.subgroupSize).toBe(target.subgroupSize)
    expect(shipped.signature.features).toEqual(target.features.filter((f) => f !== 'timestamp-query').sort())
  })

  it('has each decision once, and only of kernels that the rules ask about', () => {
    const asked = new Set<string>()
    for (const contract of Object.values(ops))
      for (const { attrs, inputs } of contract.cases)
        for (const { op, kernel } of target.decisions(checkCall(contract, attrs, inputs)))
          asked.add(`${op} ${kernel}`)
    expect(shipped.entries.length).toBeGreaterThan(0)
    expect(new Set(shipped.entries.map(keyOf)).size).toBe(shipped.entries.length)
    expect(shipped.entries.filter(({ op, kernel }) => !asked.has(`${op} ${kernel}`))).toEqual([])
  })

  it('gives the choices that it says it does', () => {
    for (const { op, kernel, shape, choice } of shipped.entries) {
      const decision: Decision = { op, kernel, shape, options: {} }
      expect(tuningOf(target.tuning!.entries)(decision), keyOf(decision)).toEqual(choice)
    }
  })
})

describe('a choice', () => {
  const target = webGpuTarget({ ...baselineTraits, tuning: file }, library)
  const plain = webGpuTarget(baselineTraits, library)

  it('is the heuristics’ without a tuning, and where none was measured nearby', () => {
    expect(constant(plain, product(64, 256, 128), 'TILE_ROWS')).toBe(8)
    expect(constant(plain, product(64, 1024, 1024), 'TILE_ROWS')).toBe(8)
    expect(constant(target, product(64, 2048, 256), 'TILE_ROWS')).toBe(8)
  })

  it('is the tuned one at the measured shape and up to eight times the work', () => {
    for (const call of [product(64, 256, 128), product(128, 512, 256), product(64, 1024, 256)])
      expect(constant(target, call, 'TILE_ROWS')).toBe(4)
  })

  it('is the heuristics’ where the call does not allow the tuned value', () => {
    const tuned = { ...entry, choice: { tile_rows: 16 } }
    // Without subgroups a lane would have to load 16 rows.
    const wide = webGpuTarget({ ...baselineTraits, tuning: { entries: [tuned] } }, library)
    expect(constant(wide, product(64, 256, 128), 'TILE_ROWS')).toBe(8)
  })

  it('is pure: the order of entries does not matter, the nearest decides', () => {
    const far = { ...entry, shape: { rows: 64, columns: 1024, depth: 128 }, choice: { tile_rows: 8 } }
    const ask = (entries: TunedChoice[], columns: number): unknown =>
      constant(
        webGpuTarget({ ...baselineTraits, tuning: { entries } }, library),
        product(64, columns, 128),
        'TILE_ROWS',
      )
    for (const columns of [256, 384, 512, 640, 1024]) {
      expect(ask([entry, far], columns)).toBe(ask([far, entry], columns))
      if (columns !== 512) expect(ask([entry, far], columns)).toBe(columns < 512 ? 4 : 8)
    }
  })

  it('is asked of parameters that the rule declares', () => {
    for (const contract of Object.values(ops))
      for (const { attrs, inputs } of contract.cases)
        for (const { op, options } of target.decisions(checkCall(contract, attrs, inputs)))
          for (const [name, { values, heuristic }] of Object.entries(options)) {
            const declared = kernelRules[op as keyof typeof kernelRules].parameters?.[name]?.values ?? []
            expect(declared, `${op} ${name}`).toEqual(expect.arrayContaining([...values, heuristic]))
          }
  })
})

describe('the tuning of an adapter', () => {
  let cache: string
  beforeEach(() => {
    cache = mkdtempSync(join(tmpdir(), 'exactmap-tuning-'))
    vi.stubEnv('XDG_CACHE_HOME', cache)
    vi.stubEnv('EXACTMAP_TUNING', '')
  })
  afterEach(() => {
    vi.unstubAllEnvs()
    rmSync(cache, { recursive: true, force: true })
  })
  const write = (path: string, content: TuningFile): void => {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, encodeTuning(content))
  }

  it('is the shipped one of its driver', () => {
    const shipped = shippedTuning('lavapipe')
    expect(findTuning(shipped.signature)?.entries).toEqual(shipped.entries)
  })

  it('is none for other kernels or another driver', () => {
    const { signature: known } = shippedTuning('lavapipe')
    expect(findTuning({ ...known, subgroupSize: 16 })?.entries).toEqual([])
    expect(findTuning({ ...known, features: [] })?.entries).toEqual([])
    expect(findTuning({ ...known, driver: 'gpu' })?.entries).toEqual([])
  })

  it('is the user’s, kernel by kernel, where there is one', () => {
    const shipped = shippedTuning('lavapipe')
    write(userTuningPath(shipped.signature), { ...file, signature: shipped.signature })
    const found = findTuning(shipped.signature)!.entries
    const ofKernel = (kernel: string) => found.filter((e) => e.kernel === kernel)
    expect(ofKernel('matmul_tile_f32')).toEqual([entry])
    expect(found.length).toBe(1 + shipped.entries.filter((e) => e.kernel !== entry.kernel).length)
  })

  it('is what EXACTMAP_TUNING names, alone, or nothing', () => {
    const path = join(cache, 'mine.json')
    write(path, file)
    vi.stubEnv('EXACTMAP_TUNING', path)
    expect(findTuning(shippedTuning('lavapipe').signature)?.entries).toEqual([entry])
    vi.stubEnv('EXACTMAP_TUNING', 'off')
    expect(findTuning(shippedTuning('lavapipe').signature)).toBeUndefined()
    vi.stubEnv('EXACTMAP_TUNING', join(cache, 'nowhere.json'))
    expect(() => findTuning(signature)).toThrow(expect.objectContaining({ code: 'not_found' }))
  })
})
