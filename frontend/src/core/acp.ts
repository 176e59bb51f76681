/** What an agent says in its own words: the types of the Agent Client Protocol that a log carries as they came. */

/** An ACP content block; what is not text is drawn as what it says it is. */
export interface AcpContent {
  type: string;
  text?: string;
  data?: string;
  mimeType?: string;
  uri?: string;
  name?: string;
  title?: string;
  resource?: { uri?: string; text?: string; mimeType?: string };
}

/** One part of a tool call's content: a content block, a diff or a terminal. */
export interface AcpToolContent {
  type: string;
  content?: AcpContent;
  path?: string;
  oldText?: string | null;
  newText?: string;
  terminalId?: string;
}

export interface AcpLocation {
  path: string;
  line?: number | null;
}

export interface AcpCommand {
  name: string;
  description?: string;
  input?: { hint?: string } | null;
}

export interface AcpPlanEntry {
  content: string;
  priority?: string;
  status?: string;
}
