import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { parseSignatures } from '../../backends/cuda/signature.ts'
import { type CudaTarget, cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { kernelState, type VerifiedRecord } from '../../backends/cuda/verified.ts'
import { packageRoot } from '../../backends/package_root.ts'
import type { OpContract } from '../../src/ops/contract.ts'
import { checkCall, ops } from '../../src/ops/index.ts'
import { hashText } from '../../src/program/hash.ts'
import { cudaChoices } from '../helpers/cuda_choices.ts'

// docs/cuda_table.md is generated: `npx vitest run test/plan/cuda_table.test.ts -u` writes it anew.
const sources = readCudaSources()
const targets = Object.values(cudaTraits).map((traits) => cudaTarget(traits, sources))
const record: VerifiedRecord = JSON.parse(
  readFileSync(join(packageRoot(), 'kernels-cuda', 'verified.json'), 'utf8'),
)

/** Ops whose stored cases select each kernel. */
function users(target: CudaTarget): Map<string, Set<string>> {
  const all = new Map<string, Set<string>>()
  for (const contract of Object.values(ops) as OpContract[])
    for (const { attrs, inputs } of contract.cases) {
      const choices = cudaChoices(target, checkCall(contract, attrs, inputs))
      for (const { variant } of choices.flatMap((choice) => ('launches' in choice ? choice.launches : [])))
        all.set(variant, (all.get(variant) ?? new Set()).add(contract.name))
    }
  return all
}

function table(): string {
  const used = targets.map(users)
  const kernels = [...sources.keys()]
    .filter((file) => file.endsWith('.cu'))
    .flatMap((file) => parseSignatures(file.slice(0, -'.cu'.length), sources.get(file)!))
  const rows = kernels.map(({ name, module, threads }) => {
    const by = new Set(used.flatMap((one) => [...(one.get(name) ?? [])]))
    const states = targets.map((t) =>
      t.modules().includes(module) ? kernelState(record, t.arch, name, hashText(t.moduleText(module))) : '',
    )
    return `| ${[`\`${name}\``, `${module}.cu`, threads, [...by].join(', '), ...states].join(' | ')} |`
  })
  return [
    '# CUDA kernels and what has seen them',
    '',
    'Generated from `kernels-cuda/`, the kernel rules and `kernels-cuda/verified.json`. Every kernel here is compiled for',
    'each architecture without spills and passes its stored cases on the emulated device in CI; the columns say what real',
    'hardware has seen.',
    '',
    `| kernel | file | threads a block | ops | ${targets.map((t) => t.arch).join(' | ')} |`,
    `|---|---|---|---|${targets.map(() => '---|').join('')}`,
    ...rows,
    '',
  ].join('\n')
}

it('docs/cuda_table.md says what kernels and record say', async () => {
  await expect(table()).toMatchFileSnapshot('../../docs/cuda_table.md')
})
