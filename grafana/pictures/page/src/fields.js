// Grafana's application fills these registries when it starts; its packages alone leave that to us.

import {
  FieldConfigOptionsRegistry,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  createTheme,
  displayNameOverrideProcessor,
  identityOverrideProcessor,
  numberOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  stringOverrideProcessor,
  thresholdsOverrideProcessor,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';

export const theme = createTheme({ colors: { mode: 'dark' } });

const standard = {
  unit: unitOverrideProcessor,
  min: numberOverrideProcessor,
  max: numberOverrideProcessor,
  decimals: numberOverrideProcessor,
  displayName: displayNameOverrideProcessor ?? stringOverrideProcessor,
  noValue: stringOverrideProcessor,
  mappings: valueMappingsOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
  color: identityOverrideProcessor,
  links: identityOverrideProcessor,
};
const custom = [
  'drawStyle', 'lineInterpolation', 'lineWidth', 'lineStyle', 'fillOpacity', 'gradientMode', 'showPoints', 'pointSize',
  'spanNulls', 'stacking', 'axisPlacement', 'axisLabel', 'axisSoftMin', 'axisSoftMax', 'scaleDistribution', 'hideFrom',
  'barAlignment', 'thresholdsStyle', 'width', 'align', 'cellOptions',
];

const registry = new FieldConfigOptionsRegistry();

function register(id, path, process, isCustom) {
  registry.register({
    id,
    path,
    process,
    isCustom,
    name: id,
    description: '',
    settings: {},
    editor: () => null,
    override: () => null,
    shouldApply: () => true,
    hideFromDefaults: false,
    getItemsCount: undefined,
  });
}

Object.entries(standard).forEach(([id, process]) => register(id, id, process, false));
custom.forEach((id) => register(`custom.${id}`, id, identityOverrideProcessor, true));

const transformers = new Map(Object.values(standardTransformers).map((one) => [one.id, one]));
standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((one) => ({
    id: one.id,
    name: one.name,
    transformation: () => Promise.resolve(one),
    editor: () => null,
  }))
);

export function withFieldConfig(frames, fieldConfig) {
  const data = applyFieldOverrides({
    data: frames,
    fieldConfig,
    theme,
    timeZone: 'utc',
    replaceVariables: (text) => text,
    fieldConfigRegistry: registry,
  });
  cacheFieldDisplayNames(data);
  return data;
}
