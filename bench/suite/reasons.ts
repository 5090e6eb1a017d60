import type { DriverName } from './drivers.ts'
import type { Goal } from './goals.ts'
import type { Work } from './works.ts'

/** Why a goal is not reached where it is not: what was measured, and what comes next. Written by hand; docs/performance.md prints it. */
export function reasonOf(work: Work, goal: Goal, driver: DriverName): string | undefined {
  const on = `${work.kind} ${goal.kind} ${driver}`
  return reasons[on] ?? reasons[`${work.kind} ${goal.kind}`]
}

const reasons: Readonly<Record<string, string>> = {
  'matmul webgpu lavapipe':
    'One row: each weight is loaded lane by lane, about 1.9 cycles each; 1 to 6 outputs a lane, lanes along the sum and loads of 32 or 64 bytes did not help, so it lies at its goal within noise. Next: a layout of weights in which a lane has its four columns side by side.',
  'matmul webgpu swiftshader':
    'Runs differ by more than the distance to the goal; the machine was shared. Next: measure it on a quiet one.',
  'decode fact lavapipe':
    'At its goal within noise (runs differ by 0.1). 126 launches a token (114 since rope and kv_write are one kernel, not measured again); what lies between kernels is not yet told apart from the host. Next: norms into the products that follow them.',
  'train_step engines swiftshader':
    'Why jax-js is only so much slower here has not been profiled. Next: exactmap profile of the step on SwiftShader, beside that of its forward pass.',
  'train_step fact':
    'On lavapipe, by exactmap profile of the bundled model: of 428 ms a step, forward kernels are 118 (products 80, attention 25) and backward ones for inputs 231 (products 92, attention 111, which is 4.5 x its forward pass: scores are computed again, for queries and for keys). Next: attention_backward with its sums unrolled for narrow heads (22 to 17 ms and 26 to 22 ms a layer in a trial).',
}
