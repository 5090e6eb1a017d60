import { describe, expect, it } from 'vitest'
import { readKernelLibrary } from '../../backends/webgpu/node/library.ts'
import { baselineTraits, webGpuTarget } from '../../backends/webgpu/target.ts'
import { inferenceSpec } from '../../src/engine/defaults.ts'
import { inferenceGraph } from '../../src/engine/inference_graph.ts'
import { familyOf } from '../../src/models/index.ts'
import { compile, programHash } from '../../src/program/compile.ts'
import { lifetimePicture, memoryReport } from '../../src/program/memory_report.ts'
import { printProgram } from '../../src/program/print.ts'
import type { Program } from '../../src/program/program.ts'
import { encodeProgram } from '../../src/program/serialise.ts'
import { verifyProgram } from '../../src/program/verify.ts'

// What tiny models become on WebGPU's default limits, as files to read and diff. After an intended change:
// npx vitest run test/plan/snapshot.test.ts -u, and look at the difference.
const models = {
  tiny_llama: {
    architectures: ['LlamaForCausalLM'],
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 128,
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
  },
  tiny_gpt2: {
    architectures: ['GPT2LMHeadModel'],
    n_embd: 64,
    n_layer: 2,
    n_head: 4,
    vocab_size: 128,
    n_positions: 64,
  },
}

const target = webGpuTarget(baselineTraits, readKernelLibrary())

function compileModel(config: object): Program {
  const family = familyOf(config)
  const shape = family.parse(config)
  // One bucket: the others differ in sizes only.
  const spec = { ...inferenceSpec(shape), prefill: [16] }
  return compile(inferenceGraph(family.name, family, shape, spec), target)
}

/** The linked text of every kernel; of those that differ in constants only, the first one's. */
function linkedText({ kernels }: Program): string {
  const seen = new Set<string>()
  return kernels
    .filter(({ modules }) => !seen.has(modules.join()) && seen.add(modules.join()))
    .map((k) => `// ${k.name} = ${k.modules.join(' + ')}\n${target.link(k)}`)
    .join('\n')
}

for (const [name, config] of Object.entries(models))
  describe(name, () => {
    const program = compileModel(config)

    it('keeps every rule', () => {
      verifyProgram(program, target)
    })

    it('compiles to the same bytes twice', () => {
      const again = compileModel(config)
      expect(programHash(again)).toBe(programHash(program))
      expect(encodeProgram(again)).toEqual(encodeProgram(program))
    })

    it('has the program, memory plan and kernels of its snapshots', async () => {
      await expect(printProgram(program)).toMatchFileSnapshot(`snapshots/${name}.program.txt`)
      const memory = `${JSON.stringify(memoryReport(program), null, 2)}\n\n${lifetimePicture(program)}`
      await expect(memory).toMatchFileSnapshot(`snapshots/${name}.memory.txt`)
      await expect(linkedText(program)).toMatchFileSnapshot(`snapshots/${name}.wgsl`)
    })

    it('needs at most a tenth more activation memory than any plan must', () => {
      expect(memoryReport(program).activationOverheadPercent).toBeLessThanOrEqual(10)
    })
  })
