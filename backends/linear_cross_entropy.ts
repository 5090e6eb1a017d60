import type { Attributes, OpCall, Ports } from '../src/ops/contract.ts'
import { checkCall, opContract } from '../src/ops/index.ts'
import { byteSize, type TensorType, tensorType } from '../src/tensor/type.ts'
import type { KernelChoice } from './backend.ts'
import { inOrder, type Place, type Step } from './compose.ts'

/** The backend's kernels of another call. */
type Choose = (call: OpCall) => KernelChoice

/** A part of the vocabulary: its columns of the logits, and the rows of w and of its gradient. */
interface Part {
  readonly index: number
  readonly first: number
  readonly columns: number
}

/** Kernels of linear_cross_entropy and its gradients: those of products and of cross_entropy over parts of the vocabulary. */
class OverVocabulary {
  private readonly steps: Step[] = []
  private readonly scratch: Record<string, TensorType> = {}
  readonly parts: readonly Part[]
  private readonly rows: number
  private readonly depth: number

  constructor(
    private readonly call: OpCall,
    private readonly choose: Choose,
    room: number,
  ) {
    const [rows, depth] = call.inputs.x!.shape as [number, number]
    const vocab = call.inputs.w!.shape[0]!
    // By default as many columns of f32 as fit, at least 128.
    const columns = call.attrs.columns ?? Math.max(1, Math.floor(room / (4 * rows) / 128)) * 128
    this.rows = rows
    this.depth = depth
    this.parts = Array.from({ length: Math.ceil(vocab / columns) }, (_, index) => {
      const first = index * columns
      return { index, first, columns: Math.min(columns, vocab - first) }
    })
  }

  type(port: string): TensorType {
    return (this.call.inputs[port] ?? this.call.outputs[port])!
  }

  /** A scratch tensor; parts share theirs, the first being the largest. */
  temporary(name: string, type: TensorType): { name: string; type: TensorType } {
    this.scratch[name] ??= type
    return { name, type }
  }

  add(op: string, attrs: Attributes, inputs: Ports<TensorType>, places: Record<string, Place>): void {
    this.steps.push({ choice: this.choose(checkCall(opContract(op), attrs, inputs)), places })
  }

  /** Rows of a [V, K] port that belong to a part. */
  rowsOf(port: string, { first, columns }: Part): { type: TensorType; place: Place } {
    const whole = this.type(port)
    const type = tensorType(whole.format, columns, this.depth)
    const rowBytes = byteSize(whole) / whole.shape[0]!
    return { type, place: { port, offset: first * rowBytes, bytes: byteSize(type) } }
  }

  /** The logits of a part. */
  logits(part: Part): { name: string; type: TensorType } {
    const w = this.rowsOf('w', part)
    const logits = this.temporary('logits', tensorType('f32', this.rows, part.columns))
    this.add('matmul', {}, { x: this.type('x'), w: w.type }, { w: w.place, y: logits.name })
    return logits
  }

  /** Their gradient, in the format of the product that it goes into. */
  dLogits(part: Part): { name: string; type: TensorType } {
    const logits = this.logits(part)
    const { format } = this.type('x')
    const of = (port: string) => this.type(port)
    const dlogits = this.temporary('dlogits', tensorType(format, this.rows, part.columns))
    this.add(
      'cross_entropy_backward',
      { ...(part.first > 0 ? { first: part.first } : {}), ...(format === 'f32' ? {} : { output: format }) },
      {
        dloss: of('dloss'),
        logits: logits.type,
        lse: of('lse'),
        targets: of('targets'),
        weights: of('weights'),
      },
      { logits: logits.name, dlogits: dlogits.name },
    )
    return dlogits
  }

  done(): KernelChoice {
    return inOrder(this.steps, this.scratch)
  }
}

function forward(call: OpCall, choose: Choose, room: number): KernelChoice {
  const over = new OverVocabulary(call, choose, room)
  const rows = call.inputs.x!.shape[0]!
  const parts = over.temporary('parts', tensorType('f32', over.parts.length, 2, rows))
  for (const part of over.parts) {
    const logits = over.logits(part)
    const bytes = 8 * rows
    over.add(
      'cross_entropy_shard',
      part.first > 0 ? { first: part.first } : {},
      { logits: logits.type, targets: over.type('targets') },
      { logits: logits.name, parts: { port: parts.name, offset: part.index * bytes, bytes } },
    )
  }
  const inputs = { parts: parts.type, weights: over.type('weights') }
  over.add('cross_entropy_join', {}, inputs, { parts: parts.name })
  return over.done()
}

function backwardInput(call: OpCall, choose: Choose, room: number): KernelChoice {
  const over = new OverVocabulary(call, choose, room)
  const dx = call.outputs.dx!
  // Parts are summed in f32, in order.
  const type = tensorType('f32', ...dx.shape)
  const sum = dx.format === 'f32' ? 'dx' : over.temporary('dx32', type).name
  for (const part of over.parts) {
    const dlogits = over.dLogits(part)
    const w = over.rowsOf('w', part)
    const to = part.index === 0 ? sum : over.temporary('part', type).name
    const inputs = { dy: dlogits.type, w: w.type }
    over.add('matmul_backward_input', {}, inputs, { dy: dlogits.name, w: w.place, dx: to })
    if (part.index > 0)
      over.add('accumulate', {}, { accumulator: type, x: type }, { accumulator: sum, x: to })
  }
  if (sum !== 'dx') over.add('cast', { to: dx.format }, { x: type }, { x: sum, y: 'dx' })
  return over.done()
}

function backwardWeight(call: OpCall, choose: Choose, room: number): KernelChoice {
  const over = new OverVocabulary(call, choose, room)
  for (const part of over.parts) {
    const dlogits = over.dLogits(part)
    const accumulator = over.rowsOf('accumulator', part)
    const inputs = { accumulator: accumulator.type, dy: dlogits.type, x: over.type('x') }
    over.add('matmul_backward_weight', {}, inputs, { accumulator: accumulator.place, dy: dlogits.name })
  }
  return over.done()
}

type Rule<Traits> = (call: OpCall, traits: Traits) => KernelChoice

/**
 * Rules of linear_cross_entropy and its gradients from those of the ops they are made of.
 *
 * @param ruleOf a built-in op's rule
 * @param room bytes of logits that may exist at a time, where a call does not say how many columns
 */
export function linearCrossEntropyRules<Traits>(ruleOf: (op: string) => Rule<Traits>, room: number) {
  const over =
    (make: (call: OpCall, choose: Choose, room: number) => KernelChoice): Rule<Traits> =>
    (call, traits) =>
      make(call, (part) => ruleOf(part.op)(part, traits), room)
  return {
    linear_cross_entropy: over(forward),
    linear_cross_entropy_backward_input: over(backwardInput),
    linear_cross_entropy_backward_weight: over(backwardWeight),
  }
}
