import { elementCount } from '../../../src/tensor/type.ts'
import { type KernelRule, launch } from './rule.ts'

/** Blocks of 256 threads with four elements each. */
export const adamw: KernelRule = ({ attrs, inputs }) => {
  const count = elementCount(inputs.param!.shape)
  return {
    launches: [
      launch(
        'optimizer',
        'adamw',
        Math.ceil(count / 1024),
        [
          { port: 'param', access: 'read_write' },
          { port: 'moment1', access: 'read_write' },
          { port: 'moment2', access: 'read_write' },
          { port: 'gradient', access: 'read' },
          { port: 'hyper', access: 'read' },
          ...['norm', 'limit']
            .filter((port) => inputs[port])
            .map((port) => ({ port, access: 'read' }) as const),
        ],
        { count, boundary: attrs.boundary ?? count },
      ),
    ],
  }
}

export const square_sums: KernelRule = ({ inputs }) => ({
  launches: [
    launch(
      'optimizer',
      'square_sums',
      inputs.tiles!.shape[0]!,
      [
        { port: 'x', access: 'read' },
        { port: 'tiles', access: 'read' },
        { port: 'sums', access: 'write' },
      ],
      { count: elementCount(inputs.x!.shape) },
    ),
  ],
})

export const norm_of_sums: KernelRule = ({ inputs }) => ({
  launches: [
    launch(
      'optimizer',
      'norm_of_sums',
      1,
      [
        { port: 'sums', access: 'read' },
        { port: 'norm', access: 'write' },
      ],
      { count: elementCount(inputs.sums!.shape) },
    ),
  ],
})
