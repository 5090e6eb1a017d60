import type { DriverName } from './drivers.ts'
import type { Goal } from './goals.ts'
import type { Work } from './works.ts'

/** Why a goal is not reached where it is not: what was measured, and what comes next. Written by hand; docs/performance.md prints it. */
export function reasonOf(work: Work, goal: Goal, driver: DriverName): string | undefined {
  const on = `${work.kind} ${goal.kind} ${driver}`
  return reasons[on] ?? reasons[`${work.kind} ${goal.kind}`]
}

const reasons: Readonly<Record<string, string>> = {
  'softmax webgpu':
    'exp is a quarter of the time, loads and stores are the rest (two reads of x and a write, done lane by lane); fewer passes or wider steps gained nothing more. Next: arrays with a stated length, which spare the bounds check of each load, as products have them.',
  'matmul webgpu lavapipe':
    'One row: each weight is loaded lane by lane, about 1.9 cycles each; 1 to 6 outputs a lane, lanes along the sum and loads of 32 or 64 bytes did not help, so it lies at its goal within noise. Next: a layout of weights in which a lane has its four columns side by side.',
  'matmul work lavapipe':
    'Unpacking decides, not bytes: q8_0 takes two loads of its scale for each 32 weights. Next: blocks of 32 as its chunk, which changes the order of sums.',
  'matmul webgpu swiftshader':
    'Runs differ by more than the distance to the goal; the machine was shared. Next: measure it on a quiet one.',
  'decode fact lavapipe':
    'At its goal within noise (runs differ by 0.1). 126 launches a token; what lies between kernels is not yet told apart from the host. Next: fewer launches, norms into the products that follow them.',
  'train_step engines swiftshader':
    'Attention backward and the products of weight gradients are most of the step; jax-js computes attention by whole products, of which SwiftShader makes more of its time than of our loops over keys. Next: attention of short sequences as products.',
  'train_step fact':
    'Backward passes of products are twice the forward ones, which is 3 x; attention_backward takes about 3.5 x its forward pass (scores are computed again, and sums are indexed arrays, which CPU drivers access lane by lane), and the update and embedding_backward come on top. Next: attention_backward with its sums unrolled for narrow heads (22 to 17 ms and 26 to 22 ms a layer in a trial).',
}
