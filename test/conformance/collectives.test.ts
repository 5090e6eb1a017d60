import { join } from 'node:path'
import { afterAll, describe } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { ReferenceDevice } from '../../backends/reference/device.ts'
import { collectiveSuite } from '../helpers/collective_suite.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'

// Every stored vector of a collective by every algorithm: all ranks on one device, joined by local transports. The
// subject is what an algorithm does with a device's kernels and copies, so one driver is enough.
const root = join(packageRoot(), 'test', 'vectors')
const webgpu = await quickWebGpu()
const reference = new ReferenceDevice()

afterAll(() => webgpu.destroy())

describe('webgpu', () => collectiveSuite(() => webgpu, root))
describe('reference', () => collectiveSuite(() => reference, root))
