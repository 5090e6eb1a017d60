import { describe, expect, it } from 'vitest'
import { loadAddon, type NativeRank } from '../../backends/cuda/addon.ts'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { ExactmapError } from '../../src/errors.ts'
import { failure, openTiny, RANK, rejection, whyNoDriver, withBody } from './tiny_device.ts'
import {
  encodeRaw,
  type RawExchange,
  type RawMap,
  type RawProgram,
  type RawStep,
  tinyImage,
  tinyProgram,
  WORDS,
} from './tiny_program.ts'

// What the C runtime refuses to load, by which code and in which words.

const reason = await whyNoDriver()

describe.skipIf(reason)(`a program file is refused${reason && ` (skipped: ${reason})`}`, () => {
  it('that ends anywhere else', async () => {
    const { device, arenas } = await openTiny()
    const file = encodeRaw(tinyProgram())
    for (let bytes = 0; bytes < file.length; bytes++) {
      expect((await rejection(device.loadProgram(file.subarray(0, bytes), arenas, RANK))).code).toBe(
        'invalid_format',
      )
      if (bytes < 32) continue
      const cut = withBody(file, file.subarray(32, bytes))
      expect((await rejection(device.loadProgram(cut, arenas, RANK))).code).toBe('invalid_format')
    }
    device.destroy()
  })

  it('with any byte changed, by its checksum, and survives it with a right checksum', async () => {
    const { device, arenas } = await openTiny()
    const file = encodeRaw(tinyProgram())
    let refused = 0
    for (let at = 0; at < file.length; at++)
      for (const change of [0x01, 0x80, 0xff]) {
        const changed = file.slice()
        changed[at]! ^= change
        expect(['invalid_format', 'unsupported']).toContain(
          (await rejection(device.loadProgram(changed, arenas, RANK))).code,
        )
        if (at < 32) continue
        try {
          ;(await device.loadProgram(withBody(changed, changed.subarray(32)), arenas, RANK)).destroy()
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
  const MAP: RawMap = { format: 1, rows: 1, width: 64, boxRows: 1, boxWidth: 64 }
  const tensorMap = (wrong: Partial<RawMap>) => (p: RawProgram) =>
    Object.assign(p.kernels[0]!.parameters[0]!, { kind: 2, bytes: 128, map: { ...MAP, ...wrong } })
  const walked = (p: RawProgram): RawProgram['segments'][0] => p.segments[4]!
  const exchange = (p: RawProgram): RawExchange => p.segments[3]!.steps[0]!.exchange!
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
    ['an unknown module', (p) => (p.kernels[1]!.module = 1), 'invalid_program', /kernels\[1\]: module is 1/],
    ['a module of no image', (p) => (p.modules[0] = 'other'), 'not_found', /no image of module 'other'/],
    ['an unknown kernel', (p) => (p.kernels[1]!.entry = 'none'), 'not_found', /no kernel 'none'/],
    ['0 threads', (p) => (p.kernels[0]!.threads = 0), 'invalid_program', /kernels\[0\]: threads is 0/],
    ['1025 threads', (p) => (p.kernels[0]!.threads = 1025), 'invalid_program', /threads is 1025/],
    ['too much shared memory', (p) => (p.kernels[0]!.shared = 232449), 'invalid_program', /shared is 232449/],
    [
      'shared memory that the kernel lacks',
      (p) => (p.kernels[0]!.shared = 512),
      'validation',
      /cuGraphAddKernelNode gave CUDA_ERROR_INVALID_VALUE/,
    ],
    [
      'a tensor map of another size',
      (p) => Object.assign(p.kernels[0]!.parameters[0]!, { kind: 2, map: MAP }),
      'invalid_format',
      /bytes is 8, not 8, 4 of a scalar or 128/,
    ],
    [
      'a tensor map of another format',
      tensorMap({ format: 4 }),
      'invalid_format',
      /format is 4, not 0 \(f32\)/,
    ],
    ['a matrix with short rows', tensorMap({ width: 12 }), 'invalid_program', /matrix is 1 x 12/],
    ['a box of 257 rows', tensorMap({ boxRows: 257 }), 'invalid_program', /box is 257 x 64/],
    ['a box of short rows', tensorMap({ boxWidth: 32 }), 'invalid_program', /box is 1 x 32/],
    [
      'a matrix past what is bound',
      tensorMap({ rows: 9 }),
      'invalid_program',
      /matrix of parameter 0, 9 x 64, is not in the 256 bytes/,
    ],
    ['threads past the bounds', (p) => (p.kernels[0]!.threads = 64), 'validation', /OUT_OF_RESOURCES/],
    [
      'a parameter kind',
      (p) => (p.kernels[0]!.parameters[1]!.kind = 3),
      'invalid_format',
      /kernels\[0\]\.parameters\[1\]: kind is 3/,
    ],
    [
      'a parameter size',
      (p) => (p.kernels[1]!.parameters[1]!.bytes = 2),
      'invalid_format',
      /parameters\[1\]: bytes is 2/,
    ],
    ['a step kind', (p) => (step(p).kind = 3), 'invalid_format', /segments\[0\]\.steps\[2\]: kind is 3/],
    ['a later dependency', (p) => (step(p).after = [2]), 'invalid_program', /after\[0\] is step 2/],
    ['a dependency twice', (p) => (step(p).after = [1, 1]), 'invalid_program', /step 1 twice/],
    ['an unknown kernel index', (p) => (step(p).kernel = 2), 'invalid_program', /kernel is 2/],
    ['no blocks', (p) => (step(p).grid = [0, 1, 1]), 'invalid_program', /grid is 0 x 1 x 1/],
    ['too many blocks', (p) => (step(p).grid = [1, 65536, 1]), 'invalid_program', /grid is 1 x 65536 x 1/],
    ['a missing pointer', (p) => step(p).pointers.pop(), 'invalid_program', /2 pointers, the kernel takes 3/],
    ['an unaligned pointer', (p) => (step(p).pointers[0] = [1, 4, 8]), 'invalid_program', /multiple of 256/],
    [
      'a pointer past its slot',
      (p) => (step(p).pointers[0] = [1, 1024, 4]),
      'invalid_program',
      /leaves a slot of arena 'activations' of 1024 bytes/,
    ],
    ['an unknown arena', (p) => (step(p).pointers[0] = [4, 0, 4]), 'invalid_program', /in arena 4/],
    ['a copy of two sizes', (p) => (step(p, 1).to = [1, 256, 8]), 'invalid_program', /copies 256 bytes to 8/],
    ['a group of nobody', (p) => (p.groups[0]!.size = 0), 'invalid_program', /groups\[0\]: size is 0/],
    [
      'a group twice',
      (p) => p.groups.push({ name: 'pair', size: 2 }),
      'invalid_program',
      /name 'pair' is that/,
    ],
    ['an unknown group', (p) => (exchange(p).group = 1), 'invalid_program', /group is 1, the program has 1/],
    ['channel 1024', (p) => (exchange(p).channel = 1024), 'invalid_program', /channel is 1024/],
    [
      'a message to nobody',
      (p) => (exchange(p).sends[0]![0] = 2),
      'invalid_program',
      /sends\[0\]: peer is 2/,
    ],
    [
      'a message from nobody',
      (p) => (exchange(p).receives[1]![0] = 2 ** 32 - 1),
      'invalid_program',
      /receives\[1\]: peer is 4294967295, group 'pair' has 2 members/,
    ],
    [
      'a message past its slot',
      (p) => (exchange(p).receives[0]![2] = 1000),
      'invalid_program',
      /segments\[3\]\.steps\[0\]: receives, 256 bytes at 1000, leaves a slot/,
    ],
    [
      'a message of no bytes',
      (p) => (exchange(p).sends[1]![3] = 0),
      'invalid_program',
      /sends\[1\] has no bytes/,
    ],
    [
      'an exchange of nothing',
      (p) => {
        exchange(p).sends = []
        exchange(p).receives = []
      },
      'invalid_program',
      /it has no messages/,
    ],
    [
      'an own message that nobody takes',
      (p) => exchange(p).receives.pop(),
      'invalid_program',
      /member 1 sends itself 1 ranges and takes 0/,
    ],
    [
      'own messages of two sizes',
      (p) => (exchange(p).receives[1]![3] = 8),
      'invalid_program',
      /sends itself 256 bytes and takes 8/,
    ],
    [
      'an exchange among other steps and no communicator',
      (p) => p.segments[3]!.steps.push({ ...p.segments[1]!.steps[0]!, after: [0] }),
      'unsupported',
      /needs communicators/,
    ],
    [
      'a pointer of value 2',
      (p) => (p.kernels[0]!.parameters[0]!.value = 2n),
      'invalid_format',
      /value is 2/,
    ],
    ['an unknown walker', (p) => (walked(p).walker = 2), 'invalid_program', /walker is 2, the program has 1/],
    [
      'a walker of an unknown kernel',
      (p) => (p.walkers[0]!.kernels = [2]),
      'invalid_program',
      /walkers\[0\]: kernels\[0\] is 2/,
    ],
    [
      'a walker of 256 threads',
      (p) => (p.walkers[0]!.threads = 256),
      'invalid_program',
      /not 512 and 224256/,
    ],
    ['a walker of no image', (p) => (p.walkers[0]!.entry = 'none'), 'not_found', /no kernel 'none'/],
    [
      'a kernel that its walker lacks',
      (p) => (p.walkers[0]!.kernels = [1]),
      'invalid_program',
      /segments\[4\]\.steps\[0\]: the walker has no kernel 0/,
    ],
    [
      'a walked copy',
      (p) => (p.segments[0]!.walker = 1),
      'invalid_program',
      /segments\[0\]\.steps\[1\]: it is no launch/,
    ],
    [
      'a walked grid of two dimensions',
      (p) => (walked(p).steps[1]!.grid = [2, 2, 1]),
      'invalid_program',
      /walked grid is 2 x 2 x 1/,
    ],
    [
      'walked blocks of 48 threads',
      (p) => (p.kernels[0]!.threads = 48),
      'invalid_program',
      /48 threads, which do not divide 512/,
    ],
    [
      'walked blocks with more shared memory than a team',
      (p) => (p.kernels[0]!.shared = 30000),
      'invalid_program',
      /walked block has 30000 bytes/,
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
  it.each(rules)('with %s', async (_what, change, code, message) => {
    const { device, arenas } = await openTiny()
    const program = tinyProgram()
    change(program)
    const error = await rejection(device.loadProgram(encodeRaw(program), arenas, RANK))
    expect(error.message).toMatch(message)
    expect(error.code).toBe(code)
    expect(error.place.program).toBe('tiny')
    device.destroy()
  })

  it('of another version, with a place in the program, and over arenas that are not its own', async () => {
    const { device, arenas } = await openTiny()
    const file = encodeRaw(tinyProgram())
    const newer = file.slice()
    newer[8]!++
    expect((await rejection(device.loadProgram(newer, arenas, RANK))).code).toBe('unsupported')
    const raw = tinyProgram()
    raw.segments[0]!.steps[2]!.pointers[0] = [1, 8, 8]
    expect((await rejection(device.loadProgram(encodeRaw(raw), arenas, RANK))).place).toEqual({
      program: 'tiny',
      segment: 'sum',
      launch: 'sum/second',
      kernel: 'test_add',
    })
    expect((await rejection(device.loadProgram(file, arenas.slice(1), RANK))).message).toContain(
      '3 arenas were given',
    )
    const swapped = [arenas[1]!, arenas[0]!, ...arenas.slice(2)]
    expect((await rejection(device.loadProgram(file, swapped, RANK))).code).toBe('invalid_argument')
    const alone = await rejection(device.loadProgram(file, arenas))
    expect(alone.message).toContain('it exchanges messages with other ranks')
    expect(alone.place).toMatchObject({ segment: 'swap', launch: 'swap/exchange' })
    const ranks: [NativeRank, RegExp][] = [
      [{ members: {} }, /which member of group 'pair' this rank is was not given/],
      [{ members: { pair: 2 } }, /no member 2 of group 'pair', which has 2/],
      [{ members: { pair: 1 }, communicators: [] }, /no communicator of group 'pair' for channel 3/],
    ]
    for (const [rank, message] of ranks)
      expect(await rejection(device.loadProgram(file, arenas, rank))).toMatchObject({
        code: 'invalid_argument',
        message: expect.stringMatching(message),
      })
    const other = await openTiny(1)
    expect((await rejection(device.loadProgram(file, other.arenas, RANK))).message).toContain(
      'another device',
    )
    other.device.destroy()
    device.destroy()
  })

  it('as are damaged images', async () => {
    const image = await tinyImage()
    const device = loadAddon().openDevice(0, emulatedDriver())
    for (const bytes of [0, 10, 64, 1000, image.length - 1])
      expect(failure(() => device.loadModule('runtime_test', image.subarray(0, bytes))).code).toBe(
        'invalid_format',
      )
    device.destroy()
  })
})
