import { afterAll } from 'vitest'
import { quickWebGpu } from '../helpers/webgpu.ts'
import { equalitySuite } from './equality.ts'

const device = await quickWebGpu()
afterAll(() => device.destroy())

equalitySuite(device)
