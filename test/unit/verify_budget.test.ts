import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { ReferenceDevice } from '../../backends/reference/device.ts'
import { secondsOf } from '../../src/cli/options.ts'
import { withinBudget } from '../../src/cli/verify_budget.ts'
import { type Candidate, chooseCases } from '../../src/verify/choice.ts'
import { type CostTable, costLookup, costTableFor, readCosts, writeCosts } from '../../src/verify/costs.ts'
import { readVectors } from '../../src/verify/suite.ts'

/** What a text takes to compile is the text's: else the estimate would depend on the order. */
const compileOf = (text: number): { compile: number; kept: number } => ({
  compile: 100 * text + 7,
  kept: 3 * text,
})

/** Candidates of a few ops, formats, variants and texts, in whole milliseconds, so that sums are exact. */
const candidates = fc
  .array(
    fc.record({
      formats: fc.integer({ min: 0, max: 7 }),
      variants: fc.uniqueArray(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 2 }),
      text: fc.integer({ min: 0, max: 11 }),
      run: fc.integer({ min: 0, max: 400 }),
    }),
    { minLength: 1, maxLength: 30 },
  )
  .map((cases) =>
    cases.map(
      ({ formats, variants, text, run }, i): Candidate => ({
        id: `op/${i}`,
        formats: `op x:${formats}`,
        variants: variants.map(String),
        texts: String(text),
        cost: { ...compileOf(text), run },
      }),
    ),
  )
const budgets = fc.integer({ min: 0, max: 12_000 })

/** The estimate as it is defined: a text is compiled once, and comes from the driver's cache for further cases. */
function added(all: readonly Candidate[], ids: ReadonlySet<string>): { cold: number; kept: number } {
  const chosen = all.filter(({ id }) => ids.has(id))
  const kept = chosen.reduce((sum, { cost }) => sum + cost.run + cost.kept, 0)
  const texts = [...new Set(chosen.map((c) => c.texts))].map((text) => compileOf(Number(text)))
  return { cold: texts.reduce((sum, once) => sum + once.compile - once.kept, kept), kept }
}

const formatsOf = (cases: readonly Candidate[]): string[] => [...new Set(cases.map((c) => c.formats))].sort()

describe('the choice of cases', () => {
  it('has every op with every storage format, whatever the budget', () => {
    fc.assert(
      fc.property(candidates, budgets, (all, budget) => {
        const { ids } = chooseCases(all, budget)
        expect(formatsOf(all.filter(({ id }) => ids.has(id)))).toEqual(formatsOf(all))
      }),
    )
  })

  it('stays within the budget where the minimum does, and is the minimum where not', () => {
    fc.assert(
      fc.property(candidates, budgets, (all, budget) => {
        const { ids, estimate, minimum } = chooseCases(all, budget)
        expect(estimate).toEqual(added(all, ids))
        if (minimum.cold <= budget) expect(estimate.cold).toBeLessThanOrEqual(budget)
        else expect(estimate).toEqual(minimum)
      }),
    )
  })

  it('only adds cases to a larger budget, up to all of them', () => {
    fc.assert(
      fc.property(candidates, budgets, budgets, (all, a, b) => {
        const [small, large] = [Math.min(a, b), Math.max(a, b)].map((budget) => chooseCases(all, budget).ids)
        for (const id of small!) expect(large).toContain(id)
        const whole = added(all, new Set(all.map(({ id }) => id))).cold
        expect(chooseCases(all, whole).ids.size).toBe(all.length)
      }),
    )
  })

  const one = (id: string, formats: string, variant: string, text: string, run: number): Candidate => ({
    id,
    formats,
    variants: [variant],
    texts: text,
    cost: { compile: 100, kept: 10, run },
  })

  it('takes the cheapest of those with the same formats', () => {
    const { ids } = chooseCases([one('dear', 'f32', 'tile', 'a', 9), one('cheap', 'f32', 'tile', 'b', 2)], 0)
    expect([...ids]).toEqual(['cheap'])
  })

  it('prefers a new kernel variant, for the formats and beyond', () => {
    const all = [
      one('f32', 'f32', 'tile', 'a', 1),
      one('f16 by tile', 'f16', 'tile', 'b', 2),
      one('f16 by vector', 'f16', 'vector', 'c', 3),
      one('f32 by scalar', 'f32', 'scalar', 'd', 4),
    ]
    expect([...chooseCases(all, 0).ids]).toEqual(['f32', 'f16 by vector'])
    expect([...chooseCases(all, 310).ids]).toEqual(['f32', 'f16 by vector', 'f32 by scalar'])
  })

  it('takes a kernel that an earlier case has from the cache', () => {
    const all = [
      one('f32', 'f32', 'tile', 'a', 1),
      one('f32 again', 'f32', 'tile', 'a', 50),
      one('f32 new', 'f32', 'tile', 'b', 1),
    ]
    const { ids, estimate } = chooseCases(all, 161)
    expect([...ids]).toEqual(['f32', 'f32 again'])
    expect(estimate).toEqual({ cold: 161, kept: 71 })
  })

  it('chooses nothing from nothing', () => {
    expect(chooseCases([], 5)).toEqual({
      ids: new Set(),
      estimate: { cold: 0, kept: 0 },
      minimum: { cold: 0, kept: 0 },
    })
  })
})

describe('measured costs', () => {
  const folder = mkdtempSync(join(tmpdir(), 'exactmap-costs-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const cost = (ms: number) => ({ compile: 10 * ms, kept: ms, run: ms })
  const table: CostTable = {
    device: 'a device',
    driver: 'lavapipe (Mesa)',
    commit: 'abc',
    loadAverage: 0,
    ms: { 'silu/a': cost(1), 'silu/b': cost(2), 'silu/c': cost(30), 'matmul/a': cost(500) },
  }

  it('are read as they were written', () => {
    expect(readCosts(folder)).toEqual({})
    writeCosts(folder, { lavapipe: table, swiftshader: { ...table, ms: {} } })
    expect(readCosts(folder)).toEqual({ lavapipe: table, swiftshader: { ...table, ms: {} } })
  })

  it('are refused when they are none', () => {
    writeFileSync(join(folder, 'costs.json'), '{ "lavapipe": 3 }')
    expect(() => readCosts(folder)).toThrow(/expected .*costs\.json to hold measured costs/)
  })

  it('of a new case are the median of its op, of a new op the median of all', () => {
    const costOf = costLookup(table)
    expect(costOf('silu', 'silu/b')).toEqual(cost(2))
    expect(costOf('silu', 'silu/new')).toEqual(cost(2))
    expect(costOf('rope', 'rope/new')).toEqual(cost(30))
    expect(costLookup(undefined)('silu', 'silu/a')).toEqual(cost(0))
  })

  it('are those of the driver, or lavapipe’s', () => {
    const other = { ...table, driver: 'swiftshader (SwiftShader)' }
    const tables = { lavapipe: table, swiftshader: other }
    expect(costTableFor(tables, 'swiftshader (SwiftShader 5.0)')).toBe(other)
    expect(costTableFor(tables, 'gpu (NVIDIA)')).toBe(table)
  })

  it('are there for the stored vectors, which fit into their sum', async () => {
    const root = join(packageRoot(), 'test', 'vectors')
    const costs = readCosts(root)
    expect(Object.keys(costs).sort()).toEqual(['lavapipe', 'swiftshader'])
    const vectors = await readVectors(root, [])
    const device = new ReferenceDevice()
    const least = withinBudget(device, vectors, 0, costs)
    const formats = (v: (typeof vectors)[number]): string =>
      `${v.op} ${Object.values({ ...v.inputs, ...v.outputs }).map(({ type }) => type.format)}`
    expect(new Set(least.vectors.map(formats))).toEqual(new Set(vectors.map(formats)))
    expect(least.vectors.length).toBeLessThan(vectors.length)
    expect(least.budget.minimum).toBe(least.budget.estimated.cold)
    const all = withinBudget(device, vectors, 1e6, costs)
    expect(all.vectors).toEqual(vectors)
    expect(all.budget).toMatchObject({ chosen: vectors.length, of: vectors.length, leftOut: {} })
  })
})

describe('--budget', () => {
  it('takes seconds and minutes', () => {
    expect(['90', '90s', '1.5m', '0'].map(secondsOf)).toEqual([90, 90, 90, 0])
    for (const wrong of ['', 's', '-1', '2 h', '1e3', '2m30s'])
      expect(() => secondsOf(wrong)).toThrow(/expected/)
  })
})
