import { activationOps, silu_function } from './activation.ts'

/** y = x / (1 + e^-x), and dx = dy * y'(x) */
export const { forward: silu, backward: silu_backward } = activationOps(silu_function)
