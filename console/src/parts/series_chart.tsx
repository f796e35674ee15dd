import "@mantine/charts/styles.layer.css";
import { AreaChart, BarChart } from "@mantine/charts";
import { useReducedMotion } from "@mantine/hooks";
import { useFormat } from "../i18n/format.ts";

export interface Series {
  name: string;
  label: string;
  color: string;
}

/** Figures over time or by name. `label` says in words what the picture shows; a table beside it holds the figures. */
export default function SeriesChart({ data, series, along, label, height = 220, kind = "bar", write }: {
  data: Record<string, string | number>[];
  series: Series[];
  /** The name of the value that the axis shows. */
  along: string;
  label: string;
  height?: number;
  kind?: "bar" | "area";
  /** How a value is written; absent: as a number. */
  write?: (value: number) => string;
}) {
  const format = useFormat();
  const still = useReducedMotion();
  const shared = {
    h: height,
    data,
    dataKey: along,
    series,
    withLegend: series.length > 1,
    valueFormatter: write ?? ((value: number) => format.number(value)),
  };
  return (
    <figure aria-label={label} style={{ margin: 0 }}>
      {kind === "area"
        ? (
          <AreaChart
            {...shared}
            withDots={false}
            curveType="monotone"
            areaProps={{ isAnimationActive: !still }}
          />
        )
        : <BarChart {...shared} type="stacked" barProps={{ isAnimationActive: !still }} />}
    </figure>
  );
}
