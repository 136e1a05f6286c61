/** A job's progress, as server-sent events read through `fetch`: an EventSource could not send the token. */

import { Api, IJob } from './api';

const DATA = 'data: ';

/** Calls `onJob` with each state of the job; ends when the job ends, the stream breaks or `signal` aborts. */
export async function followJob(
  api: Api,
  job: IJob,
  onJob: (job: IJob) => void,
  signal: AbortSignal
): Promise<void> {
  const response = await api.events(job, signal);
  const reader = response.body?.getReader();
  if (!reader) {
    return;
  }
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    text += decoder.decode(value, { stream: true });
    const events = text.split('\n\n');
    text = events.pop() ?? '';
    for (const event of events) {
      const data = event.split('\n').find(line => line.startsWith(DATA)); // none in what keeps the line open
      if (data) {
        onJob(JSON.parse(data.slice(DATA.length)) as IJob);
      }
    }
  }
}
