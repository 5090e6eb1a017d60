import type { Device } from '../../backends/backend.ts'
import { explain, runVector, vectorProgram } from '../../src/verify/run.ts'
import type { Vector } from '../../src/verify/vector.ts'

/** Runs only vectors that bring a kernel text (modules, whatever the constants) that their op has not run here yet. */
export class NewTexts {
  private readonly seen = new Set<string>()
  ran = 0

  constructor(readonly device: Device) {}

  /** What is wrong with the vector, or '' also when it brings nothing new. */
  async check(vector: Vector): Promise<string> {
    const texts = vectorProgram(vector, this.device.target).kernels.map(
      (k) => `${vector.op}: ${k.modules.join('+')}`,
    )
    if (texts.every((text) => this.seen.has(text))) return ''
    for (const text of texts) this.seen.add(text)
    this.ran++
    return explain(await runVector(this.device, vector), this.device)
  }
}

/**
 * Runs a vector on a device, and, if its kernels are others without the optional features and have not run yet, on
 * one without them. Returns what is wrong, or ''.
 */
export async function checkVector(device: Device, bare: NewTexts, vector: Vector): Promise<string> {
  const wrong = explain(await runVector(device, vector), device)
  const kernels = (d: Device): string => JSON.stringify(vectorProgram(vector, d.target).kernels)
  if (wrong !== '' || kernels(device) === kernels(bare.device)) return wrong
  return bare.check(vector)
}
