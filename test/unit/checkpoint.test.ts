import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { NullDevice } from '../../backends/null/device.ts'
import { referenceTarget } from '../../backends/reference/device.ts'
import { llama } from '../../src/models/llama.ts'
import type { ModelFamily } from '../../src/models/model.ts'
import { listCheckpoints, loadCheckpoint, lockFolder, saveCheckpoint } from '../../src/train/checkpoint.ts'
import { parseTrainConfig } from '../../src/train/config.ts'
import { Trainer } from '../../src/train/trainer.ts'

// Saving and loading need no kernel: the null backend's arenas hold the state.
const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})
const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), 'exactmap-checkpoint-'))
  folders.push(made)
  return made
}
const model = {
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 64,
}
const about = { tokens: 10, seconds: 1, data: 'd' }

async function trainer(seed = 1): Promise<Trainer> {
  const config = parseTrainConfig(
    `output: o\nmodel: { from: m }\ndata: { files: [a.txt] }\nsteps: 9\nbatch: 2\nsequence: 16\nseed: ${seed}\n`,
    'run.yaml',
  )
  const made = await Trainer.create(
    new NullDevice(referenceTarget),
    llama as unknown as ModelFamily,
    llama.parse(model),
    config,
  )
  made.initialise()
  return made
}

describe('checkpoints', () => {
  it('come back as they were, and the oldest go', async () => {
    const [output, a] = [folder(), await trainer()]
    for (a.step = 1; a.step <= 4; a.step++) await saveCheckpoint(output, a, about, 2)
    expect(await listCheckpoints(output)).toEqual([3, 4])
    const b = await trainer(1)
    b.writeParameter('norm.weight', new Float32Array(32).fill(7))
    const state = await loadCheckpoint(output, 4, b, 'd', false)
    expect(state).toMatchObject({ step: 4, cursor: 4, seed: 1, tokens: 10 })
    expect(b.step).toBe(4)
    expect(await b.readParameter('norm.weight')).toEqual(new Float32Array(32).fill(1))
    expect(await b.readParameter('embed.weight')).toEqual(
      await (await trainer()).readParameter('embed.weight'),
    )
  })

  it('of another seed or other data are refused by name, and taken when told to', async () => {
    const [output, a] = [folder(), await trainer()]
    await saveCheckpoint(output, a, about, 2)
    await expect(loadCheckpoint(output, 0, await trainer(2), 'd', false)).rejects.toThrow(
      /seed 1, this run has 2/,
    )
    await expect(loadCheckpoint(output, 0, await trainer(), 'e', false)).rejects.toMatchObject({
      code: 'conflict',
    })
    await loadCheckpoint(output, 0, await trainer(2), 'e', true)
  })

  it('that are damaged are refused', async () => {
    const [output, a] = [folder(), await trainer()]
    await saveCheckpoint(output, a, about, 2)
    const path = join(output, readdirSync(output)[0]!, 'state.0.safetensors')
    const bytes = readFileSync(path)
    bytes[bytes.length - 5]! ^= 1
    writeFileSync(path, bytes)
    await expect(loadCheckpoint(output, 0, a, 'd', false)).rejects.toMatchObject({ code: 'invalid_format' })
    truncateSync(path, 100)
    await expect(loadCheckpoint(output, 0, a, 'd', false)).rejects.toMatchObject({ code: 'invalid_format' })
    writeFileSync(join(path, '..', 'state.json'), '{"format":')
    await expect(loadCheckpoint(output, 0, a, 'd', false)).rejects.toMatchObject({ code: 'invalid_format' })
  })

  it('survive a full disk: the previous one stays, nothing half-written is left', async (context) => {
    const output = folder()
    const a = await trainer()
    const need = a.arena('parameters').plan.bytes * 3
    try {
      execFileSync(
        'mount',
        ['-t', 'tmpfs', '-o', `size=${Math.ceil((need * 1.5) / 4096) * 4096}`, 'tmpfs', output],
        { stdio: 'ignore' },
      )
    } catch {
      context.skip('needs the right to mount a small tmpfs')
    }
    try {
      await saveCheckpoint(output, a, about, 5)
      a.step = 1
      await expect(saveCheckpoint(output, a, about, 5)).rejects.toMatchObject({ code: 'io' })
      expect(readdirSync(output)).toEqual(['checkpoint-0000000'])
      await loadCheckpoint(output, 0, await trainer(), 'd', false)
    } finally {
      execFileSync('umount', [output])
    }
  })

  it('folders belong to one process at a time; a dead one loses its claim', async () => {
    const output = folder()
    const unlock = await lockFolder(output)
    await expect(lockFolder(output)).rejects.toThrow(/process \d+ is already training/)
    await unlock()
    writeFileSync(join(output, '.lock'), '999999999\n')
    await (await lockFolder(output))()
    expect(existsSync(join(output, '.lock'))).toBe(false)
  })
})
