import { ExactmapError } from '../../errors.ts'

/** What a quantity measures, and so its SI unit: bytes, bytes per second, seconds, FLOP per second, a bare ratio. */
export type QuantityKind = 'bytes' | 'bandwidth' | 'time' | 'flops' | 'ratio'

interface Unit {
  /** Power of ten; units of 1024 have `factor` besides. */
  readonly exponent: number
  readonly factor?: number
}

const bytes: Readonly<Record<string, Unit>> = {
  B: { exponent: 0 },
  kB: { exponent: 3 },
  MB: { exponent: 6 },
  GB: { exponent: 9 },
  TB: { exponent: 12 },
  PB: { exponent: 15 },
  KiB: { exponent: 0, factor: 2 ** 10 },
  MiB: { exponent: 0, factor: 2 ** 20 },
  GiB: { exponent: 0, factor: 2 ** 30 },
  TiB: { exponent: 0, factor: 2 ** 40 },
}

const units: Readonly<Record<QuantityKind, Readonly<Record<string, Unit>>>> = {
  bytes,
  bandwidth: {
    ...Object.fromEntries(Object.entries(bytes).map(([name, unit]) => [`${name}/s`, unit])),
    'Gbit/s': { exponent: 9, factor: 1 / 8 },
    'Tbit/s': { exponent: 12, factor: 1 / 8 },
  },
  time: { ns: { exponent: -9 }, us: { exponent: -6 }, ms: { exponent: -3 }, s: { exponent: 0 } },
  flops: {
    'GFLOP/s': { exponent: 9 },
    'TFLOP/s': { exponent: 12 },
    'PFLOP/s': { exponent: 15 },
    'EFLOP/s': { exponent: 18 },
  },
  ratio: { ':1': { exponent: 0 } },
}

/** Smallest and largest value that one device, node or link may have: a slipped unit falls outside. */
const bounds: Readonly<Record<QuantityKind, readonly [number, number]>> = {
  bytes: [1e6, 1e15],
  bandwidth: [1e6, 1e15],
  time: [1e-9, 1],
  flops: [1e9, 1e18],
  ratio: [1, 100],
}

const examples: Readonly<Record<QuantityKind, string>> = {
  bytes: '141 GB',
  bandwidth: '900 GB/s',
  time: '2 us',
  flops: '990 TFLOP/s',
  ratio: '7:1',
}

/**
 * Reads a quantity such as `141 GB`, `900 GB/s`, `2 us`, `990 TFLOP/s` or `7:1`: a plain decimal number, one space
 * (none in a ratio) and a unit with its exact case. GB is 1e9 bytes and GiB is 2^30.
 *
 * @returns the value in bytes, bytes per second, seconds, FLOP per second or as a number
 * @throws ExactmapError `invalid_argument` for another form, another kind's unit, or a value no hardware has
 */
export function parseQuantity(text: unknown, kind: QuantityKind): number {
  const refuse = (why: string): never => {
    const got = text === undefined ? 'nothing' : typeof text === 'string' ? `'${text}'` : JSON.stringify(text)
    throw new ExactmapError('invalid_argument', `expected ${why}, got ${got}`)
  }
  const known = units[kind]
  const form = `${kind === 'ratio' ? 'a ratio' : kind} such as '${examples[kind]}'`
  const [, digits, space, name] =
    (typeof text === 'string' && /^(-?\d+(?:\.\d+)?)( ?)(\D\S*)$/.exec(text)) || refuse(form)
  const unit = Object.hasOwn(known, name!) ? known[name!]! : undefined
  if (!unit) return refuse(`${form} (units: ${Object.keys(known).join(', ')})`)
  if (space !== (kind === 'ratio' ? '' : ' ')) return refuse(form)
  // Written as a decimal exponent, '2 us' is the very number 2e-6; a product would round twice.
  const value = Number(`${digits}e${unit.exponent}`) * (unit.factor ?? 1)
  const [low, high] = bounds[kind]
  if (value < low || value > high)
    return refuse(`${form}, from ${formatQuantity(low, kind)} to ${formatQuantity(high, kind)}`)
  return kind === 'bytes' ? Math.round(value) : value
}

/** The value in the largest decimal unit that leaves at least 1, with four significant digits: `1.2 TB/s`. */
export function formatQuantity(value: number, kind: QuantityKind): string {
  const decimal = Object.entries(units[kind]).filter(([, unit]) => unit.factor === undefined)
  const [name, { exponent }] =
    decimal.filter(([, unit]) => value >= 10 ** unit.exponent).at(-1) ?? decimal[0]!
  const number = Number((value / 10 ** exponent).toPrecision(4))
  return kind === 'ratio' ? `${number}${name}` : `${number} ${name}`
}
