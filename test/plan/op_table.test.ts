import { expect, it } from 'vitest'
import { readKernelLibrary } from '../../backends/webgpu/node/library.ts'
import { storedTarget, storedTargetNames } from '../../backends/webgpu/node/stored_targets.ts'
import type { OpContract } from '../../src/ops/contract.ts'
import { checkCall, ops } from '../../src/ops/index.ts'

// docs/op_table.md is generated: `npx vitest run test/plan/op_table.test.ts -u` writes it anew.
const library = readKernelLibrary()
const targets = storedTargetNames.map((name) => storedTarget(name, library))

/** Kernel variants that the cases of an op select on any of the known targets. */
function variants(contract: OpContract): string[] {
  const names = new Set<string>()
  for (const { attrs, inputs } of contract.cases)
    for (const target of targets) {
      const choice = target.choose(checkCall(contract, attrs, inputs))
      if ('unsupported' in choice) names.add(`unsupported: ${choice.unsupported}`)
      else for (const launch of choice.launches) names.add(launch.variant)
    }
  return [...names].sort()
}

function gradientOf({ gradient }: OpContract): string {
  if ('none' in gradient && typeof gradient.none === 'string') return `none: ${gradient.none}`
  return Object.keys(gradient).join(', ')
}

function table(): string {
  const rows = (Object.values(ops) as OpContract[]).map((contract) => {
    const cells = [
      `\`${contract.name}\``,
      contract.summary,
      Object.entries(contract.inputs)
        .map(([name, port]) => `${name}${port.optional ? '?' : ''}: ${port.formats.join(' ')}`)
        .join('; '),
      gradientOf(contract),
      variants(contract).join(', '),
      String(contract.cases.length),
    ]
    return `| ${cells.map((c) => c.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  })
  return [
    '# Ops',
    '',
    'Generated from the contracts and the WebGPU kernel rules. Variants are those that the stored cases select on the',
    `targets ${targets.map((t) => t.name).join(', ')}; the reference backend has every op.`,
    '',
    '| op | formula | inputs: formats | gradient for | WebGPU variants | cases |',
    '|---|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n')
}

it('docs/op_table.md says what the contracts say', async () => {
  await expect(table()).toMatchFileSnapshot('../../docs/op_table.md')
})
