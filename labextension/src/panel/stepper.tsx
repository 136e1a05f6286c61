import * as React from 'react';

import { IAction, IPhase } from '../api';
import { duration, when } from '../text';
import { ActionButton, AgainButton } from './action-button';

const STATES = { done: 'done', current: 'now', waiting: 'waiting' };
const PILOT_PHASE = '3-run';
const VERDICT_PHASE = '5-verdict';

/** The phase whose step holds an action's button; null for those that belong to the whole experiment. */
export function phaseOf(action: string): string | null {
  if (action.startsWith('run:')) {
    return action.slice('run:'.length);
  }
  return action === 'pilot' ? PILOT_PHASE : action === 'verdict' ? VERDICT_PHASE : null;
}

interface IProps {
  phases: readonly IPhase[];
  actions: readonly IAction[];
  busy: boolean;
  onOpen: (notebook: string) => void;
  onRun: (action: IAction) => void;
}

/** The six phases, one below the other. */
export function Stepper(props: IProps): JSX.Element {
  return (
    <section aria-labelledby="itera-phases">
      <h3 id="itera-phases">Phases</h3>
      <ol className="jp-Itera-steps" data-testid="itera-phases">
        {props.phases.map(phase => (
          <Step key={phase.id} phase={phase} {...props} />
        ))}
      </ol>
    </section>
  );
}

function Step(props: IProps & { phase: IPhase }): JSX.Element {
  const { phase, busy, onOpen, onRun } = props;
  const isDone = phase.state === 'done';
  const actions = props.actions.filter(
    action => phaseOf(action.id) === phase.id && (action.enabled || !isDone)
  );
  const said = actions.some(action => action.refusal?.what === phase.why);
  const ready = actions.filter(action => action.enabled).pop(); // after the pilot comes the run
  return (
    <li
      className="jp-Itera-step"
      data-state={phase.state}
      data-testid={`itera-phase-${phase.id}`}
      aria-current={phase.state === 'current' ? 'step' : undefined}
    >
      <span className="jp-Itera-marker" aria-hidden="true">
        {isDone ? '✓' : phase.id.charAt(0)}
      </span>
      <div className="jp-Itera-stepBody">
        <button
          className="jp-Itera-link"
          aria-label={`${phase.title}: open the notebook`}
          onClick={() => onOpen(phase.notebook)}
        >
          {phase.title}
        </button>
        <p className="jp-Itera-meta">{meta(phase)}</p>
        {phase.why && !said ? <p className="jp-Itera-refusal">{phase.why}</p> : null}
        {actions.map(action =>
          isDone ? (
            <AgainButton key={action.id} action={action} busy={busy} onRun={onRun} />
          ) : (
            <ActionButton
              key={action.id}
              action={action}
              busy={busy}
              primary={action === ready}
              onRun={onRun}
            />
          )
        )}
      </div>
    </li>
  );
}

function meta(phase: IPhase): string {
  const parts: string[] = [STATES[phase.state]];
  if (phase.at) {
    parts.push(when(phase.at));
  }
  if (phase.took_s !== null) {
    parts.push(`took ${duration(phase.took_s)}`);
  }
  if (phase.state === 'current') {
    parts.push(`next: ${phase.actor}`);
  }
  return parts.join(' · ');
}
