import type { OpCall } from '../../../src/ops/contract.ts'
import { opContract } from '../../../src/ops/index.ts'
import { type TensorType, tensorType } from '../../../src/tensor/type.ts'
import { inOrder } from '../../compose.ts'
import { cast } from './conversion.ts'
import type { KernelRule } from './rule.ts'

/** A rule, what it is asked, and which of its ports are scratch of the whole. */
interface Part {
  readonly rule: KernelRule
  readonly call: OpCall
  readonly names: Readonly<Record<string, string>>
}

const castCall = (x: TensorType, y: TensorType): OpCall => ({
  op: 'cast',
  attrs: { to: y.format },
  inputs: { x },
  outputs: { y },
})

const inF32 = (type: TensorType): TensorType => tensorType('f32', ...type.shape)

const scratchName = (port: string): string => `${port}32`

/**
 * A rule that knows `ports` in f32 only for those of 16 bits too, by casts before and after: not every device has
 * arithmetic of f16, none of bf16, and f32 holds their numbers exactly.
 */
export function throughF32(rule: KernelRule, ports: readonly string[]): KernelRule {
  const wide: KernelRule = (call, traits) => {
    const { inputs, outputs } = call
    const in16 = (types: OpCall['inputs']): string[] =>
      ports.filter((port) => types[port] && types[port].format !== 'f32')
    const [before, after] = [in16(inputs), in16(outputs)]
    if (before.length + after.length === 0) return rule(call, traits)
    // What is written over an input is in the input's scratch, and goes back to where the input is.
    const home = (port: string): string => opContract(call.op).inPlace?.[port] ?? port
    const scratch: Record<string, TensorType> = {}
    const names: Record<string, string> = {}
    for (const port of [...before, ...after.map(home)]) {
      scratch[scratchName(port)] = inF32((inputs[port] ?? outputs[port])!)
      names[port] = scratchName(port)
    }
    const replaced = (types: OpCall['inputs']): OpCall['inputs'] =>
      Object.fromEntries(
        Object.entries(types).map(([port, type]) => [port, scratch[names[home(port)] ?? ''] ?? type]),
      )
    const steps: Part[] = [
      ...before.map((port) => ({
        rule: cast,
        call: castCall(inputs[port]!, inF32(inputs[port]!)),
        names: { x: port, y: scratchName(port) },
      })),
      { rule, call: { ...call, inputs: replaced(inputs), outputs: replaced(outputs) }, names },
      ...after.map((port) => ({
        rule: cast,
        call: castCall(inF32(outputs[port]!), outputs[port]!),
        names: { x: scratchName(home(port)), y: home(port) },
      })),
    ]
    return inOrder(
      steps.map((step) => ({ choice: step.rule(step.call, traits), places: step.names })),
      scratch,
    )
  }
  // With what the rule says of itself.
  return Object.assign(wide, rule)
}
