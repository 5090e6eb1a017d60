import type { OpCall } from '../../../src/ops/contract.ts'
import { type TensorType, tensorType } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { cast } from './movement.ts'
import type { KernelRule } from './rule.ts'

/** A rule, what it is asked, and which of its ports are scratch of the whole. */
interface Step {
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

/**
 * A rule of f32 x and y for those of 16 bits too, by casts before and after: not every device has arithmetic of f16,
 * none of bf16, and f32 holds their numbers exactly.
 */
export function throughF32(rule: KernelRule): KernelRule {
  const wide: KernelRule = (call, traits) => {
    const x = call.inputs.x!
    const y = call.outputs.y!
    const x32 = tensorType('f32', ...x.shape)
    const y32 = tensorType('f32', ...y.shape)
    const [castX, castY] = [x.format !== 'f32', y.format !== 'f32']
    const steps: Step[] = [
      ...(castX ? [{ rule: cast, call: castCall(x, x32), names: { y: 'x32' } }] : []),
      {
        rule,
        call: { ...call, inputs: { ...call.inputs, x: x32 }, outputs: { y: y32 } },
        names: { ...(castX ? { x: 'x32' } : {}), ...(castY ? { y: 'y32' } : {}) },
      },
      ...(castY ? [{ rule: cast, call: castCall(y32, y), names: { x: 'y32' } }] : []),
    ]
    const launches: LaunchPlan[] = []
    for (const step of steps) {
      const choice = step.rule(step.call, traits)
      if ('unsupported' in choice) return choice
      for (const launch of choice.launches)
        launches.push({
          ...launch,
          bindings: launch.bindings.map((b) => ({ ...b, port: step.names[b.port] ?? b.port })),
        })
    }
    return { launches, scratch: { ...(castX ? { x32 } : {}), ...(castY ? { y32 } : {}) } }
  }
  // With what the rule says of itself.
  return Object.assign(wide, rule)
}
