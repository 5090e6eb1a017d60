import { describe, expect, it } from 'vitest'
import { ExactmapError } from '../../src/errors.ts'
import { compile } from '../../src/program/compile.ts'
import type { ArenaPlan, Launch, Program } from '../../src/program/program.ts'
import { verifyProgram } from '../../src/program/verify.ts'
import { smallGraph, tightTarget } from './fixtures.ts'

type Loose<T> = T extends object ? { -readonly [K in keyof T]: Loose<T[K]> } : T
type Draft = Loose<Program>

const good = compile(smallGraph(), tightTarget)
// Through JSON, which lets nothing be shared: a fault stays where it is planted.
const draft = (): Draft => JSON.parse(JSON.stringify(good))

const arena = (p: Draft, kind: string): Loose<ArenaPlan> => p.arenas.find((a) => a.kind === kind)!
const step = (p: Draft, name: string): Loose<Launch> =>
  p.segments.flatMap((s) => s.steps).find((s) => s.name.startsWith(name)) as Loose<Launch>

const refusal = (program: Program, target = tightTarget): string => {
  try {
    verifyProgram(program, target)
  } catch (error) {
    expect(error).toBeInstanceOf(ExactmapError)
    expect((error as ExactmapError).code).toBe('invalid_program')
    return (error as ExactmapError).message
  }
  return 'accepted'
}

/** Faults planted one by one: what is done to a good program, and what the refusal must say and name. */
const faults: Record<string, [plant: (p: Draft) => void, ...says: RegExp[]]> = {
  'another version': [
    (p) => {
      ;(p as { version: number }).version = 2
    },
    /version 1, got .* 2/,
  ],
  'no slots': [
    (p) => {
      p.slots = 0
    },
    /slots must be positive/,
  ],
  'an arena kind twice': [(p) => void p.arenas.push(structuredClone(p.arenas[0]!)), /kind appears twice/],
  'buffers that are not the arena': [
    (p) => {
      arena(p, 'weights').buffers[0]! += 4
    },
    /arena 'weights'.*add up/,
  ],
  'a buffer that is too large': [
    (p) => {
      const weights = arena(p, 'weights')
      weights.bytes = 16384
      weights.buffers = [16384]
    },
    /arena 'weights'.*larger than 8192/,
  ],
  'buffers of mixed sizes': [
    (p) => {
      const weights = arena(p, 'weights')
      weights.buffers = [256, weights.bytes - 256]
    },
    /arena 'weights'.*smaller than the first/,
  ],
  'slots that are not the arena': [
    (p) => {
      arena(p, 'activations').slotBytes = 256
    },
    /arena 'activations'.*slots of 256/,
  ],
  'a tensor that is not aligned': [
    (p) => {
      arena(p, 'weights').tensors[0]!.offset += 4
    },
    /arena 'weights'.*down.*not aligned to 256/,
  ],
  'a tensor outside its arena': [
    (p) => {
      arena(p, 'weights').tensors.at(-1)!.offset += 256
    },
    /norm leaves the arena/,
  ],
  'a tensor with bytes its type does not have': [
    (p) => {
      arena(p, 'weights').tensors[0]!.bytes -= 4
    },
    /down has 4092 bytes, its type needs 4096/,
  ],
  'weights that overlap': [
    (p) => {
      arena(p, 'weights').tensors[1]!.offset -= 256
    },
    /arena 'weights'.*down and up share bytes/,
  ],
  'activations that overlap while alive': [
    (p) => {
      for (const t of arena(p, 'activations').tensors) t.live = [0, 5]
    },
    /arena 'activations'.*share bytes while both are alive/,
  ],
  'an activation without a lifetime': [
    (p) => void delete arena(p, 'activations').tensors[0]!.live,
    /arena 'activations'.*has no lifetime/,
  ],
  'a missing dependency': [
    (p) => {
      step(p, 'rms_norm').after = []
    },
    /step 1 touches bytes of step 0 .*segment first, launch rms_norm/,
  ],
  'a dependency on a later step': [
    (p) => {
      step(p, 'rms_norm').after = [3]
    },
    /not an earlier step.*launch rms_norm/,
  ],
  'steps in another order than they say': [
    (p) => void p.segments[0]!.steps.reverse(),
    /step 0 says it is \d.*segment first/,
  ],
  'too many bindings': [
    (p) => {
      const { bindings } = step(p, 'matmul')
      bindings.push(bindings[0]!, bindings[0]!)
    },
    /5 bindings, the target allows 4.*launch matmul.*kernel matmul/,
  ],
  'a binding that is not aligned': [
    (p) => {
      const [binding] = step(p, 'rms_norm').bindings
      binding!.offset += 4
      binding!.bytes -= 4
    },
    /binding at \d+ is not aligned.*launch rms_norm/,
  ],
  'a binding outside its arena': [
    (p) => {
      step(p, 'rms_norm').bindings[0]!.bytes += 65536
    },
    /ends at \d+, arena 'activations' at \d+.*launch rms_norm/,
  ],
  'a binding before its arena': [
    (p) => {
      step(p, 'rms_norm').bindings[0]!.offset = -256
    },
    /offset -256.*launch rms_norm/,
  ],
  'an empty binding': [
    (p) => {
      step(p, 'rms_norm').bindings[0]!.bytes = 0
    },
    /0 bytes.*launch rms_norm/,
  ],
  'a fractional offset': [
    (p) => {
      step(p, 'rms_norm').bindings[0]!.offset = 0.5
    },
    /offset 0\.5.*launch rms_norm/,
  ],
  'a binding in an arena that is not there': [
    (p) => {
      step(p, 'rms_norm').bindings[0]!.arena = 'kv'
    },
    /arena 'kv', which the program does not have.*launch rms_norm/,
  ],
  'a binding across two buffers': [
    (p) => {
      const weights = arena(p, 'weights')
      const [first] = weights.buffers
      expect(first).toBeGreaterThan(4096)
      weights.buffers = [4096, 4096, weights.bytes - 8192].filter((b) => b > 0)
      const binding = step(p, 'matmul').bindings.find((b) => b.arena === 'weights')!
      binding.offset = 256
    },
    /crosses a buffer boundary of arena 'weights'/,
  ],
  'a binding larger than allowed': [
    (p) => {
      const binding = step(p, 'matmul').bindings.find((b) => b.arena === 'weights')!
      binding.offset = 0
      binding.bytes = 4352
    },
    /binding of 4352 bytes, the target allows 4096.*launch matmul/,
  ],
  'bindings that overlap': [
    (p) => {
      const { bindings } = step(p, 'mul')
      bindings[1] = { ...bindings[0]! }
    },
    /bindings 0 and 1 overlap in arena 'step_input'.*launch mul/,
  ],
  'a grid that is too large': [
    (p) => {
      step(p, 'mul').workgroups = [65536, 1, 1]
    },
    /grid 65536 x 1 x 1, each dimension must be 1 to 65535.*launch mul/,
  ],
  'an empty grid': [
    (p) => {
      step(p, 'mul').workgroups = [0, 1, 1]
    },
    /grid 0 x 1 x 1.*launch mul/,
  ],
  'a kernel that is not there': [
    (p) => {
      step(p, 'silu').kernel = 99
    },
    /kernel 99 of \d+.*segment second, launch silu/,
  ],
  'an operand with bytes its type does not have': [
    (p) => {
      step(p, 'silu').call.inputs.x!.bytes -= 4
    },
    /operand 'x' has 1020 bytes, its type needs 1024.*launch silu/,
  ],
  'an in-place output elsewhere': [
    (p) => {
      const { call } = step(p, 'accumulate')
      call.outputs.y = { ...call.outputs.y!, offset: (call.outputs.y!.offset + 1024) % 2048 }
    },
    /in-place output 'y' is not where 'accumulator' is.*launch accumulate/,
  ],
  'a result that lands where another value still lives': [
    (p) => {
      const scaled = step(p, 'mul').call.outputs.y!
      const down = p.segments[0]!.steps[3] as Loose<Launch>
      expect(down.call.op).toBe('matmul')
      down.call.outputs.y!.offset = scaled.offset
      down.bindings.at(-1)!.offset = scaled.offset
    },
    /output 'y' is written over mul.0\/y, which a step before made.*segment first, launch matmul/,
  ],
  'an input that no step makes': [
    (p) => {
      const [binding] = step(p, 'rms_norm').bindings
      const { call } = step(p, 'rms_norm')
      const free = arena(p, 'activations').bytes
      arena(p, 'activations').bytes += 1024
      arena(p, 'activations').buffers[0]! += 1024
      binding!.offset = free
      call.inputs.x!.offset = free
    },
    /\d+\+1024 lies in no activation that is alive at op 1.*segment first, launch rms_norm/,
  ],
  'a constant without a recipe': [
    (p) => {
      delete arena(p, 'constants').tensors[0]!.generator
    },
    /constant ones.* has no generator/,
  ],
  'a constant that nobody can make': [
    (p) => {
      arena(p, 'constants').tensors[0]!.generator!.name = 'primes'
    },
    /no constant generator is named 'primes'/,
  ],
  'a constant that would not fit its place': [
    (p) => {
      arena(p, 'constants').tensors[0]!.generator!.attrs = { shape: [1e6, 1e6] }
    },
    /constant ones.* is f32\[4,64\], its generator makes f32\[1000000,1000000\]/,
  ],
  'an op that is not known': [
    (p) => {
      step(p, 'rms_norm').call.op = 'norm'
    },
    /no op is named 'norm'.*segment first, launch rms_norm/,
  ],
  'attributes that the op does not take': [
    (p) => {
      step(p, 'rms_norm').call.attrs = { eps: 'small' }
    },
    /rms_norm: attribute eps.*segment first, launch rms_norm/,
  ],
  'outputs that the op does not give': [
    (p) => {
      step(p, 'rms_norm').call.outputs.y!.type.shape = [64, 4]
    },
    /rms_norm gives y f32\[4,64\], the program says y f32\[64,4\].*segment first, launch rms_norm/,
  ],
  'an input that is not made yet': [
    (p) => {
      const { steps } = p.segments[0]!
      const first = steps.shift() as Loose<Launch>
      steps.splice(1, 0, first)
      steps.forEach((s, i) => {
        s.index = i
        s.after = i > 0 ? [i - 1] : []
      })
      const [scaled, normed] = arena(p, 'activations').tensors
      scaled!.live = [0, 5]
      normed!.live = [0, 2]
    },
    /input 'x' is mul.0\/y, which no step before writes.*segment first, launch rms_norm/,
  ],
  'an input that is read after its life': [
    (p) => {
      arena(p, 'activations').tensors[0]!.live = [0, 4]
    },
    /lies in no activation that is alive at op 5.*segment first, launch accumulate/,
  ],
  'an output that no step makes': [
    (p) => {
      const [output] = p.segments[1]!.outputs
      const free = arena(p, 'activations').bytes
      arena(p, 'activations').bytes += 1024
      arena(p, 'activations').buffers[0]! += 1024
      output!.offset = free
    },
    /output 'y' is at 3072\+1024, where no activation is alive at op 7.*segment second/,
  ],
  'an output of another size': [
    (p) => {
      p.segments[1]!.outputs[0]!.type.shape = [4, 65]
    },
    /'y' has 1024 bytes, its type needs 1040.*segment second/,
  ],
  'an input that the host can not write': [
    (p) => {
      p.segments[0]!.inputs[0]!.arena = 'constants'
    },
    /input 'x' lies in arena 'constants'.*segment first/,
  ],
  'a transfer between ranges of two sizes': [
    (p) => {
      const { steps } = p.segments[1]!
      steps.push({
        kind: 'transfer',
        index: steps.length,
        name: 'send',
        queue: 'copy',
        after: steps.map((s) => s.index),
        from: { arena: 'activations', offset: 0, bytes: 256 },
        to: { arena: 'activations', offset: 256, bytes: 128 },
      })
    },
    /transfer from 256 to 128 bytes.*segment second, launch send/,
  ],
}

describe('verifyProgram', () => {
  it('accepts what the compiler made', () => {
    expect(refusal(good)).toBe('accepted')
    expect(refusal(compile(smallGraph(), tightTarget, { slots: 3 }))).toBe('accepted')
    expect(refusal(compile(smallGraph(), tightTarget, { portable: true }))).toBe('accepted')
  })

  it('refuses a program for another backend', () => {
    expect(refusal(good, { ...tightTarget, backend: 'webgpu' })).toMatch(/for backend 'test'.*'webgpu'/)
  })

  describe('lets a kernel on CUDA', () => {
    const onCuda = { ...tightTarget, backend: 'cuda' }
    type Bindings = Loose<Launch>['bindings']
    const changed = (change: (bindings: Bindings) => void): string => {
      const program = draft()
      program.target.backend = 'cuda'
      change(step(program, 'mul').bindings)
      return refusal(program as Program, onCuda)
    }
    const first = (access: 'read' | 'write') =>
      changed((bindings) => {
        bindings[1] = { ...bindings[0]!, access }
      })
    const written = (offset: number) =>
      changed((bindings) => {
        const last = bindings.at(-1)!
        bindings.push({ ...last, offset: last.offset + offset, bytes: last.bytes - offset })
      })

    it('read a range twice, but not write what it reads', () => {
      expect(first('read')).toBe('accepted')
      expect(first('write')).toMatch(/bindings 0 and 1 overlap/)
    })

    it('write a range by two bindings, but not parts of it', () => {
      expect(written(0)).toBe('accepted')
      expect(written(tightTarget.limits.bindingAlignment)).toMatch(/bindings 2 and 3 overlap/)
    })
  })

  for (const [name, [plant, ...says]] of Object.entries(faults))
    it(`refuses ${name}`, () => {
      const program = draft()
      plant(program)
      const message = refusal(program as Program)
      for (const pattern of says) expect(message).toMatch(pattern)
      expect(message).toContain('program small')
    })
})
