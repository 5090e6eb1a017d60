import type { Device, Executable, Outputs } from '../../backends/backend.ts'
import { WebGpuDevice } from '../../backends/webgpu/device.ts'

/** Seconds of a step that the host spends, by what it does; means over steps. */
export interface HostTime {
  /** The engine's or trainer's own JavaScript: from the end of a step to the call that submits another. */
  readonly loop: number
  /** Writing step inputs. */
  readonly inputs: number
  /** Recording launches, asking for the mapping of what is read back. */
  readonly encode: number
  /** Giving the recorded launches to the driver. */
  readonly submit: number
}

export const hostSeconds = ({ loop, inputs, encode, submit }: HostTime): number =>
  loop + inputs + encode + submit

/** Replaces a method of one object until the function returned is called. */
function replace<T extends object, K extends keyof T>(object: T, name: K, make: (original: T[K]) => T[K]) {
  const own = Object.getOwnPropertyDescriptor(object, name)
  const original = (object[name] as (...args: unknown[]) => unknown).bind(object) as T[K]
  Object.defineProperty(object, name, { value: make(original), configurable: true })
  return () => {
    if (own) Object.defineProperty(object, name, own)
    else delete object[name]
  }
}

/**
 * Adds up what the host does for the steps of an executable, from `start` to `stop`. Steps run as they always do: the
 * clock is read where they are submitted and where they end.
 */
export class HostClock {
  private readonly undo: (() => void)[] = []
  private readonly spent = { loop: 0, inputs: 0, calls: 0, submit: 0 }
  /** Since when the host has not been in a call of the executable, as far as it has been busy. */
  private since = performance.now()

  constructor(device: Device, executable: Executable) {
    const { spent } = this
    const within = <A extends unknown[], R>(part: 'inputs' | 'submit', call: (...args: A) => R) =>
      ((...args: A): R => {
        const start = performance.now()
        const result = call(...args)
        spent[part] += performance.now() - start
        return result
      }) as (...args: A) => R
    const submitting = <R>(call: () => R): R => {
      const start = performance.now()
      spent.loop += start - this.since
      const result = call()
      this.since = performance.now()
      spent.calls += this.since - start
      return result
    }
    this.undo.push(
      replace(
        executable,
        'run',
        (run) =>
          (...args) =>
            submitting(() => run(...args)),
      ),
      replace(executable, 'step', (step) => async (...args): Promise<Outputs> => {
        const outputs = await submitting(() => step(...args))
        this.since = performance.now()
        return outputs
      }),
    )
    if (device instanceof WebGpuDevice) {
      const { queue } = device.gpu
      this.undo.push(
        replace(queue, 'writeBuffer', (write) => within('inputs', write)),
        replace(queue, 'submit', (submit) => within('submit', submit)),
      )
    }
  }

  /** Begins anew. */
  start(): void {
    Object.assign(this.spent, { loop: 0, inputs: 0, calls: 0, submit: 0 })
    this.since = performance.now()
  }

  /** What was spent since `start`, per step. */
  read(steps: number): HostTime {
    const { loop, inputs, calls, submit } = this.spent
    const each = 1 / (1000 * steps)
    return {
      loop: loop * each,
      inputs: inputs * each,
      encode: (calls - inputs - submit) * each,
      submit: submit * each,
    }
  }

  /** Gives executable and queue their methods back. */
  detach(): void {
    for (const one of this.undo) one()
  }
}

/** JavaScript objects that a step allocates, and those that are still there afterwards; bytes of the heap. */
export interface HeapUse {
  readonly allocated: number
  readonly retained: number
}

/**
 * Heap that `run` takes per step.
 *
 * @param collect runs the garbage collector
 * @param steps so few that none of their garbage is collected meanwhile: young objects have 16 MB
 */
export async function heapUse(
  run: () => Promise<unknown>,
  steps: number,
  collect: () => void,
): Promise<HeapUse> {
  const used = (): number => process.memoryUsage().heapUsed
  // The first run makes what stays: compiled functions, hidden classes.
  await run()
  collect()
  const before = used()
  await run()
  const after = used()
  collect()
  return { allocated: (after - before) / steps, retained: (used() - before) / steps }
}
