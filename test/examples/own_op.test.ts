import { afterAll, expect, it } from 'vitest'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { allOps, makeVector, registerOp } from '../../src/index.ts'
import { NewTexts } from '../helpers/check_vector.ts'
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
  const vectors = contract.cases.map((one) => [one.name, () => makeVector(contract, one)] as const)
  conformanceSuite(contract, Object.fromEntries(vectors), device, bare)
}
gradientSuite(squared_relu)

it('is listed with the built-in ops, and a name can be taken once only', () => {
  expect(allOps()).toContain(squared_relu)
  expect(() => registerOp(squared_relu)).toThrow(expect.objectContaining({ code: 'conflict' }))
  expect(() => registerOp({ ...squared_relu, name: 'add' })).toThrow(
    expect.objectContaining({ code: 'conflict' }),
  )
})
