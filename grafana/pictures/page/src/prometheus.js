// Queries as Grafana's Prometheus data source makes them, and their answers as its data frames.

import { FieldType, toDataFrame } from '@grafana/data';
import { from, prometheus, scrapeInterval, step, to } from './settings';

const builtIn = {
  __rate_interval: `${Math.max(step + scrapeInterval, 4 * scrapeInterval)}s`,
  __interval: `${step}s`,
  __range: `${to - from}s`,
};

// The variables of the dashboard all stand at "All".
const substitute = (expr) => expr.replace(/\$\{?(\w+)\}?/g, (_, name) => builtIn[name] ?? '.+');

// A table of one query has a column `Value`, of several `Value #A` and so on.
export async function run(target, _, targets) {
  const result = await ask(target);
  const value = targets.length > 1 ? `Value #${target.refId}` : 'Value';
  return target.format === 'table' ? [asTable(result, target.refId, value)] : result.map((series) => asSeries(series, target));
}

async function ask(target) {
  const path = target.instant ? `query?time=${to}` : `query_range?start=${from}&end=${to}&step=${step}`;
  const answer = await fetch(`${prometheus}/api/v1/${path}&query=${encodeURIComponent(substitute(target.expr))}`);
  const body = await answer.json();
  if (body.status !== 'success') throw new Error(`${body.error}: ${target.expr}`);
  return body.data.result;
}

function asTable(result, refId, value) {
  const labels = [...new Set(result.flatMap((row) => Object.keys(row.metric)))].sort();
  return toDataFrame({
    refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: result.map((row) => row.value[0] * 1000) },
      ...labels.map((label) => ({ name: label, type: FieldType.string, values: result.map((row) => row.metric[label] ?? '') })),
      { name: value, type: FieldType.number, values: result.map((row) => Number(row.value[1])) },
    ],
  });
}

function asSeries(series, target) {
  const points = series.values ?? [series.value];
  const name = legend(target.legendFormat, series.metric);
  return toDataFrame({
    refId: target.refId,
    name,
    fields: [
      { name: 'Time', type: FieldType.time, values: points.map((point) => point[0] * 1000), config: { interval: step * 1000 } },
      {
        name: 'Value',
        type: FieldType.number,
        labels: series.metric,
        // As Grafana's graph does: what is no number is a gap.
        values: points.map((point) => (Number.isFinite(Number(point[1])) ? Number(point[1]) : null)),
        config: { displayNameFromDS: name },
      },
    ],
  });
}

function legend(format, metric) {
  if (!format || format === '__auto') return Object.values(metric).join(' ');
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? '');
}
