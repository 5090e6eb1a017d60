/** The random model of the suite as files: a Hugging Face folder and GGUF files of it, made once from a formula. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { packageRoot } from '../backends/package_root.ts'
import { openModelFolder } from '../src/formats/model_folder.ts'
import { type StreamedTensor, writeSafetensors } from '../src/formats/node_file.ts'
import { exportGguf } from '../src/models/gguf_export.ts'
import { familyOf } from '../src/models/index.ts'
import { hashOf } from '../src/program/hash.ts'
import { formatOf } from '../src/tensor/format.ts'
import { trainBpe } from '../src/train/tokenizer_training.ts'
import { valueAt } from './suite/inputs.ts'
import { LLAMA_100M } from './suite/works.ts'

/** GGUF formats that the decode works need. */
const ggufFormats = ['f16', 'q8_0'] as const
export type GgufFormat = (typeof ggufFormats)[number]

export interface ModelFiles {
  /** config.json, model.safetensors (f16), tokenizer.json. */
  readonly folder: string
  readonly gguf: Readonly<Record<GgufFormat, string>>
}

export type OnProgress = (what: string) => void

/** Names the formula of the values below: another one gives other files. */
const FORMULA = 1
/** Apart from the streams of inputs. */
const STREAM = 10
/** Elements made at a time. */
const PIECE = 1 << 20

/**
 * LLAMA_100M under dist/bench/models. The first call makes it, which takes ten seconds and 510 MB; processes
 * that do so at the same time don't disturb each other.
 */
export async function llama100m(onProgress: OnProgress = () => {}): Promise<ModelFiles> {
  const models = join(packageRoot(), 'dist', 'bench', 'models')
  const name = `llama_100m_${hashOf([LLAMA_100M, FORMULA]).slice(0, 8)}`
  const folder = join(models, name)
  if (!existsSync(folder)) await makeWhole(folder, (temporary) => writeFolder(temporary, onProgress))
  const gguf = Object.fromEntries(
    ggufFormats.map((format) => [format, join(models, `${name}_${format}.gguf`)]),
  ) as ModelFiles['gguf']
  for (const format of ggufFormats) {
    if (existsSync(gguf[format])) continue
    onProgress(`writing the random Llama as GGUF, ${format}`)
    const opened = await openModelFolder(folder)
    await exportGguf(opened, gguf[format], { format })
    await opened.close()
  }
  return { folder, gguf }
}

/** Makes a folder under another name and renames it once it is complete; another process may have been faster. */
async function makeWhole(folder: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${folder}.${randomBytes(6).toString('hex')}.tmp`
  await mkdir(temporary, { recursive: true })
  try {
    await make(temporary)
    await rename(temporary, folder).catch((error) => {
      if (!existsSync(folder)) throw error
    })
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

async function writeFolder(folder: string, onProgress: OnProgress): Promise<void> {
  let made = 0
  const family = familyOf(LLAMA_100M)
  // Tensors take consecutive elements of one stream: no two of them are alike.
  const tensors = family.parameters(family.parse(LLAMA_100M)).flatMap(({ name, shape, from }) => {
    const [, columns = 1] = shape
    return from.map((source): StreamedTensor => {
      const [first, count] = [made, source.rows * columns]
      made += count
      return {
        name: source.name,
        dtype: 'F16',
        shape: shape.length > 1 ? [source.rows, columns] : [source.rows],
        *bytes() {
          onProgress(`making the random Llama, ${source.name}`)
          for (let at = 0; at < count; at += PIECE)
            yield values(first + at, Math.min(PIECE, count - at), scaleOf(name, shape))
        },
      }
    })
  })
  await writeSafetensors(join(folder, 'model.safetensors'), tensors, { format: 'pt' })
  await writeFile(join(folder, 'config.json'), JSON.stringify(LLAMA_100M))
  // Bytes alone: the works feed ids, and ids above the tokenizer's are never shown as text.
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(trainBpe([], { vocabSize: 257 })))
}

interface Scale {
  readonly middle: number
  readonly deviation: number
}

/**
 * Matrices keep the scale of what they multiply. Embedding and head have 0.5: logits, of normalised rows of 768, then
 * have a standard deviation of 14, and the largest of 16,384 mostly leads the next by a few units. Of the eight ids after
 * the suite's prompt the closest leads by 0.17 with f16 weights (activations rounded to f16 move logits by some 0.02) and
 * by 0.66 with q8_0 (llama.cpp rounds activations to q8_0 as well, which moves them by some 0.2).
 */
const scaleOf = (name: string, shape: readonly number[]): Scale =>
  shape.length === 1
    ? { middle: 1, deviation: 0.2 }
    : { middle: 0, deviation: /^(embed|head)\./.test(name) ? 0.5 : 1 / Math.sqrt(shape[1]!) }

/** Elements of the stream as f16. Uniform values in [-1, 1) have a standard deviation of 1 / sqrt(3). */
function values(first: number, count: number, { middle, deviation }: Scale): Uint8Array {
  const out = new Float32Array(count)
  const factor = deviation * Math.sqrt(3)
  for (let i = 0; i < count; i++) out[i] = middle + factor * valueAt(STREAM, first + i)
  return formatOf('f16')
    .encode(out)
    .subarray(0, 2 * count)
}
