import { describe, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { constantNames, parseSignatures } from '../../backends/cuda/signature.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import type { OpContract } from '../../src/ops/contract.ts'
import { checkCall, ops } from '../../src/ops/index.ts'
import { cudaChoices } from '../helpers/cuda_choices.ts'

// What can be said of CUDA kernels without a compiler or a device.
const sources = readCudaSources()

describe.each(Object.values(cudaTraits))('$name', (traits) => {
  const target = cudaTarget(traits, sources)
  const selected = new Map<string, Set<string>>()
  const unsupported: string[] = []
  for (const contract of Object.values(ops) as OpContract[])
    for (const { name, attrs, inputs } of contract.cases) {
      const call = checkCall(contract, attrs, inputs)
      for (const choice of cudaChoices(target, call))
        if ('unsupported' in choice) unsupported.push(`${contract.name}/${name}: ${choice.unsupported}`)
        else
          for (const launch of choice.launches) {
            // Linking checks module and constants.
            target.link({ name: launch.variant, modules: launch.modules, constants: launch.constants })
            selected.set(launch.variant, (selected.get(launch.variant) ?? new Set()).add(contract.name))
          }
    }

  it('runs every stored case', () => expect(unsupported).toEqual([]))

  it('has no kernel that no stored case selects', () => {
    const declared = target.modules().flatMap((module) => target.kernels(module))
    expect(declared.filter((name) => !selected.has(name))).toEqual([])
  })
})

describe('declarations', () => {
  it('are read with their parameters', () => {
    const text =
      'KERNEL(demo, 128, STREAMED const float* x, OPTIONAL const void *w, float* __restrict__ y, uint32_t rows,\n  float eps) {\n}'
    expect(parseSignatures('m', text)).toEqual([
      {
        name: 'demo',
        module: 'm',
        threads: 128,
        shared: 0,
        cluster: 1,
        parameters: [
          { kind: 'pointer', name: 'x', optional: false, streamed: true },
          { kind: 'pointer', name: 'w', optional: true, streamed: false },
          { kind: 'pointer', name: 'y', optional: false, streamed: false },
          { kind: 'scalar', name: 'rows', type: 'u32' },
          { kind: 'scalar', name: 'eps', type: 'f32' },
        ],
      },
    ])
  })

  it('have dynamic shared memory and tensor maps', () => {
    const [found] = parseSignatures(
      'm',
      'KERNEL_SHARED(demo, 384, 4096, TENSOR_MAP x, const float* y, uint32_t n) {\n}',
    )
    expect(found).toEqual({
      name: 'demo',
      module: 'm',
      threads: 384,
      shared: 4096,
      cluster: 1,
      parameters: [
        { kind: 'tensor_map', name: 'x' },
        { kind: 'pointer', name: 'y', optional: false, streamed: false },
        { kind: 'scalar', name: 'n', type: 'u32' },
      ],
    })
    expect(parseSignatures('m', 'KERNEL_CLUSTER(demo, 384, 4096, 2, uint32_t n) {\n}')[0]).toMatchObject({
      threads: 384,
      shared: 4096,
      cluster: 2,
    })
    expect(constantNames(found!)).toEqual(['x.format', 'x.rows', 'x.width', 'x.box_rows', 'x.box_width', 'n'])
  })

  it('for one architecture are known to its target only', () => {
    const library = new Map([
      ['one.cu', 'KERNEL(one, 32, float* x) {}'],
      ['two.sm_90a.cu', 'KERNEL(two, 32, float* x) {}'],
    ])
    const [hopper, blackwell] = ['cuda-sm_90a', 'cuda-sm_103a'].map((name) =>
      cudaTarget(cudaTraits[name]!, library),
    )
    expect(hopper!.modules()).toEqual(['one', 'two.sm_90a'])
    expect(blackwell!.modules()).toEqual(['one'])
    expect(() => blackwell!.signature('two')).toThrow("no kernel 'two'")
  })

  it.each([
    ['KERNEL_SHARED(demo, 128, float* x) {', 'of the form'],
    ['KERNEL(demo, THREADS, float* x) {', 'of the form'],
    ['KERNEL(demo, 128, float* x, size_t n) {', 'size_t n'],
    ['KERNEL(demo, 128, float* x, unsigned int n) {', 'unsigned int n'],
  ])('of another form are refused: %s', (text, words) => {
    expect(() => parseSignatures('m', text)).toThrow(words)
  })
})
