import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Answer, Hello, Question } from './contender.ts'

/** The answer's field; throws with what came instead. */
export function expectField<K extends string>(
  answer: Answer,
  key: K,
): Extract<Answer, Record<K, unknown>>[K] {
  if (key in answer) return (answer as never)[key]
  throw new Error('error' in answer ? answer.error : `expected ${key}, got ${JSON.stringify(answer)}`)
}

/** An engine's process, as the suite sees it: one question at a time. */
export class Child {
  private readonly waiting: ((answer: Answer) => void)[] = []
  private readonly early: Answer[] = []
  /** How it ended: the answer to every question that comes later. */
  private gone: Answer | undefined
  private log = ''

  private constructor(
    readonly label: string,
    private readonly process: ChildProcess,
  ) {
    createInterface({ input: process.stdout! }).on('line', (line) => {
      const value = parse(line)
      if (value === undefined) {
        this.log = (this.log + line).slice(-2000)
        return
      }
      const next = this.waiting.shift()
      if (next) next(value)
      else this.early.push(value)
    })
    process.stderr!.on('data', (data) => {
      this.log = (this.log + String(data)).slice(-2000)
    })
    // Close comes after the last line of the output, exit may come before it.
    process.on('close', (code, signal) =>
      this.end(signal ? `was ended by ${signal}` : `ended with code ${code}`),
    )
    process.on('error', (error) => this.end(`did not start (${error.message})`))
    // A question to a process that is gone is answered by its end.
    process.stdin!.on('error', () => {})
  }

  /** Starts a worker; its first answer says who it is, or what is missing. */
  static async start(
    label: string,
    command: readonly string[],
    env: Readonly<Record<string, string>>,
  ): Promise<{ child: Child; hello: Hello } | { missing: string }> {
    const [program, ...args] = command as [string, ...string[]]
    const started = spawn(program, args, {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    const child = new Child(label, started)
    const first = await child.next(120)
    if ('hello' in first) return { child, hello: first.hello }
    child.stop()
    return { missing: 'missing' in first ? first.missing : reasonOf(first) }
  }

  /** Whether it still runs. */
  get alive(): boolean {
    return this.gone === undefined
  }

  /** The answer to a question; a process that does not answer in time is ended, and that is its answer. */
  async ask(question: Question, seconds = 900): Promise<Answer> {
    if (this.alive) this.process.stdin!.write(`${JSON.stringify(question)}\n`)
    return this.next(seconds)
  }

  private next(seconds: number): Promise<Answer> {
    const early = this.early.shift() ?? this.gone
    if (early) return Promise.resolve(early)
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.waiting.splice(this.waiting.indexOf(done), 1)
        this.gone = { error: `no answer within ${seconds} s` }
        this.process.kill('SIGKILL')
        resolve(this.gone)
      }, seconds * 1000)
      const done = (value: Answer): void => {
        clearTimeout(timer)
        resolve(value)
      }
      this.waiting.push(done)
    })
  }

  private end(how: string): void {
    const log = this.log.trim()
    this.gone ??= { error: `its process ${how}${log ? `: ${log}` : ''}` }
    for (const next of this.waiting.splice(0)) next(this.gone)
  }

  stop(): void {
    this.process.stdin!.end()
    this.process.kill()
  }
}

/** Undefined for what native code prints past the worker. */
function parse(line: string): Answer | undefined {
  try {
    return JSON.parse(line) as Answer
  } catch {
    return undefined
  }
}

const reasonOf = (answer: Answer): string =>
  'error' in answer ? answer.error : `it began with ${JSON.stringify(answer)}`
