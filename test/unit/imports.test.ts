import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'

// Dependencies point one way (docs/architecture.md). A folder may import itself and what stands before it.
const layers = [
  ['src/errors.ts', 'src/version.ts'],
  ['src/tensor'],
  ['src/ops'],
  ['src/formats'],
  [
    'src/program',
    'backends/backend.ts',
    'backends/transport.ts',
    'backends/package_root.ts',
    'backends/kernel_rules.ts',
  ],
  [
    'backends/checked_transport.ts',
    'backends/local_transport.ts',
    'backends/build',
    'backends/compose.ts',
    'backends/linear_cross_entropy.ts',
    'backends/matmul_gated.ts',
    'backends/rope_kv_write.ts',
    'backends/transposed_weight_gradient.ts',
    'backends/tuned_shape.ts',
  ],
  ['backends/null'],
  ['backends/reference', 'backends/webgpu', 'backends/cuda', 'backends/mpi'],
  ['src/kv_cache', 'src/models', 'src/parallel'],
  ['src/train', 'src/engine'],
  ['src/verify'],
  ['src/tune'],
  ['src/open.ts'],
  ['src/index.ts', 'src/browser.ts', 'src/cli'],
]

const root = packageRoot()
const files = ['src', 'backends'].flatMap((top) =>
  readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })
    .filter((f) => f.endsWith('.ts'))
    .map((f) => join(top, f)),
)
const importsOf = (file: string): { path: string; typeOnly: boolean }[] =>
  [
    ...readFileSync(join(root, file), 'utf8').matchAll(
      /^(?:import|export)\s+(type\s)?[^'"]*?from\s+'(\.[^']+)'/gm,
    ),
  ].map((m) => ({
    path: relative(root, resolve(root, dirname(file), m[2]!)),
    typeOnly: m[1] !== undefined,
  }))
const layerOf = (file: string): number =>
  layers.findIndex((group) => group.some((p) => file === p || file.startsWith(`${p}/`)))

it('every source file belongs to a layer', () => {
  expect(files.filter((f) => layerOf(f) < 0)).toEqual([])
})

it('imports point towards lower layers', () => {
  const wrong = files.flatMap((file) =>
    importsOf(file)
      .filter(({ path }) => path.endsWith('.ts') && layerOf(path) > layerOf(file))
      .map(({ path }) => `${file} imports ${path}`),
  )
  expect(wrong).toEqual([])
})

it('only the edges know a backend besides the interface', () => {
  const interfaces = ['backends/backend.ts', 'backends/transport.ts']
  const edges = /^src\/(open\.ts|index\.ts|browser\.ts|cli\/|verify\/|tune\/)/
  const wrong = files
    .filter((f) => f.startsWith('src/') && !edges.test(f))
    .flatMap((file) =>
      importsOf(file)
        .filter(({ path }) => path.startsWith('backends/') && !interfaces.includes(path))
        .map(({ path }) => `${file} imports ${path}`),
    )
  expect(wrong).toEqual([])
})

it('has no import cycles', () => {
  const graph = new Map(
    files.map((f) => [
      f,
      importsOf(f)
        .filter((i) => !i.typeOnly)
        .map((i) => i.path),
    ]),
  )
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file))
      throw new Error(`cycle: ${[...path.slice(path.indexOf(file)), file].join(' -> ')}`)
    if (done.has(file)) return
    for (const next of graph.get(file) ?? []) visit(next, [...path, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])
  expect(done.size).toBeGreaterThanOrEqual(files.length)
})
