import { randomBytes } from 'node:crypto'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { ExactmapError } from '../errors.ts'
import { type ByteSource, checkSize, layoutSafetensors, type TensorData } from './safetensors.ts'

/** Files on disk for the format readers and writers: the only file access below the engine. */

export interface NodeFile extends ByteSource {
  close(): Promise<void>
}

const code = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code

/** @throws ExactmapError `not_found` where the path leads nowhere, else `io` */
export function refuseIo(path: string, doing: string, cause: unknown): never {
  const missing = code(cause) === 'ENOENT' || code(cause) === 'ENOTDIR'
  throw new ExactmapError(
    missing ? 'not_found' : 'io',
    missing ? `no such file; check the path` : `${doing} failed: ${(cause as Error).message}`,
    { file: path },
    { cause },
  )
}

/**
 * Opens a regular file for range reads; nothing is read ahead or kept.
 *
 * @throws ExactmapError `not_found`, `io` (also for a folder or a device)
 */
export async function openNodeFile(path: string): Promise<NodeFile> {
  const handle = await open(path, 'r').catch((cause) => refuseIo(path, 'opening', cause))
  const stat = await handle.stat()
  if (!stat.isFile()) {
    await handle.close()
    throw new ExactmapError('io', 'expected a regular file', { file: path })
  }
  return {
    size: stat.size,
    read: (offset, length) => readRange(handle, path, stat.size, offset, length),
    close: () => handle.close(),
  }
}

async function readRange(
  handle: FileHandle,
  path: string,
  size: number,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const outside = offset < 0 || length < 0 || offset + length > size
  const refuse = (got: string): never => {
    throw new ExactmapError('io', `expected ${length} bytes at ${offset}, ${got}`, { file: path })
  }
  // Before allocating: a wrong length must not become a giant buffer.
  if (outside) refuse(`the file has ${size}`)
  const out = new Uint8Array(length)
  // One system call gives at most 2 GiB.
  for (let at = 0; at < length; ) {
    const { bytesRead } = await handle
      .read(out, at, Math.min(length - at, 2 ** 30), offset + at)
      .catch((cause) => refuseIo(path, 'reading', cause))
    if (bytesRead === 0) refuse(`it ended after ${at}: it was shortened while open`)
    at += bytesRead
  }
  return out
}

/**
 * Writes a file so that its path never shows a part of it: into a temporary file of the same folder, synced,
 * then renamed, then the folder synced. On any failure the temporary file is removed and an old file stays.
 *
 * @param chunks written in order as they come; errors they throw are passed on
 * @throws ExactmapError `not_found` for a missing folder, `io`
 */
export async function writeFileAtomic(
  path: string,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`)
  const io = (cause: unknown): never => refuseIo(path, 'writing', cause)
  const handle = await open(temporary, 'wx').catch(io)
  try {
    try {
      for await (const chunk of chunks) await handle.writeFile(chunk).catch(io)
      await handle.sync().catch(io)
    } finally {
      await handle.close()
    }
    await rename(temporary, path).catch(io)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  const folder = await open(dirname(path), 'r').catch(io)
  try {
    await folder.sync().catch(io)
  } finally {
    await folder.close()
  }
}

/** A tensor to write whose bytes may be made piece by piece, in order, when the writer gets to it. */
export interface StreamedTensor extends Omit<TensorData, 'bytes'> {
  readonly bytes: Uint8Array | (() => Iterable<Uint8Array> | AsyncIterable<Uint8Array>)
}

/**
 * Writes a safetensors file of any size, atomically; at most one piece of one tensor is in memory at a time.
 * The same tensors and metadata give the same bytes, whatever their order.
 *
 * @throws ExactmapError `invalid_argument` (names, types, sizes), `not_found`, `io`
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly StreamedTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { header, order } = layoutSafetensors(tensors, metadata)
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield header
    for (const { tensor, bytes } of order) yield* pieces(tensor, bytes)
  }
  await writeFileAtomic(path, chunks())
}

/** The pieces of one tensor. @throws ExactmapError `invalid_argument` if they are not `expected` bytes in all */
export async function* pieces(
  tensor: Pick<StreamedTensor, 'name' | 'bytes'>,
  expected: number,
): AsyncGenerator<Uint8Array> {
  let got = 0
  for await (const piece of typeof tensor.bytes === 'function' ? tensor.bytes() : [tensor.bytes]) {
    got += piece.length
    if (got > expected) checkSize(tensor.name, expected, got)
    yield piece
  }
  checkSize(tensor.name, expected, got)
}
