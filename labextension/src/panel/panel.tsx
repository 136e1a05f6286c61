import * as React from 'react';

import { VDomRenderer } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';

import { IAction, IDetail, IJob, ISummary } from '../api';
import { iteraIcon } from '../icon';
import { PanelModel } from '../model';
import { ActionButton } from './action-button';
import { ExperimentList } from './experiment-list';
import { Figures, Ledger, Seal } from './facts';
import { JobView } from './job-view';
import { Notice } from './notice';
import { phaseOf, Stepper } from './stepper';

/** What a click in the panel asks of the application. */
export interface IHandlers {
  readonly run: (action: IAction) => void;
  readonly open: (path: string) => void;
  readonly create: () => void;
  readonly demo: () => void;
}

export const PANEL_ID = 'itera-panel';

/** The side panel: one experiment, or the list of them. */
export class Panel extends VDomRenderer<PanelModel> {
  constructor(
    model: PanelModel,
    private readonly handlers: IHandlers
  ) {
    super(model);
    this.id = PANEL_ID;
    this.addClass('jp-Itera');
    this.title.icon = iteraIcon;
    this.title.caption = 'itera: experiments';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'itera');
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.model.reload();
  }

  protected render(): JSX.Element {
    const { model, handlers } = this;
    const { experiments, detail, answer, problem } = model;
    return (
      <div className="jp-Itera-content" tabIndex={-1}>
        {model.selected === null ? null : (
          <button className="jp-Itera-link" data-testid="itera-all" onClick={() => model.select(null)}>
            ‹ All experiments
          </button>
        )}
        {problem ? <Notice failure={problem} /> : null}
        {answer ? <Notice failure={answer} onDismiss={() => model.dismiss()} /> : null}
        {detail ? <Experiment model={model} detail={detail} handlers={handlers} /> : null}
        {model.selected === null && experiments ? (
          <Experiments experiments={experiments} model={model} handlers={handlers} />
        ) : null}
        {!problem && (experiments === null || (model.selected !== null && !detail)) ? (
          <p className="jp-Itera-meta" role="status">
            Reading …
          </p>
        ) : null}
      </div>
    );
  }
}

function Experiments(props: {
  experiments: readonly ISummary[];
  model: PanelModel;
  handlers: IHandlers;
}): JSX.Element {
  const { experiments, model, handlers } = props;
  return (
    <>
      {experiments.length === 0 ? (
        <p data-testid="itera-empty">
          No experiment below this server’s folder yet. An experiment asks whether one change should ship, and
          answers on rows that nobody has seen.
        </p>
      ) : null}
      <div className="jp-Itera-buttons">
        <button
          className="jp-Button jp-mod-styled jp-mod-accept"
          data-testid="itera-new"
          onClick={handlers.create}
        >
          New experiment
        </button>
        <button
          className="jp-Button jp-mod-styled jp-mod-reject"
          data-testid="itera-demo"
          onClick={handlers.demo}
        >
          Demo experiment
        </button>
      </div>
      <ExperimentList experiments={experiments} onSelect={path => model.select(path)} />
    </>
  );
}

function Experiment(props: { model: PanelModel; detail: IDetail; handlers: IHandlers }): JSX.Element {
  const { model, detail, handlers } = props;
  const busy = model.job?.state === 'running';
  const general = detail.actions.filter(action => phaseOf(action.id) === null);
  return (
    <>
      <Head detail={detail} />
      {model.job ? (
        <JobView
          job={model.job}
          label={labelOf(model.job, detail)}
          onInterrupt={() => void model.interrupt()}
          onReason={why => void model.explain(why)}
          onOpenPage={handlers.open}
        />
      ) : null}
      <Stepper
        phases={detail.phases}
        actions={detail.actions}
        busy={busy}
        onOpen={handlers.open}
        onRun={handlers.run}
      />
      <Seal seal={detail.seal} />
      <Figures figures={detail.figures} />
      <section aria-label="Page and record" className="jp-Itera-buttons">
        {general.map(action => (
          <ActionButton key={action.id} action={action} busy={busy} primary={false} onRun={handlers.run} />
        ))}
      </section>
      <Ledger records={detail.ledger} />
    </>
  );
}

function Head(props: { detail: IDetail }): JSX.Element {
  const { name, question, outcome, locked, broken } = props.detail;
  return (
    <div className="jp-Itera-head">
      <h2 data-testid="itera-name">{name}</h2>
      {outcome ? (
        <strong className="jp-Itera-badge" data-testid="itera-outcome">
          {outcome}
        </strong>
      ) : null}
      <p>{question}</p>
      <p className="jp-Itera-meta" data-testid="itera-locked">
        {locked.length ? `Locked: ${locked.join(', ')}` : 'Nothing is locked yet.'}
      </p>
      {broken ? (
        <div className="jp-Itera-notice" role="alert">
          {broken}
        </div>
      ) : null}
    </div>
  );
}

function labelOf(job: IJob, detail: IDetail): string {
  return detail.actions.find(action => action.id === job.action)?.label ?? job.action;
}
