import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { Device } from '../../backends/backend.ts'
import type { CollectiveAlgorithm, CollectiveKind } from '../../src/parallel/collectives/algorithm.ts'
import { direct } from '../../src/parallel/collectives/direct.ts'
import { hierarchical } from '../../src/parallel/collectives/hierarchical.ts'
import { oneStep } from '../../src/parallel/collectives/one_step.ts'
import { ring } from '../../src/parallel/collectives/ring.ts'
import { tree } from '../../src/parallel/collectives/tree.ts'
import {
  type CollectiveVector,
  readCollective,
  runCollective,
  storedCollectives,
  wrongMember,
} from './collectives.ts'

/** `direct`, which does every collective, and whoever else does this one. */
function algorithmsOf({ call }: CollectiveVector): CollectiveAlgorithm[] {
  const { size } = call.attrs as { size: number }
  const nodes = [2, 4].filter((nodeSize) => size % nodeSize === 0 && nodeSize < size)
  const others: CollectiveAlgorithm[] = [oneStep, ring, tree, ...nodes.map(hierarchical)]
  return [direct, ...others.filter((algorithm) => algorithm[call.op as CollectiveKind])]
}

/**
 * Tests of devices: every stored vector of a collective by every algorithm. Ranks may share a device.
 *
 * @param most members a vector may have
 */
export function collectiveSuite(deviceOf: (rank: number) => Device, root: string, most = 8): void {
  const names = Object.keys(storedCollectives()).sort()

  it('has a stored vector for every collective and size', () => {
    const files = readdirSync(join(root, 'collectives')).sort()
    expect(files).toEqual(names.map((name) => `${name}.safetensors`))
  })

  it.each(names.filter((name) => Number(name.split('_').at(-1)) <= most))('%s', async (name) => {
    const vector = await readCollective(root, name)
    const { op } = vector.call
    for (const algorithm of algorithmsOf(vector)) {
      const got = await runCollective(deviceOf, vector, { choose: () => algorithm })
      expect(wrongMember(vector, got), algorithm.name).toBe('')
      if (op !== 'reduce_scatter' && op !== 'all_to_all')
        for (const one of got) expect(one, algorithm.name).toEqual(got[0])
      if (algorithm.memberOrder && (op === 'all_reduce' || op === 'reduce_scatter'))
        expect(got.map(({ y }) => floats(y!))).toEqual(inMemberOrder(vector))
    }
  })
}

const floats = ({ buffer, byteOffset, byteLength }: Uint8Array): Float32Array =>
  new Float32Array(buffer, byteOffset, byteLength / 4)

/** What each member gets when x0 + x1 + … is added in f32 from left to right. */
function inMemberOrder({ call, inputs, outputs }: CollectiveVector): Float32Array[] {
  const [first, ...rest] = inputs.map(({ x }) => floats(x!.bytes))
  const sum = rest.reduce((total, term) => total.map((v, i) => v + term[i]!), first!)
  if (call.op === 'all_reduce') return outputs.map(() => sum)
  const part = sum.length / outputs.length
  return outputs.map((_, member) => sum.slice(member * part, (member + 1) * part))
}
