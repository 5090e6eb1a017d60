import { afterAll, expect, it } from 'vitest'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { allOps, makeVector, registerOp, runVector } from '../../src/index.ts'
import { explain } from '../../src/verify/run.ts'
import { NewTexts } from '../helpers/check_vector.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { conformanceSuite, gradientSuite } from '../helpers/suites.ts'
import { squared_relu, squared_relu_backward } from './own_op.ts'

// The op of the example goes through the very checks of the built-in ones.
const device = await openNodeWebGpu()
const bare = new NewTexts(await openNodeWebGpu({ without: ['subgroups', 'shader-f16'] }))

afterAll(() => {
  device.destroy()
  bare.device.destroy()
})

for (const contract of [squared_relu, squared_relu_backward]) {
  const vectors = contract.cases.map((one) => makeVector(contract, one))
  conformanceSuite(contract, vectors, () => device, bare)
}
gradientSuite(squared_relu)

const emulated = await emulatedDevice()
afterAll(() => {
  if (typeof emulated !== 'string') emulated.destroy()
})
for (const contract of [squared_relu, squared_relu_backward])
  it.for(contract.cases)(`${contract.name}/$name on the emulated CUDA device`, async (one, ctx) => {
    if (typeof emulated === 'string') return ctx.skip(emulated)
    expect(explain(await runVector(emulated, makeVector(contract, one)), emulated)).toBe('')
  })

it('is listed with the built-in ops, and a name can be taken once only', () => {
  expect(allOps()).toContain(squared_relu)
  expect(() => registerOp(squared_relu)).toThrow(expect.objectContaining({ code: 'conflict' }))
  expect(() => registerOp({ ...squared_relu, name: 'add' })).toThrow(
    expect.objectContaining({ code: 'conflict' }),
  )
})
