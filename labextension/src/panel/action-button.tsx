import * as React from 'react';

import { IAction } from '../api';
import { BUSY_ID } from './job-view';
import { RefusalSummary } from './notice';

interface IProps {
  action: IAction;
  /** Another job is running: its view says so. */
  busy: boolean;
  onRun: (action: IAction) => void;
}

/** A button, and below it why it cannot be used: it stays focusable, so that the reason is reached by keyboard. */
export function ActionButton(props: IProps & { primary: boolean }): JSX.Element {
  const { action, busy, primary, onRun } = props;
  const reason = `itera-why-${action.id.replace(/[^\w-]/g, '-')}`;
  const off = !action.enabled || busy;
  return (
    <div className="jp-Itera-action">
      <button
        className={`jp-Button jp-mod-styled ${primary && !off ? 'jp-mod-accept' : 'jp-mod-reject'}`}
        aria-disabled={off}
        aria-describedby={action.enabled ? (busy ? BUSY_ID : undefined) : reason}
        data-testid={`itera-action-${action.id}`}
        onClick={() => (off ? undefined : onRun(action))}
      >
        {action.label}
      </button>
      {action.refusal ? <RefusalSummary refusal={action.refusal} id={reason} /> : null}
    </div>
  );
}

/** A finished phase may run again: it shows what is recorded, and spends nothing. */
export function AgainButton(props: IProps): JSX.Element {
  const { action, busy, onRun } = props;
  return (
    <button
      className="jp-Itera-link"
      aria-label={`Run again: ${action.label}`}
      aria-disabled={busy}
      aria-describedby={busy ? BUSY_ID : undefined}
      data-testid={`itera-action-${action.id}`}
      onClick={() => (busy ? undefined : onRun(action))}
    >
      {action.id.startsWith('run:') ? 'Run again' : action.label}
    </button>
  );
}
