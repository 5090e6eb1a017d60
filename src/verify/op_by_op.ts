import type { Arena, Executable, Outputs } from '../../backends/backend.ts'
import { check, ExactmapError } from '../errors.ts'
import { opContract } from '../ops/index.ts'
import { type Launch, opCall, type Program, type Range, type Segment } from '../program/program.ts'
import { formatOf } from '../tensor/format.ts'
import { compareOutputs, type Element } from './run.ts'
import { decodeTensor, type Vector, type VectorTensor } from './vector.ts'

/** An op of a model whose output on `b` left the contract's budget although its inputs were those of `a`. */
export interface Divergence {
  readonly segment: string
  /** Scope and node, e.g. `layer.3/matmul.17`. */
  readonly launch: string
  readonly wrong: Element
  /** Kernel variants on `b`. */
  readonly variants: readonly string[]
  /** The op's inputs and the reference's outputs: a test vector of this very case. */
  readonly vector: Vector
}

/** Launches of one op, in a row. */
interface OpSteps {
  readonly first: number
  readonly launches: readonly Launch[]
}

function opsOf(segment: Segment): OpSteps[] {
  const ops: { first: number; launches: Launch[] }[] = []
  segment.steps.forEach((step, first) => {
    check(step.kind === 'launch', 'unsupported', `${segment.name}: transfers can't be compared op by op`)
    if (step.part[0] === 0) ops.push({ first, launches: [step] })
    else ops.at(-1)!.launches.push(step)
  })
  return ops
}

/**
 * An executable that runs one graph's portable programs on two devices at once, op by op. Values flow as `a`
 * computes them; before each op, `b` is given the inputs of `a`, so that an error shows where it is made and
 * nowhere else. The outputs of `b` are compared with the op's float64 reference on those inputs. After the first
 * op outside its budget, steps reject with `interrupted`.
 */
export class OpByOp implements Executable {
  readonly program: Program
  readonly arenas: Executable['arenas']
  /** The first op outside its budget. */
  divergence: Divergence | undefined
  /** Ops compared so far, and the largest error among them in units of the budget. */
  compared = 0
  worst = 0
  private queue: Promise<unknown> = Promise.resolve()

  constructor(
    private readonly a: Executable,
    private readonly b: Executable,
    private readonly onOp: (launch: string) => void = () => {},
  ) {
    this.program = a.program
    this.arenas = a.arenas
  }

  step(segment: string, inputs: Record<string, ArrayBufferView> = {}): Promise<Outputs> {
    // The caller may reuse its arrays once this returns, and may have several steps in flight.
    const copies = Object.entries(inputs).map(([name, v]): [string, Uint8Array] => [
      name,
      new Uint8Array(v.buffer, v.byteOffset, v.byteLength).slice(),
    ])
    const done = this.queue.then(() => this.compareSegment(segment, new Map(copies)))
    this.queue = done.catch(() => {})
    return done
  }

  run(segment: string, inputs?: Record<string, ArrayBufferView>): void {
    void this.step(segment, inputs).catch(() => {})
  }

  runSteps(): void {
    throw new ExactmapError('unsupported', 'a comparison runs whole segments')
  }

  async finished(): Promise<void> {
    await this.queue
  }

  destroy(): void {
    this.a.destroy()
    this.b.destroy()
  }

  private async compareSegment(name: string, inputs: ReadonlyMap<string, Uint8Array>): Promise<Outputs> {
    const find = (program: Program): Segment =>
      program.segments.find((s) => s.name === name) ??
      fail('not_found', `the program has no segment '${name}'`)
    const [sa, sb] = [find(this.a.program), find(this.b.program)]
    for (const input of sa.inputs) {
      const bytes = inputs.get(input.name)
      if (bytes) arenaOf(this.a, input).write(input.offset, bytes)
    }
    const [opsA, opsB] = [opsOf(sa), opsOf(sb)]
    check(
      opsA.length === opsB.length,
      'internal',
      `${name} has ${opsA.length} ops on one side, ${opsB.length} on the other`,
    )
    for (const [i, op] of opsA.entries()) {
      if (this.divergence) fail('interrupted', 'an op left its budget')
      await this.compareOp(name, op, opsB[i]!)
    }
    return Object.fromEntries(
      await Promise.all(
        sa.outputs.map(async (o) => [o.name, await arenaOf(this.a, o).read(o.offset, o.bytes)] as const),
      ),
    )
  }

  private async compareOp(segment: string, a: OpSteps, b: OpSteps): Promise<void> {
    const [{ call, name }] = a.launches as [Launch]
    const [onB] = b.launches as [Launch]
    check(onB.name === name, 'internal', `${name} is ${onB.name} on the other side`)
    this.onOp(name)
    const inputs: Record<string, VectorTensor> = {}
    for (const [port, operand] of Object.entries(call.inputs)) {
      const { type, offset, bytes: size } = operand
      const bytes = await arenaOf(this.a, operand).read(offset, size)
      inputs[port] = { type, bytes }
      const there = onB.call.inputs[port]!
      // Weights and constants are written once and stay.
      if (there.arena !== 'weights' && there.arena !== 'constants')
        arenaOf(this.b, there).write(there.offset, bytes)
    }
    this.a.runSteps(segment, a.first, a.launches.length)
    this.b.runSteps(segment, b.first, b.launches.length)
    const read = async (executable: Executable, ports: Launch['call']['outputs']): Promise<Outputs> => {
      const out: Outputs = {}
      for (const [port, range] of Object.entries(ports))
        out[port] = await arenaOf(executable, range).read(range.offset, range.bytes)
      return out
    }
    const outputs = await this.expected(call, inputs, () => read(this.a, call.outputs))
    const safeName = `${segment}.${name}`.replace(/[^A-Za-z0-9_.-]+/g, '.')
    const vector: Vector = { op: call.op, name: safeName, attrs: call.attrs, inputs, same: {}, outputs }
    const { wrong, worst } = compareOutputs(vector, await read(this.b, onB.call.outputs))
    this.compared++
    this.worst = Math.max(this.worst, worst?.error ?? 0)
    if (!wrong) return
    const variants = [...new Set(b.launches.map((l) => this.b.program.kernels[l.kernel]!.name))]
    this.divergence = { segment, launch: name, wrong, variants, vector }
    fail('interrupted', 'an op left its budget')
  }

  /** The reference's outputs: what `a` has computed where it is the reference, else computed here. */
  private async expected(
    call: Launch['call'],
    inputs: Readonly<Record<string, VectorTensor>>,
    outputsOfA: () => Promise<Outputs>,
  ): Promise<Record<string, VectorTensor>> {
    const types = Object.entries(call.outputs).map(([port, { type }]) => [port, type] as const)
    if (this.a.program.target.backend === 'reference') {
      const made = await outputsOfA()
      return Object.fromEntries(types.map(([port, type]) => [port, { type, bytes: made[port]! }]))
    }
    const values = Object.fromEntries(Object.entries(inputs).map(([port, t]) => [port, decodeTensor(t)]))
    const made = opContract(call.op).reference(opCall(call), values)
    return Object.fromEntries(
      types.map(([port, type]) => [port, { type, bytes: formatOf(type.format).encode(made[port]!) }]),
    )
  }
}

function fail(code: 'not_found' | 'interrupted', message: string): never {
  throw new ExactmapError(code, message)
}

const arenaOf = ({ arenas }: Executable, { arena }: Range): Arena => {
  const found = arenas[arena]
  check(found, 'internal', `the program has no arena '${arena}'`)
  return found
}
