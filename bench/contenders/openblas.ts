import { join } from 'node:path'
import { packageRoot } from '../../backends/package_root.ts'
import { Child, expectField } from '../suite/child.ts'
import type { OpenContender } from '../suite/contender.ts'

/** OpenBLAS, the native yardstick for matmuls: the system's library, by a Python process that times its own calls. */
export const openOpenblas: OpenContender = async () => {
  const script = join(packageRoot(), 'bench', 'contenders', 'openblas.py')
  const started = await Child.start('openblas', ['/usr/bin/python3', script], {})
  if ('missing' in started) return started.missing
  const { child, hello } = started
  return {
    ...hello,
    async prepare(work) {
      const prepared = await child.ask({ ask: 'prepare', work })
      if ('unsupported' in prepared) return prepared
      return {
        ...expectField(prepared, 'ready'),
        run: async (times) => expectField(await child.ask({ ask: 'run', times }), 'ms'),
        sample: async (indices) => [...expectField(await child.ask({ ask: 'sample', indices }), 'values')],
        async release() {
          expectField(await child.ask({ ask: 'release' }), 'released')
        },
      }
    },
  }
}
