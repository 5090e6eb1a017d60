import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LoadOptions } from '../../backends/backend.ts'
import { knownVersion } from '../../backends/build/tools.ts'
import { loadAddon } from '../../backends/cuda/addon.ts'
import { BuiltCubins } from '../../backends/cuda/build/cubins.ts'
import { emulatedDriver, generatedFolder } from '../../backends/cuda/build/places.ts'
import type { CudaDevice } from '../../backends/cuda/device.ts'
import { readRecord } from '../../backends/cuda/images.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { walkerOf } from '../../backends/cuda/walker.ts'
import { type InferenceSpec, inferenceGraph } from '../../src/engine/inference_graph.ts'
import { predictDecode } from '../../src/engine/whole_step.ts'
import { ExactmapError } from '../../src/errors.ts'
import { familyOf } from '../../src/models/index.ts'
import { compile } from '../../src/program/compile.ts'
import type { Launch, Program, Segment, Transfer } from '../../src/program/program.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { Driver, loadInference, type Step } from '../models/drive.ts'
import { temporaryFolder, tinyConfigs, writeModelFolder } from '../models/tiny.ts'
import { asWords, RANK, words } from './tiny_device.ts'
import { encodeRaw, type RawRange, type RawStep, tinyImage, tinyProgram, WORDS } from './tiny_program.ts'

// A decode step as one persistent kernel against the graph of its launches, bit for bit; executable.test.ts does it in
// other orders of threads. With one thread of the host blocks run one after the other, each as far as it comes.

process.env.EXACTMAP_EMULATED_THREADS = '1'
const device = await emulatedDevice()
const nvcc = await knownVersion('nvcc')
const reason = typeof device === 'string' ? device : ''
let folder = ''

const spec: InferenceSpec = {
  context: 128,
  batch: 1,
  prefill: [64],
  weights: 'f16',
  kv: 'f16',
  logits: true,
}
const PROMPT = Array.from({ length: 40 }, (_, i) => 3 + ((29 * i) % 250))
const TOKENS = 64

describe.skipIf(reason)(`a step as one kernel${reason && ` (skipped: ${reason})`}`, () => {
  beforeAll(async () => {
    folder = await temporaryFolder()
  })
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true })
    if (typeof device !== 'string') device.destroy()
  })

  async function greedy(path: string, options: LoadOptions): Promise<Step[]> {
    const executable = await loadInference(device as CudaDevice, path, spec, undefined, options)
    const steps = await new Driver(executable, spec).greedy(PROMPT, TOKENS)
    executable.destroy()
    return steps
  }

  it.each([
    'llama',
    'qwen2',
    'gpt2',
  ] as const)(`%s: ${TOKENS} tokens have the logits of the graph`, async (name) => {
    const path = await writeModelFolder(join(folder, name), tinyConfigs[name])
    const want = await greedy(path, {})
    const got = await greedy(path, { whole: ['decode'] })
    expect(got.map((s) => s.token)).toEqual(want.map((s) => s.token))
    expect(got.map((s) => s.logits)).toEqual(want.map((s) => s.logits))
  }, 120_000)

  /** The last output of y = x + table, copy = x + table, z = y + copy, where the last step comes after the others. */
  async function lastOf(after: number[]): Promise<number[]> {
    const native = loadAddon().openDevice(0, emulatedDriver())
    native.loadModule('runtime_test', await tinyImage())
    const program = tinyProgram()
    const { steps, outputs } = program.segments[4]!
    const [first, last] = steps as [RawStep, RawStep]
    const [x, table, y] = first.pointers as [RawRange, RawRange, RawRange]
    const copy: RawRange = [y[0], 256, y[2]]
    steps.splice(
      1,
      1,
      { ...first, pointers: [x, table, copy] },
      { ...last, after, pointers: [y, copy, outputs[0]!.range] },
    )
    const arenas = program.arenas.map(({ kind, bytes }) => native.createArena(kind, bytes, true))
    const loaded = await native.loadProgram(encodeRaw(program), arenas, RANK)
    const z = asWords(
      await loaded.step(
        4,
        0,
        0,
        words(() => 5),
      ),
    )
    native.destroy()
    return z
  }

  // Steps of two blocks on four multiprocessors: the third is done where the first was, which the second was not.
  it('waits for every step that it comes after: without one of them the result is another', async () => {
    const want = Array.from({ length: WORDS }, (_, i) => 2 * (5 + i))
    expect(await lastOf([0, 1])).toEqual(want)
    expect(await lastOf([0])).not.toEqual(want)
  })
})

describe('what can be one kernel', () => {
  const sources = readCudaSources()
  const target = cudaTarget(cudaTraits['cuda-sm_90a']!, sources)
  const programOf = (batch: number, model: object = tinyConfigs.llama, on = target): Program => {
    const family = familyOf(model)
    return compile(inferenceGraph('tiny', family, family.parse(model), { ...spec, batch }), on)
  }
  const decode = (program: Program): Segment => program.segments.find(({ name }) => name === 'decode')!
  const refusalOf = (program: Program, segment: Segment): ExactmapError => {
    try {
      walkerOf(program, segment, target)
    } catch (error) {
      if (error instanceof ExactmapError) return error
    }
    throw new Error('it was not refused')
  }

  it('its text depends on kernels and constants, not on order and places', () => {
    const program = programOf(1)
    const segment = decode(program)
    const walker = walkerOf(program, segment, target)
    expect(walker.signature).toMatchObject({ name: 'walk', threads: 512, shared: 224256 })
    expect(walker.text.match(/^ {4}case \d+:$/gm)).toHaveLength(walker.kernels.length)
    const backwards = { ...segment, steps: segment.steps.toReversed() }
    expect(walkerOf(program, backwards, target).module).toBe(walker.module)
    expect(walkerOf(programOf(2), decode(programOf(2)), target).module).not.toBe(walker.module)
  })

  // A layer of the shape of Llama 3.2 1B.
  const layer = {
    ...tinyConfigs.llama,
    vocab_size: 128_256,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 1,
    num_attention_heads: 32,
    num_key_value_heads: 8,
  }
  it.for(['sm_90a', 'sm_103a'])(
    'nvcc compiles a layer of a 1B model for %s without spills',
    { timeout: 120_000 },
    async (arch, ctx) => {
      if (!nvcc) return ctx.skip('nvcc is not installed')
      const on = cudaTarget(cudaTraits[`cuda-${arch}`]!, sources)
      const program = programOf(1, layer, on)
      const { module, text, signature } = walkerOf(program, decode(program), on)
      expect(await new BuiltCubins(arch).image(module, text)).not.toHaveLength(0)
      const { walk } = (await readRecord(generatedFolder(arch), module))!.kernels!
      expect(walk).toMatchObject({ spillStores: 0, spillLoads: 0 })
      expect(walk!.registers * signature.threads).toBeLessThanOrEqual(65_536)
    },
  )

  it('names the launch that it can not be made of', () => {
    const many = programOf(64)
    const error = refusalOf(many, decode(many))
    expect(error.code).toBe('unsupported')
    expect(error.message).toMatch(/segment 'decode' can't be one kernel: of matmul_\w+ threads hold tiles/)
    expect(error.place).toMatchObject({ segment: 'decode', launch: expect.stringContaining('matmul') })
    const program = programOf(1)
    const segment = decode(program)
    const [first, ...rest] = segment.steps
    const wide = { ...(first as Launch), workgroups: [1, 2, 1] as const }
    expect(refusalOf(program, { ...segment, steps: [wide, ...rest] }).message).toContain(
      'more than one dimension',
    )
    const range = { arena: 'activations', offset: 0, bytes: 256 } as const
    const copy: Transfer = { ...(first as Launch), kind: 'transfer', from: range, to: range }
    expect(refusalOf(program, { ...segment, steps: [copy, ...rest] }).message).toContain('is no launch')
  })

  it('is predicted to be worth it where gaps are a tenth of a step', () => {
    const program = programOf(1)
    const own = { ...spec, context: 128 }
    const tiny = predictDecode(program, own)!
    expect(tiny.whole).toBe(true)
    expect(tiny.launches).toBe(decode(program).steps.length)
    // Every byte of the weights but the rows of the embedding that are not looked up.
    const weights = program.arenas.find((a) => a.kind === 'weights')!.bytes
    expect(tiny.bytes).toBeGreaterThan(weights / 2)
    expect(
      predictDecode({ ...program, target: { ...program.target, name: 'webgpu-lavapipe' } }, own),
    ).toBeUndefined()
  })
})
