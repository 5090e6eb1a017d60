import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  groupBytes,
  groupLayers,
  PAGE_TOKENS,
  pageBytes,
  pagesFor,
  poolType,
} from '../../src/kv_cache/layout.ts'
import { PagePool } from '../../src/kv_cache/page_pool.ts'

const code = (body: () => unknown): string => {
  try {
    body()
  } catch (error) {
    return (error as { code: string }).code
  }
  return 'nothing thrown'
}

describe('PagePool', () => {
  it('takes a page when a sequence grows past 64 tokens, not before', () => {
    const pool = new PagePool(3, 3)
    const s = pool.open()
    expect(pool.available).toBe(3)
    pool.grow(s, 1)
    pool.grow(s, 64)
    expect(pool.available).toBe(2)
    pool.grow(s, 65)
    expect(pool.available).toBe(1)
    pool.grow(s, 10)
    expect(pool.length(s)).toBe(65)
    expect([...pool.row(s)]).toEqual([0, 1, 0])
  })

  it('refuses to grow when it is full, and leaves everything as it was', () => {
    const pool = new PagePool(2, 4)
    const [a, b] = [pool.open(), pool.open()]
    pool.grow(a, 64)
    expect(code(() => pool.grow(b, 65))).toBe('out_of_memory')
    expect(pool.available).toBe(1)
    expect(pool.length(b)).toBe(0)
    pool.grow(b, 64)
    expect([...pool.row(b)]).toEqual([1, 0, 0, 0])
  })

  it('reuses pages after close, and forgets the sequence', () => {
    const pool = new PagePool(2, 2)
    const a = pool.open()
    pool.grow(a, 128)
    pool.close(a)
    expect(pool.available).toBe(2)
    expect(code(() => pool.row(a))).toBe('not_found')
    const b = pool.open()
    expect(b).not.toBe(a)
    pool.grow(b, 128)
    expect([...pool.row(b)]).toEqual([0, 1])
  })

  it('refuses a length past the page table and unknown sequences', () => {
    const pool = new PagePool(9, 2)
    const s = pool.open()
    expect(code(() => pool.grow(s, 129))).toBe('invalid_argument')
    expect(code(() => pool.grow(s, 1.5))).toBe('invalid_argument')
    expect(code(() => pool.close(7))).toBe('not_found')
    expect(code(() => new PagePool(0, 1))).toBe('invalid_argument')
  })

  it('releases whole pages behind a window only', () => {
    const pool = new PagePool(3, 8)
    const s = pool.open()
    pool.grow(s, 150)
    pool.release(s, 63)
    expect(pool.available).toBe(0)
    pool.release(s, 127)
    expect(pool.available).toBe(1)
    pool.grow(s, 200)
    expect([...pool.row(s)].slice(0, 4)).toEqual([0, 1, 2, 0])
    pool.close(s)
    expect(pool.available).toBe(3)
  })

  it('never gives one page to two sequences and never loses one', () => {
    const action = fc.record({
      what: fc.constantFrom('open', 'grow', 'release', 'close'),
      who: fc.nat(9),
      much: fc.nat(300),
    })
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const pool = new PagePool(7, 4)
        const open: number[] = []
        const start = new Map<number, number>()
        for (const { what, who, much } of actions) {
          const id = open[who % Math.max(1, open.length)]
          if (what === 'open') open.push(pool.open())
          else if (id === undefined) continue
          else if (what === 'grow') code(() => pool.grow(id, much))
          else if (what === 'release') {
            const position = Math.min(much, pool.length(id))
            pool.release(id, position)
            start.set(id, Math.max(start.get(id) ?? 0, Math.floor(position / PAGE_TOKENS)))
          } else {
            pool.close(id)
            open.splice(open.indexOf(id), 1)
          }
          const owned = open.flatMap((s) => [
            ...pool.row(s).slice(start.get(s) ?? 0, Math.ceil(pool.length(s) / PAGE_TOKENS)),
          ])
          expect(new Set(owned).size).toBe(owned.length)
          expect(owned.length + pool.available).toBe(7)
          expect(owned.every((p) => p < 7)).toBe(true)
        }
      }),
      { numRuns: 200 },
    )
  })
})

describe('layout', () => {
  const full = { kv_heads: 2, head_dim: 16, window: 0, format: 'f16' } as const
  const window = { ...full, window: 100 }

  it('groups equal layers', () => {
    const groups = groupLayers([full, window, full, window])
    expect(groups.map((g) => [g.name, g.kind, g.layers])).toEqual([
      ['full_2x16_f16', 'full', [0, 2]],
      ['window_100_2x16_f16', 'window', [1, 3]],
    ])
  })

  it.each([
    ['f32', 4],
    ['f16', 2],
    ['e4m3', 1],
  ] as const)('counts bytes in %s', (format, bytes) => {
    const layer = { ...full, format }
    const [group] = groupLayers([layer, layer, layer])
    expect(poolType(group!, 5).shape).toEqual([5, 2, 64, 16])
    expect(pageBytes(group!)).toBe(2 * 3 * 2 * 64 * 16 * bytes)
    expect(groupBytes(group!, 5)).toBe(5 * pageBytes(group!))
  })

  it('holds as many pages as the visible tokens can touch', () => {
    const [a, b] = groupLayers([full, window])
    expect(pagesFor(a!, 1)).toBe(1)
    expect(pagesFor(a!, 65)).toBe(2)
    expect(pagesFor(b!, 64)).toBe(1)
    // By counting: every place a window of 100 can end, with one and with eight tokens written at once.
    for (const step of [1, 8]) {
      let most = 0
      for (let end = 1000; end < 1064; end++)
        most = Math.max(
          most,
          Math.floor(end / PAGE_TOKENS) - Math.floor((end - step + 1 - 99) / PAGE_TOKENS) + 1,
        )
      expect(pagesFor(b!, 5000, step)).toBe(most)
    }
  })
})
