import * as React from 'react';

import { Dialog, showDialog } from '@jupyterlab/apputils';

import { IJob } from '../api';
import { RefusalText } from './notice';
import { ReasonForm } from './reason-form';

/** The sentence that disabled buttons point to while a job runs. */
export const BUSY_ID = 'itera-busy';

interface IProps {
  job: IJob;
  label: string;
  onInterrupt: () => void;
  onReason: (why: string) => void;
  onOpenPage: (path: string) => void;
}

/** A job: its progress while it runs, what came of it after. */
export function JobView(props: IProps): JSX.Element {
  const { job, label } = props;
  const section = React.useRef<HTMLElement>(null);
  React.useEffect(() => {
    section.current?.scrollIntoView({ block: 'nearest' }); // a promise in newer browsers: not to be returned
  }, [job.id]);
  return (
    <section
      ref={section}
      aria-labelledby="itera-job"
      className="jp-Itera-job"
      data-testid="itera-job"
      data-state={job.state}
    >
      <h3 id="itera-job">
        {label}: <span role="status">{job.state}</span>
      </h3>
      {job.state === 'running' ? <Running {...props} /> : null}
      {job.message && !job.refusal ? <p className="jp-Itera-message">{job.message}</p> : null}
      {job.refusal ? <RefusalText refusal={job.refusal} /> : null}
      {job.refusal?.asks ? <ReasonForm key={job.id} onReason={props.onReason} /> : null}
      {job.html ? <Result key={job.id} html={job.html} label={label} /> : null}
      {job.page ? <PageButton page={job.page} onOpen={props.onOpenPage} /> : null}
    </section>
  );
}

function Running(props: IProps): JSX.Element {
  const { progress } = props.job;
  const known = progress !== null && progress.total > 0;
  return (
    <>
      <progress
        aria-label={`Progress of ${props.label}`}
        {...(known ? { value: progress.done, max: progress.total } : {})}
      />
      <p className="jp-Itera-meta" data-testid="itera-progress">
        {progress
          ? [progress.label, known ? `${progress.done} of ${progress.total}` : '', progress.text]
              .filter(Boolean)
              .join(' · ')
          : 'starting'}
      </p>
      <button
        className="jp-Button jp-mod-styled jp-mod-reject"
        data-testid="itera-interrupt"
        onClick={props.onInterrupt}
      >
        Cancel
      </button>
      <p className="jp-Itera-meta" id={BUSY_ID}>
        One job at a time: the other buttons wait for its end. Cancelling keeps what is finished.
      </p>
    </>
  );
}

/** The page of a result is ours; what it quotes is not: nothing in it is fetched. */
const FRAME_HEAD =
  `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">` +
  '<style>body { font: 13px system-ui, sans-serif } td { min-width: 2em }</style>';

/** HTML that holds models' output: in a frame that runs no script and knows no address. */
function ResultFrame(props: { html: string; title: string }): JSX.Element {
  return (
    <iframe className="jp-Itera-frame" sandbox="" srcDoc={FRAME_HEAD + props.html} title={props.title} />
  );
}

function Result(props: { html: string; label: string }): JSX.Element {
  const frame = { html: props.html, title: `${props.label}: result` };
  const enlarge = (): void => {
    const buttons = [Dialog.okButton({ label: 'Close' })];
    const body = (
      <div className="jp-Itera-large">
        <ResultFrame {...frame} />
      </div>
    );
    void showDialog({ title: frame.title, body, buttons });
  };
  return (
    <details open data-testid="itera-result">
      <summary>Result</summary>
      <ResultFrame {...frame} />
      <button className="jp-Itera-link" data-testid="itera-enlarge" onClick={enlarge}>
        Enlarge
      </button>
    </details>
  );
}

function PageButton(props: { page: string; onOpen: (path: string) => void }): JSX.Element {
  return (
    <button
      className="jp-Button jp-mod-styled jp-mod-accept"
      data-testid="itera-open-page"
      onClick={() => props.onOpen(props.page)}
    >
      Open the page
    </button>
  );
}
