const asleep = new Int32Array(new SharedArrayBuffer(4))
/** Long against a turn of the event loop (some 5 us), short against the smallest step (1 ms). */
const REST_MS = 0.1
let waiting = 0
let turning = false

function turn(): void {
  turning = waiting > 0
  if (!turning) return
  Atomics.wait(asleep, 0, 0, REST_MS)
  setImmediate(turn)
}

/**
 * Waits for work of a queue whose device is the processor itself. Dawn asks for the end of work once every turn of the
 * event loop, as often as it can, and so takes a core from the driver's threads; here each turn rests 0.1 ms.
 * Everything else of the event loop goes on, at most that much later.
 */
export async function restWhile<T>(work: Promise<T>): Promise<T> {
  waiting++
  if (!turning) {
    turning = true
    setImmediate(turn)
  }
  try {
    return await work
  } finally {
    waiting--
  }
}
