/** What is known at a glance: seal, figures, the last records. */

import * as React from 'react';

import { IFigure, IRecord, ISeal } from '../api';
import { when } from '../text';

const SEAL = {
  none: 'not sealed yet',
  sealed: 'sealed',
  opened: 'opened',
  decided: 'opened, decided'
};

export function Seal(props: { seal: ISeal }): JSX.Element {
  const { seal } = props;
  return (
    <section aria-labelledby="itera-seal" data-testid="itera-seal">
      <h3 id="itera-seal">Test set</h3>
      <dl className="jp-Itera-facts">
        <dt>State</dt>
        <dd data-testid="itera-seal-state">
          {SEAL[seal.state]}
          {seal.at ? ` · ${when(seal.at)}` : ''}
        </dd>
        {seal.rows === null ? null : (
          <>
            <dt>Rows</dt>
            <dd>{seal.rows.toLocaleString()}</dd>
          </>
        )}
        <dt>Touches</dt>
        <dd data-testid="itera-seal-touches">{seal.touches}</dd>
        {seal.custody ? (
          <>
            <dt>Custody</dt>
            <dd>{seal.custody}</dd>
          </>
        ) : null}
        {seal.sha256 === null ? null : (
          <>
            <dt>SHA-256</dt>
            <dd className="jp-Itera-hash" title={seal.sha256}>
              {seal.sha256}
            </dd>
          </>
        )}
      </dl>
    </section>
  );
}

export function Figures(props: { figures: readonly IFigure[] }): JSX.Element | null {
  if (props.figures.length === 0) {
    return null;
  }
  return (
    <section aria-labelledby="itera-figures">
      <h3 id="itera-figures">Figures</h3>
      <dl className="jp-Itera-figures">
        {props.figures.map(figure => (
          <div key={figure.id} data-testid={`itera-figure-${figure.id}`}>
            <dt>{figure.label}</dt>
            <dd>
              <span className="jp-Itera-value">{figure.value}</span>
              {figure.note ? <span className="jp-Itera-meta">{figure.note}</span> : null}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

export function Ledger(props: { records: readonly IRecord[] }): JSX.Element {
  return (
    <section aria-labelledby="itera-ledger">
      <h3 id="itera-ledger">Record</h3>
      {props.records.length === 0 ? <p className="jp-Itera-meta">Nothing is recorded yet.</p> : null}
      <ol className="jp-Itera-ledger" data-testid="itera-ledger">
        {props.records.map(record => (
          <li key={record.seq}>
            <span className="jp-Itera-meta">
              {record.seq} · <time dateTime={record.at}>{when(record.at)}</time>
            </span>
            <span>{record.text}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}
