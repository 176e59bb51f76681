import { Component, type ComponentChildren } from "preact";
import type { Item } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { jsonText } from "./json.ts";
import { Later, PlainText } from "./Pieces.tsx";
import { slices } from "./slices.ts";
import { isBrief } from "./stretches.ts";

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
    if (!this.state.hasFailed) {
      return (
        <Later weight={ITEM_WEIGHT} rank={rank} meanwhile={slices.isHurried && <Meanwhile item={item} />}>
          {children}
        </Later>
      );
    }
    return (
      <div class="plain" dir="auto" data-testid="shown-plain">
        <PlainText text={plainOf(item)} />
      </div>
    );
  }
}

/** Words of it at once, about as tall as it will be. */
function Meanwhile({ item }: { item: Item }) {
  if (item.kind === "tool_call") return <p class="tool-title meanwhile">{clipped(item.title ?? "")}</p>;
  if (item.kind !== "message" || !isBrief(item)) return null;
  return (
    <div class={`message meanwhile ${item.sender}`}>
      <div class={item.sender === "user" ? "bubble" : "md-plain"} dir="auto">
        {item.text}
      </div>
    </div>
  );
}

function plainOf(item: Item): string {
  return "text" in item && typeof item.text === "string" ? item.text : jsonText(item);
}
