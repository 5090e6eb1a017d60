// What the test calls in the page.
import { allOps, decodeVector, openBrowserWebGpu } from '../../src/browser.ts'
import { NewTexts } from '../helpers/check_vector.ts'
import { tinyModelTokens } from './tiny_model.ts'

const device = await openBrowserWebGpu({ kernels: 'kernels.json' })
const bare = await openBrowserWebGpu({ kernels: 'kernels.json', without: ['subgroups', 'shader-f16'] })
const checks = [new NewTexts(device), new NewTexts(bare)]

export interface Page {
  info: string
  /** Ops this page knows. */
  ops: string[]
  /**
   * Runs a stored vector with and without the adapter's optional features, where it brings a kernel text that has
   * not run yet; what is wrong, or ''.
   */
  check(path: string): Promise<string>
  /** Vectors that ran so far, with and without optional features. */
  ran(): Promise<number[]>
  tokens(count: number): Promise<number[]>
  /** Code of the error that opening with these kernels gives. */
  openError(kernels: string): Promise<string>
}

const page: Page = {
  info: `${device.info.driver}, ${device.target.features.join(', ') || 'no optional features'}`,
  ops: allOps().map((op) => op.name),
  async check(path) {
    const response = await fetch(path)
    const vector = await decodeVector(new Uint8Array(await response.arrayBuffer()), path)
    for (const check of checks) {
      const wrong = await check.check(vector)
      if (wrong !== '') return wrong
    }
    return ''
  },
  ran: async () => checks.map((c) => c.ran),
  tokens: (count) => tinyModelTokens(device, count),
  openError: (kernels) =>
    openBrowserWebGpu({ kernels }).then(
      () => 'none',
      (error) => error.code,
    ),
}
Object.assign(globalThis, { exactmap: page })
