// Builds dist: `node build.mjs`. With the argument `prepack` only adds what a packed exactmap carries besides.
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { build } from 'esbuild'

process.chdir(import.meta.dirname ?? new URL('.', import.meta.url).pathname)

if (process.argv[2] === 'prepack') {
  addSwiftShader()
  addCuda()
} else await buildAll()

async function buildAll() {
  // Chunks are named by content: those of earlier builds would stay and be packed.
  rmSync('dist/chunks', { recursive: true, force: true })
  rmSync('dist/types', { recursive: true, force: true })
  const shared = { bundle: true, format: 'esm', outdir: 'dist', logLevel: 'warning' }
  await build({
    ...shared,
    entryPoints: ['src/index.ts', 'src/cli/main.ts'],
    splitting: true,
    chunkNames: 'chunks/[hash]',
    platform: 'node',
    target: 'node20',
    packages: 'external',
  })
  // A page has no package resolver: everything is in this one file.
  await build({
    ...shared,
    entryPoints: ['src/browser.ts'],
    platform: 'browser',
    target: 'es2022',
    minify: true,
  })
  writeFileSync('dist/kernels.json', JSON.stringify(kernels()))
  // Types are checked by `npm run types`; here they are only written.
  execFileSync(process.execPath, [tsc(), '-p', 'tsconfig.build.json'], { stdio: 'inherit' })
}

/** All kernel files by module name, sorted: what a page can't list. */
function kernels() {
  const files = readdirSync('kernels-wgsl', { recursive: true, encoding: 'utf8' })
  return Object.fromEntries(
    files
      .filter((file) => file.endsWith('.wgsl'))
      .map((file) => [file.replaceAll('\\', '/').slice(0, -'.wgsl'.length), file])
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, file]) => [name, readFileSync(join('kernels-wgsl', file), 'utf8')]),
  )
}

function tsc() {
  const require = createRequire(import.meta.url)
  return join(require.resolve('typescript/package.json'), '../bin/tsc')
}

/** Puts the software driver's archive beside the code; see docs/decisions.md. */
function addSwiftShader() {
  const source = 'node_modules/@sparticuz/chromium'
  const target = 'dist/swiftshader'
  if (!existsSync(source)) {
    const needed = process.platform === 'linux' && process.arch === 'x64'
    const message = `expected ${source}, the software driver; the package is made without it`
    if (needed) throw new Error(`${message}. Run npm ci first`)
    console.warn(`${message}: publish from linux x64 instead`)
    return
  }
  mkdirSync(target, { recursive: true })
  copyFileSync(join(source, 'bin/swiftshader.tar.br'), join(target, 'swiftshader.tar.br'))
  copyFileSync(join(source, 'LICENSE'), join(target, 'LICENSE.chromium-package'))
  const { version } = JSON.parse(readFileSync(join(source, 'package.json'), 'utf8'))
  writeFileSync(join(target, 'NOTICE'), notice(version))
}

/** Prebuilt runtime and cubins: nothing is compiled where the package is installed. */
function addCuda() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    console.warn('the package is made without the CUDA runtime: publish from linux x64 instead')
    return
  }
  const args = ['dist/cli/main.js', 'build', 'cuda', '--json']
  const built = execFileSync(process.execPath, args, { stdio: ['inherit', 'pipe', 'inherit'], maxBuffer: 2 ** 26 })
  const { cubins } = JSON.parse(built)
  // Those of kernels that are gone, or of ops from elsewhere, are not the package's.
  for (const [arch, records] of Object.entries(cubins)) {
    const folder = join('dist/cuda/kernels', arch)
    const ours = new Set(records.flatMap(({ module }) => [`${module}.cubin`, `${module}.json`]))
    for (const file of readdirSync(folder)) if (!ours.has(file)) rmSync(join(folder, file))
  }
}

function notice(version) {
  return `swiftshader.tar.br is taken unchanged from the npm package @sparticuz/chromium ${version}, which is under
the MIT licence (LICENSE.chromium-package). It holds, built from the sources of the Chromium project:

  libvk_swiftshader.so  SwiftShader, https://swiftshader.googlesource.com/SwiftShader, Apache License 2.0; with
                        LLVM, Apache License 2.0 with LLVM exceptions, and SPIRV-Tools, Apache License 2.0
  libvulkan.so.1        Khronos Vulkan-Loader, https://github.com/KhronosGroup/Vulkan-Loader, Apache License 2.0
  libEGL.so, libGLESv2.so  ANGLE, https://chromium.googlesource.com/angle/angle, BSD 3-clause licence:
                        Copyright 2018 The ANGLE Project Authors. All rights reserved. (not used by exactmap)

The text of the Apache License 2.0 is in the file LICENSE of this package.
`
}
