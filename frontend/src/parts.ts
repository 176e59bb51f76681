/** The parts of the page that are built in: the one place where the page meets its applications. */

import { shop } from "./apps/shop/part.tsx";
import type { PagePart } from "./page/index.ts";

export const PARTS: readonly PagePart[] = [shop];
