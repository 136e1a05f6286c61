import * as React from 'react';

import { ISummary } from '../api';

/** All experiments, newest first. */
export function ExperimentList(props: {
  experiments: readonly ISummary[];
  onSelect: (path: string) => void;
}): JSX.Element {
  return (
    <ul className="jp-Itera-list" aria-label="Experiments" data-testid="itera-list">
      {props.experiments.map(one => (
        <li key={one.path}>
          <button className="jp-Itera-link" onClick={() => props.onSelect(one.path)}>
            {one.name}
          </button>
          <span className="jp-Itera-badge">{badge(one)}</span>
          <p className="jp-Itera-meta">{one.broken ?? one.question}</p>
        </li>
      ))}
    </ul>
  );
}

function badge(one: ISummary): string {
  if (one.broken !== null) {
    return 'broken';
  }
  return one.reading ? 'reading …' : (one.outcome ?? one.phase ?? 'concluded');
}
