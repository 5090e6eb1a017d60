import { gatedOps, gelu_tanh_function } from './activation.ts'

/** y[t,f] = gelu_tanh(x[t,f]) * x[t,F+f], x [..., 2F], and its gradient. */
export const { forward: geglu, backward: geglu_backward } = gatedOps(
  'geglu',
  gelu_tanh_function,
  'Shazeer, GLU Variants Improve Transformer, 2020',
)
