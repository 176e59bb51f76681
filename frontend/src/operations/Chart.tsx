import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { language, theme } from "../page/index.ts";
import type { ChartData, Column, Line } from "./history.ts";
import { number, w, type Word } from "./words.ts";

/** The words of a line. */
const wordOf = (line: Line): Word => `line${line[0]?.toUpperCase()}${line.slice(1)}` as Word;
const COLOURS = ["--accent", "--warn", "--code-title", "--danger"] as const;
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
const HEIGHT = 190;

interface ChartProps {
  title: string;
  lines: readonly Line[];
  data: ChartData;
  testId: string;
}

/** A chart; who cannot see it hears its title and the figures of now. Lines differ by dash as well as colour. */
export function Chart({ title, lines, data, testId }: ChartProps) {
  const [pointed, point] = useState<number | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const axis = useRef(data);
  axis.current = data;
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const drawn = new uPlot(options(element, lines, point, () => axis.current), dataOf(data, lines), element);
    plot.current = drawn;
    const resize = new ResizeObserver(() => drawn.setSize({ width: element.clientWidth, height: HEIGHT }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      drawn.destroy();
    };
  }, [theme.value, language.value]);
  useEffect(() => plot.current?.setData(dataOf(data, lines)), [data]);
  const at = pointed !== null && pointed < data.times.length ? pointed : null;
  const shown = (line: Line): string => figure(data.columns[line].at(at ?? -1));
  const values = lines.map((line) => `${w(wordOf(line))} ${figure(data.columns[line].at(-1))}`).join(", ");
  return (
    <figure class="chart" data-testid={testId}>
      <figcaption>
        <h2>
          {title} {at !== null && <span class="quiet">{clock(data.times[at] ?? 0)}</span>}
        </h2>
        <ul class="legend">
          {lines.map((line, n) => (
            <li key={line} class={`legend-${n}`}>
              {w(wordOf(line))} <b>{shown(line)}</b>
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={box} class="plot" dir="ltr" role="img" aria-label={w("now", { title, values })} />
    </figure>
  );
}

function dataOf(data: ChartData, lines: readonly Line[]): uPlot.AlignedData {
  return [data.times, ...lines.map((line): Column => data.columns[line])] as uPlot.AlignedData;
}

/** Hours and minutes of the reader's own time; the date at midnight. */
export function clock(seconds: number): string {
  const date = new Date(seconds * 1000);
  if (date.getHours() === 0 && date.getMinutes() === 0) {
    return date.toLocaleDateString(language.value, { month: "short", day: "numeric" });
  }
  return date.toLocaleTimeString(language.value, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

/** Between two marks of the time axis, in seconds: whole minutes and hours. */
const STEPS = [60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 14_400, 21_600, 43_200];

function options(
  element: HTMLElement,
  lines: readonly Line[],
  point: (index: number | null) => void,
  now: () => ChartData,
): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: colour("--ink-3"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
  };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { points: { show: false }, drag: { setScale: false, x: false, y: false }, y: false },
    hooks: { setCursor: [(plotted) => point(plotted.cursor.idx ?? null)] },
    scales: { x: { range: () => [now().from, now().to] }, y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
    axes: [
      { ...axis, incrs: STEPS, space: 64, values: (_, marks) => marks.map(clock) },
      { ...axis, size: 56, values: (_, marks) => marks.map(compact) },
    ],
    series: [
      {},
      ...lines.map((line, n) => ({
        label: w(wordOf(line)),
        stroke: colour(COLOURS[n] ?? "--ink"),
        dash: DASHES[n] ?? [],
        width: 2,
        points: { show: false },
      })),
    ],
  };
}

function compact(value: number): string {
  return new Intl.NumberFormat(language.value, { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

function figure(value: number | null | undefined): string {
  if (value === null || value === undefined) return w("nothing");
  return number(value);
}
