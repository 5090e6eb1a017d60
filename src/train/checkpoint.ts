import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { check, ExactmapError } from '../errors.ts'
import { parseJson } from '../formats/json.ts'
import { type NodeFile, openNodeFile, refuseIo, writeSafetensors } from '../formats/node_file.ts'
import { openSafetensors, type SafetensorsFile } from '../formats/safetensors.ts'
import { cutRuns, putRuns, type Run, runElements, takeShard } from '../models/shard.ts'
import { broadcastNumbers, broadcastText, collectBytes, hostChannel } from '../parallel/host_messages.ts'
import { hashBytes } from '../program/hash.ts'
import type { ArenaKind } from '../program/program.ts'
import { elementCount, sameShape } from '../tensor/type.ts'
import type { TrainingLayout } from './division.ts'
import { stateArenas, type Trainer } from './trainer.ts'

/**
 * A checkpoint is a folder `checkpoint-<step>` with
 * - state.<rank>.safetensors, one for each rank that saved: parameters and moments in f32, `<arena>/<parameter>`. What
 *   is only a part of a tensor says in the file's metadata, under its name, where its elements are in the whole;
 * - state.json: step, seeds and hashes, and the sha-256 of every file.
 * Ranks of any other number and grid read it. It is written beside and renamed, so a crash or a full disk leaves the
 * previous one as it was.
 */
const stateSchema = z.object({
  format: z.literal('exactmap-checkpoint'),
  version: z.literal(2),
  step: z.number().int().nonnegative(),
  seed: z.number().int().nonnegative(),
  /** Microbatches taken from the data so far: the sampler's whole state. */
  cursor: z.number().int().nonnegative(),
  tokens: z.number().nonnegative(),
  seconds: z.number().nonnegative(),
  /** What fixes the numbers: see `RankProgram.numerics`. */
  program: z.string(),
  data: z.string(),
  /** sha-256 of every file, by its name. */
  files: z.record(z.string().regex(/^state\.\d+\.safetensors$/), z.string()),
})

export type CheckpointState = z.infer<typeof stateSchema>

const count = z.number().int().nonnegative()
const pieceSchema = z.strictObject({
  shape: z.array(count),
  runs: z.array(z.strictObject({ start: count, length: count, count, stride: count })),
})

const folderName = (step: number): string => `checkpoint-${String(step).padStart(7, '0')}`

/** Steps of the complete checkpoints in a folder, ascending. */
export async function listCheckpoints(output: string): Promise<number[]> {
  if (!existsSync(output)) return []
  const names = await readdir(output)
  return names
    .filter((n) => /^checkpoint-\d{7,}$/.test(n) && existsSync(join(output, n, 'state.json')))
    .map((n) => Number(n.slice('checkpoint-'.length)))
    .sort((a, b) => a - b)
}

/** Writes a checkpoint, every rank its part, and removes the oldest beyond `keep`. All ranks call it together. */
export async function saveCheckpoint(
  output: string,
  trainer: Trainer,
  about: { readonly tokens: number; readonly seconds: number; readonly data: string },
  keep: number,
): Promise<void> {
  const transport = trainer.rank?.transport
  const first = (transport?.rank ?? 0) === 0
  const own = `.checkpoint-${randomBytes(6).toString('hex')}`
  const name = transport ? await broadcastText(transport, hostChannel.state, own) : own
  const temporary = join(output, name)
  try {
    await mkdir(temporary, { recursive: true })
    const digest = await writePart(join(temporary, fileName(transport?.rank ?? 0)), trainer)
    const digests = transport ? await collectBytes(transport, hostChannel.state, digest) : [digest]
    if (first) {
      const { config } = trainer
      const state: CheckpointState = {
        format: 'exactmap-checkpoint',
        version: 2,
        step: trainer.step,
        seed: config.seed,
        cursor: trainer.step * config.accumulation,
        program: trainer.compiled.numerics,
        ...about,
        files: Object.fromEntries(
          digests.flatMap((bytes, rank) =>
            bytes.every((b) => b === 0) ? [] : [[fileName(rank), hex(bytes)]],
          ),
        ),
      }
      await writeFile(join(temporary, 'state.json'), `${JSON.stringify(state, null, 2)}\n`, { flush: true })
      const final = join(output, folderName(trainer.step))
      await rm(final, { recursive: true, force: true })
      await rename(temporary, final)
    }
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {})
    if (cause instanceof ExactmapError) throw cause
    throw new ExactmapError(
      'io',
      `the checkpoint of step ${trainer.step} could not be written (${(cause as Error).message}); the previous one is unchanged`,
      { file: output },
      { cause },
    )
  }
  if (first) {
    const steps = await listCheckpoints(output)
    for (const step of steps.slice(0, Math.max(0, steps.length - keep)))
      await rm(join(output, folderName(step)), { recursive: true, force: true })
  }
  // Nobody goes on before the checkpoint is where it belongs.
  if (transport) await broadcastNumbers(transport, 0, hostChannel.state, new Float64Array(1))
}

/** Removes what a save left behind that did not come to its end. */
export async function removeUnfinished(output: string): Promise<void> {
  for (const name of await readdir(output))
    if (name.startsWith('.checkpoint-')) await rm(join(output, name), { recursive: true, force: true })
}

const fileName = (rank: number): string => `state.${rank}.safetensors`
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Writes what this rank is the first to have. Returns the file's sha-256, or zeros where there is nothing. */
async function writePart(path: string, trainer: Trainer): Promise<Uint8Array> {
  const { place, grid, compiled } = trainer
  const { layout, division } = compiled
  const tensors = []
  const metadata: Record<string, string> = {}
  for (const kind of stateArenas) {
    // Data ranks have the same parameters; moments too, unless they divide them.
    if (place.data > 0 && (kind === 'parameters' || grid.zero === 0)) continue
    const arena = trainer.arena(kind)
    const bytes = await arena.read(0, arena.plan.bytes)
    for (const { name, shard } of division.firstHeld(place)) {
      if (shard.replicated && place.tensor > 0) continue
      const { from, to, at } = heldRange(layout, kind, name)
      if (from >= to) continue
      const runs = cutRuns(shard.runs, from, to)
      const key = `${kind}/${name}`
      const whole = to - from === elementCount(shard.spec.shape)
      tensors.push({
        name: key,
        dtype: 'F32',
        shape: whole ? shard.spec.shape : [to - from],
        bytes: bytes.subarray(at, at + 4 * (to - from)),
      })
      if (!whole) metadata[key] = JSON.stringify({ shape: shard.spec.shape, runs })
    }
  }
  if (tensors.length === 0) return new Uint8Array(32)
  await writeSafetensors(path, tensors, metadata)
  return Buffer.from(hashBytes(await readFile(path)), 'hex')
}

/** Elements of this rank's part of a parameter that an arena holds, and the byte where they begin in it. */
function heldRange(
  { layouts, owned }: TrainingLayout,
  kind: (typeof stateArenas)[number],
  name: string,
): { readonly from: number; readonly to: number; readonly at: number } {
  const { offset, bytes } = layouts.parameters!.tensors.find((t) => t.name === name)!
  const [begin, end] = kind === 'parameters' ? [0, Number.POSITIVE_INFINITY] : owned
  const [from, to] = [Math.max(offset, begin), Math.min(offset + bytes, end)]
  return { from: (from - offset) / 4, to: (to - offset) / 4, at: from - begin }
}

/**
 * Loads a checkpoint into a trainer of the same model, on any grid. All ranks call it together.
 *
 * @throws `conflict` when program, seed or data differ and `allowNumericChange` is not set: the run would not
 *   continue with the same numbers; `invalid_format` for damaged files.
 */
export async function loadCheckpoint(
  output: string,
  step: number,
  trainer: Trainer,
  data: string,
  allowNumericChange: boolean,
): Promise<CheckpointState> {
  const folder = join(output, folderName(step))
  const state = await readState(folder)
  const expected = {
    program: trainer.compiled.numerics,
    seed: trainer.config.seed,
    data,
    cursor: state.step * trainer.config.accumulation,
  }
  for (const key of ['program', 'seed', 'data', 'cursor'] as const)
    if (state[key] !== expected[key] && !allowNumericChange)
      throw new ExactmapError(
        'conflict',
        `the checkpoint was made with ${key} ${state[key]}, this run has ${expected[key]}: it would not continue with the same numbers. Give --allow-numeric-change to continue anyway`,
        { file: folder },
      )
  const files = Object.entries(state.files)
  const { rank, size } = trainer.rank?.transport ?? { rank: 0, size: 1 }
  for (const [i, [name, sha256]] of files.entries()) {
    // Each rank checks some of them; one that finds damage ends all.
    if (i % size !== rank) continue
    const path = join(folder, name)
    check(
      hashBytes(await readFile(path).catch((cause) => refuseIo(path, 'reading', cause))) === sha256,
      'invalid_format',
      () => `${path} is damaged: its sha-256 is not the one in state.json`,
    )
  }
  const checkpoint = await CheckpointReader.open(
    folder,
    files.map(([name]) => name),
  )
  try {
    const { layout } = trainer.compiled
    for (const kind of stateArenas) {
      const arena = trainer.arena(kind)
      for (const [name, shard] of layout.shards) {
        const { from, to, at } = heldRange(layout, kind, name)
        if (from >= to) continue
        const whole = await checkpoint.read(kind, name, shard.spec.shape)
        const part = takeShard(shard, whole).subarray(from, to)
        arena.write(at, new Uint8Array(part.buffer, part.byteOffset, part.byteLength))
      }
    }
  } finally {
    await checkpoint.close()
  }
  trainer.step = state.step
  trainer.parametersChanged()
  return state
}

/** Whole parameters of the checkpoint of a step. */
export async function openCheckpoint(output: string, step: number): Promise<CheckpointReader> {
  const folder = join(output, folderName(step))
  return CheckpointReader.open(folder, Object.keys((await readState(folder)).files))
}

/** Puts whole tensors together from the files of a checkpoint. */
class CheckpointReader {
  private constructor(
    private readonly folder: string,
    private readonly files: readonly { readonly source: NodeFile; readonly file: SafetensorsFile }[],
  ) {}

  static async open(folder: string, names: readonly string[]): Promise<CheckpointReader> {
    const files: { source: NodeFile; file: SafetensorsFile }[] = []
    try {
      for (const name of names) {
        const path = join(folder, name)
        const source = await openNodeFile(path)
        files.push({ source, file: await openSafetensors(source, path) })
      }
      return new CheckpointReader(folder, files)
    } catch (error) {
      for (const { source } of files) await source.close()
      throw error
    }
  }

  /**
   * All elements of a tensor.
   *
   * @throws ExactmapError `conflict` where it is missing or of another shape, `invalid_format` where elements are
   */
  async read(kind: ArenaKind, name: string, shape: readonly number[]): Promise<Float32Array> {
    const key = `${kind}/${name}`
    const elements = elementCount(shape)
    const whole = new Float32Array(elements)
    let found = 0
    for (const { file } of this.files) {
      const stored = file.tensors.get(key)
      if (!stored) continue
      const { shape: of, runs } = pieceOf(file, key, stored.shape)
      check(
        stored.dtype === 'F32' && sameShape(of, shape),
        'conflict',
        () => `the checkpoint's ${kind} of ${name} is ${stored.dtype} [${of}], the model's F32 [${shape}]`,
      )
      const fits = runs.every(
        (r) => r.count === 0 || r.start + (r.count - 1) * r.stride + r.length <= elements,
      )
      check(
        fits && runElements(runs) * 4 === stored.bytes,
        'invalid_format',
        `a part of ${key} does not fit the whole of [${shape}]`,
      )
      const bytes = await file.read(key)
      putRuns(runs, new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), whole)
      found += runElements(runs)
    }
    check(found > 0, 'conflict', `the checkpoint has no ${kind} of ${name}: it belongs to another model`)
    check(
      found === elements,
      'invalid_format',
      () => `${this.folder}: ${found} of the ${elements} elements of ${key} are there: a file is missing`,
    )
    return whole
  }

  async close(): Promise<void> {
    for (const { source } of this.files) await source.close()
  }
}

/** Where the elements of a stored tensor are in the whole one. */
function pieceOf(
  file: SafetensorsFile,
  key: string,
  shape: readonly number[],
): { readonly shape: readonly number[]; readonly runs: readonly Run[] } {
  const text = file.metadata[key]
  if (text === undefined) {
    const length = elementCount(shape)
    return { shape, runs: [{ start: 0, length, count: 1, stride: length }] }
  }
  const parsed = pieceSchema.safeParse(parseJson(new TextEncoder().encode(text), key))
  check(parsed.success, 'invalid_format', `the metadata of ${key} does not say which part it is`)
  return parsed.data
}

async function readState(folder: string): Promise<CheckpointState> {
  const path = join(folder, 'state.json')
  let json: unknown
  try {
    json = JSON.parse(await readFile(path, 'utf8'))
  } catch (cause) {
    throw new ExactmapError(
      'invalid_format',
      `not a readable checkpoint: ${(cause as Error).message}`,
      { file: path },
      { cause },
    )
  }
  const parsed = stateSchema.safeParse(json)
  if (parsed.success) return parsed.data
  const { path: field, message } = parsed.error.issues[0]!
  throw new ExactmapError('invalid_format', `${field.join('.')}: ${message}`, { file: path })
}

/**
 * Takes the output folder for this process. A second process is refused; a lock left by a dead process is taken
 * over. Returns the function that gives it back.
 */
export async function lockFolder(output: string): Promise<() => Promise<void>> {
  await mkdir(output, { recursive: true })
  const path = join(output, '.lock')
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const file = await open(path, 'wx')
      await file.writeFile(`${process.pid}\n`)
      await file.close()
      return () => rm(path, { force: true })
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST')
        throw new ExactmapError(
          'io',
          `cannot write to the output folder: ${(cause as Error).message}`,
          { file: output },
          { cause },
        )
      const owner = Number(await readFile(path, 'utf8').catch(() => ''))
      if (isAlive(owner))
        throw new ExactmapError('conflict', `process ${owner} is already training into this folder`, {
          file: output,
        })
      await rm(path, { force: true })
    }
  }
  throw new ExactmapError('conflict', 'another process keeps taking the output folder', { file: output })
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  // A killed process whose parent has not noticed yet still answers to signals.
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return true
  }
}
