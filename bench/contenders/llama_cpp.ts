import { createRequire } from 'node:module'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { packageRoot } from '../../backends/package_root.ts'
import { llama100m } from '../models.ts'
import type { Contender, OpenContender, Prepared } from '../suite/contender.ts'
import { promptOf } from '../suite/inputs.ts'
import { LLAMA_100M, type Work } from '../suite/works.ts'

/** What is used of node-llama-cpp, which is installed under bench/ only. */
interface Library {
  readonly LlamaLogLevel: { readonly error: string }
  getLlama(options: object): Promise<Llama>
  getModuleVersion(): Promise<string>
}

interface Llama {
  readonly gpu: string | false
  readonly llamaCppRelease: { readonly release: string }
  getGpuDeviceNames(): Promise<string[]>
  loadModel(options: object): Promise<LoadedModel>
}

interface LoadedModel {
  createContext(options: object): Promise<{ getSequence(): Sequence }>
  dispose(): Promise<void>
}

interface Sequence {
  evaluate(tokens: readonly number[], options: object): AsyncGenerator<number>
  clearHistory(): Promise<void>
}

const require = createRequire(join(packageRoot(), 'bench', 'package.json'))

/** llama.cpp on the CPU: the native yardstick for whole models. */
export const openLlamaCpp: OpenContender = () => openOn(false)

/** llama.cpp's Vulkan backend on the driver under test. */
export const openLlamaCppVulkan: OpenContender = () => {
  // It takes no CPU device on its own account, but does when told which: the driver under test is the only one.
  process.env.GGML_VK_VISIBLE_DEVICES = '0'
  return openOn('vulkan')
}

async function openOn(gpu: 'vulkan' | false): Promise<Contender | string> {
  let library: Library
  try {
    library = await import(pathToFileURL(require.resolve('node-llama-cpp')).href)
  } catch {
    return 'node-llama-cpp is not installed; run `npm install --no-save --prefix bench`'
  }
  const cores = cpus().length
  let llama: Llama
  let onError: (message: string) => void = () => {}
  try {
    // Only what is installed: nothing is fetched or compiled.
    llama = await library.getLlama({
      gpu,
      build: 'never',
      skipDownload: true,
      maxThreads: cores,
      logLevel: library.LlamaLogLevel.error,
      logger: (_level: string, message: string) => onError(message.trim()),
    })
  } catch (error) {
    return `node-llama-cpp has no library that works here: ${(error as Error).message}`
  }
  const names = gpu ? await llama.getGpuDeviceNames() : []
  if (gpu && names.length === 0) return 'llama.cpp sees no Vulkan device in this driver'
  return {
    name: gpu ? 'llama.cpp-vulkan' : 'llama.cpp',
    version: `${await library.getModuleVersion()}, llama.cpp ${llama.llamaCppRelease.release}`,
    kind: gpu ? 'vulkan' : 'native',
    device: gpu ? names.join(', ') : `CPU, ${cores} threads`,
    async prepare(work) {
      if (work.kind !== 'decode') return { unsupported: 'whole models only' }
      // Loading on a device that llama.cpp refuses says so in the log and never ends (node-llama-cpp 3.22.1).
      const refused = new Promise<{ unsupported: string }>((resolve) => {
        onError = (unsupported) => resolve({ unsupported })
      })
      return Promise.race([prepareDecode(llama, work, cores), refused])
    },
  }
}

async function prepareDecode(
  llama: Llama,
  { weights, prompt }: Work & { kind: 'decode' },
  threads: number,
): Promise<Prepared> {
  const model = await llama.loadModel({
    modelPath: (await llama100m()).gguf[weights],
    gpuLayers: llama.gpu ? 'max' : 0,
  })
  const context = await model.createContext({
    contextSize: LLAMA_100M.max_position_embeddings,
    flashAttention: true,
    threads,
  })
  const sequence = context.getSequence()
  const given = promptOf(prompt)
  let ids: number[] = []
  return {
    notes: `weights and embedding ${weights}, cache f16, flash attention; ids pass through JavaScript`,
    async run(times) {
      ids = []
      let first = 0
      await sequence.clearHistory()
      for await (const id of sequence.evaluate(given, { temperature: 0, yieldEogToken: true })) {
        if (ids.length === 0) first = performance.now()
        if (ids.push(id) > times) break
      }
      return (performance.now() - first) / times
    },
    sample: async (indices) => indices.map((i) => ids[i]!),
    release: () => model.dispose(),
  }
}
