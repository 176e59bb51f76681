/** The routes of operators and administrators, typed. */

import type {
  Acted,
  Api,
  AuditPage,
  GatewayHealth,
  KeyList,
  KeySummary,
  LogLinePage,
  MintedKey,
  OverviewHistory,
  PersonSummary,
  TenantList,
  TenantSummary,
  WatchedSessions,
} from "../core/index.ts";

/** Which sessions are asked for; what is empty asks for nothing. */
export interface SessionFilter {
  q: string;
  state: string;
  agent: string;
  tenant: string;
}

export interface NewKey {
  name: string;
  tenant: string;
  subject?: string;
  scopes: string[];
  days?: number;
}

const ROOT = "/api/admin";

function query(given: Record<string, string | number | null>): string {
  const named = Object.entries(given).filter(([, value]) => value !== "" && value !== null);
  return new URLSearchParams(named.map(([name, value]) => [name, String(value)])).toString();
}

export const health = (api: Api): Promise<GatewayHealth> => api.call("GET", `${ROOT}/health`);
export const history = (api: Api): Promise<OverviewHistory> => api.call("GET", `${ROOT}/history`);
export const watched = (api: Api, filter: SessionFilter): Promise<WatchedSessions> =>
  api.call("GET", `${ROOT}/sessions?${query({ limit: 200, ...filter })}`);
export const endTurn = (api: Api, key: string): Promise<Acted> =>
  api.call("POST", `${ROOT}/sessions/${encodeURIComponent(key)}/end`, {});
export const keys = (api: Api): Promise<KeyList> => api.call("GET", `${ROOT}/keys`);
export const makeKey = (api: Api, wanted: NewKey): Promise<MintedKey> => api.call("POST", `${ROOT}/keys`, wanted);
export const revokeKey = (api: Api, id: string): Promise<KeySummary> =>
  api.call("DELETE", `${ROOT}/keys/${encodeURIComponent(id)}`);
export const tenants = (api: Api): Promise<TenantList> => api.call("GET", `${ROOT}/tenants`);
export const makeTenant = (api: Api, name: string, title: string): Promise<TenantSummary> =>
  api.call("POST", `${ROOT}/tenants`, { name, title });
export const switchTenant = (api: Api, name: string, how: "disable" | "enable"): Promise<TenantSummary> =>
  api.call("POST", `${ROOT}/tenants/${encodeURIComponent(name)}/${how}`, {});
export const switchPerson = (
  api: Api,
  who: { tenant: string; subject: string },
  how: "disable" | "enable",
): Promise<PersonSummary> => api.call("POST", `${ROOT}/people/${how}`, { tenant: who.tenant, subject: who.subject });
export const audit = (api: Api, q: string, outcome: string, before: string | null): Promise<AuditPage> =>
  api.call("GET", `${ROOT}/audit?${query({ q, outcome, before, limit: 50 })}`);
export const logLines = (api: Api, q: string, level: string, before: string | null): Promise<LogLinePage> =>
  api.call("GET", `${ROOT}/log?${query({ q, level, before, limit: 50 })}`);
