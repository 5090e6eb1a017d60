import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, describe, expect, it } from 'vitest'
import { loadAddon } from '../../backends/cuda/addon.ts'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { asWords, failure, none, openTiny, RANK, rejection, whyNoDriver, words } from './tiny_device.ts'
import { encodeRaw, tinyProgram, WORDS } from './tiny_program.ts'

// The C runtime through the addon, on the emulated driver: what it survives, and in which order it does things. Whether
// kernels compute the right thing is for the conformance suite.

const reason = await whyNoDriver()
const folder = mkdtempSync(join(tmpdir(), 'exactmap-runtime-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe.skipIf(reason)(`CUDA runtime${reason && ` (skipped: ${reason})`}`, () => {
  it('says what is wrong without a driver', () => {
    expect(failure(() => loadAddon().openDevice(0, join(folder, 'none.so'))).code).toBe('no_device')
    expect(failure(() => loadAddon().probe('libm.so.6')).message).toContain('cuGetProcAddress_v2')
    expect(failure(() => loadAddon().openDevice(99, emulatedDriver())).message).toContain('the driver has 3')
  })

  it('runs segments, in both slots, with many steps in flight', async () => {
    const { device, program } = await openTiny()
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

  it('copies what an exchange sends to its own rank, and leaves the rest to the host', async () => {
    const { device, arenas, program } = await openTiny()
    arenas[1]!.fill(255)
    await program.step(
      0,
      1,
      0,
      words((i) => i),
    )
    const z = asWords(await program.step(3, 1, 0, none))
    expect(z).toEqual(Array.from({ length: WORDS }, (_, i) => 2 * i))
    // What member 0 would have sent is still the copy of y that `sum` made.
    expect(asWords(await arenas[1]!.read(1024 + 256, 8))).toEqual([0, 2])
    device.destroy()
  })

  it('does everything in the order of the calls', async () => {
    const { device, arenas, program } = await openTiny()
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
    const { device, arenas, program } = await openTiny()
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

  it('runs a segment as one kernel, again and again, in slots and schedules', async () => {
    const { device, program } = await openTiny()
    const WALK = 4
    for (const [slot, x] of [
      [0, 7],
      [1, 11],
      [0, 13],
      [1, 0],
    ] as const)
      expect(
        asWords(
          await program.step(
            WALK,
            slot,
            0,
            words(() => x),
          ),
        ),
      ).toEqual(Array.from({ length: WORDS }, (_, i) => x + 2 * i))
    const handle = program.schedule([
      [WALK, 0],
      [1, 0],
      [WALK, 1],
      [1, 1],
    ])
    program.runSchedule(
      handle,
      0,
      words(() => 1),
    )
    // What add_state adds is the y that the walk left in each slot.
    expect(asWords(await program.step(1, 0, 0, none)).slice(0, 3)).toEqual([3, 6, 9])
    device.destroy()
  })

  it('moves more than the staging memory holds, from memory and from files', async () => {
    const device = loadAddon().openDevice(0, emulatedDriver())
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
    // More than there are worker threads, before a large read: none waits for a thread that another one holds.
    const writes = Array.from({ length: 12 }, () => arena.writeFile(8, file, 16, bytes - 16))
    const reads = [arena.read(0, bytes), arena.read(8, bytes - 8)]
    await Promise.all([...writes, ...reads])
    expect((await rejection(arena.writeFile(0, join(folder, 'none'), 0, 4))).code).toBe('not_found')
    expect((await rejection(arena.writeFile(0, file, 16, bytes))).code).toBe('invalid_format')
    expect((await rejection(arena.writeFile(8, file, 0, bytes))).code).toBe('invalid_argument')
    expect(failure(() => arena.write(bytes - 3, new Uint8Array(4))).code).toBe('invalid_argument')
    expect(failure(() => arena.read(0, bytes + 1)).code).toBe('invalid_argument')
    device.destroy()
  })

  it('refuses what was destroyed, twice is fine, and a device takes everything with it', async () => {
    const { device, arenas, program } = await openTiny()
    const pending = program.step(
      0,
      0,
      0,
      words(() => 1),
    )
    const second = await device.loadProgram(encodeRaw(tinyProgram()), arenas, RANK)
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
    const device = loadAddon().openDevice(0, emulatedDriver())
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
    const { device, program } = await openTiny()
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
    const [first, second] = [await openTiny(0), await openTiny(1)]
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
      () => loadAddon().openDevice(0, emulatedDriver()),
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
    const again = await openTiny(0)
    expect(asWords(await again.program.step(0, 0, 0, input))[0]).toBe(1)
    again.device.destroy()
    second.device.destroy()
  })

  it('names the submission that failed, and step by step the very launch', async () => {
    const lost = await openTiny()
    const first = words(() => 1)
    lost.program.run(0, 0, 0, first)
    await lost.device.finished()
    // The fault may show in any of these calls.
    const submitting = async (): Promise<void> => {
      lost.program.run(2, 0, 0, none)
      await lost.program.step(0, 0, 0, first)
    }
    const later = await rejection(submitting())
    expect(later.place).toEqual({ program: 'tiny', segment: 'fault' })
    expect(later.message).toContain('EXACTMAP_CUDA_EAGER=1 names the launch')
    lost.device.destroy()

    process.env.EXACTMAP_CUDA_EAGER = '1'
    try {
      const eager = await openTiny()
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
})
