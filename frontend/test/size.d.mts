export const FIRST_VISIT_MOST: number;
export const WITH_ANSWER_MOST: number;
export function sizes(): { english: number; hebrew: number; conversation: number; first: Set<string> };
