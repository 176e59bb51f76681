import { useEffect, useState } from "preact/hooks";
import type { UsageReport } from "../core/index.ts";
import { Dialog, DialogClose } from "./Dialogs.tsx";
import { dollars } from "./money.ts";
import { usePage } from "./page.ts";
import { language, t } from "./preferences.ts";

const ROWS_MOST = 60;

/** One's own usage of the last thirty days. */
export function UsageDialog({ close }: { close(): void }) {
  const page = usePage();
  const [report, setReport] = useState<UsageReport | null>(null);
  useEffect(() => {
    page.api.usage("day,model").then(setReport, (error: unknown) => {
      page.tellWhy(error);
      close();
    });
  }, []);
  return (
    <Dialog title={t("usageTitle")} close={close}>
      {report && <UsageTable report={report} />}
      <DialogClose close={close} isFocused />
    </Dialog>
  );
}

function UsageTable({ report }: { report: UsageReport }) {
  const count = new Intl.NumberFormat(language.value);
  const rows = report.rows.filter((row) => row.calls > 0).slice(0, ROWS_MOST);
  if (rows.length === 0) return <p class="quiet">{t("usageEmpty")}</p>;
  return (
    <div class="usage-box">
      <table data-testid="usage">
        <thead>
          <tr>
            {(["usageDay", "usageModel", "usageCalls", "usageTokens", "usageCost"] as const).map((word) => (
              <th key={word} scope="col">
                {t(word)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={`${row.names.day} ${row.names.model}`}>
              <th scope="row">{row.names.day}</th>
              <td dir="auto">{row.names.model}</td>
              <td>{count.format(row.calls)}</td>
              <td>{count.format(row.tokens)}</td>
              <td dir="ltr">{dollars(row.cost_usd)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p>
        {t(report.total.unpriced_calls + report.total.estimated_calls > 0 ? "costAbout" : "cost", {
          cost: dollars(report.total.cost_usd),
        })}
      </p>
    </div>
  );
}
