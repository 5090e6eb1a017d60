import { spawnSync } from 'node:child_process'
import { rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { knownVersion } from '../../backends/build/tools.ts'
import { buildCubin, parseResources } from '../../backends/cuda/build/cubins.ts'
import { imageFolder } from '../../backends/cuda/build/places.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { packageRoot } from '../../backends/package_root.ts'

const nvcc = await knownVersion('nvcc')

describe("the assembler's report", () => {
  it('is read per kernel', () => {
    const text = `ptxas info    : Compiling entry function 'one' for 'sm_90a'
ptxas info    : Function properties for one
    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compiling entry function 'two' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 0 barriers`
    expect(parseResources(text)).toEqual({
      one: { registers: 40, shared: 1024, stack: 16, spillStores: 12, spillLoads: 8 },
      two: { registers: 12, shared: 0, stack: 0, spillStores: 0, spillLoads: 0 },
    })
  })
})

const build = (module: string, body: string, library = 'kernel') => {
  const text = `#include "lib/${library}.h"\n${body}\n`
  const sources = new Map([...readCudaSources(), [`${module}.cu`, text]])
  return buildCubin(cudaTarget(cudaTraits['cuda-sm_90a']!, sources), module)
}

it('a cubin is built again when its text has changed, and not before', async (ctx) => {
  if (!nvcc) return ctx.skip('nvcc is not installed')
  const [image, record] = ['cubin', 'json'].map((ending) => join(imageFolder('sm_90a'), `kept.${ending}`))
  try {
    const first = await build('kept', 'KERNEL(kept, 32, float* y) { y[0] = 1; }')
    const { mtimeMs } = statSync(image!)
    expect(await build('kept', 'KERNEL(kept, 32, float* y) { y[0] = 1; }')).toEqual(first)
    expect(statSync(image!).mtimeMs).toBe(mtimeMs)
    const other = await build('kept', 'KERNEL(kept, 32, float* y) { y[0] = 2; }')
    expect(other.sha256).not.toBe(first.sha256)
    expect(statSync(image!).mtimeMs).toBeGreaterThan(mtimeMs)
  } finally {
    for (const file of [image!, record!]) rmSync(file, { force: true })
  }
})

it("what the runtime calls of the driver has NVIDIA's declarations at the versions that it asks for", (ctx) => {
  if (!nvcc) return ctx.skip('nvcc is not installed')
  const flags = ['-x', 'c', '-DEXACTMAP_CHECK_API', '-c', 'check_api.c', '-o', '/dev/null']
  const { status, stderr } = spawnSync('nvcc', flags, {
    cwd: join(packageRoot(), 'backends/cuda/runtime'),
    encoding: 'utf8',
  })
  expect([status, stderr]).toEqual([0, ''])
})

describe('a cubin is refused', () => {
  // 1,024 threads of a block have 64 registers each: too few for 128 numbers that are all needed at the end.
  const spilling = `KERNEL(refused, 1024, const float* x, float* y) {
  float v[128];
#pragma unroll
  for (uint32_t i = 0; i < 128; i++) v[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (uint32_t i = 0; i < 128; i++) y[i * 1024 + threadIdx.x] = v[127 - i] * v[i];
}`

  // Without a bound of its threads' registers a kernel has none to give.
  const unbound = 'KERNEL(refused, 128, float* y) { registers_give_back<40>(); y[threadIdx.x] = 1; }'
  const serial = `KERNEL_SHARED(refused, 128, 1024, float* y, uint64_t a) {
  float sum[32] = {};
  wgmma_fence();
  for (uint32_t k = 0; k < 4; k++) {
    wgmma<WgmmaFormat::bf16>(sum, a, a, true);
    wgmma_commit();
    y[k] = sum[0];
  }
  wgmma_wait<0>();
  y[4] = sum[1];
}`

  it.for([
    ['whose kernel spills registers', spilling, 'spills'],
    ['that reads sums of wgmma before it has waited', serial, 'C75', 'wgmma'],
    ['that gives back registers which it does not have', unbound, 'setmaxnreg', 'warpgroup'],
    ['with a warning', 'KERNEL(refused, 32, float* y) { int unused = 3; y[0] = 1; }', 'unused'],
    ['that does not compile', 'KERNEL(refused, 32, float* y) { y[0] = nothing; }', 'refused.cu'],
  ] as const)('%s', async ([_what, body, words, library], ctx) => {
    if (!nvcc) return ctx.skip('nvcc is not installed')
    await expect(build('refused', body, library)).rejects.toMatchObject({
      code: 'kernel_compile',
      message: expect.stringContaining(words),
    })
  })
})
