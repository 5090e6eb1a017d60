import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { check, ExactmapError } from '../errors.ts'
import { openNodeFile, writeSafetensors } from '../formats/node_file.ts'
import { openSafetensors } from '../formats/safetensors.ts'
import { hashBytes } from '../program/hash.ts'
import { stateArenas, type Trainer } from './trainer.ts'

/**
 * A checkpoint is a folder `checkpoint-<step>` with
 * - state.safetensors: every parameter and moment as a global f32 tensor, `<arena>/<parameter>`;
 * - state.json: step, seeds and hashes, and the sha-256 of state.safetensors.
 * It is written beside and renamed, so a crash or a full disk leaves the previous one as it was.
 */
const stateSchema = z.object({
  format: z.literal('exactmap-checkpoint'),
  version: z.literal(1),
  step: z.number().int().nonnegative(),
  seed: z.number().int().nonnegative(),
  /** Microbatches taken from the data so far: the sampler's whole state. */
  cursor: z.number().int().nonnegative(),
  tokens: z.number().nonnegative(),
  seconds: z.number().nonnegative(),
  program: z.string(),
  data: z.string(),
  sha256: z.string(),
})

export type CheckpointState = z.infer<typeof stateSchema>

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

/** Writes a checkpoint and removes the oldest beyond `keep`. */
export async function saveCheckpoint(
  output: string,
  trainer: Trainer,
  about: { readonly tokens: number; readonly seconds: number; readonly data: string },
  keep: number,
): Promise<void> {
  const temporary = join(output, `.checkpoint-${randomBytes(6).toString('hex')}`)
  try {
    await mkdir(temporary, { recursive: true })
    const tensors = []
    for (const arena of stateArenas) {
      const { plan } = trainer.arena(arena)
      const bytes = await trainer.arena(arena).read(0, plan.bytes)
      for (const { name, type, offset, bytes: size } of plan.tensors)
        tensors.push({
          name: `${arena}/${name}`,
          dtype: 'F32',
          shape: type.shape,
          bytes: bytes.subarray(offset, offset + size),
        })
    }
    const path = join(temporary, 'state.safetensors')
    await writeSafetensors(path, tensors, {})
    const { config } = trainer
    const state: CheckpointState = {
      format: 'exactmap-checkpoint',
      version: 1,
      step: trainer.step,
      seed: config.seed,
      cursor: trainer.step * config.accumulation,
      program: trainer.programHash,
      ...about,
      sha256: hashBytes(await readFile(path)),
    }
    await writeFile(join(temporary, 'state.json'), `${JSON.stringify(state, null, 2)}\n`, { flush: true })
    const final = join(output, folderName(trainer.step))
    await rm(final, { recursive: true, force: true })
    await rename(temporary, final)
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
  const steps = await listCheckpoints(output)
  for (const step of steps.slice(0, Math.max(0, steps.length - keep)))
    await rm(join(output, folderName(step)), { recursive: true, force: true })
}

/**
 * Loads a checkpoint into a trainer of the same model.
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
    program: trainer.programHash,
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
  const path = join(folder, 'state.safetensors')
  check(
    hashBytes(await readFile(path)) === state.sha256,
    'invalid_format',
    () => `${path} is damaged: its sha-256 is not the one in state.json`,
  )
  const source = await openNodeFile(path)
  try {
    const file = await openSafetensors(source, path)
    for (const kind of stateArenas) {
      const arena = trainer.arena(kind)
      for (const { name, offset, bytes } of arena.plan.tensors) {
        const stored = file.tensors.get(`${kind}/${name}`)
        check(
          stored && stored.dtype === 'F32' && stored.bytes === bytes,
          'conflict',
          `the checkpoint has no ${kind} of ${name} with ${bytes} bytes: it belongs to another model`,
        )
        arena.write(offset, await file.read(`${kind}/${name}`))
      }
    }
  } finally {
    await source.close()
  }
  trainer.step = state.step
  trainer.parametersChanged()
  return state
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
