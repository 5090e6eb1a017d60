import { ExactmapError } from '../../errors.ts'
import { type NodeFile, openNodeFile } from '../../formats/node_file.ts'
import type { Tokenizer } from '../../formats/tokenizer.ts'
import { type TokenRange, type TokenSource, tokenRange } from './tokens.ts'

/** llm.c's headers: magic number to version and bytes per token (llm.c, dev/data/data_common.py). */
const LLMC_FORMATS = new Map([
  [20240520, { version: 1, width: 2 }],
  [20240801, { version: 7, width: 4 }],
])
/** 256 int32: magic, version, number of tokens, zeros. */
const HEADER_BYTES = 1024
/** So much of each file is checked on opening, so that a wrong tokenizer shows before training starts. */
const CHECKED_TOKENS = 1 << 20

/**
 * Opens a file of tokens, read by ranges and never whole. Three formats, all little-endian, told apart by magic number:
 * - nanoGPT: nothing but u16 tokens; the end-of-text token closes each document
 * - llm.c, magic 20240520 version 1: header, then u16 tokens; the end-of-text token opens each document
 * - llm.c, magic 20240801 version 7: the same with u32 tokens
 *
 * Ids are checked against the vocabulary: the first 2^20 on opening, every other when it is read.
 *
 * @throws ExactmapError `not_found` or `io`; `invalid_format` for a foreign magic number or version, a size that
 *   does not fit, or an id outside the vocabulary
 */
export async function openShard(path: string, tokenizer: ShardTokenizer): Promise<TokenSource> {
  const file = await openNodeFile(path)
  try {
    const format = await readFormat(file, path, tokenizer)
    const shard = new Shard(file, path, tokenizer, format)
    await shard.read(0, tokenRange(Math.min(shard.length, CHECKED_TOKENS)))
    return shard
  } catch (error) {
    await file.close()
    throw error
  }
}

type ShardTokenizer = Pick<Tokenizer, 'vocabSize' | 'eos'>

interface ShardFormat {
  /** Byte of the first token. */
  readonly begin: number
  /** Bytes per token. */
  readonly width: number
  /** Whether the end-of-text token is a document's first (llm.c) or last (nanoGPT). */
  readonly eosOpens: boolean
}

function refuse(path: string, message: string): never {
  throw new ExactmapError('invalid_format', message, { file: path })
}

async function readFormat(file: NodeFile, path: string, { vocabSize }: ShardTokenizer): Promise<ShardFormat> {
  const { size } = file
  if (size === 0) refuse(path, 'the file is empty')
  const head = size < HEADER_BYTES ? new Uint8Array(12) : await file.read(0, 12)
  const view = new DataView(head.buffer, head.byteOffset)
  const [magic, version, count] = [0, 4, 8].map((at) => view.getInt32(at, true)) as [number, number, number]
  const known = LLMC_FORMATS.get(magic)
  if (known) {
    if (version !== known.version)
      refuse(path, `version ${version} of this format; version ${known.version} is read`)
    const expected = HEADER_BYTES + count * known.width
    if (count <= 0 || size !== expected)
      refuse(
        path,
        `the header says ${count} tokens, so ${expected} bytes, but the file has ${size}; was it cut off?`,
      )
    return { begin: HEADER_BYTES, width: known.width, eosOpens: true }
  }
  // Other files of llm.c carry dates as magic numbers too. As two u16 tokens they would be ids near 55,000 and 308,
  // and GPT-2's vocabulary ends at 50,256.
  if (magic >= 20240000 && magic < 20250000)
    refuse(path, `magic number ${magic} is not one of token files (${[...LLMC_FORMATS.keys()].join(', ')})`)
  if (size % 2 !== 0) refuse(path, `${size} bytes are no whole number of u16 tokens; was the file cut off?`)
  if (vocabSize > 2 ** 16)
    refuse(
      path,
      `a file of bare u16 tokens can't come from a tokenizer with ${vocabSize} tokens; use llm.c's u32 format`,
    )
  return { begin: 0, width: 2, eosOpens: false }
}

class Shard implements TokenSource {
  readonly length: number
  readonly documents = [0]

  constructor(
    private readonly file: NodeFile,
    private readonly path: string,
    private readonly tokenizer: ShardTokenizer,
    private readonly format: ShardFormat,
  ) {
    this.length = (file.size - format.begin) / format.width
  }

  async read(start: number, { tokens, weights, starts }: TokenRange): Promise<void> {
    const { tokenizer, path } = this
    const { begin, width, eosOpens } = this.format
    // One token more to the left: where the end-of-text token closes documents, it decides about the first token.
    const first = Math.max(0, start - 1)
    const bytes = await this.file.read(begin + first * width, (start + tokens.length - first) * width)
    const view = new DataView(bytes.buffer, bytes.byteOffset)
    let before = first < start ? readToken(view, 0, width) : tokenizer.eos
    for (let i = 0; i < tokens.length; i++) {
      const token = readToken(view, (start + i - first) * width, width)
      if (token >= tokenizer.vocabSize)
        refuse(
          path,
          `token ${start + i} is ${token}, but the tokenizer has ${tokenizer.vocabSize}; was it made with another one?`,
        )
      tokens[i] = token
      const opens = tokenizer.eos !== undefined && (eosOpens ? token : before) === tokenizer.eos
      starts[i] = opens || start + i === 0 ? 1 : 0
      before = token
    }
    weights.fill(1)
  }

  close(): Promise<void> {
    return this.file.close()
  }
}

const readToken = (view: DataView, at: number, width: number): number =>
  width === 2 ? view.getUint16(at, true) : view.getUint32(at, true)
