import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { executableFile } from '../../backends/cuda/build/native.ts'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { encodeCaseFile } from '../../backends/cuda/case_file.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { loadModel } from '../../src/engine/load.ts'
import { buildDist } from '../helpers/build_dist.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { withBody } from './tiny_device.ts'
import { encodeRaw, tinyImage, tinyProgram, WORDS } from './tiny_program.ts'

// exactmap-cuda on the emulated driver, with folders that `exactmap export` writes.

const device = await emulatedDevice()
const reason =
  typeof device === 'string' ? device : existsSync(executableFile()) ? '' : 'the executable is not built'
const folder = mkdtempSync(join(tmpdir(), 'exactmap-executable-'))
const [vectors, model, whole] = ['vectors', 'model', 'whole'].map((name) => join(folder, name)) as [
  string,
  string,
  string,
]
const bundled = join(packageRoot(), 'assets', 'shakespeare')

interface Ran {
  readonly status: number | null
  readonly out: string
  readonly err: string
}

const run = (...args: string[]): Ran => runWith({}, ...args)
function runWith(env: Record<string, string>, ...args: string[]): Ran {
  const { status, stdout, stderr } = spawnSync(executableFile(), [...args, '--driver', emulatedDriver()], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  })
  return { status, out: stdout, err: stderr }
}

const records = ({ out }: Ran): Record<string, unknown>[] =>
  out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

/** A changed copy of a file whose header fits. */
function damage(file: string, change: (body: Uint8Array) => Uint8Array): Uint8Array {
  const bytes = readFileSync(file)
  return withBody(bytes, change(bytes.subarray(32)))
}

describe.skipIf(reason)(`exactmap-cuda${reason && ` (skipped: ${reason})`}`, () => {
  beforeAll(() => {
    if (reason) return
    buildDist()
    const cli = join(packageRoot(), 'dist/cli/main.js')
    const exporting = (...args: string[]) =>
      execFileSync(process.execPath, [cli, 'export', '--emulated', '--to', ...args], { stdio: 'pipe' })
    exporting(vectors, '--vectors', 'add', 'quantize', 'sample', 'kv_write')
    exporting(model, '--context', '128')
    exporting(whole, '--context', '128', '--whole-step')
    // Kernels may have to be compiled first.
  }, 300_000)
  afterAll(() => {
    if (typeof device !== 'string') device.destroy()
    rmSync(folder, { recursive: true, force: true })
  })

  it('lists devices, and says what is wrong with a command', () => {
    expect(run('info').out).toContain('Emulated GPU')
    expect(JSON.parse(run('info', '--json').out).devices[0]).toMatchObject({
      capability: 90,
      kernels: 'emulated',
    })
    const none = spawnSync(executableFile(), ['info', '--driver', '/none.so'], { encoding: 'utf8' })
    expect([none.status, none.stderr]).toEqual([1, expect.stringContaining('no_device')])
    expect(run('dance').status).toBe(2)
    expect(run('verify').err).toContain('needs a folder')
    expect(run('run', model, '--top-p', '2').err).toContain("--top-p does not take '2'")
    expect(run('run', folder).err).toContain('not_found')
  })

  it('verifies stored vectors', () => {
    const all = run('verify', vectors)
    expect(all.out).toMatch(/^pass add\/one {2}worst 0\.000 of its budget/m)
    expect(all.out).not.toContain('FAIL')
    expect(all.out).toMatch(/\d\d passed, 0 failed on Emulated/)
    expect(all.status).toBe(0)
    const some = run('verify', vectors, '--only', 'add/p', '--json')
    expect(records(some).map((r) => r.case)).toEqual(['add/past_workgroup', 'add/prime'])
    expect(records(some)[1]).toMatchObject({ pass: true, worst: 0, flops: 111, ms: expect.any(Number) })
    expect(run('verify', vectors, '--only', 'nothing').err).toContain('no cases that start with nothing')
  })

  it.each(['forward', 'reverse', 'shuffle:7'])('decodes by one kernel as by a graph, threads %s', (order) => {
    const args = ['--max-tokens', '16', '--temperature', '0', '--json']
    const [want, got] = [model, whole].map((path) =>
      runWith({ EXACTMAP_EMULATED_ORDER: order }, 'run', path, ...args),
    ) as [Ran, Ran]
    const [record] = records(want)
    expect(record!.tokens).toHaveLength(16)
    expect(records(got)[0]).toMatchObject({ tokens: record!.tokens, text: record!.text })
  }, 120_000)

  it('names the first wrong element, and goes on after a damaged file', () => {
    const broken = join(folder, 'broken')
    cpSync(vectors, broken, { recursive: true })
    const file = join(broken, 'cases/add/prime.case')
    // The file ends with 111 expected values, the number of tolerances and 111 of those: the last value gets large.
    const wrong = damage(file, (body) => {
      const out = body.slice()
      out.set(new Uint8Array(Float32Array.of(1e6).buffer), out.length - 4 * (111 + 1 + 1))
      return out
    })
    writeFileSync(file, wrong)
    writeFileSync(join(broken, 'cases/add/one.case'), wrong.subarray(0, 100))
    rmSync(join(broken, 'kernels/emulated/quantize.so'))
    const ran = run('verify', broken)
    expect(ran.status).toBe(1)
    expect(ran.out).toMatch(/^FAIL add\/one: invalid_format: the case file has 68 bytes/m)
    expect(ran.out).toMatch(
      /^FAIL add\/prime: y\[110\] expected 1000000, got \S+, budget \S+; 1 of 111 elements are wrong$/m,
    )
    expect(ran.out).toMatch(/^FAIL quantize\/\w+: not_found: can't open .*quantize\.so/m)
    expect(ran.out).toMatch(/^pass add\/vectors/m)
    expect(records(run('verify', broken, '--json', '--only', 'add/prime'))[0]).toMatchObject({
      pass: false,
      output: 'y',
      expected: 1e6,
      wrong: 1,
      elements: 111,
    })
  })

  it('runs the cases it is asked for, and tells wrong outputs whole', () => {
    const asking = (input: string, ...more: string[]) =>
      spawnSync(executableFile(), ['verify', vectors, '--asked', ...more, '--driver', emulatedDriver()], {
        encoding: 'utf8',
        input,
      })
    const asked = asking('add/prime\nadd/none\nadd/one\n')
    expect(asked.stdout).toMatch(/^pass add\/prime.*\nFAIL add\/none: not_found.*\npass add\/one/)
    expect([asked.status, asking('').stdout]).toEqual([1, '0 passed, 0 failed on Emulated GPU (sm_90)\n'])
    const file = join(vectors, 'cases/add/prime.case')
    const wrong = damage(file, (body) => {
      const out = body.slice()
      out.set(new Uint8Array(Float32Array.of(1e6).buffer), out.length - 4 * (111 + 1 + 111))
      return out
    })
    writeFileSync(join(vectors, 'cases/add/wrong.case'), wrong)
    const record = JSON.parse(asking('add/wrong\n', '--json', '--bytes').stdout)
    rmSync(join(vectors, 'cases/add/wrong.case'))
    expect(record).toMatchObject({ pass: false, index: 0, expected: 1e6, wrong: 1 })
    const got = Buffer.from(record.gotBytes, 'base64')
    expect([got.length, got.readFloatLE(0)]).toEqual([4 * 111, Math.fround(record.got)])
  })

  it('names the launch that faults, refuses exchanges, and goes on with a fresh device', async () => {
    const broken = join(folder, 'fault')
    cpSync(vectors, broken, { recursive: true })
    const raw = tinyProgram()
    for (const segment of raw.segments) segment.name = segment.name === 'fault' ? 'main' : segment.name
    const write = (id: string): void => {
      const inputs = { offset: 0, bytes: new Uint8Array(4 * WORDS) }
      const file = encodeCaseFile({ id, bytes: 1, flops: 1, program: encodeRaw(raw), inputs, outputs: [] })
      writeFileSync(join(broken, `cases/${id}.case`), file)
    }
    write('add/exchange')
    raw.segments = raw.segments.filter(({ name }) => name !== 'swap')
    write('add/fault')
    writeFileSync(join(broken, 'kernels/emulated/runtime_test.so'), await tinyImage())
    const ran = run('verify', broken, '--only', 'add/')
    expect(ran.out).toMatch(
      /^FAIL add\/fault: device_lost: .*ILLEGAL_ADDRESS.* \[launch fault\/launch, kernel test_fault\]$/m,
    )
    expect(ran.out).toMatch(
      /^FAIL add\/exchange: unsupported: it exchanges messages .* \[launch swap\/exchange\]$/m,
    )
    expect(ran.out).toContain('5 passed, 2 failed')
    const [record] = records(run('verify', broken, '--only', 'add/fault', '--json'))
    expect(record).toMatchObject({ pass: false, code: 'device_lost', kernel: 'test_fault' })
  })

  it('never reads past a case that is cut anywhere', () => {
    const broken = join(folder, 'cut')
    cpSync(join(vectors, 'kernels'), join(broken, 'kernels'), { recursive: true })
    cpSync(join(vectors, 'cases/add/one.case'), join(broken, 'cases/add/whole.case'))
    const { length } = readFileSync(join(vectors, 'cases/add/one.case'))
    for (let bytes = 0; bytes + 32 < length; bytes += 7)
      writeFileSync(
        join(broken, `cases/add/cut_${bytes}.case`),
        damage(join(vectors, 'cases/add/one.case'), (body) => body.subarray(0, bytes)),
      )
    const results = records(run('verify', broken, '--json'))
    expect(results.filter((r) => r.pass).map((r) => r.case)).toEqual(['add/whole'])
    for (const one of results) if (!one.pass) expect(one.code).toBe('invalid_format')
  })

  const sampling = ['--temperature', '0.8', '--top-p', '0.9', '--seed', '5', '--repetition-penalty', '1.1']
  it.each([
    ['greedily', [], { temperature: 0 }],
    ['by sampling', sampling, { temperature: 0.8, topP: 0.9, seed: 5, repetitionPenalty: 1.1 }],
  ])('continues a prompt %s with the tokens that the engine gives', async (_how, args, options) => {
    if (typeof device === 'string') return
    const prompt = 'ROMEO:\nWhat say you, my lord? I have a business with the king of England.\n'
    const loaded = await loadModel(bundled, { device, context: 128 })
    const ids = [...loaded.tokenizer.encode(prompt)]
    const tokens: number[] = []
    let text = ''
    const maxTokens = 16
    for await (const piece of loaded.generate(prompt, {
      ...options,
      maxTokens,
      onToken: (id) => tokens.push(id),
    }))
      text += piece
    await loaded.destroy()
    const given = ['--tokens', ids.join(','), '--max-tokens', String(maxTokens), ...args]
    const [record] = records(run('run', model, '--json', ...given))
    expect(record).toMatchObject({ promptTokens: ids.length, tokens, text })
    expect(run('run', model, ...given).out).toBe(`${prompt}${text}\n`)
  })

  it('refuses damaged models', () => {
    const broken = join(folder, 'model_broken')
    cpSync(model, broken, { recursive: true })
    const weights = readFileSync(join(model, 'weights.bin'))
    const changed = Uint8Array.from(weights)
    changed[1000]! ^= 1
    writeFileSync(join(broken, 'weights.bin'), changed)
    expect(run('run', broken)).toMatchObject({ status: 1, err: expect.stringContaining('checksum') })
    writeFileSync(join(broken, 'weights.bin'), weights.subarray(0, 500_000))
    expect(run('run', broken).err).toMatch(/invalid_format: weights\.bin ends within tensor/)
    rmSync(join(broken, 'weights.bin'))
    expect(run('run', broken).err).toContain("not_found: can't open weights.bin")
    const { length } = readFileSync(join(model, 'model.exm'))
    for (let i = 1; i < 40; i++) {
      const cut = damage(join(model, 'model.exm'), (body) =>
        body.subarray(0, Math.floor((length - 32) * (i / 40))),
      )
      writeFileSync(join(broken, 'model.exm'), cut)
      expect(run('run', broken)).toMatchObject({ status: 1, err: expect.stringContaining('invalid_format') })
    }
    expect(run('run', model, '--tokens', '5,9999').err).toContain('token 1 of the prompt is 9999')
    expect(run('run', model, '--tokens', '5,x').err).toContain('ids separated by commas')
  })
})
