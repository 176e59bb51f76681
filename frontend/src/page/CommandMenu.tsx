import { useEffect, useRef } from "preact/hooks";
import type { AcpCommand } from "../core/index.ts";
import { clipped } from "../core/pieces.ts";
import { t } from "./preferences.ts";

interface CommandMenuProps {
  commands: AcpCommand[];
  picked: number;
  choose(command: AcpCommand): void;
}

/** The commands that begin as what was typed does. */
export function CommandMenu({ commands, picked, choose }: CommandMenuProps) {
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => {
    list.current?.children[picked]?.scrollIntoView({ block: "nearest" });
  }, [picked]);
  return (
    <ul id="commands" ref={list} class="commands" role="listbox" aria-label={t("commands")} data-testid="commands">
      {commands.map((command, place) => (
        <li
          key={command.name}
          id={`command-${place}`}
          role="option"
          aria-selected={place === picked}
          data-testid="command"
          onMouseDown={(event) => {
            event.preventDefault();
            choose(command);
          }}
        >
          <code dir="ltr">
            /{clipped(command.name, 100)}
            {command.input?.hint && <span class="command-hint"> {clipped(command.input.hint)}</span>}
          </code>
          <span dir="auto">{clipped(command.description ?? "")}</span>
        </li>
      ))}
    </ul>
  );
}
