import { expect, it } from 'vitest'
import { readResult } from '../../bench/result.ts'
import { driverNames } from '../../bench/suite/drivers.ts'
import { performancePage } from '../../bench/suite/page.ts'
import type { SuiteResult } from '../../bench/suite/report.ts'
import { suites } from '../../bench/suite/works.ts'

// docs/performance.md is generated: `npx vitest run test/plan/performance.test.ts -u` writes it anew.
const results = Object.keys(suites).flatMap((suite) =>
  driverNames.flatMap((driver) => (readResult(`${suite}_${driver}`) as SuiteResult | undefined) ?? []),
)

it('docs/performance.md says what bench/results has', async () => {
  await expect(performancePage(results)).toMatchFileSnapshot('../../docs/performance.md')
})
