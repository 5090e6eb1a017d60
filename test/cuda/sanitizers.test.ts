import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { buildWithRuntime } from './sanitized.ts'
import { whyNoDriver } from './tiny_device.ts'
import { encodeRaw, tinyImage, tinyProgram } from './tiny_program.ts'

// The C runtime built for AddressSanitizer and UndefinedBehaviorSanitizer, driven by harness.c.

const reason = await whyNoDriver()
const folder = mkdtempSync(join(tmpdir(), 'exactmap-runtime-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe.skipIf(reason)(`CUDA runtime under sanitizers${reason && ` (skipped: ${reason})`}`, () => {
  const harness = join(folder, 'harness')
  const seed = join(folder, 'seed.bin')
  const run = (args: readonly string[], environment: Record<string, string> = {}): string =>
    execFileSync(harness, args, {
      encoding: 'utf8',
      env: { PATH: process.env.PATH, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    })

  beforeAll(async () => {
    if (reason) return
    await buildWithRuntime('harness.c', harness)
    writeFileSync(join(folder, 'runtime_test.so'), await tinyImage())
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
    program.segments.splice(2, 1)
    writeFileSync(seed, encodeRaw(program))
    expect(run(['threads', seed, emulatedDriver(), folder])).toBe('ok\n')
  })

  it('turns the failure of any driver call into an error, leaks nothing, and can start again', () => {
    // Without the segment that faults: here a failure is what the driver is told to give.
    const program = tinyProgram()
    program.segments.splice(2, 1)
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
