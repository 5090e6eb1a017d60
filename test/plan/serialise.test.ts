import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ExactmapError } from '../../src/errors.ts'
import { compile, programHash } from '../../src/program/compile.ts'
import { canonicalJson } from '../../src/program/hash.ts'
import { decodeProgram, encodeProgram } from '../../src/program/serialise.ts'
import { verifyProgram } from '../../src/program/verify.ts'
import { smallGraph, tightTarget } from './fixtures.ts'

const program = compile(smallGraph(), tightTarget)
const bytes = encodeProgram(program)

/** Decodes and verifies; anything but an ExactmapError passes through and fails the test. */
function outcome(given: Uint8Array): 'accepted' | 'refused' | 'unreadable' {
  let decoded: ReturnType<typeof decodeProgram>
  try {
    decoded = decodeProgram(given, 'some.program')
  } catch (error) {
    if (!(error instanceof ExactmapError)) throw error
    expect(error.code).toBe('invalid_format')
    expect(error.place.file).toBe('some.program')
    return 'unreadable'
  }
  try {
    verifyProgram(decoded, tightTarget)
    return 'accepted'
  } catch (error) {
    if (!(error instanceof ExactmapError)) throw error
    expect(error.code).toBe('invalid_program')
    return 'refused'
  }
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** Every place in a JSON value, as a path. */
function places(value: Json, path: (string | number)[] = []): (string | number)[][] {
  if (value === null || typeof value !== 'object') return [path]
  const keys = Array.isArray(value) ? value.map((_, i) => i) : Object.keys(value)
  return [path, ...keys.flatMap((k) => places((value as { [k: string | number]: Json })[k]!, [...path, k]))]
}

const replacements: (Json | undefined)[] = [
  undefined,
  null,
  true,
  -1,
  0,
  1,
  0.5,
  4096,
  2 ** 31,
  2 ** 53,
  1e300,
  '',
  'weights',
  '__proto__',
  [],
  {},
  [[]],
  { offset: 0 },
]

describe('a program file', () => {
  it('brings back the program, byte for byte and hash for hash', () => {
    const back = decodeProgram(bytes, 'some.program')
    expect(back).toEqual(program)
    expect(programHash(back)).toBe(programHash(program))
    expect(encodeProgram(back)).toEqual(bytes)
    expect(outcome(bytes)).toBe('accepted')
  })

  it('is the same for equal graphs', () => {
    expect(encodeProgram(compile(smallGraph(), tightTarget))).toEqual(bytes)
  })

  it('is refused when it is cut off anywhere', () => {
    for (let end = 0; end < bytes.length; end += 97)
      expect(outcome(bytes.subarray(0, end))).toBe('unreadable')
    expect(outcome(bytes.subarray(0, bytes.length - 1))).toBe('unreadable')
  })

  it('names the field that is wrong', () => {
    const text = canonicalJson(program).replace('"slots":1', '"slots":"one"')
    expect(() => decodeProgram(new TextEncoder().encode(text), 'f')).toThrow(/program: slots: .*file f/)
    const extra = canonicalJson({ ...program, more: 1 })
    expect(() => decodeProgram(new TextEncoder().encode(extra), 'f')).toThrow(/more/)
  })

  it('is refused above its size limits', () => {
    const [segment] = program.segments
    const steps = Array.from({ length: 16385 }, () => segment!.steps[0]!)
    const huge = encodeProgram({ ...program, segments: [{ ...segment!, steps }] })
    expect(() => decodeProgram(huge, 'f')).toThrow(/segments.0.steps/)
  })

  it('is accepted or refused by name, never worse, with any bytes changed', () => {
    const seen = { accepted: 0, refused: 0, unreadable: 0 }
    const change = fc.record({ at: fc.nat(bytes.length - 1), byte: fc.integer({ min: 0, max: 255 }) })
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const copy = bytes.slice()
        for (const { at, byte } of changes) copy[at] = byte
        seen[outcome(copy)]++
      }),
      { seed: 3, numRuns: 1000 },
    )
    // Digits changed into digits still parse, so all three must occur.
    expect(Math.min(seen.accepted, seen.refused, seen.unreadable)).toBeGreaterThan(0)
  })

  it('is accepted or refused by name, never worse, with any field replaced', () => {
    const value = JSON.parse(canonicalJson(program)) as Json
    const all = places(value)
    const seen = { accepted: 0, refused: 0, unreadable: 0 }
    fc.assert(
      fc.property(fc.nat(all.length - 1), fc.nat(replacements.length - 1), (place, which) => {
        const copy = structuredClone(value) as { [k: string | number]: Json }
        const path = all[place]!
        if (path.length === 0) return
        let parent = copy
        for (const key of path.slice(0, -1)) parent = parent[key] as typeof copy
        const replacement = replacements[which]
        if (replacement === undefined) delete parent[path.at(-1)!]
        else parent[path.at(-1)!] = replacement
        seen[outcome(new TextEncoder().encode(JSON.stringify(copy)))]++
      }),
      { seed: 4, numRuns: 500 },
    )
    expect(Math.min(seen.refused, seen.unreadable)).toBeGreaterThan(20)
  })
})
