import { ExactmapError } from '../../src/errors.ts'

/** Kernel files by path relative to kernels-wgsl, without `.wgsl`: e.g. `rms_norm`, `lib/weight_f16`. */
export type KernelLibrary = ReadonlyMap<string, string>

const CONSTANT = /^(?:const|override)\s+([A-Z][A-Z0-9_]*)\s*:\s*(\w+)\s*=\s*([^;]+);/gm

/**
 * Links a kernel: concatenates modules in order and gives every constant named in `constants` its value.
 * A module declares its constants as `const NAME: type = default;` at module scope, so each file is complete
 * for any WGSL tool; here the default is replaced. `enable` directives move to the top, comments that fill a
 * whole line are dropped.
 */
export function link(
  library: KernelLibrary,
  modules: readonly string[],
  constants: Readonly<Record<string, number | string>>,
): string {
  const unused = new Set(Object.keys(constants))
  const enables = new Set<string>()
  const parts = modules.map((name) => {
    const text = library.get(name)
    if (text === undefined)
      throw new ExactmapError('not_found', `kernel library has no module '${name}.wgsl'`, {
        kernel: modules[0] ?? '',
      })
    return text
      .replace(/^\s*\/\/.*\n/gm, '')
      .replace(/^(enable|requires)\s+[^;]+;\n?/gm, (line) => {
        enables.add(line.trim())
        return ''
      })
      .replace(CONSTANT, (line, constant: string, type: string) => {
        if (!(constant in constants)) return line
        unused.delete(constant)
        return `const ${constant}: ${type} = ${literal(constants[constant]!, type)};`
      })
      .trim()
  })
  if (unused.size > 0)
    throw new ExactmapError(
      'internal',
      `kernel ${modules.join(' + ')} declares no constant ${[...unused].join(', ')}`,
      { kernel: modules[0] ?? '' },
    )
  return `${[...[...enables].sort(), ...parts].join('\n')}\n`
}

/**
 * Where a line of a linked text (counted from 1) stands in the library, e.g. `lib/weight_f16.wgsl:12`: what a
 * compiler's message means to the author. The linked lines are the modules' lines in order, without some, and
 * with other values for constants.
 */
export function sourceLine(
  library: KernelLibrary,
  modules: readonly string[],
  linked: string,
  line: number,
): string {
  const declared = (text: string): string => /^const\s+[A-Z][A-Z0-9_]*/.exec(text.trim())?.[0] ?? text.trim()
  const sources = modules.flatMap((name) =>
    (library.get(name) ?? '').split('\n').map((text, i) => ({ text, place: `${name}.wgsl:${i + 1}` })),
  )
  let at = 0
  for (const [i, text] of linked.split('\n').slice(0, line).entries()) {
    const isEnable = /^(enable|requires)\s/.test(text)
    if (isEnable) at = 0
    if (text.trim() !== '') {
      while (at < sources.length && declared(sources[at]!.text) !== declared(text)) at++
      if (i === line - 1) break
      at = isEnable ? 0 : at + 1
    }
  }
  return sources[Math.min(at, sources.length - 1)]?.place ?? `line ${line}`
}

function literal(value: number | string, type: string): string {
  if (typeof value === 'string') return value
  if (type === 'u32') return `${value}u`
  if (type === 'i32') return `${value}i`
  if (type === 'f32') {
    const rounded = Math.fround(value)
    return `${Number.isInteger(rounded) ? rounded.toFixed(1) : rounded}f`.replace(/\.0f$/, '.0f')
  }
  return String(value)
}
