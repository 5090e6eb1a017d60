import type { Device, Target } from '../../backends/backend.ts'
import type { OpCall } from '../ops/contract.ts'
import { opContract } from '../ops/index.ts'
import { compile } from '../program/compile.ts'
import { Graph } from '../program/graph.ts'
import type { Program } from '../program/program.ts'
import { byteSize } from '../tensor/type.ts'
import { decodeTensor, type Vector, vectorId } from './vector.ts'

/** One element outside its budget, or the one nearest to it. */
export interface Element {
  readonly port: string
  readonly index: number
  readonly expected: number
  readonly got: number
  /** |got - expected| in units of the budget; above 1 is wrong. For exact budgets: 0 or Infinity. */
  readonly error: number
}

export interface Verdict {
  readonly id: string
  readonly pass: boolean
  /** Kernel variants that ran. */
  readonly variants: readonly string[]
  /** First element outside its budget. */
  readonly wrong?: Element
  /** Element with the largest error in units of its budget. */
  readonly worst?: Element
  /** Wall time of the timed runs' best, in milliseconds, submit and wait included. */
  readonly ms: number
  /** Bytes of all operands and floating point operations of the call. */
  readonly bytes: number
  readonly flops: number
}

/** The call a vector is of. */
export const vectorCall = ({ op, attrs, inputs, outputs }: Vector): OpCall => {
  const types = (tensors: Vector['inputs']) =>
    Object.fromEntries(Object.entries(tensors).map(([port, { type }]) => [port, type]))
  return { op, attrs, inputs: types(inputs), outputs: types(outputs) }
}

/** Bytes of all its operands. */
export const vectorBytes = ({ inputs, outputs }: Vector): number =>
  [...Object.values(inputs), ...Object.values(outputs)].reduce((sum, { type }) => sum + byteSize(type), 0)

/** Every vector once for each kernel that a target has for its call. */
export const withVariants = (vectors: readonly Vector[], target: Target): Vector[] =>
  vectors.flatMap((vector) => {
    const names = target.variants?.(vectorCall(vector)) ?? []
    return names.length > 0 ? names.map((variant) => ({ ...vector, variant })) : [vector]
  })

/** The one-op program of a vector. */
export function vectorProgram(vector: Vector, on: Target): Program {
  const target = vector.variant === undefined ? on : on.withVariant!(vector.variant)
  const graph = new Graph(vectorId(vector))
  const inputs = Object.fromEntries(
    Object.entries(vector.inputs).map(([port, { type }]) => [
      port,
      graph.input(vector.same[port] ?? port, type),
    ]),
  )
  const outputs = graph.op(vector.op, vector.attrs, inputs)
  for (const [port, value] of Object.entries(outputs)) graph.output(port, value)
  return compile(graph, target, { portable: true })
}

/**
 * Runs a vector through compile, load and step on a device and compares every element with its budget.
 *
 * @param target what it is compiled for: the device's, or one that chooses other kernels for the same device
 */
export async function runVector(
  device: Device,
  vector: Vector,
  repeats = 1,
  target: Target = device.target,
): Promise<Verdict> {
  const program = vectorProgram(vector, target)
  const executable = await device.load(program)
  try {
    const given = Object.fromEntries(
      Object.entries(vector.inputs)
        .filter(([port]) => !(port in vector.same))
        .map(([port, t]) => [port, t.bytes]),
    )
    let ms = Number.POSITIVE_INFINITY
    let got: Record<string, Uint8Array> = {}
    for (let i = 0; i < repeats; i++) {
      executable.arenas.activations?.fill(255)
      await executable.finished()
      const start = performance.now()
      got = await executable.step('main', given)
      ms = Math.min(ms, performance.now() - start)
    }
    return {
      id: vectorId(vector),
      ...compareOutputs(vector, got),
      variants: [
        ...new Set(
          program.segments.flatMap((s) =>
            s.steps.map((l) => (l.kind === 'launch' ? program.kernels[l.kernel]!.name : '')),
          ),
        ),
      ],
      ms,
      bytes: vectorBytes(vector),
      flops: opContract(vector.op).flops(vectorCall(vector)),
    }
  } finally {
    executable.destroy()
  }
}

/** What is wrong in a verdict, as one line; '' when nothing is. */
export const explain = ({ id, variants, wrong }: Verdict, { info }: Pick<Device, 'info'>): string =>
  wrong
    ? `${id} on ${info.device} (${variants.join(', ')}): ${wrong.port}[${wrong.index}] expected ${wrong.expected}, got ${wrong.got}, ${wrong.error.toFixed(2)} x its budget`
    : ''

/** Compares outputs with a vector's expected ones, element by element. */
export function compareOutputs(
  vector: Vector,
  got: Readonly<Record<string, Uint8Array>>,
): { pass: boolean; wrong?: Element; worst?: Element } {
  const contract = opContract(vector.op)
  const inputs = Object.fromEntries(Object.entries(vector.inputs).map(([p, t]) => [p, decodeTensor(t)]))
  const expected = Object.fromEntries(Object.entries(vector.outputs).map(([p, t]) => [p, decodeTensor(t)]))
  const call = vectorCall(vector)
  const tolerance = contract.tolerance(call, inputs, expected)
  let wrong: Element | undefined
  let worst: Element | undefined
  for (const [port, tensor] of Object.entries(vector.outputs)) {
    const want = expected[port]!
    const have = decodeTensor({ type: tensor.type, bytes: got[port]! })
    for (let index = 0; index < want.length; index++) {
      const [e, g] = [want[index]!, have[index]!]
      const difference = e === g || (Number.isNaN(e) && Number.isNaN(g)) ? 0 : Math.abs(g - e)
      // The stored value is itself rounded once to the output's format.
      const budget = tolerance[port]!(index)
      const error =
        difference === 0 ? 0 : Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference / budget
      const element = { port, index, expected: e, got: g, error }
      if (!worst || error > worst.error) worst = element
      if (error > 1 && !wrong) wrong = element
    }
  }
  return { pass: !wrong, ...(wrong ? { wrong } : {}), ...(worst ? { worst } : {}) }
}
