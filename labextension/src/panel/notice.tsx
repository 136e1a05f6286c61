import * as React from 'react';

import { IRefusal, Problem, Refused } from '../api';

/** What a safeguard refused, why, and what to do instead. */
export function RefusalText(props: { refusal: IRefusal }): JSX.Element {
  const { safeguard, what } = props.refusal;
  return (
    <div className="jp-Itera-refusal">
      <p>
        <strong>{safeguard}</strong> {what}
      </p>
      <WhyAndInstead refusal={props.refusal} />
    </div>
  );
}

/** What a safeguard refuses; why, and what to do instead, unfold. */
export function RefusalSummary(props: { refusal: IRefusal; id: string }): JSX.Element {
  const { safeguard, what } = props.refusal;
  return (
    <details className="jp-Itera-refusal">
      <summary id={props.id}>
        <strong>{safeguard}</strong> {what}
      </summary>
      <WhyAndInstead refusal={props.refusal} />
    </details>
  );
}

function WhyAndInstead(props: { refusal: IRefusal }): JSX.Element {
  const { why, instead } = props.refusal;
  return (
    <>
      {why ? <p>Why: {why}</p> : null}
      {instead ? <p>Instead: {instead}</p> : null}
    </>
  );
}

function ProblemText(props: { problem: Problem }): JSX.Element {
  const { what, where, fix } = props.problem;
  return (
    <>
      <p>
        <strong>{what}</strong>
      </p>
      <dl className="jp-Itera-facts">
        <dt>Where</dt>
        <dd>{where}</dd>
        <dt>Fix</dt>
        <dd>{fix}</dd>
      </dl>
    </>
  );
}

/** A failure in the panel; it is read out when it appears. */
export function Notice(props: { failure: Problem | Refused; onDismiss?: () => void }): JSX.Element {
  const notice = React.useRef<HTMLDivElement>(null);
  const isAnswer = props.onDismiss !== undefined;
  React.useEffect(() => {
    if (isAnswer) {
      notice.current?.scrollIntoView({ block: 'nearest' });
    }
  }, [isAnswer, props.failure]);
  return (
    <div ref={notice} className="jp-Itera-notice" role="alert" data-testid="itera-notice">
      {props.failure instanceof Refused ? (
        <RefusalText refusal={props.failure.refusal} />
      ) : (
        <ProblemText problem={props.failure} />
      )}
      {props.onDismiss ? (
        <button className="jp-Itera-link" onClick={props.onDismiss}>
          Dismiss
        </button>
      ) : null}
    </div>
  );
}
