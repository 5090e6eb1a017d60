import { check, ExactmapError } from '../../src/errors.ts'
import { generateConstant } from '../../src/ops/constants.ts'
import { opContract } from '../../src/ops/index.ts'
import { localCopies, type Members, requireStaged } from '../../src/program/exchange.ts'
import {
  type ArenaKind,
  type ArenaPlan,
  type Launch,
  type Operand,
  opCall,
  type Program,
  type Range,
  type Segment,
  type Step,
} from '../../src/program/program.ts'
import { verifyProgram } from '../../src/program/verify.ts'
import { formatOf } from '../../src/tensor/format.ts'
import { elementCount } from '../../src/tensor/type.ts'
import type { Arena, Device, DeviceInfo, Executable, LoadOptions, Outputs, Target } from '../backend.ts'
import { HostArena } from '../null/arena.ts'

/** One launch per op, every operand its own binding; no limits. */
export const referenceTarget: Target = {
  name: 'reference',
  backend: 'reference',
  limits: {
    maxBufferSize: 2 ** 31,
    maxBindingSize: 2 ** 31,
    bindingAlignment: 4,
    maxBindings: 64,
    maxWorkgroups: 1,
    maxInvocations: 1,
    maxWorkgroupMemory: 0,
  },
  features: [],
  subgroupSize: 1,
  choose(call) {
    const { inPlace = {} } = opContract(call.op)
    const overwritten = new Set(Object.values(inPlace))
    return {
      launches: [
        {
          variant: call.op,
          modules: [],
          constants: {},
          workgroups: [1, 1, 1],
          bindings: [
            ...Object.keys(call.inputs).map((port) => ({
              port,
              access: overwritten.has(port) ? ('read_write' as const) : ('read' as const),
            })),
            ...Object.keys(call.outputs)
              .filter((port) => !(port in inPlace))
              .map((port) => ({ port, access: 'write' as const })),
          ],
        },
      ],
    }
  },
  link: () => '',
  files: () => [],
}

/** Executes programs with the float64 references of the contracts; results are stored in each op's format. */
export class ReferenceDevice implements Device {
  readonly info: DeviceInfo = {
    backend: 'reference',
    device: 'float64 reference',
    driver: `node ${process.versions.node}`,
  }
  readonly target = referenceTarget
  readonly lost = new Promise<ExactmapError>(() => {})

  createArena(plan: ArenaPlan): Arena {
    return new HostArena(plan)
  }

  async load(program: Program, options: LoadOptions = {}): Promise<Executable> {
    verifyProgram(program, this.target)
    requireStaged(program)
    const arenas: Partial<Record<ArenaKind, HostArena>> = {}
    for (const plan of program.arenas)
      arenas[plan.kind] = (options.arenas?.[plan.kind] as HostArena) ?? new HostArena(plan)
    for (const { offset, type, generator } of program.arenas.find((a) => a.kind === 'constants')?.tensors ??
      [])
      if (generator)
        arenas.constants!.write(
          offset,
          formatOf(type.format).encode(generateConstant(generator.name, generator.attrs).values),
        )
    return new ReferenceExecutable(program, arenas as Record<ArenaKind, HostArena>, options.members ?? {})
  }

  destroy(): void {}
}

class ReferenceExecutable implements Executable {
  constructor(
    readonly program: Program,
    readonly arenas: Record<ArenaKind, HostArena>,
    private readonly members: Members,
  ) {}

  private view(range: Range, slot: number): Uint8Array {
    const arena = this.arenas[range.arena]
    const start = range.offset + slot * arena.plan.slotBytes
    return arena.bytes.subarray(start, start + range.bytes)
  }

  private segment(name: string): Segment {
    const segment = this.program.segments.find((s) => s.name === name)
    if (!segment) throw new ExactmapError('not_found', `no segment '${name}'`, { program: this.program.name })
    return segment
  }

  private launch({ call }: Launch, slot: number): void {
    const decode = (o: Operand): Float64Array =>
      formatOf(o.type.format).decode(this.view(o, slot), elementCount(o.type.shape))
    const inputs = Object.fromEntries(Object.entries(call.inputs).map(([port, o]) => [port, decode(o)]))
    const outputs = opContract(call.op).reference(opCall(call), inputs)
    for (const [port, o] of Object.entries(call.outputs))
      this.view(o, slot).set(formatOf(o.type.format).encode(outputs[port]!))
  }

  run(name: string, inputs: Record<string, ArrayBufferView> = {}, slot = 0): void {
    check(slot >= 0 && slot < this.program.slots, 'invalid_argument', `slot ${slot} of ${this.program.slots}`)
    const segment = this.segment(name)
    for (const [key, view] of Object.entries(inputs)) {
      const input = segment.inputs.find((i) => i.name === key)
      check(
        input && input.bytes === view.byteLength,
        'invalid_argument',
        `segment '${name}' has no input '${key}' of ${view.byteLength} bytes`,
      )
      this.view(input, 0).set(new Uint8Array(view.buffer, view.byteOffset, view.byteLength))
    }
    for (const step of segment.steps) this.execute(step, slot)
  }

  runSteps(name: string, first: number, count: number, times = 1): void {
    const steps = this.segment(name).steps.slice(first, first + count)
    for (let t = 0; t < times; t++) for (const step of steps) this.execute(step, 0)
  }

  private execute(step: Step, slot: number): void {
    if (step.kind === 'launch') {
      this.launch(step, slot)
      return
    }
    const copies =
      step.kind === 'transfer' ? [[step.from, step.to] as const] : localCopies(step, this.members)
    for (const [from, to] of copies) this.view(to, slot).set(this.view(from, slot))
  }

  async step(name: string, inputs: Record<string, ArrayBufferView> = {}, slot = 0): Promise<Outputs> {
    this.run(name, inputs, slot)
    return Object.fromEntries(this.segment(name).outputs.map((o) => [o.name, this.view(o, slot).slice()]))
  }

  async finished(): Promise<void> {}

  destroy(): void {}
}
