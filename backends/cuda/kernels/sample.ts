import { tensorType } from '../../../src/tensor/type.ts'
import { launchThreads } from './flat.ts'
import { type KernelRule, launch } from './rule.ts'

export const sample: KernelRule = ({ inputs }) => {
  const [rows, width] = inputs.logits!.shape as [number, number]
  const packs = Math.ceil(width / 4)
  return {
    launches: [
      launch(
        'sample',
        'sample',
        rows,
        [
          { port: 'logits', access: 'read' },
          { port: 'options', access: 'read' },
          { port: 'key', access: 'read' },
          { port: 'history', access: 'read' },
          { port: 'length', access: 'read' },
          { port: 'token', access: 'write' },
          { port: 'scores', access: 'read_write' },
        ],
        { width, packs, slots: inputs.history!.shape[1]! },
      ),
    ],
    scratch: { scores: tensorType('f32', rows, 4 * packs) },
  }
}

export const random_bits: KernelRule = ({ attrs: { count } }) => ({
  launches: [
    launchThreads(
      'random_bits',
      'random_bits',
      Math.ceil(count / 4),
      [
        { port: 'key', access: 'read' },
        { port: 'bits', access: 'write' },
      ],
      { count },
    ),
  ],
})
