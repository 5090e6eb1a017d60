import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Answer, Hello, Question } from './contender.ts'

/** An engine's process, as the suite sees it: one question at a time. */
export class Child {
  private readonly waiting: ((answer: Answer) => void)[] = []
  private readonly early: Answer[] = []
  private log = ''

  private constructor(
    readonly label: string,
    private readonly process: ChildProcess,
  ) {
    createInterface({ input: process.stdout! }).on('line', (line) => {
      const value = JSON.parse(line) as Answer
      const next = this.waiting.shift()
      if (next) next(value)
      else this.early.push(value)
    })
    process.stderr!.on('data', (data) => {
      this.log = (this.log + String(data)).slice(-2000)
    })
    process.on('exit', (code, signal) => {
      const how = signal ? `was ended by ${signal}` : `ended with code ${code}`
      const gone: Answer = { error: `its process ${how}${this.log ? `: ${this.log.trim()}` : ''}` }
      for (const next of this.waiting.splice(0)) next(gone)
      this.early.push(gone)
    })
    // A question to a process that is gone is answered by its exit.
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
    started.on('error', () => {})
    const child = new Child(label, started)
    const first = await child.next(120)
    if ('hello' in first) return { child, hello: first.hello }
    child.end()
    return {
      missing: 'missing' in first ? first.missing : 'error' in first ? first.error : 'it said nothing',
    }
  }

  /** The answer to a question; a process that does not answer in time is ended, and that is its answer. */
  async ask(question: Question, seconds = 300): Promise<Answer> {
    this.process.stdin!.write(`${JSON.stringify(question)}\n`)
    return this.next(seconds)
  }

  private next(seconds: number): Promise<Answer> {
    const early = this.early.shift()
    if (early) return Promise.resolve(early)
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.waiting.splice(this.waiting.indexOf(done), 1)
        this.process.kill('SIGKILL')
        resolve({ error: `no answer within ${seconds} s` })
      }, seconds * 1000)
      const done = (value: Answer): void => {
        clearTimeout(timer)
        resolve(value)
      }
      this.waiting.push(done)
    })
  }

  end(): void {
    this.process.stdin!.end()
    this.process.kill()
  }
}
