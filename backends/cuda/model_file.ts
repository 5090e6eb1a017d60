import { ByteWriter, fnv1a } from './byte_writer.ts'

/** An inference program with everything `exactmap-cuda run` needs to drive it; the weights lie in files beside it. */
export interface ModelFile {
  readonly name: string
  /** The program file of an inference graph (src/engine/inference_graph.ts). */
  readonly program: Uint8Array
  readonly context: number
  readonly batch: number
  /** Tokens of a KV page. */
  readonly pageTokens: number
  /** Prefill segments, rows ascending. */
  readonly prefill: readonly { readonly rows: number; readonly segment: string }[]
  /** The decode segment, and the output of every segment that has the sampled ids. */
  readonly decode: string
  readonly token: string
  /** Paths of the weight files, relative to the folder. */
  readonly files: readonly string[]
  readonly tensors: readonly ModelTensor[]
  /** What each id prints, by id. */
  readonly tokens: readonly Uint8Array[]
  /** Ids that end a text. */
  readonly stop: readonly number[]
  /** Ids that are continued where none are given. */
  readonly prompt: readonly number[]
}

/** Where a tensor's bytes lie in a file, and where they go. */
export interface ModelTensor {
  readonly name: string
  readonly arena: string
  readonly offset: number
  readonly bytes: number
  /** Index into `files`. */
  readonly file: number
  readonly fileOffset: number
  /** `tensorChecksum` of the bytes. */
  readonly checksum: bigint
}

export const MODEL_FILE_VERSION = 1

/** Encodes the file model.exm; the format is described in executable/model_file.h. */
export function encodeModelFile(model: ModelFile): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter()
  out.text(model.name)
  out.blob(model.program)
  out.u32(model.context)
  out.u32(model.batch)
  out.u32(model.pageTokens)
  out.list(model.prefill, ({ rows, segment }) => {
    out.u32(rows)
    out.text(segment)
  })
  out.text(model.decode)
  out.text(model.token)
  out.list(model.files, (path) => out.text(path))
  out.list(model.tensors, (tensor) => {
    out.text(tensor.name)
    out.text(tensor.arena)
    out.u64(tensor.offset)
    out.u64(tensor.bytes)
    out.u32(tensor.file)
    out.u64(tensor.fileOffset)
    out.u64(tensor.checksum)
  })
  out.list(model.tokens, (token) => {
    out.u32(token.byteLength)
    out.bytes(token)
  })
  out.list(model.stop, (id) => out.u32(id))
  out.list(model.prompt, (id) => out.u32(id))
  return out.finish('EXMMODEL', MODEL_FILE_VERSION)
}

/** What identifies a tensor's bytes in a file: over words, since weights are large. */
export const tensorChecksum = (bytes: Uint8Array): bigint => fnv1a(bytes, 8)
