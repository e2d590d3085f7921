// What draws each type of panel: Grafana's own components, fed as its panel plugins feed them.

import { dateTime, getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BarGauge, BigValue, BigValueTextMode, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { theme } from './fields';
import { from, to } from './settings';

const timeRange = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: 'now-6h', to: 'now' } };

const values = ({ panel, data }) =>
  getFieldDisplayValues({
    data,
    theme,
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text,
    sparkline: panel.options.graphMode === 'area',
    timeZone: 'utc',
  });

function Graph({ panel, data, width, height }) {
  return <TimeSeries frames={data} timeRange={timeRange} timeZone="utc" width={width} height={height} legend={panel.options.legend} options={{}} />;
}

function Stat({ panel, data, width, height }) {
  const draw = ({ value, width: w, height: h }) => (
    <BigValue
      value={value.display}
      sparkline={value.sparkline}
      width={w}
      height={h}
      theme={theme}
      colorMode={panel.options.colorMode}
      graphMode={panel.options.graphMode}
      justifyMode="auto"
      textMode={BigValueTextMode.Value}
    />
  );
  return <VizRepeater getValues={() => values({ panel, data })} source={data} renderCounter={0} orientation="auto" width={width} height={height} renderValue={draw} />;
}

function Bars({ panel, data, width, height }) {
  const draw = ({ value, width: w, height: h, alignmentFactors }) => (
    <BarGauge
      value={value.display}
      field={value.field}
      width={w}
      height={h}
      theme={theme}
      orientation="horizontal"
      displayMode={panel.options.displayMode}
      namePlacement={panel.options.namePlacement}
      valueDisplayMode={panel.options.valueMode}
      showUnfilled={panel.options.showUnfilled}
      display={value.view?.getFieldDisplayProcessor(value.colIndex)}
      alignmentFactors={alignmentFactors}
    />
  );
  return <VizRepeater getValues={() => values({ panel, data })} source={data} renderCounter={0} orientation="horizontal" itemSpacing={8} getAlignmentFactors={getDisplayValueAlignmentFactors} width={width} height={height} renderValue={draw} />;
}

function Table({ panel, data, width, height }) {
  return (
    <TableNG
      data={data[0]}
      width={width}
      height={height}
      noHeader={!panel.options.showHeader}
      cellHeight={panel.options.cellHeight}
      sortBy={panel.options.sortBy}
      timeRange={timeRange}
      showTypeIcons={false}
      enableVirtualization={false}
      getActions={() => []}
      structureRev={1}
      resizable
    />
  );
}

export const drawings = { timeseries: Graph, stat: Stat, bargauge: Bars, table: Table };
