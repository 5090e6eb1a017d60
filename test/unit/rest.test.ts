import { expect, it } from 'vitest'
import { restWhile } from '../../backends/webgpu/node/rest.ts'

it('rests while it waits: few turns of the event loop, and none once nobody waits', async () => {
  let done = false
  let turns = 0
  const turn = (): void => {
    turns++
    if (!done) setImmediate(turn)
  }
  const start = performance.now()
  setImmediate(turn)
  const work = restWhile(new Promise<number>((resolve) => setTimeout(() => resolve(7), 200)))
  // Two waits at once rest once a turn.
  await restWhile(new Promise((resolve) => setTimeout(resolve, 100)))
  expect(await work).toBe(7)
  done = true
  const elapsed = performance.now() - start
  // Every turn rests 0.1 ms; without rests an idle machine turns some 200 times a millisecond.
  expect(turns).toBeLessThanOrEqual(elapsed / 0.1 + 2)
  expect(turns).toBeGreaterThan(1)
})

it('passes a failure on', async () => {
  const failure = new Error('lost')
  await expect(restWhile(Promise.reject(failure))).rejects.toBe(failure)
})
