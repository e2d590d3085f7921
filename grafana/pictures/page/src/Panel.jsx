// One panel: its queries, its transformations, and the component that draws its type.

import { useEffect, useMemo, useState } from 'react';
import { LoadingState, renderTextPanelMarkdown, transformDataFrame } from '@grafana/data';
import { PanelChrome } from '@grafana/ui';
import { withFieldConfig } from './fields';
import { run } from './prometheus';
import { drawings } from './drawings';

export function Panel({ panel, width, height }) {
  const [frames, setFrames] = useState(null);
  const [error, setError] = useState('');
  useEffect(() => {
    load(panel, setFrames, (reason) => setError(String(reason)));
  }, []);
  const data = useMemo(() => frames && withFieldConfig(frames, panel.fieldConfig), [frames]);
  const state = error ? LoadingState.Error : frames ? LoadingState.Done : LoadingState.Loading;

  return (
    <PanelChrome title={panel.title} description={panel.description} width={width} height={height} statusMessage={error} loadingState={state}>
      {(innerWidth, innerHeight) => data && <Content panel={panel} data={data} width={innerWidth} height={innerHeight} />}
    </PanelChrome>
  );
}

async function load(panel, done, failed) {
  try {
    const frames = (await Promise.all(panel.targets.map(run))).flat();
    if (!panel.transformations?.length) return done(frames);
    transformDataFrame(panel.transformations, frames).subscribe({ next: done, error: failed });
  } catch (error) {
    failed(error);
  }
}

function Content({ panel, data, width, height }) {
  if (panel.type === 'text') {
    return <div className="markdown-html" style={{ height, overflow: 'hidden' }} dangerouslySetInnerHTML={{ __html: renderTextPanelMarkdown(panel.options.content) }} />;
  }
  const isEmpty = !data.some((frame) => frame.length > 0);
  if (isEmpty && panel.type !== 'stat') return <Centred width={width} height={height}>{panel.fieldConfig.defaults.noValue ?? 'NO DATA'}</Centred>;
  if (isEmpty) return <Centred width={width} height={height} big>{panel.fieldConfig.defaults.noValue ?? 'NO DATA'}</Centred>;
  const Drawing = drawings[panel.type];
  return <Drawing panel={panel} data={data} width={width} height={height} />;
}

function Centred({ width, height, big, children }) {
  const style = { width, height, display: 'flex', alignItems: 'center', justifyContent: 'center', textAlign: 'center', fontSize: big ? 24 : 14, opacity: 0.8 };
  return <div style={style}>{children}</div>;
}
