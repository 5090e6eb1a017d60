import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { readKernelLibrary } from '../../backends/webgpu/node/library.ts'
import { storedTarget } from '../../backends/webgpu/node/stored_targets.ts'
import { inferenceSpec } from '../../src/engine/defaults.ts'
import { inferenceGraph } from '../../src/engine/inference_graph.ts'
import { familyOf } from '../../src/models/index.ts'
import { compile } from '../../src/program/compile.ts'
import { tinyConfigs } from '../models/tiny.ts'

// How many launches a token costs: a layer is norm, qkv, rope with kv_write, attention, projection (+ residual),
// norm, gate and up with swiglu, down (+ residual). GPT-2 has no rope and its activation rides on the matmul.
const target = storedTarget('webgpu-lavapipe', readKernelLibrary())
const bundled = JSON.parse(readFileSync(join(packageRoot(), 'assets', 'shakespeare', 'config.json'), 'utf8'))

function launches(json: object, portable = false): { perLayer: number; around: number; decode: number } {
  const family = familyOf(json)
  const config = family.parse(json)
  const program = compile(inferenceGraph('count', family, config, inferenceSpec(config)), target, {
    portable,
  })
  const { steps } = program.segments.find((s) => s.name === 'decode')!
  const inLayers = steps.filter((s) => s.name.startsWith('layer.')).length
  return { perLayer: inLayers / config.layers, around: steps.length - inLayers, decode: steps.length }
}

it('a decoded token takes 8 launches a layer, and 6 around them in a Llama, 8 in GPT-2', () => {
  expect(launches(bundled)).toEqual({ perLayer: 8, around: 6, decode: 38 })
  expect(launches(tinyConfigs.gpt2)).toEqual({ perLayer: 8, around: 8, decode: 24 })
})

it('of which fusion saved four a layer in a Llama and three in GPT-2', () => {
  expect(launches(bundled, true).perLayer).toBe(12)
  expect(launches(tinyConfigs.gpt2, true).perLayer).toBe(11)
})
