import { activationOps, gelu_tanh_function } from './activation.ts'

/** y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), and dx = dy * y'(x) */
export const { forward: gelu_tanh, backward: gelu_tanh_backward } = activationOps(gelu_tanh_function)
