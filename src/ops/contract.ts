import type { z } from 'zod'
import type { FormatName } from '../tensor/format.ts'
import type { TensorType } from '../tensor/type.ts'

/** A plain JSON object: attributes are written into programs and vectors. */
// biome-ignore lint/suspicious/noExplicitAny: each op narrows its own attributes through its zod schema
export type Attributes = any

export type Ports<T> = Readonly<Record<string, T>>

/** One input or output of an op. Dims are named in `doc`: B batch, T rows (tokens), C width, N out, K in, H heads, D head size, V vocabulary. */
export interface Port {
  readonly doc: string
  readonly formats: readonly FormatName[]
  readonly optional?: boolean
}

/** An op with everything static known: what rules, references, budgets and kernels are given. */
export interface OpCall<A = Attributes> {
  readonly op: string
  readonly attrs: A
  readonly inputs: Ports<TensorType>
  readonly outputs: Ports<TensorType>
}

/** A value in a graph under construction (see program/graph.ts). */
export interface Value {
  readonly id: number
  readonly type: TensorType
}

/** What a gradient rule may do to the graph: append nodes. */
export interface NodeBuilder {
  op(op: string, attrs: Attributes, inputs: Ports<Value | undefined>): Record<string, Value>
}

export interface GradientContext<A = Attributes> {
  readonly g: NodeBuilder
  readonly attrs: A
  readonly inputs: Ports<Value>
  readonly outputs: Ports<Value>
  /** Gradient of the loss with respect to each output that has one. */
  readonly dOutputs: Ports<Value>
}

/**
 * How the gradient of one input is built.
 * `input`: returns a new value, the gradient. `weight`: adds the gradient into `accumulator` in place and
 * returns the updated accumulator; used for parameters, so that these launches can run later than the chain
 * of input gradients (zero-bubble schedules) and microbatches accumulate without extra launches.
 */
export type GradientRule<A = Attributes> =
  | { readonly input: (context: GradientContext<A>) => Value }
  | { readonly weight: (context: GradientContext<A>, accumulator: Value) => Value }

export type Gradient<A = Attributes> = { readonly none: string } | Ports<GradientRule<A>>

/** How the values of a case's input are made, from a Philox stream seeded by op, case and port. */
export type Fill =
  | { readonly kind: 'normal'; readonly scale: number; readonly mean: number }
  | { readonly kind: 'uniform'; readonly low: number; readonly high: number }
  | { readonly kind: 'integers'; readonly low: number; readonly high: number } // [low, high)
  | { readonly kind: 'values'; readonly values: readonly number[] } // repeated to fill
  /** Bell-shaped in the first `rows` rows, NaN in all others: nothing that they hold may matter. */
  | { readonly kind: 'first_rows'; readonly scale: number; readonly rows: number }
  /** Cache pages [pages, heads, slots, D]: bell-shaped in slots [from, to) of each page, NaN in all others. */
  | {
      readonly kind: 'pages'
      readonly scale: number
      readonly live: readonly (readonly [from: number, to: number])[]
    }
  | { readonly kind: 'same'; readonly as: string } // the very tensor of another port

export interface CaseInput extends TensorType {
  readonly fill: Fill
}

/** One conformance case. Its id is `<op>/<name>`. */
export interface Case<A = Attributes> {
  readonly name: string
  readonly attrs: A
  readonly inputs: Ports<CaseInput>
}

/** Absolute error allowed for each element of an output, by flat index. */
export type Tolerance = (index: number) => number

/** A row of a call that is no padding: its place in a sequence. */
export interface LiveRow {
  readonly sequence: number
  readonly position: number
}

/** What a call does at least, where that is not what types and `flops` say. */
export interface Work {
  readonly flops?: number
  /** Bytes touched of an operand, by port; of those not named, all. */
  readonly bytes: Ports<number>
}

/**
 * The contract of an op: all that is true of it on every backend. One file per op in `src/ops`.
 */
export interface OpContract<A = Attributes> {
  /** snake_case; finds contract, kernels, vectors, tests and benchmark. */
  readonly name: string
  /** The formula, in one or two lines. */
  readonly summary: string
  /** Paper or standard the definition comes from. */
  readonly source?: string
  readonly inputs: Ports<Port>
  /** Further inputs of any name. */
  readonly anyInputs?: Port
  readonly outputs: Ports<Port>
  /** Schema of the attributes; defaults are filled in by it. */
  readonly attributes: z.ZodType<A>
  /** Shape rule: types of the outputs, or throws `invalid_shape`. Ranks, formats and optional ports are checked before. */
  infer(attrs: A, inputs: Ports<TensorType>): Record<string, TensorType>
  /** Outputs that are written over an input (output port -> input port). Not a permission: kernels bind one range. */
  readonly inPlace?: Readonly<Record<string, string>>
  readonly gradient: Gradient<A>
  /** Float64 reference. In-place inputs must not be modified; return fresh arrays of every output. */
  reference(call: OpCall<A>, inputs: Ports<Float64Array>): Record<string, Float64Array>
  /**
   * Error budget per output: |got - expected| <= tolerance(index). Derived from dtypes, reduction lengths and
   * WGSL's stated accuracies, never from a backend's name. `0` for exact ops.
   */
  tolerance(
    call: OpCall<A>,
    inputs: Ports<Float64Array>,
    expected: Ports<Float64Array>,
  ): Record<string, Tolerance>
  /** Arithmetic of one call, in floating point operations. Bytes follow from the types. */
  flops(call: OpCall<A>): number
  /**
   * What a call does with such rows, where it looks rows or pages of an operand up; absent where all of every operand
   * is touched.
   */
  work?(call: OpCall<A>, rows: readonly LiveRow[]): Work
  readonly cases: readonly Case<A>[]
}

/** Declares an op; exists for type inference. */
export const defineOp = <A>(contract: OpContract<A>): OpContract<A> => contract
