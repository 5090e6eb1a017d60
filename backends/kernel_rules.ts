import { check, ExactmapError } from '../src/errors.ts'

/** Kernels of one backend: the built-in rules, and those that were registered for ops from outside the package. */
export class KernelRules<Rule> {
  private readonly registered = new Map<string, { rule: Rule; texts: Readonly<Record<string, string>> }>()

  constructor(
    private readonly backend: string,
    private readonly builtIn: Readonly<Record<string, Rule>>,
    /** Name of the function that registers, for errors. */
    private readonly register: string,
  ) {}

  /**
   * Adds a rule and the kernel files it needs by name.
   *
   * @throws ExactmapError `conflict` for an op that has a kernel
   */
  add(op: string, rule: Rule, texts: Readonly<Record<string, string>>): void {
    check(
      !this.registered.has(op) && !Object.hasOwn(this.builtIn, op),
      'conflict',
      `op '${op}' already has a ${this.backend} kernel`,
    )
    this.registered.set(op, { rule, texts })
  }

  /** @throws ExactmapError `not_found` */
  rule(op: string): Rule {
    const found = Object.hasOwn(this.builtIn, op) ? this.builtIn[op] : this.registered.get(op)?.rule
    if (!found)
      throw new ExactmapError(
        'not_found',
        `op '${op}' has no ${this.backend} kernel; register one with ${this.register}`,
      )
    return found
  }

  /** How many were registered: grows when a library needs to be read anew. */
  get count(): number {
    return this.registered.size
  }

  /** A kernel library with the files that were registered. */
  withTexts(library: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
    const user = [...this.registered.values()].flatMap(({ texts }) => Object.entries(texts))
    return user.length > 0 ? new Map([...library, ...user]) : library
  }
}
