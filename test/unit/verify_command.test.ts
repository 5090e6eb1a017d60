import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { weightFormats } from '../../src/tensor/format.ts'
import { storedCases } from '../../src/verify/store.ts'
import { buildDist } from '../helpers/build_dist.ts'

// The developer's loop as a developer has it: the built command, kernels in a folder, a file saved.
const cli = join(packageRoot(), 'dist/cli/main.js')
const folder = mkdtempSync(join(tmpdir(), 'exactmap-kernels-'))
const file = join(folder, 'lib/activation_silu.wgsl')
const children: ChildProcess[] = []

beforeAll(() => {
  buildDist()
  cpSync(join(packageRoot(), 'kernels-wgsl'), folder, { recursive: true })
})
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

const verify = (...args: string[]) =>
  spawnSync(process.execPath, [cli, 'verify', ...args], { encoding: 'utf8', timeout: 60_000 })

/** silu as the author might break it. */
const silu = (body: string): string =>
  `// A comment, so that lines of the file are not those of the linked text.\nfn activation(v: f32) -> f32 {\n  ${body}\n}\n\nfn activation_derivative(v: f32) -> f32 {\n  return silu_derivative(v);\n}\n`

describe('exactmap verify', () => {
  it('prints a line per case and passes', () => {
    const { status, stdout } = verify('silu', 'rms_norm')
    expect(status).toBe(0)
    expect(stdout).toMatch(/^pass {2}silu\/prime: .* of the budget, unary, .* ms, .* GB\/s, .* GFLOP\/s$/m)
    expect(stdout).toMatch(/\n\d+ passed, 0 failed, 0 skipped in/)
  })

  it('gives the same as JSON', () => {
    const { status, stdout } = verify('silu', '--case', 'prime', '--json')
    expect(status).toBe(0)
    const round = JSON.parse(stdout)
    expect(round).toMatchObject({ backend: 'webgpu', passed: 1, failed: 0, skipped: 0 })
    expect(round.results[0]).toMatchObject({ id: 'silu/prime', state: 'passed' })
  })

  it('runs on the reference too', () => {
    expect(verify('silu', '--backend', 'reference').status).toBe(0)
  })

  it('chooses cases for a budget, every op and storage format first, and says what it left out', () => {
    const { status, stdout } = verify('store', '--budget', '0s')
    expect(status).toBe(0)
    for (const format of weightFormats) expect(stdout).toMatch(new RegExp(`^pass {2}store/${format}_`, 'm'))
    expect(stdout).toMatch(/^the budget of 0 s is less than the \d+\.\d s of one case per op and storage/m)
    const [least, all] = [
      weightFormats.length,
      storedCases(join(packageRoot(), 'test', 'vectors'), 'store').length,
    ]
    expect(stdout).toMatch(
      new RegExp(
        `^${least} of ${all} cases for a budget of 0 s: estimated .* \\(measured on \\w+ .*\\)\nleft out: store ${all - least}$`,
        'm',
      ),
    )
    const round = JSON.parse(verify('store', '--budget', '60m', '--json').stdout)
    expect(round).toMatchObject({ passed: all, budget: { seconds: 3600, chosen: all, of: all, leftOut: {} } })
    expect(verify('store', '--budget', 'soon').status).toBe(2)
  })

  it('fails with the first wrong element', () => {
    const copy = mkdtempSync(join(tmpdir(), 'exactmap-kernels-'))
    cpSync(folder, copy, { recursive: true })
    writeFileSync(join(copy, 'lib/activation_silu.wgsl'), silu('return silu(v) * 1.001;'))
    const { status, stdout } = verify('silu', '--kernels', copy)
    rmSync(copy, { recursive: true })
    expect(status).toBe(1)
    expect(stdout).toMatch(
      /^FAIL {2}silu\/prime: y\[\d+\] expected \S+, got \S+, \S+ x its budget \(unary\)$/m,
    )
  })

  it('tells wrong use (2) from what is not there (1)', () => {
    expect(verify('silu', '--backend', 'abacus').status).toBe(2)
    expect(verify('silu', '--watch', '--backend', 'reference').status).toBe(2)
    const { status, stderr } = verify('sillu')
    expect(status).toBe(1)
    expect(stderr).toMatch(/not_found: no op is named 'sillu'/)
    expect(verify('silu', '--case', 'primes').stderr).toMatch(/no case is named 'primes'; silu has .*prime/)
  })
})

describe('exactmap verify --watch', () => {
  it('gives a verdict for every save, survives errors and ends with Ctrl-C', async () => {
    const good = readFileSync(file, 'utf8')
    const args = [cli, 'verify', 'silu', 'rms_norm', '--watch', '--kernels', folder]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    children.push(child)
    let output = ''
    let wake = (): void => {}
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (chunk) => {
        output += chunk
        wake()
      })
    /** Everything printed since the last call up to `pattern`. */
    const until = async (pattern: RegExp): Promise<string> => {
      for (;;) {
        const end = pattern.exec(output)
        if (end) {
          const text = output.slice(0, end.index + end[0].length)
          output = output.slice(text.length)
          return text
        }
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
    const saved = async (text: string): Promise<string> => {
      writeFileSync(file, text)
      return until(/ s after the save\n/)
    }
    await until(/Ctrl-C ends\n/)

    const wrong = await saved(silu('return silu(v) + 0.5;'))
    expect(wrong).toMatch(/FAIL {2}silu\/one: y\[0\] expected/)
    expect(wrong, 'rms_norm does not use the file').not.toMatch(/rms_norm/)

    const broken = await saved(silu('return silu(v)'))
    expect(broken).toMatch(/FAIL {2}silu\/\w+: kernel_compile: lib\/activation_silu\.wgsl:4:\d+ .*expected/)
    expect(broken, 'the message is printed once').toMatch(/FAIL {2}silu\/\w+: the same error/)

    const right = await saved(good)
    expect(right).toMatch(/\n\d+ passed, 0 failed, 0 skipped/)

    const exit = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGINT')
    expect(await exit).toBe(0)
  })
})
