/** Something that calls its listeners when it changed. */
export class Subscribable {
  readonly #listeners = new Set<() => void>();

  /** Calls back after each change; the answer ends that. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  protected changed(): void {
    for (const listener of this.#listeners) listener();
  }
}
