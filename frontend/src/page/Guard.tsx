import { Component, type ComponentChildren } from "preact";
import type { Item } from "../core/index.ts";
import { jsonText } from "./json.ts";
import { Later, PlainText } from "./Pieces.tsx";

/** A thing of a conversation weighs this much beside its text. */
const ITEM_WEIGHT = 300;

interface GuardProps {
  item: Item;
  /** Another item that is drawn along with this one. */
  along?: Item | undefined;
  /** Of things that are drawn at the same time, the lower first (`Later`). */
  rank?: number | undefined;
  children: ComponentChildren;
}

/**
 * Draws one thing of a conversation when there is time. An exception while it is drawn shows its plain text instead,
 * and the others are drawn all the same.
 */
export class Guard extends Component<GuardProps, { hasFailed: boolean }> {
  override state = { hasFailed: false };

  static override getDerivedStateFromError(): { hasFailed: boolean } {
    return { hasFailed: true };
  }

  override componentDidCatch(error: unknown): void {
    console.warn("This part of the conversation is shown as plain text:", error);
  }

  override shouldComponentUpdate(next: GuardProps, state: { hasFailed: boolean }): boolean {
    const isOther = next.item !== this.props.item || next.along !== this.props.along;
    return isOther || state.hasFailed !== this.state.hasFailed;
  }

  override render({ item, rank, children }: GuardProps): ComponentChildren {
    if (!this.state.hasFailed) return <Later weight={ITEM_WEIGHT} rank={rank}>{children}</Later>;
    return (
      <div class="plain" dir="auto" data-testid="shown-plain">
        <PlainText text={plainOf(item)} />
      </div>
    );
  }
}

function plainOf(item: Item): string {
  return "text" in item && typeof item.text === "string" ? item.text : jsonText(item);
}
