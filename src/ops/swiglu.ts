import { gatedOps, silu_function } from './activation.ts'

/** y[t,f] = silu(x[t,f]) * x[t,F+f], x [..., 2F], and its gradient. */
export const { forward: swiglu, backward: swiglu_backward } = gatedOps(
  'swiglu',
  silu_function,
  'Shazeer, GLU Variants Improve Transformer, 2020',
)
