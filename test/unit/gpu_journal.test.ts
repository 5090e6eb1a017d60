import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { type CaseRecord, readJournal, verifiedKernels } from '../../bench/gpu/journal.ts'
import { wrongElements, wrongText } from '../../bench/gpu/wrong_map.ts'
import { readVectors } from '../../src/verify/suite.ts'

const run = (name: string) => ({
  part: 'run',
  prepared: 'p',
  version: 13000,
  devices: [{ name, kernels: 'sm_90a' }],
})
const text = (...records: object[]) => records.map((record) => `${JSON.stringify(record)}\n`).join('')

describe("the journal of a GPU's run", () => {
  it('is read by parts, without a line that was cut off', () => {
    const journal = readJournal(`${text(run('GPU'), { part: 'verify', case: 'a/b' })}{"part":"veri`)
    expect(journal).toMatchObject({ device: 'GPU', driver: 'CUDA 13.0', kernels: 'sm_90a', prepared: 'p' })
    expect(journal.of('verify')).toEqual([{ case: 'a/b' }])
    expect(journal.of('speed')).toEqual([])
  })

  it('is of one device', () => {
    expect(() => readJournal('')).toThrow(/no run in it/)
    expect(() => readJournal(text(run('H100'), run('H200')))).toThrow(/one device, got H100, H200/)
  })

  it('verifies the kernels whose every case passed, the last time that it ran', () => {
    const passed = (id: string, worst: number | string, pass = true) =>
      ({ case: id, pass, worst }) as CaseRecord
    const vectors = [
      { case: 'a/1', kernels: ['good', 'shared'] },
      { case: 'a/2', kernels: ['good'] },
      { case: 'b/1', kernels: ['shared', 'bad'] },
      { case: 'c/1', kernels: ['never'] },
    ]
    const about = { device: 'GPU', driver: 'CUDA 13.0', commit: 'c', date: 'd' }
    const records = [
      passed('a/1', 0.25),
      { case: 'a/2', pass: false, code: 'skipped' } as CaseRecord,
      passed('b/1', 'Infinity', false),
      passed('a/2', 0.5),
    ]
    expect(verifiedKernels({ vectors, texts: { good: 'hash' } }, records, about)).toEqual({
      verified: { good: { textHash: 'hash', ...about, cases: 2, worst: 0.5 } },
      refused: { shared: ['b/1'], bad: ['b/1'], never: ['c/1'] },
    })
  })
})

it('a wrong output is a map of its wrong elements', async () => {
  const vectors = await readVectors(join(packageRoot(), 'test', 'vectors'), ['add'])
  const vector = vectors.find(({ name }) => name === 'prime')!
  const { type, bytes } = vector.outputs.y!
  const count = type.shape.reduce((a, b) => a * b, 1)
  expect(wrongElements(vector, 'y', bytes).wrong).toEqual([])
  const got = new Float32Array(bytes.slice().buffer)
  got[1] = Number.NaN
  got[count - 1]! += 1
  const found = wrongElements(vector, 'y', new Uint8Array(got.buffer))
  expect(found.wrong).toEqual([1, count - 1])
  const [head, first, , ...map] = wrongText(found).split('\n')
  expect(head).toMatch(new RegExp(`2 of ${count} elements are wrong; a cell is \\d+ x \\d+$`))
  expect(first).toMatch(/^ {2}\[0, 1\] expected -?\d.*, got NaN$/)
  expect(map.join('').replaceAll('.', '')).toMatch(/^[5#][5#]$/)
})
