// The page: a dashboard's panels at their places on Grafana's grid of 24 columns.

import { Component } from 'react';
import { createRoot } from 'react-dom/client';
import { ThemeContext } from '@grafana/data';
import { GlobalStyles } from '@grafana/ui';
import { theme } from './fields';
import { Panel } from './Panel';
import { dashboard as file, width } from './settings';

const COLUMN = width / 24;
const ROW = 38;
const HEADER = 64;

const dashboard = await (await fetch(file)).json();
const rows = Math.max(...dashboard.panels.map((panel) => panel.gridPos.y + panel.gridPos.h));

class Guard extends Component {
  state = {};
  static getDerivedStateFromError(error) {
    return { error };
  }
  render() {
    return this.state.error ? <pre style={{ color: 'red' }}>{String(this.state.error)}</pre> : this.props.children;
  }
}

function Place({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  return (
    <div style={{ position: 'absolute', left: x * COLUMN + 4, top: y * ROW + HEADER }}>
      {panel.type === 'row' ? <h4 style={{ marginTop: 8 }}>▾ {panel.title}</h4> : <Guard><Panel panel={panel} width={w * COLUMN - 8} height={h * ROW - 8} /></Guard>}
    </div>
  );
}

function Dashboard() {
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div id="dashboard" style={{ position: 'relative', width, height: rows * ROW + HEADER, background: theme.colors.background.canvas }}>
        <div style={{ padding: '10px 8px' }}>
          <h2 style={{ margin: 0 }}>{dashboard.title}</h2>
          <div style={{ color: theme.colors.text.secondary }}>{dashboard.description}</div>
        </div>
        {dashboard.panels.map((panel) => <Place key={panel.id} panel={panel} />)}
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')).render(<Dashboard />);
