import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../../../backends/package_root.ts'
import { examplePrompt } from '../../../src/cli/run.ts'
import type { Prepared } from '../../suite/contender.ts'
import type { DriverName } from '../../suite/drivers.ts'
import type { Work } from '../../suite/works.ts'

/** The command line from its start to the first new text: all that a user waits for. */
export async function prepareStartup(
  driver: DriverName,
  { caches }: Work & { kind: 'startup' },
): Promise<Prepared | { unsupported: string }> {
  const cli = join(packageRoot(), 'dist', 'cli', 'main.js')
  if (!existsSync(cli)) return { unsupported: 'dist is not built; run `node build.mjs`' }
  const newFolder = (): string => mkdtempSync(join(tmpdir(), 'exactmap-bench-'))
  const remove = (folder: string): void => rmSync(folder, { recursive: true, force: true })
  const kept = newFolder()
  if (caches === 'filled') await firstToken(cli, driver, kept)
  return {
    notes: 'npx exactmap run, from the start of Node to the first token on stdout',
    async run(times) {
      let sum = 0
      for (let i = 0; i < times; i++) {
        const folder = caches === 'filled' ? kept : newFolder()
        sum += await firstToken(cli, driver, folder)
        if (folder !== kept) remove(folder)
      }
      return sum / times
    },
    sample: async () => [],
    release: async () => remove(kept),
  }
}

/** Milliseconds from starting a process to its first text after the prompt. */
function firstToken(cli: string, driver: DriverName, caches: string): Promise<number> {
  // The suite pins drivers for engines that bring a Dawn of their own; a user's shell does not.
  const { VK_ICD_FILENAMES, VK_DRIVER_FILES, LD_LIBRARY_PATH, ...env } = process.env
  const start = performance.now()
  const child = spawn(process.execPath, [cli, 'run', '--max-tokens', '2', '--temperature', '0'], {
    env: {
      ...env,
      EXACTMAP_DRIVER: driver,
      XDG_CACHE_HOME: caches,
      MESA_SHADER_CACHE_DIR: join(caches, 'mesa'),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [text, log, ms] = ['', '', 0]
  child.stderr.on('data', (data) => {
    log += data
  })
  child.stdout.on('data', (data) => {
    text += data
    if (ms === 0 && text.length > examplePrompt.length) ms = performance.now() - start
  })
  return new Promise((resolve, reject) => {
    child.on('close', (code) => {
      if (code === 0 && ms > 0) resolve(ms)
      else reject(new Error(`exactmap run ended with code ${code}: ${log.trim()}`))
    })
  })
}
