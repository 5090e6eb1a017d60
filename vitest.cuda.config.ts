import { defineConfig } from 'vitest/config'
import shared from './vitest.config.ts'

// `npm run test:cuda`: the CUDA backend on the emulated device.
export default defineConfig({ test: { ...shared.test, include: ['test/cuda/**/*.test.ts'], exclude: [] } })
