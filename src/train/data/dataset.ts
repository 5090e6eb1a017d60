import { extname } from 'node:path'
import { check, ExactmapError } from '../../errors.ts'
import { openNodeFile } from '../../formats/node_file.ts'
import type { Tokenizer } from '../../formats/tokenizer.ts'
import { decodeUtf8, jsonlDocuments, PLAIN_CHAT_TEMPLATE, textDocument } from './documents.ts'
import { openShard } from './shard.ts'
import { countBelow, JoinedTokens, MemoryTokens, type TokenRange, type TokenSource } from './tokens.ts'

/** Text and JSON lines are read whole; together they may have so many bytes. Token files have no limit. */
export const MAX_TEXT_BYTES = 256 * 2 ** 20

const KINDS = new Map<string, 'text' | 'jsonl' | 'shard'>([
  ['.txt', 'text'],
  ['.md', 'text'],
  ['.jsonl', 'jsonl'],
  ['.ndjson', 'jsonl'],
  ['.bin', 'shard'],
])

export interface DatasetSpec {
  /**
   * Paths, in the order of the data. By ending: `.txt` and `.md` are UTF-8 text, `.jsonl` and `.ndjson` one
   * `{"text"}` or `{"messages"}` a line, `.bin` tokens (nanoGPT's or llm.c's format, see `openShard`).
   */
  readonly files: readonly string[]
  /** Text files are cut into documents at every occurrence; without it each file is one document. */
  readonly separator?: string
  /** Jinja template for `messages`; default `PLAIN_CHAT_TEMPLATE`. */
  readonly chatTemplate?: string
  /**
   * The share of the data, from its end, that is never trained on; default 0. The cut is moved to the next
   * document start if there is one within half of that share, otherwise it falls inside a document.
   */
  readonly validation?: number
}

/** Half-open range of token positions. */
export interface Split {
  readonly start: number
  readonly end: number
}

/** One sequence of tokens over all files, with documents, weights, and a training and a validation part. */
export interface Dataset {
  /** In tokens. */
  readonly length: number
  readonly vocabSize: number
  /** Where documents are known to begin; token files only tell where they begin themselves. */
  readonly documents: ArrayLike<number>
  readonly train: Split
  readonly validation: Split
  /** Fills `into` with the tokens from `start` on. */
  read(start: number, into: TokenRange): Promise<void>
  /** Closes the token files. */
  close(): Promise<void>
}

/**
 * Opens training data. Text is tokenized here; every document gets the tokenizer's begin and end tokens.
 *
 * @throws ExactmapError `invalid_argument` for an unusable spec or ending, `not_found` and `io` from the file system,
 *   `invalid_format` for malformed, oversized or empty files: with the file, and line or byte where there is one
 */
export async function openDataset(spec: DatasetSpec, tokenizer: Tokenizer): Promise<Dataset> {
  const { validation = 0 } = spec
  check(spec.files.length > 0, 'invalid_argument', 'a dataset needs at least one file')
  check(spec.separator !== '', 'invalid_argument', 'the separator of documents must not be empty')
  check(
    validation >= 0 && validation < 1,
    'invalid_argument',
    `validation must be from 0 to below 1, got ${validation}`,
  )
  const kinds = spec.files.map(kindOf)
  const sources: TokenSource[] = []
  try {
    let budget = MAX_TEXT_BYTES
    for (const [i, path] of spec.files.entries()) {
      if (kinds[i] === 'shard') {
        sources.push(await openShard(path, tokenizer))
        continue
      }
      const bytes = await readText(path, budget)
      budget -= bytes.length
      const source = new MemoryTokens()
      if (kinds[i] === 'jsonl') {
        const template = spec.chatTemplate ?? PLAIN_CHAT_TEMPLATE
        for (const pieces of jsonlDocuments(bytes, path, template, tokenizer)) source.addDocument(pieces)
      } else {
        const text = decodeUtf8(bytes, path)
        for (const document of spec.separator === undefined ? [text] : text.split(spec.separator))
          source.addDocument(textDocument(document, tokenizer))
      }
      if (source.length > 0) sources.push(source)
    }
    const joined = new JoinedTokens(sources)
    check(joined.length > 0, 'invalid_format', `no text in ${spec.files.join(', ')}`)
    const cut = cutAt(joined, validation)
    return {
      length: joined.length,
      vocabSize: tokenizer.vocabSize,
      documents: joined.documents,
      train: { start: 0, end: cut },
      validation: { start: cut, end: joined.length },
      read: (start, into) => joined.read(start, into),
      close: () => joined.close(),
    }
  } catch (error) {
    for (const source of sources) await source.close()
    throw error
  }
}

function kindOf(path: string): 'text' | 'jsonl' | 'shard' {
  const kind = KINDS.get(extname(path).toLowerCase())
  check(
    kind !== undefined,
    'invalid_argument',
    () => `'${path}': unknown ending; training data ends in ${[...KINDS.keys()].join(', ')}`,
  )
  return kind
}

async function readText(path: string, budget: number): Promise<Uint8Array> {
  const file = await openNodeFile(path)
  try {
    if (file.size > budget)
      throw new ExactmapError(
        'invalid_format',
        `text files are read whole, at most ${MAX_TEXT_BYTES} bytes together; tokenize more than that into .bin files`,
        { file: path },
      )
    return await file.read(0, file.size)
  } finally {
    await file.close()
  }
}

/** The position where validation begins. */
function cutAt({ length, documents }: TokenSource, share: number): number {
  if (share === 0) return length
  const ideal = Math.floor(length * (1 - share))
  const after = countBelow(documents, ideal)
  const near = [documents[after - 1], documents[after]].filter(
    (start) => start !== undefined && start > 0 && Math.abs(start - ideal) <= (length * share) / 2,
  ) as number[]
  near.sort((a, b) => Math.abs(a - ideal) - Math.abs(b - ideal))
  return near[0] ?? ideal
}
