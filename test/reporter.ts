import { appendFileSync } from 'node:fs'
import type { Reporter, TestModule } from 'vitest/node'

/**
 * Prints every skip with its reason and, as the last line, `N passed, N failed, N skipped`.
 * With EXACTMAP_TEST_COUNTS set, the counts are also appended to that file, so that CI can add several runs up.
 */
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    let [passed, failed, skipped] = [0, 0, 0]
    for (const module of modules) {
      if (module.errors().length > 0) failed++
      for (const test of module.children.allTests()) {
        const result = test.result()
        if (result.state === 'passed') passed++
        else if (result.state === 'failed') failed++
        else {
          skipped++
          console.log(`skipped: ${test.fullName}: ${('note' in result && result.note) || 'no reason given'}`)
        }
      }
    }
    const line = `${passed} passed, ${failed} failed, ${skipped} skipped`
    const file = process.env.EXACTMAP_TEST_COUNTS
    if (file) appendFileSync(file, `${line}\n`)
    console.log(line)
  }
}
