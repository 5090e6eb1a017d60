import { readdir, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { check, ExactmapError } from '../errors.ts'
import { isJsonObject, type JsonObject, parseJson } from './json.ts'
import { type NodeFile, openNodeFile } from './node_file.ts'
import {
  openSafetensors,
  parseSafetensorsIndex,
  type SafetensorsFile,
  type TensorInfo,
} from './safetensors.ts'

/** A folder as the Hugging Face hub lays it out: config.json, safetensors (one or sharded), tokenizer files. */

const CONFIG = 'config.json'
const WEIGHTS = 'model.safetensors'
const INDEX = 'model.safetensors.index.json'
/** Real ones are a few KB; label lists of classifiers reach some 100 KB. */
const MAX_CONFIG_BYTES = 8 * 2 ** 20
/** 400 bytes per tensor for 150,000 tensors, far above the largest mixture-of-experts models. */
const MAX_INDEX_BYTES = 64 * 2 ** 20

const OPTIONAL = {
  tokenizer: 'tokenizer.json',
  tokenizerConfig: 'tokenizer_config.json',
  chatTemplate: 'chat_template.jinja',
  generationConfig: 'generation_config.json',
} as const

/** Tensors by name over one or more safetensors files; shards are opened when first needed. */
export interface ModelWeights {
  /** All names, sorted. */
  names(): readonly string[]
  has(name: string): boolean
  /** @throws ExactmapError `not_found`, `invalid_format` (a broken shard), `io` */
  info(name: string): Promise<TensorInfo>
  /** All bytes of a tensor as stored. @throws as `info` */
  read(name: string): Promise<Uint8Array>
  /** `length` bytes of a tensor from its byte `offset`. @throws as `info`, `invalid_argument` */
  readRange(name: string, offset: number, length: number): Promise<Uint8Array>
}

export interface ModelFolder {
  /** Absolute. */
  readonly path: string
  /** config.json; the model families check what they need from it. */
  readonly config: Readonly<JsonObject>
  readonly weights: ModelWeights
  /** Absolute paths of the optional files that are there. */
  readonly files: Readonly<Partial<Record<keyof typeof OPTIONAL, string>>>
  /** Closes the weight files; reading afterwards fails. */
  close(): Promise<void>
}

/**
 * Opens a model folder. Reads config.json and the weights' header or index; no tensor yet.
 *
 * Every file must lie inside the folder after following links, so that a downloaded folder can't reach others.
 * The one exception is the hub's own cache, whose `snapshots/<revision>` link to `blobs` beside them.
 *
 * @throws ExactmapError `not_found` (folder, config or weights: says what is there), `invalid_config`
 *   (config.json is no JSON object or too large), `invalid_format` (weights), `io`
 */
export async function openModelFolder(path: string): Promise<ModelFolder> {
  const folder = resolve(path)
  const listed = await readdir(folder).catch((cause) => {
    throw new ExactmapError(
      'not_found',
      'expected a model folder (config.json and model.safetensors), found no folder; check the path',
      { file: folder },
      { cause },
    )
  })
  const found = listed.length === 0 ? 'it is empty' : `it holds ${listed.sort().slice(0, 20).join(', ')}`
  const locate = locator(folder, await realpath(folder))
  if (!listed.includes(CONFIG))
    throw new ExactmapError('not_found', `no ${CONFIG} in the model folder: ${found}`, { file: folder })
  const config = await readConfig(await locate(CONFIG))

  const files: Partial<Record<keyof typeof OPTIONAL, string>> = {}
  for (const [key, name] of Object.entries(OPTIONAL) as [keyof typeof OPTIONAL, string][])
    if (listed.includes(name)) files[key] = await locate(name)

  const open: NodeFile[] = []
  const openFile = async (name: string): Promise<SafetensorsFile> => {
    const file = await openNodeFile(await locate(name))
    open.push(file)
    return openSafetensors(file, join(folder, name))
  }
  const close = async (): Promise<void> => {
    await Promise.all(open.splice(0).map((file) => file.close()))
  }
  try {
    if (listed.includes(WEIGHTS)) {
      const file = await openFile(WEIGHTS)
      return {
        path: folder,
        config,
        files,
        close,
        weights: weightsOf([...file.tensors.keys()], async () => file, folder),
      }
    }
    if (listed.includes(INDEX)) {
      const index = parseSafetensorsIndex(
        await readWhole(await locate(INDEX), MAX_INDEX_BYTES, 'invalid_format'),
        INDEX,
      )
      return { path: folder, config, files, close, weights: shardedWeights(index, openFile, folder) }
    }
  } catch (error) {
    await close()
    throw error
  }
  const other = listed.some((name) => /\.(bin|pt|pth|gguf)$/.test(name))
    ? '; convert the weights to safetensors first'
    : ''
  throw new ExactmapError(
    'not_found',
    `neither ${WEIGHTS} nor ${INDEX} in the model folder: ${found}${other}`,
    {
      file: folder,
    },
  )
}

/** Resolves a file of the folder and refuses one that leads out of it. */
function locator(folder: string, real: string): (name: string) => Promise<string> {
  const parent = dirname(real)
  const isHubCache = basename(parent) === 'snapshots' && basename(dirname(parent)).startsWith('models--')
  const root = isHubCache ? dirname(parent) : real
  return async (name) => {
    const target = await realpath(join(folder, name)).catch((cause) => {
      throw new ExactmapError(
        'not_found',
        `no file '${name}' in the model folder`,
        { file: folder },
        { cause },
      )
    })
    check(
      target.startsWith(root.endsWith(sep) ? root : root + sep),
      'invalid_format',
      () => `'${name}' in ${folder} is a link to ${target}, outside the folder; copy the file there instead`,
    )
    return target
  }
}

async function readWhole(
  path: string,
  limit: number,
  code: 'invalid_config' | 'invalid_format',
): Promise<Uint8Array> {
  const file = await openNodeFile(path)
  try {
    check(file.size <= limit, code, () => `${path} has ${file.size} bytes, the limit is ${limit}`)
    return await file.read(0, file.size)
  } finally {
    await file.close()
  }
}

async function readConfig(path: string): Promise<JsonObject> {
  return parseConfigJson(await readWhole(path, MAX_CONFIG_BYTES, 'invalid_config'), path)
}

/** A configuration file's bytes to its object. @throws ExactmapError `invalid_config` with line and column */
export function parseConfigJson(bytes: Uint8Array, path: string): JsonObject {
  let config: unknown
  try {
    config = parseJson(bytes, path)
  } catch (cause) {
    throw new ExactmapError('invalid_config', (cause as Error).message, {}, { cause })
  }
  if (!isJsonObject(config))
    throw new ExactmapError('invalid_config', 'expected a JSON object', { file: path })
  return config
}

function weightsOf(
  names: readonly string[],
  fileOf: (name: string) => Promise<SafetensorsFile>,
  folder: string,
): ModelWeights {
  const sorted = [...names].sort()
  const known = new Set(sorted)
  const find = async (name: string): Promise<SafetensorsFile> => {
    if (!known.has(name))
      throw new ExactmapError('not_found', `no tensor '${name}' among the ${sorted.length} of the model`, {
        file: folder,
      })
    return fileOf(name)
  }
  return {
    names: () => sorted,
    has: (name) => known.has(name),
    info: async (name) => (await find(name)).tensors.get(name)!,
    read: async (name) => (await find(name)).read(name),
    readRange: async (name, offset, length) => (await find(name)).readRange(name, offset, length),
  }
}

function shardedWeights(
  index: ReadonlyMap<string, string>,
  openFile: (name: string) => Promise<SafetensorsFile>,
  folder: string,
): ModelWeights {
  const shards = new Map<string, Promise<SafetensorsFile>>()
  const fileOf = async (name: string): Promise<SafetensorsFile> => {
    const shard = index.get(name)!
    if (!shards.has(shard)) shards.set(shard, openFile(shard))
    const file = await shards.get(shard)!
    check(
      file.tensors.has(name),
      'invalid_format',
      () =>
        `${INDEX} places tensor '${name}' in ${shard}, which lacks it; the download is incomplete or mixed`,
    )
    return file
  }
  return weightsOf([...index.keys()], fileOf, folder)
}
