import { type FSWatcher, watch } from 'node:fs'
import { join } from 'node:path'
import type { KernelFolder, KernelLibrary } from './kernels.ts'

/** Editors write a file in several events; a new one within this time belongs to the same save. */
const DEBOUNCE_MS = 30

/** A kernel library after somebody saved files of it. */
export interface LibraryChange {
  readonly library: KernelLibrary
  /** Modules whose text is new, gone or different. */
  readonly changed: ReadonlySet<string>
  /** performance.now() of the first event of the save. */
  readonly savedAt: number
  /** Whether there was another save since: what is left to do for this one is of no interest. */
  isStale(): boolean
}

/** Modules in which two libraries differ. */
function difference(a: KernelLibrary, b: KernelLibrary): Set<string> {
  return new Set([...a.keys(), ...b.keys()].filter((name) => a.get(name) !== b.get(name)))
}

/**
 * Yields the library each time its texts changed on disk, until `signal` aborts. `onReady` is called once every
 * save from then on will be seen.
 */
export async function* libraryChanges(
  { folder, read }: KernelFolder,
  signal: AbortSignal,
  onReady: () => void,
): AsyncGenerator<LibraryChange, void, undefined> {
  let library = read(folder)
  let savedAt: number | undefined
  let wake: () => void = () => {}
  let timer: NodeJS.Timeout | undefined
  const onEvent = (): void => {
    savedAt ??= performance.now()
    clearTimeout(timer)
    timer = setTimeout(() => {
      timer = undefined
      wake()
    }, DEBOUNCE_MS)
  }
  const stop = (): void => wake()
  signal.addEventListener('abort', stop)
  const watchers: FSWatcher[] = [folder, join(folder, 'lib')].map((path) => watch(path, onEvent))
  onReady()
  try {
    while (!signal.aborted) {
      // Saves that came while the last change was worked on are not waited for.
      if (savedAt === undefined || timer)
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      if (signal.aborted || savedAt === undefined) continue
      const now = read(folder)
      const changed = difference(library, now)
      const at = savedAt
      savedAt = undefined
      library = now
      if (changed.size > 0) yield { library, changed, savedAt: at, isStale: () => savedAt !== undefined }
    }
  } finally {
    signal.removeEventListener('abort', stop)
    clearTimeout(timer)
    for (const watcher of watchers) watcher.close()
  }
}
