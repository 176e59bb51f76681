/** The servers that the agent has started, above its files: each opens in a tab and an origin of its own. */

import { useEffect, useState } from "preact/hooks";
import type { OpenPort } from "../core/index.ts";
import { Icon } from "./icons.tsx";
import { usePage, visibility } from "./page.ts";
import { t } from "./preferences.ts";

const EVERY_MS = 4_000;

export function Servers() {
  const ports = usePorts();
  const { api } = usePage();
  if (ports.length === 0) return null;
  return (
    <nav class="servers" aria-label={t("servers")} data-testid="servers">
      <span aria-hidden="true">{t("servers")}</span>
      {ports.map((port) => (
        <a key={port.port} href={api.portUrl(port)} target="_blank" rel="noopener noreferrer" title={t("openServer", { port: port.port })} aria-label={t("openServer", { port: port.port })}>
          <bdi>{port.port}</bdi> <Icon name="globe" />
        </a>
      ))}
    </nav>
  );
}

/** Asked for now and then, while somebody looks. */
function usePorts(): readonly OpenPort[] {
  const page = usePage();
  const { sessionId } = page.conversation.value;
  const [ports, setPorts] = useState<readonly OpenPort[]>([]);
  useEffect(() => {
    let isOver = false;
    const look = async (): Promise<void> => {
      if (visibility.isHidden()) return;
      const found = await page.api.ports(sessionId).catch(() => ({ ports: [] }));
      if (!isOver) setPorts(found.ports);
    };
    void look();
    const timer = setInterval(() => void look(), EVERY_MS);
    return () => {
      isOver = true;
      clearInterval(timer);
    };
  }, [page, sessionId]);
  return ports;
}
