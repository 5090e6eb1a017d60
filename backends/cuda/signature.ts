import { check, ExactmapError } from '../../src/errors.ts'

/** Types a kernel's scalar parameter may have. */
export type ScalarType = 'u32' | 'i32' | 'f32' | 'u64'

export type Parameter =
  | {
      readonly kind: 'pointer'
      readonly name: string
      readonly optional: boolean
      /** Block i of n reads the i-th n-th of it. */
      readonly streamed: boolean
    }
  | { readonly kind: 'scalar'; readonly name: string; readonly type: ScalarType }
  | { readonly kind: 'tensor_map'; readonly name: string }

/** What a launch must know of a kernel: where it is, its block and its parameters in order. */
export interface KernelSignature {
  readonly name: string
  /** File of kernels-cuda without `.cu`. */
  readonly module: string
  /** Threads of a block. */
  readonly threads: number
  /** Bytes of dynamic shared memory. */
  readonly shared: number
  /** Blocks of a cluster. */
  readonly cluster: number
  readonly parameters: readonly Parameter[]
}

const scalarTypes: Readonly<Record<string, ScalarType>> = {
  uint32_t: 'u32',
  int32_t: 'i32',
  float: 'f32',
  uint64_t: 'u64',
}

/** Numbers of each macro that declares a kernel, after its name. */
const declarations = {
  KERNEL: ['threads'],
  KERNEL_SHARED: ['threads', 'shared'],
  KERNEL_CLUSTER: ['threads', 'shared', 'cluster'],
} as const
const KERNEL = /^(KERNEL(?:_SHARED|_CLUSTER)?)\(\s*(\w+)\s*,([\s\d,]*?),\s*((?![\s\d])[^{]*?)\)\s*\{/gm

/** Constants that a launch has for each tensor map, behind its name and a point: the matrix and the box, in elements. */
export const tensorMapFields = ['format', 'rows', 'width', 'box_rows', 'box_width'] as const

/** Names of the constants that a launch of the kernel has. */
export const constantNames = ({ parameters }: KernelSignature): string[] =>
  parameters.flatMap((p) =>
    p.kind === 'scalar'
      ? [p.name]
      : p.kind === 'tensor_map'
        ? tensorMapFields.map((field) => `${p.name}.${field}`)
        : [],
  )

/**
 * The kernels a file of kernels-cuda declares; see lib/kernel.h for the form of a declaration.
 *
 * @throws ExactmapError `kernel_compile` for a declaration of another form
 */
export function parseSignatures(module: string, text: string): KernelSignature[] {
  const declared = text.match(/^\s*KERNEL(_SHARED|_CLUSTER)?\(/gm)?.length ?? 0
  const found = [...text.matchAll(KERNEL)].flatMap(([, macro, name, numbers, list]): KernelSignature[] => {
    const names = declarations[macro as keyof typeof declarations]
    const given = numbers!.split(',').map((number) => number.trim())
    if (given.length !== names.length || !given.every((number) => /^\d+$/.test(number))) return []
    return [
      {
        name: name!,
        module,
        ...{ threads: 0, shared: 0, cluster: 1 },
        ...Object.fromEntries(names.map((field, i) => [field, Number(given[i])])),
        parameters: list!.split(',').map((one) => parameter(one, `${module}.cu`, name!)),
      },
    ]
  })
  check(
    found.length === declared,
    'kernel_compile',
    `${module}.cu has ${declared} KERNEL declarations, ${found.length} of the form of lib/kernel.h: KERNEL(name, threads, parameters...) { with literal numbers`,
  )
  return found
}

function parameter(text: string, file: string, kernel: string): Parameter {
  const words = text.replaceAll('*', ' * ').trim().split(/\s+/)
  const name = words.at(-1)!
  if (words.includes('*'))
    return { kind: 'pointer', name, optional: words[0] === 'OPTIONAL', streamed: words[0] === 'STREAMED' }
  if (words[0] === 'TENSOR_MAP' && words.length === 2) return { kind: 'tensor_map', name }
  const type = words.length === 2 ? scalarTypes[words[0]!] : undefined
  if (!type)
    throw new ExactmapError(
      'kernel_compile',
      `parameter '${text.trim()}' is neither a pointer nor a TENSOR_MAP nor one of ${Object.keys(scalarTypes).join(', ')}`,
      { kernel, file },
    )
  return { kind: 'scalar', name, type }
}

/** The 8 bytes of a scalar argument, little endian; 4-byte types in the first four. */
export function scalarBits(value: number | string | undefined, type: ScalarType, what: string): bigint {
  check(typeof value === 'number', 'internal', () => `${what} needs a number, got ${JSON.stringify(value)}`)
  if (type === 'f32') return BigInt(new Uint32Array(Float32Array.of(value).buffer)[0]!)
  const [low, high] = { u32: [0, 2 ** 32 - 1], i32: [-(2 ** 31), 2 ** 31 - 1], u64: [0, 2 ** 53] }[type] as [
    number,
    number,
  ]
  check(
    Number.isInteger(value) && value >= low && value <= high,
    'internal',
    () => `${what} must be a ${type}, got ${value}`,
  )
  return BigInt.asUintN(type === 'u64' ? 64 : 32, BigInt(value))
}
