import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Files that take longest with cold shader caches, longest first: begun last, they would run on alone at the end. */
const LONGEST = [
  'test/conformance/conformance.test.ts',
  'test/conformance/matmul.test.ts',
  'test/browser/conformance.test.ts',
  'test/models/training.test.ts',
  'test/ranks/equality_webgpu.test.ts',
  'test/ranks/equality_cuda.test.ts',
]

/** Test files in the order they are begun: the longest, then by name. */
export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = LONGEST.findIndex((name) => moduleId.endsWith(name))
      return at < 0 ? LONGEST.length : at
    }
    return [...files].sort((a, b) => rank(a) - rank(b) || (a.moduleId < b.moduleId ? -1 : 1))
  }
}
