import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { language, theme } from "../page/index.ts";
import type { Column, Line, Monitor } from "./monitor.ts";
import { w, type Word } from "./words.ts";

/** The words of a line. */
const wordOf = (line: Line): Word => `line${line[0]?.toUpperCase()}${line.slice(1)}` as Word;
const COLOURS = ["--accent", "--warn", "--code-title", "--danger"] as const;
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
const HEIGHT = 190;

interface ChartProps {
  title: string;
  lines: readonly Line[];
  monitor: Monitor;
  testId: string;
}

/** A chart; who cannot see it hears its title and the figures of now. Lines differ by dash as well as colour. */
export function Chart({ title, lines, monitor, testId }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const drawn = new uPlot(options(element, lines), dataOf(monitor, lines), element);
    plot.current = drawn;
    const resize = new ResizeObserver(() => drawn.setSize({ width: element.clientWidth, height: HEIGHT }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      drawn.destroy();
    };
  }, [theme.value, language.value]);
  plot.current?.setData(dataOf(monitor, lines));
  const values = lines.map((line) => `${w(wordOf(line))} ${figure(monitor.columns[line].at(-1))}`).join(", ");
  return (
    <figure class="chart" data-testid={testId}>
      <figcaption>
        <h2>{title}</h2>
        <ul class="legend">
          {lines.map((line, n) => (
            <li key={line} class={`legend-${n}`}>
              {w(wordOf(line))} <b>{figure(monitor.columns[line].at(-1))}</b>
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={box} class="plot" dir="ltr" role="img" aria-label={w("now", { title, values })} />
    </figure>
  );
}

function dataOf(monitor: Monitor, lines: readonly Line[]): uPlot.AlignedData {
  return [monitor.times, ...lines.map((line): Column => monitor.columns[line])] as uPlot.AlignedData;
}

function options(element: HTMLElement, lines: readonly Line[]): uPlot.Options {
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
    cursor: { show: false },
    scales: { y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
    axes: [axis, { ...axis, size: 52 }],
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

function figure(value: number | null | undefined): string {
  if (value === null || value === undefined) return w("nothing");
  return new Intl.NumberFormat(language.value, { maximumFractionDigits: value < 10 ? 1 : 0 }).format(value);
}
