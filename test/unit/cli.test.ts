import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { buildDist } from '../helpers/build_dist.ts'

// The built command line as a process: exit codes and messages. 0: done, 1: it failed, 2: it was called wrongly.
beforeAll(buildDist, 180_000)

const root = packageRoot()

function exactmap(args: readonly string[], env: Record<string, string> = {}) {
  const result = spawnSync(process.execPath, [join(root, 'dist/cli/main.js'), ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 30_000,
  })
  return { code: result.status, out: result.stdout, err: result.stderr }
}

describe('exactmap', () => {
  it('--help lists the commands on stdout', () => {
    const { code, out, err } = exactmap(['--help'])
    expect(code).toBe(0)
    expect(err).toBe('')
    for (const command of ['run', 'train', 'tune', 'doctor'])
      expect(out).toMatch(new RegExp(`^  ${command} `, 'm'))
  })

  it('--version is the version of package.json', () => {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    expect(exactmap(['--version'])).toEqual({ code: 0, out: `${version}\n`, err: '' })
  })

  it.each([
    ['no command', [], /Usage: exactmap/],
    ['an unknown command', ['nope'], /unknown command 'nope'\n\(exactmap --help lists the commands\)/],
    ['an unknown option', ['run', '--nope'], /unknown option '--nope'/],
    ['a number out of range', ['run', '-n', '0'], /expected a whole number from 1 to 16777216, got '0'/],
    ['no number', ['run', '--top-p', 'much'], /expected a number from 0.0001 to 1, got 'much'/],
    ['an unknown choice', ['run', '--backend', 'abacus'], /'abacus' is invalid. expected auto, webgpu, cuda/],
    ['a missing argument', ['train'], /missing required argument 'config'/],
    ['a driver there is not', ['run', '--driver', 'turbo'], /invalid_argument: .*got 'turbo'/],
  ])('%s is a wrong call: code 2, message on stderr', (_name, args, message) => {
    const { code, out, err } = exactmap(args)
    expect(err).toMatch(message)
    expect(out).toBe('')
    expect(code).toBe(2)
  })

  it.each([
    ['a model folder', ['run', '/nowhere', '--backend', 'reference'], /^exactmap: not_found: .*\/nowhere/],
    ['a configuration', ['train', '/nowhere.yaml'], /^exactmap: not_found: .*\/nowhere\.yaml/],
  ])('%s that is not there fails: code 1, no stack', (_name, args, message) => {
    const { code, out, err } = exactmap(args)
    expect(err).toMatch(message)
    expect(err.trim().split('\n')).toHaveLength(1)
    expect(out).toBe('')
    expect(code).toBe(1)
  })
})
