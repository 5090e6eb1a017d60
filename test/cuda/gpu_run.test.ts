import { spawnSync } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EmulatedImages } from '../../backends/cuda/build/emulated.ts'
import { executableFile } from '../../backends/cuda/build/native.ts'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { encodeCaseFile } from '../../backends/cuda/case_file.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { type CaseRecord, type PreparedCases, readJournal, verifiedKernels } from '../../bench/gpu/journal.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { encodeRaw, tinyProgram, WORDS } from './tiny_program.ts'

// bench/gpu/run.py on the emulated device with kernels that hang, end the process, lose the device or are wrong.

const KERNELS = `#include "lib/kernel.h"
#include <stdlib.h>

KERNEL(planted_right, 32, const uint32_t* a, const uint32_t* b, uint32_t* y, uint32_t count) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  if (i < count) y[i] = a[i] + b[i];
}
KERNEL(planted_hang, 32, uint32_t* y, uint64_t index) {
  volatile uint32_t* flag = y + threadIdx.x;
  while (*flag != index) {}
}
KERNEL(planted_end, 32, uint32_t* y, uint64_t index) {
  if (y[0] != index) abort();
}
KERNEL(planted_loss, 32, uint32_t* y, uint64_t index) { y[index + threadIdx.x] = 1; }
`

const device = await emulatedDevice()
const python = spawnSync('python3', ['--version']).status === 0
const reason =
  typeof device === 'string'
    ? device
    : !existsSync(executableFile())
      ? 'the executable is not built'
      : python
        ? ''
        : 'Python is not installed'
if (typeof device !== 'string') device.destroy()
const folder = mkdtempSync(join(tmpdir(), 'exactmap-gpu-'))
const out = join(folder, 'out')
afterAll(() => rmSync(folder, { recursive: true }))

/** A case that launches planted_right, and behind it another kernel. */
function plant(part: string, id: string, kernel?: string, expected?: Uint8Array): void {
  const raw = tinyProgram()
  raw.modules = ['planted']
  raw.walkers = []
  raw.kernels[0]!.entry = 'planted_right'
  raw.kernels[1]!.entry = kernel ?? 'planted_loss'
  raw.segments = raw.segments.filter(({ name }) => name === (kernel ? 'fault' : 'sum'))
  raw.segments[0]!.name = 'main'
  const inputs = { offset: 0, bytes: new Uint8Array(4 * WORDS) }
  const outputs = expected ? [{ name: 'z', format: 'u32' as const, elements: WORDS, expected }] : []
  const file = encodeCaseFile({ id, bytes: 1, flops: 1, program: encodeRaw(raw), inputs, outputs })
  const path = join(folder, part, 'cases', `${id}.case`)
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, file)
}

const run = (...args: string[]) => {
  const script = join(packageRoot(), 'bench/gpu/run.py')
  const all = ['-B', script, '--prepared', folder, '--out', out, '--limit', '4', ...args]
  return spawnSync('python3', all, {
    encoding: 'utf8',
    env: { ...process.env, EXACTMAP_GPU_DRIVER: emulatedDriver() },
  })
}
const journal = (from = out) => readJournal(readFileSync(join(from, 'journal.jsonl'), 'utf8'))
const codes = () =>
  journal()
    .of<CaseRecord>('verify')
    .map((r) => [r.case, r.pass ? 'pass' : (r.code ?? 'wrong')])

const prepared: PreparedCases = {
  prepared: 'first',
  arch: 'emulated',
  commit: 'abc',
  texts: { planted_right: 'hash', probed: 'hash' },
  modules: {
    planted_right: 'planted',
    planted_hang: 'planted',
    planted_end: 'planted',
    planted_loss: 'planted',
    planted_late: 'planted',
    probed: 'other',
  },
  primitives: [],
  vectors: [
    { case: 'probe/device', kernels: ['probed'] },
    ...['hang', 'end', 'loss'].flatMap((kind) =>
      [1, 2, 3].map((i) => ({
        case: `planted/${kind}_${i}`,
        kernels: ['planted_right', `planted_${kind}`],
      })),
    ),
    { case: 'planted/wrong', kernels: ['planted_right'] },
    { case: 'planted/right', kernels: ['planted_right'] },
    { case: 'planted/late', kernels: ['planted_late'] },
  ],
  models: [],
  speed: [
    { case: 'matmul/8x64x32_both_bf16@one', kernels: ['planted_right'] },
    { case: 'matmul/8x64x32_both_bf16@other', kernels: ['planted_right'] },
    { case: 'matmul/8x64x32_both_bf16@lost', kernels: ['planted_right', 'planted_loss'] },
    { case: 'rope/no_counterpart', kernels: ['planted_right'] },
  ],
  programs: [
    { case: 'decode/llama_1b_bf16_1', kernels: ['planted_right'] },
    { case: 'decode/llama_1b_bf16_1@one_kernel', kernels: ['planted_right', 'planted_loss'] },
  ],
}

describe.skipIf(reason)(`what a GPU is asked${reason && ` (skipped: ${reason})`}`, () => {
  beforeAll(async () => {
    if (reason) return
    const sources = new Map([...readCudaSources(), ['planted.cu', KERNELS]])
    const text = cudaTarget(cudaTraits['cuda-sm_90a']!, sources).moduleText('planted')
    const image = await new EmulatedImages(join(folder, 'built')).image('planted', text)
    mkdirSync(join(folder, 'vectors/kernels/emulated'), { recursive: true })
    writeFileSync(join(folder, 'vectors/kernels/emulated/planted.so'), image)
    symlinkSync(executableFile(), join(folder, 'exactmap-cuda'))
    for (const { case: id, kernels } of prepared.vectors) {
      const expected = id === 'planted/wrong' ? new Uint8Array(4 * WORDS) : undefined
      plant('vectors', id, kernels[1], expected)
    }
    for (const part of ['speed', 'programs'] as const) {
      for (const { case: id, kernels } of [{ case: 'probe/device', kernels: [] }, ...prepared[part]])
        plant(part, id, (kernels as string[])[1])
      symlinkSync(join(folder, 'vectors/kernels'), join(folder, part, 'kernels'))
    }
    writeFileSync(join(folder, 'cases.json'), JSON.stringify(prepared))
  }, 60_000)

  it('goes on after kernels that hang, end the process, lose the device or are wrong', () => {
    const ran = run('verify')
    expect(ran.stderr).toBe('')
    expect(ran.status).toBe(1)
    // The first of each kernel comes first. One that hung, or was lost twice, is not tried again, and after two of a file
    // none of it that has not run yet.
    expect(codes(), ran.stdout).toEqual([
      ['probe/device', 'pass'],
      ['planted/wrong', 'wrong'],
      ['planted/late', 'pass'],
      ['planted/hang_1', 'hang'],
      ['planted/end_1', 'ended'],
      ['planted/loss_1', 'device_lost'],
      ['planted/right', 'pass'],
      ['planted/hang_2', 'skipped'],
      ['planted/hang_3', 'skipped'],
      ['planted/end_2', 'ended'],
      ['planted/end_3', 'skipped'],
      ['planted/loss_2', 'skipped'],
      ['planted/loss_3', 'skipped'],
    ])
    const record = (id: string) =>
      journal()
        .of<CaseRecord>('verify')
        .find((r) => r.case === `planted/${id}`)!
    expect(record('hang_1').error).toMatch(/no answer in 4 s; .*killed/)
    expect(record('end_1').error).toMatch(/signal SIGABRT/)
    expect(record('loss_1')).toMatchObject({
      kernel: 'planted_loss',
      error: expect.stringMatching(/ADDRESS/),
    })
    expect(record('hang_2').error).toBe('planted_hang: hang planted/hang_1')
    expect(record('loss_2').error).toMatch(/^planted\.cu: planted\/end_2, planted\/hang_1 hung/)
    // An output of 64 words, whole.
    expect(record('wrong')).toMatchObject({ output: 'z', index: 1, expected: 0, gotBytes: expect.anything() })
    const kernels = verifiedKernels(prepared, journal().of('verify'), {
      ...{ device: 'a', driver: 'b', commit: 'c', date: 'd' },
    })
    expect(Object.keys(kernels.verified)).toEqual(['probed', 'planted_late'])
    expect(kernels.refused.planted_hang).toEqual(['planted/hang_1', 'planted/hang_2', 'planted/hang_3'])
    expect(kernels.refused.planted_right).toContain('planted/wrong')
  }, 60_000)

  it('goes on where another run was cut off, and not with what is of another preparation', () => {
    const ran = () => codes().filter(([, code]) => code !== 'skipped')
    const before = ran()
    const file = join(out, 'journal.jsonl')
    const lines = readFileSync(file, 'utf8').split('\n')
    // Of planted/right on all is lost, half a line stays.
    const cut = lines.findIndex((line) => line.includes('planted/right'))
    writeFileSync(file, `${lines.slice(0, cut).join('\n')}\n`)
    appendFileSync(file, lines[cut]!.slice(0, 20))
    const first = run('verify', '--seconds', '0')
    expect(first.stdout).toContain('out of time')
    expect(ran()).toEqual(before.slice(0, 6))
    run('verify')
    expect(ran()).toEqual(before)
    writeFileSync(join(folder, 'cases.json'), JSON.stringify({ ...prepared, prepared: 'second' }))
    expect(run('verify').stderr).toMatch(/is of another preparation \(first\)/)
  }, 60_000)

  it('times every variant, and the fastest that works in turns with peers', () => {
    writeFileSync(join(folder, 'cases.json'), JSON.stringify(prepared))
    const timed = join(folder, 'timed')
    const all = ['speed', 'programs', '--device', 'cpu', '--out', timed]
    const ran = run(...all)
    expect(ran.stderr).toBe('')
    const codes = (part: string) =>
      journal(timed)
        .of<CaseRecord>(part)
        .map((r) => [r.case.split('@')[1], r.pass ? 'pass' : r.code])
    expect(codes('speed'), ran.stdout).toEqual([
      ['one', 'pass'],
      ['other', 'pass'],
      ['lost', 'device_lost'],
      [undefined, 'pass'],
    ])
    expect(codes('programs')).toEqual([
      [undefined, 'pass'],
      ['one_kernel', 'device_lost'],
    ])
    // Where Python has PyTorch the peers ran, elsewhere the journal says why not.
    const peers = journal(timed).of<{ base: string; case?: string; rounds?: number; missing?: unknown }>(
      'peers',
    )
    expect(new Set(peers.map(({ base }) => base)).size).toBe(2)
    for (const { case: id, rounds, missing } of peers)
      if (rounds) expect([id, rounds]).toEqual([expect.stringMatching(/@(one|other)$/), 3])
      else expect(missing).toBeDefined()
    const models = journal(timed).of<{ peer: string }>('peer_models')
    expect(models.map(({ peer }) => peer.split(' ')[0])).toEqual(['PyTorch', 'JAX'])
    // Everything is there: another run only says that it ran, and for how long.
    const records = () => readFileSync(join(timed, 'journal.jsonl'), 'utf8').split('\n').length
    const before = records()
    run(...all)
    expect(records()).toBe(before + 3)
  }, 120_000)

  it('says what it can not do', () => {
    expect(run('dance').stderr).toContain("no part is named 'dance'; there are primitives, verify")
  })
})
