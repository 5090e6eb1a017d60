import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type CudaAddon,
  loadAddon,
  type NativeDevice,
  type NativeProgram,
} from '../../backends/cuda/addon.ts'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { fnv1a } from '../../backends/cuda/byte_writer.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { ExactmapError } from '../../src/errors.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { encodeRaw, type RawProgram, type RawStep, tinyImage, tinyProgram, WORDS } from './tiny_program.ts'

// The C runtime through the addon, on the emulated driver: what it refuses, what it survives, and in which order it
// does things. Whether kernels compute the right thing is for the conformance suite.

process.env.EXACTMAP_EMULATED_DEVICES = '3'
const usable = await emulatedDevice()
const reason = typeof usable === 'string' ? usable : ''
if (typeof usable !== 'string') usable.destroy()

const folder = mkdtempSync(join(tmpdir(), 'exactmap-runtime-'))
let addon: CudaAddon
let image: Uint8Array

beforeAll(async () => {
  if (reason) return
  addon = loadAddon()
  image = await tinyImage()
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const words = (make: (i: number) => number): Uint8Array =>
  new Uint8Array(Uint32Array.from({ length: WORDS }, (_, i) => make(i)).buffer)
const asWords = (bytes: Uint8Array): number[] => [
  ...new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4),
]

interface Loaded {
  readonly device: NativeDevice
  readonly arenas: readonly ReturnType<NativeDevice['createArena']>[]
  readonly program: NativeProgram
}

function prepare(device: NativeDevice, file: Uint8Array = encodeRaw(tinyProgram())): Loaded {
  device.loadModule('runtime_test', image)
  const arenas = tinyProgram().arenas.map(({ kind, bytes }) => device.createArena(kind, bytes, true))
  return { device, arenas, program: device.loadProgram(file, arenas) }
}

const openTiny = (index = 0, driver = emulatedDriver()): Loaded => prepare(addon.openDevice(index, driver))

function failure(body: () => unknown): ExactmapError {
  try {
    body()
  } catch (error) {
    expect(error).toBeInstanceOf(ExactmapError)
    return error as ExactmapError
  }
  throw new Error('it did not fail')
}

const rejection = async (promise: Promise<unknown>): Promise<ExactmapError> => {
  const error = await promise.then(
    () => new Error('it did not fail'),
    (e) => e,
  )
  expect(error).toBeInstanceOf(ExactmapError)
  return error as ExactmapError
}

/** The file with a body of other bytes and a header that fits. */
function withBody(file: Uint8Array, body: Uint8Array): Uint8Array {
  const out = new Uint8Array(32 + body.length)
  out.set(file.subarray(0, 32))
  out.set(body, 32)
  const view = new DataView(out.buffer)
  view.setBigUint64(16, BigInt(body.length), true)
  view.setBigUint64(24, fnv1a(body), true)
  return out
}

const none = new Uint8Array(0)

describe.skipIf(reason)(`CUDA runtime${reason && ` (skipped: ${reason})`}`, () => {
  it('says what is wrong without a driver', () => {
    expect(failure(() => addon.openDevice(0, join(folder, 'none.so'))).code).toBe('no_device')
    expect(failure(() => addon.probe('libm.so.6')).message).toContain('cuGetProcAddress_v2')
    expect(failure(() => addon.openDevice(99, emulatedDriver())).message).toContain('the driver has 3')
  })

  it('runs segments, in both slots, with many steps in flight', async () => {
    const { device, program } = openTiny()
    const steps = Array.from({ length: 20 }, (_, k) =>
      program.step(
        0,
        k % 2,
        0,
        words((i) => 100 * k + i),
      ),
    )
    for (const [k, step] of steps.entries()) {
      const out = asWords(await step)
      expect(out.slice(0, 3)).toEqual([100 * k, 100 * k + 2, 100 * k + 4])
      // y has 12 bytes and is padded to 16.
      expect(out.slice(4)).toEqual(Array.from({ length: WORDS }, (_, i) => 2 * (100 * k + 2 * i)))
    }
    device.destroy()
  })

  it('does everything in the order of the calls', async () => {
    const { device, arenas, program } = openTiny()
    const state = arenas[3]!
    program.run(
      0,
      0,
      0,
      words(() => 1),
    )
    program.run(1, 0, 0, none)
    const before = state.read(0, 16)
    program.run(1, 0, 0, none)
    const after = state.read(0, 16)
    state.write(
      0,
      words(() => 7),
    )
    const written = state.read(0, 4)
    state.fill(255)
    expect(asWords(await before)).toEqual([1, 2, 3, 4])
    expect(asWords(await after)).toEqual([2, 4, 6, 8])
    expect(asWords(await written)).toEqual([7])
    expect(asWords(await state.read(4 * WORDS - 4, 4))).toEqual([0xffffffff])
    device.destroy()
  })

  it('runs a schedule as one graph, and single steps', async () => {
    const { device, arenas, program } = openTiny()
    const handle = program.schedule([
      [0, 0],
      [1, 0],
      [0, 1],
      [1, 1],
    ])
    for (const offset of [3, 5])
      program.runSchedule(
        handle,
        0,
        words(() => offset),
      )
    await device.finished()
    expect(asWords(await arenas[3]!.read(0, 8))).toEqual([16, 20])
    program.runSteps(1, 0, 2, 3)
    expect(asWords(await arenas[3]!.read(0, 8))).toEqual([31, 38])
    expect(failure(() => program.runSchedule(9, 0, none)).code).toBe('not_found')
    expect(failure(() => program.schedule([[7, 0]])).code).toBe('not_found')
    expect(failure(() => program.runSteps(1, 1, 2, 1)).code).toBe('invalid_argument')
    device.destroy()
  })

  it('moves more than the staging memory holds, from memory and from files', async () => {
    const device = addon.openDevice(0, emulatedDriver())
    const bytes = 40 * 2 ** 20 + 12
    const arena = device.createArena('weights', bytes, false)
    const content = new Uint8Array(bytes)
    const view = new DataView(content.buffer)
    for (let at = 0; at < bytes; at += 4) view.setUint32(at, Math.imul(at + 1, 2654435761), true)
    arena.write(0, content)
    const small = arena.read(20 * 2 ** 20, 1000)
    const all = arena.read(0, bytes)
    // Waits for the large read, which sees the bytes of before.
    arena.fill(0)
    expect(Buffer.compare(await small, content.subarray(20 * 2 ** 20, 20 * 2 ** 20 + 1000))).toBe(0)
    expect(Buffer.compare(await all, content)).toBe(0)
    const file = join(folder, 'weights.bin')
    writeFileSync(file, content)
    await arena.writeFile(8, file, 16, bytes - 16)
    expect(Buffer.compare(await arena.read(8, bytes - 16), content.subarray(16))).toBe(0)
    expect((await rejection(arena.writeFile(0, join(folder, 'none'), 0, 4))).code).toBe('not_found')
    expect((await rejection(arena.writeFile(0, file, 16, bytes))).code).toBe('invalid_format')
    expect((await rejection(arena.writeFile(8, file, 0, bytes))).code).toBe('invalid_argument')
    expect(failure(() => arena.write(bytes - 3, new Uint8Array(4))).code).toBe('invalid_argument')
    expect(failure(() => arena.read(0, bytes + 1)).code).toBe('invalid_argument')
    device.destroy()
  })

  describe('refuses a program file', () => {
    it('that ends anywhere else', () => {
      const { device, arenas } = openTiny()
      const file = encodeRaw(tinyProgram())
      for (let bytes = 0; bytes < file.length; bytes++) {
        expect(failure(() => device.loadProgram(file.subarray(0, bytes), arenas)).code).toBe('invalid_format')
        if (bytes < 32) continue
        const cut = withBody(file, file.subarray(32, bytes))
        expect(failure(() => device.loadProgram(cut, arenas)).code).toBe('invalid_format')
      }
      device.destroy()
    })

    it('with any byte changed, by its checksum, and survives it with a right checksum', () => {
      const { device, arenas } = openTiny()
      const file = encodeRaw(tinyProgram())
      let refused = 0
      for (let at = 0; at < file.length; at++)
        for (const change of [0x01, 0x80, 0xff]) {
          const changed = file.slice()
          changed[at]! ^= change
          expect(['invalid_format', 'unsupported']).toContain(
            failure(() => device.loadProgram(changed, arenas)).code,
          )
          if (at < 32) continue
          try {
            device.loadProgram(withBody(changed, changed.subarray(32)), arenas).destroy()
          } catch (error) {
            expect(error).toBeInstanceOf(ExactmapError)
            expect([
              'invalid_format',
              'invalid_program',
              'invalid_argument',
              'not_found',
              'validation',
            ]).toContain((error as ExactmapError).code)
            refused++
          }
        }
      expect(refused).toBeGreaterThan(file.length)
      device.destroy()
    })

    const step = (p: RawProgram, i = 2): RawStep => p.segments[0]!.steps[i]!
    const rules: [what: string, change: (p: RawProgram) => void, code: string, message: RegExp][] = [
      ['no slots', (p) => (p.slots = 0), 'invalid_program', /slots is 0/],
      ['slots that do not fill', (p) => (p.slots = 3), 'invalid_program', /arenas\[1\]: slotBytes is 1024/],
      [
        'two arenas of a kind',
        (p) => (p.arenas[3]!.kind = 'constants'),
        'invalid_program',
        /arenas\[3\]: kind/,
      ],
      ['external of 2', (p) => (p.arenas[0]!.external = 2), 'invalid_format', /arenas\[0\]: external is 2/],
      ['data past its arena', (p) => (p.data[0]!.range[1] = 1), 'invalid_program', /data\[0\]: range/],
      ['data in slots', (p) => (p.data[0]!.range[0] = 1), 'invalid_program', /with slots/],
      [
        'an unknown module',
        (p) => (p.kernels[1]!.module = 1),
        'invalid_program',
        /kernels\[1\]: module is 1/,
      ],
      ['a module of no image', (p) => (p.modules[0] = 'other'), 'not_found', /no image of module 'other'/],
      ['an unknown kernel', (p) => (p.kernels[1]!.entry = 'none'), 'not_found', /no kernel 'none'/],
      ['0 threads', (p) => (p.kernels[0]!.threads = 0), 'invalid_program', /kernels\[0\]: threads is 0/],
      ['1025 threads', (p) => (p.kernels[0]!.threads = 1025), 'invalid_program', /threads is 1025/],
      ['threads past the bounds', (p) => (p.kernels[0]!.threads = 64), 'validation', /OUT_OF_RESOURCES/],
      [
        'a parameter kind',
        (p) => (p.kernels[0]!.parameters[1]!.kind = 2),
        'invalid_format',
        /kernels\[0\]\.parameters\[1\]: kind is 2/,
      ],
      [
        'a parameter size',
        (p) => (p.kernels[1]!.parameters[1]!.bytes = 2),
        'invalid_format',
        /parameters\[1\]: bytes is 2/,
      ],
      ['a step kind', (p) => (step(p).kind = 2), 'invalid_format', /segments\[0\]\.steps\[2\]: kind is 2/],
      ['a later dependency', (p) => (step(p).after = [2]), 'invalid_program', /after\[0\] is step 2/],
      ['a dependency twice', (p) => (step(p).after = [1, 1]), 'invalid_program', /step 1 twice/],
      ['an unknown kernel index', (p) => (step(p).kernel = 2), 'invalid_program', /kernel is 2/],
      ['no blocks', (p) => (step(p).grid = [0, 1, 1]), 'invalid_program', /grid is 0 x 1 x 1/],
      ['too many blocks', (p) => (step(p).grid = [1, 65536, 1]), 'invalid_program', /grid is 1 x 65536 x 1/],
      [
        'a missing pointer',
        (p) => step(p).pointers.pop(),
        'invalid_program',
        /2 pointers, the kernel takes 3/,
      ],
      [
        'an unaligned pointer',
        (p) => (step(p).pointers[0] = [1, 4, 8]),
        'invalid_program',
        /multiple of 256/,
      ],
      [
        'a pointer past its slot',
        (p) => (step(p).pointers[0] = [1, 1024, 4]),
        'invalid_program',
        /leaves a slot of arena 'activations' of 1024 bytes/,
      ],
      ['an unknown arena', (p) => (step(p).pointers[0] = [4, 0, 4]), 'invalid_program', /in arena 4/],
      [
        'a copy of two sizes',
        (p) => (step(p, 1).to = [1, 256, 8]),
        'invalid_program',
        /copies 256 bytes to 8/,
      ],
      [
        'an input elsewhere',
        (p) => (p.segments[0]!.inputs[0]!.range = [1, 0, 4]),
        'invalid_program',
        /input 'x' is not in the arena step_input/,
      ],
      [
        'an output past its arena',
        (p) => (p.segments[1]!.outputs[0]!.range = [3, 8, 4 * WORDS]),
        'invalid_program',
        /segments\[1\]\.outputs\[0\]: range/,
      ],
    ]
    it.each(rules)('with %s', (_what, change, code, message) => {
      const { device, arenas } = openTiny()
      const program = tinyProgram()
      change(program)
      const error = failure(() => device.loadProgram(encodeRaw(program), arenas))
      expect(error.message).toMatch(message)
      expect(error.code).toBe(code)
      expect(error.place.program).toBe('tiny')
      device.destroy()
    })

    it('of another version, with a place in the program, and over arenas that are not its own', () => {
      const { device, arenas } = openTiny()
      const file = encodeRaw(tinyProgram())
      const newer = file.slice()
      newer[8] = 2
      expect(failure(() => device.loadProgram(newer, arenas)).code).toBe('unsupported')
      const raw = tinyProgram()
      raw.segments[0]!.steps[2]!.pointers[0] = [1, 8, 8]
      expect(failure(() => device.loadProgram(encodeRaw(raw), arenas)).place).toEqual({
        program: 'tiny',
        segment: 'sum',
        launch: 'sum/second',
        kernel: 'test_add',
      })
      expect(failure(() => device.loadProgram(file, arenas.slice(1))).message).toContain(
        '3 arenas were given',
      )
      const swapped = [arenas[1]!, arenas[0]!, ...arenas.slice(2)]
      expect(failure(() => device.loadProgram(file, swapped)).code).toBe('invalid_argument')
      const other = openTiny(1)
      expect(failure(() => device.loadProgram(file, other.arenas)).message).toContain('another device')
      other.device.destroy()
      device.destroy()
    })
  })

  it('refuses damaged images', () => {
    const device = addon.openDevice(0, emulatedDriver())
    for (const bytes of [0, 10, 64, 1000, image.length - 1])
      expect(failure(() => device.loadModule('runtime_test', image.subarray(0, bytes))).code).toBe(
        'invalid_format',
      )
    device.destroy()
  })

  it('refuses what was destroyed, twice is fine, and a device takes everything with it', async () => {
    const { device, arenas, program } = openTiny()
    const pending = program.step(
      0,
      0,
      0,
      words(() => 1),
    )
    const second = device.loadProgram(encodeRaw(tinyProgram()), arenas)
    second.destroy()
    second.destroy()
    expect(failure(() => second.run(0, 0, 0, none)).code).toBe('invalid_argument')
    // The program still holds its arenas.
    for (const arena of arenas) arena.destroy()
    expect(failure(() => arenas[0]!.fill(0)).code).toBe('invalid_argument')
    expect(asWords(await pending).slice(0, 3)).toEqual([1, 2, 3])
    program.run(
      0,
      0,
      0,
      words(() => 1),
    )
    const ending = Promise.allSettled([program.step(1, 0, 0, none), device.finished()])
    device.destroy()
    device.destroy()
    for (const one of await ending)
      if (one.status === 'rejected') expect(one.reason.code).toBe('invalid_argument')
    expect(failure(() => program.run(0, 0, 0, none)).message).toContain('closed')
    expect((await rejection(program.step(0, 0, 0, none))).code).toBe('invalid_argument')
    expect(failure(() => device.memory()).code).toBe('invalid_argument')
    program.destroy()
  })

  it('frees what is collected without being destroyed', async () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const device = addon.openDevice(0, emulatedDriver())
    const { free } = device.memory()
    for (let i = 0; i < 50; i++) device.createArena('weights', 2 ** 20, false)
    expect(device.memory().free).toBeLessThan(free - 40 * 2 ** 20)
    for (let i = 0; i < 100 && device.memory().free < free; i++) {
      collect()
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    expect(device.memory().free).toBeGreaterThanOrEqual(free)
    device.destroy()
  })

  it('reports a device that is too small and goes on', async () => {
    const { device, program } = openTiny()
    const error = failure(() => device.createArena('kv', 2 ** 45, false))
    expect(error.code).toBe('out_of_memory')
    expect(error.message).toMatch(/arena 'kv' needs 35184372088832 bytes, the device has \d+ of \d+ free/)
    const out = await program.step(
      0,
      0,
      0,
      words(() => 1),
    )
    expect(asWords(out)[0]).toBe(1)
    device.destroy()
  })

  it('loses a device to a fault, with its place, while others go on; it can be opened anew', async () => {
    const [first, second] = [openTiny(0), openTiny(1)]
    const input = words(() => 1)
    await first.program.step(0, 0, 0, input)
    const error = await rejection(first.program.step(2, 0, 0, none))
    expect(error.code).toBe('device_lost')
    expect(error.message).toContain('CUDA_ERROR_ILLEGAL_ADDRESS')
    expect(error.place).toMatchObject({ program: 'tiny', segment: 'fault' })
    const calls = [
      () => first.program.run(0, 0, 0, input),
      () => first.arenas[0]!.fill(0),
      () => first.arenas[0]!.write(0, input),
      () => first.device.memory(),
      () => first.device.createArena('kv', 256, true),
      () => addon.openDevice(0, emulatedDriver()),
    ]
    for (const call of calls) expect(failure(call)).toMatchObject({ code: 'device_lost', place: error.place })
    for (const call of [
      first.arenas[0]!.read(0, 4),
      first.program.step(0, 0, 0, input),
      first.device.finished(),
    ])
      expect((await rejection(call)).message).toBe(error.message)
    expect(asWords(await second.program.step(0, 0, 0, input))[0]).toBe(1)
    first.device.destroy()
    const again = openTiny(0)
    expect(asWords(await again.program.step(0, 0, 0, input))[0]).toBe(1)
    again.device.destroy()
    second.device.destroy()
  })

  it('names the oldest of several unfinished submissions, and step by step the very launch', async () => {
    const lost = openTiny()
    lost.program.run(
      0,
      0,
      0,
      words(() => 1),
    )
    await lost.device.finished()
    lost.program.run(2, 0, 0, none)
    const later = await rejection(lost.program.step(0, 0, 0, none).then(() => lost.device.finished()))
    expect(later.place.segment).toBe('fault')
    expect(later.message).toContain('the oldest of 2 submissions')
    lost.device.destroy()

    process.env.EXACTMAP_CUDA_EAGER = '1'
    try {
      const eager = openTiny()
      const out = await eager.program.step(
        0,
        1,
        0,
        words(() => 4),
      )
      expect(asWords(out)[0]).toBe(4)
      const error = failure(() => eager.program.run(2, 0, 0, none))
      expect(error.place).toEqual({
        program: 'tiny',
        segment: 'fault',
        launch: 'fault/launch',
        kernel: 'test_fault',
      })
      expect(failure(() => eager.device.memory()).place).toEqual(error.place)
      eager.device.destroy()
    } finally {
      delete process.env.EXACTMAP_CUDA_EAGER
    }
  })

  describe('within the rules of the sanitizers', () => {
    const harness = join(folder, 'harness')
    const seed = join(folder, 'seed.bin')
    const run = (args: readonly string[], environment: Record<string, string> = {}): string =>
      execFileSync(harness, args, {
        encoding: 'utf8',
        env: { PATH: process.env.PATH, ...environment },
        stdio: ['ignore', 'pipe', 'pipe'],
      })

    beforeAll(() => {
      if (reason) return
      const root = packageRoot()
      const runtime = join(root, 'backends/cuda/runtime')
      const sources = readdirSync(runtime).filter((f) => f.endsWith('.c') && f !== 'check_api.c')
      execFileSync('cc', [
        ...['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-g', '-O1', '-fsanitize=address,undefined'],
        '-fno-sanitize-recover=all',
        `-I${runtime}`,
        ...sources.map((name) => join(runtime, name)),
        join(root, 'test/cuda/harness.c'),
        ...['-ldl', '-lpthread', '-o', harness],
      ])
      writeFileSync(join(folder, 'runtime_test.so'), image)
    })

    it('reads and loads randomly damaged files', () => {
      writeFileSync(seed, encodeRaw(tinyProgram()))
      const out = run(['fuzz', seed, '3000', '1', emulatedDriver(), folder], {
        EXACTMAP_EMULATED_MEMORY: '1000000',
      })
      const [, read, loaded] = /rounds, (\d+) read, (\d+) loaded/.exec(out)!
      expect(Number(read)).toBeGreaterThan(100)
      expect(Number(loaded)).toBeGreaterThan(10)
    })

    it('serves several threads, also while the device is closed', () => {
      const program = tinyProgram()
      program.segments.pop()
      writeFileSync(seed, encodeRaw(program))
      expect(run(['threads', seed, emulatedDriver(), folder])).toBe('ok\n')
    })

    it('turns the failure of any driver call into an error, leaks nothing, and can start again', () => {
      // Without the segment that faults: here a failure is what the driver is told to give.
      const program = tinyProgram()
      program.segments.pop()
      const file = join(folder, 'session.bin')
      writeFileSync(file, encodeRaw(program))
      const header = readFileSync(join(packageRoot(), 'backends/cuda/runtime/cuda_api.h'), 'utf8')
      const functions = [...header.matchAll(/^ {2}X\((cu\w+),/gm)].map(([, name]) => name!)
      const expected: Record<number, readonly string[]> = {
        1: ['validation'],
        2: ['out_of_memory'],
        700: ['device_lost'],
      }
      let failed = 0
      for (const name of functions)
        for (const [nth, code] of [
          [1, 1],
          [1, 700],
          [3, 2],
        ] as const) {
          const out = run(['session', file, emulatedDriver(), folder], {
            EXACTMAP_EMULATED_FAIL: `${name}:${nth}:${code}`,
          })
          const [first, second] = out.trim().split('\n')
          if (first !== 'ok') {
            expect(expected[code], `${name} ${nth} ${code}`).toContain(first)
            // A driver that did not start is loaded anew, and fails again.
            if (name !== 'cuInit') expect(second, `after ${name} ${nth} ${code}`).toBe('ok')
            failed++
          }
        }
      expect(failed).toBeGreaterThan(functions.length)
    })
  })
})
