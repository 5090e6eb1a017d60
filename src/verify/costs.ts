import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { ExactmapError } from '../errors.ts'

/** Milliseconds that one stored vector takes on a device. */
export interface CaseCost {
  /** To compile and load its kernels where the driver has never seen them. */
  readonly compile: number
  /** The same where the driver kept them from an earlier process. */
  readonly kept: number
  /** To run it as `exactmap verify` does once its kernels are compiled: repeats, comparison. */
  readonly run: number
}

const ms = z.number().nonnegative()
const tables = z.record(
  z.string(),
  z.object({
    device: z.string(),
    driver: z.string(),
    commit: z.string(),
    /** Of the machine in the last minute when the measurement ended. */
    loadAverage: ms,
    ms: z.record(z.string(), z.object({ compile: ms, kept: ms, run: ms })),
  }),
)

/** What every stored vector was measured to take on one driver, by `<op>/<case>`. */
export type CostTable = z.infer<typeof tables>[string]

/** Tables by kind of driver. */
export type CostTables = Readonly<Record<string, CostTable>>

const pathOf = (root: string): string => join(root, 'costs.json')

/**
 * Reads the measured costs beside the stored vectors.
 *
 * @param root folder with a folder per op
 * @throws ExactmapError `invalid_format` for a file that is none
 */
export function readCosts(root: string): CostTables {
  const path = pathOf(root)
  if (!existsSync(path)) return {}
  try {
    return tables.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch (error) {
    throw new ExactmapError(
      'invalid_format',
      `expected ${path} to hold measured costs, but ${(error as Error).message}; 'npm run costs' writes it anew`,
    )
  }
}

/** Writes tables beside the stored vectors, a line per case. */
export function writeCosts(root: string, costs: CostTables): void {
  const table = ([kind, { ms, ...about }]: [string, CostTable]): string => {
    const cases = Object.entries(ms).map(
      ([id, cost]) => `      ${JSON.stringify(id)}: ${JSON.stringify(cost)}`,
    )
    const head = Object.entries(about).map(
      ([key, value]) => `    ${JSON.stringify(key)}: ${JSON.stringify(value)},\n`,
    )
    return `  ${JSON.stringify(kind)}: {\n${head.join('')}    "ms": {\n${cases.join(',\n')}\n    }\n  }`
  }
  writeFileSync(pathOf(root), `{\n${Object.entries(costs).map(table).join(',\n')}\n}\n`)
}

/** The table for a device: that of its driver, else lavapipe's, whose ratios between cases are better than none. */
export const costTableFor = (costs: CostTables, driver: string): CostTable | undefined =>
  costs[driver.split(' ')[0]!] ?? costs.lavapipe

/** Cost of a case by its id; one that was never measured counts as the median of its op, or of all. */
export function costLookup(table: CostTable | undefined): (op: string, id: string) => CaseCost {
  const measured = Object.entries(table?.ms ?? {})
  const medians = new Map<string, CaseCost>()
  const medianOf = (op: string): CaseCost => {
    const known = medians.get(op)
    if (known) return known
    const ofOp = measured.filter(([id]) => id.startsWith(`${op}/`))
    const costs = (ofOp.length > 0 ? ofOp : measured).map(([, cost]) => cost)
    const typical = {
      compile: median(costs.map((c) => c.compile)),
      kept: median(costs.map((c) => c.kept)),
      run: median(costs.map((c) => c.run)),
    }
    medians.set(op, typical)
    return typical
  }
  return (op, id) => table?.ms[id] ?? medianOf(op)
}

/** The upper one of two in the middle; 0 of none. */
const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
