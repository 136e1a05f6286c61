/** What the panel shows: one experiment, kept fresh while someone looks at it. */

import { VDomModel } from '@jupyterlab/ui-components';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { Api, failure, IAction, IDetail, IJob, ISummary, Problem, Refused } from './api';
import { followJob } from './job';

const REFRESH_MS = 2_000;
const LONGEST_BACKOFF_MS = 30_000;

export class PanelModel extends VDomModel {
  /** `isSeen`: whether anyone looks; nothing is asked of the server otherwise. */
  constructor(
    readonly api: Api,
    isSeen: () => boolean
  ) {
    super();
    this.#poll = new Poll({
      auto: false,
      name: 'itera-nb:panel',
      factory: () => this.#fetch(),
      frequency: { interval: REFRESH_MS, backoff: true, max: LONGEST_BACKOFF_MS },
      standby: () => document.hidden || !isSeen()
    });
    void this.#poll.start();
  }

  /** All experiments below the server's root, newest first; null until the first answer. */
  get experiments(): readonly ISummary[] | null {
    return this.#experiments;
  }

  get selected(): string | null {
    return this.#selected;
  }

  get detail(): IDetail | null {
    return this.#detail;
  }

  /** The running job, else the last one. */
  get job(): IJob | null {
    return this.#job ?? this.#detail?.job ?? null;
  }

  /** Why the panel is not fresh. */
  get problem(): Problem | Refused | null {
    return this.#problem;
  }

  /** Why the last thing that the user asked for did not happen. */
  get answer(): Problem | Refused | null {
    return this.#answer;
  }

  /** A job that was seen running has ended. */
  get jobEnded(): ISignal<this, IJob> {
    return this.#jobEnded;
  }

  action(id: string): IAction | undefined {
    return this.#detail?.actions.find(action => action.id === id);
  }

  select(path: string | null): void {
    if (path === this.#selected) {
      return;
    }
    this.#following?.abort();
    this.#following = null;
    this.#selected = path;
    this.#detail = this.#job = this.#answer = null;
    this.stateChanged.emit();
    this.refresh();
  }

  /** Ask now, if anyone looks. */
  refresh(): void {
    void this.#poll.refresh();
  }

  /** Ask now, also for the list of experiments. */
  reload(): void {
    this.#listIsOld = true;
    this.refresh();
  }

  dismiss(): void {
    this.#answer = null;
    this.stateChanged.emit();
  }

  /** Start an action of the selected experiment; a refusal becomes `answer`. */
  async start(action: string): Promise<void> {
    const path = this.#selected;
    if (path === null) {
      return;
    }
    await this.#ask(async () => this.#take(await this.api.start(path, action)));
  }

  /** Give the reason that the last job was refused for want of, and start it again. */
  async explain(why: string): Promise<void> {
    const job = this.job;
    const refusal = job?.refusal;
    if (job && refusal) {
      await this.#ask(async () => {
        await this.api.answer(job.path, refusal.safeguard, why);
        this.#take(await this.api.start(job.path, job.action));
      });
    }
  }

  async interrupt(): Promise<void> {
    const job = this.job;
    if (job) {
      await this.#ask(() => this.api.interrupt(job));
    }
  }

  override dispose(): void {
    this.#following?.abort();
    this.#poll.dispose();
    super.dispose();
  }

  async #ask(request: () => Promise<void>): Promise<void> {
    this.#answer = null;
    try {
      await request();
    } catch (error) {
      this.#answer = failure(error);
    }
    this.stateChanged.emit();
    this.refresh();
  }

  async #fetch(): Promise<void> {
    const path = this.#selected;
    try {
      if (path === null || this.#listIsOld) {
        this.#experiments = await this.api.experiments();
        this.#listIsOld = false;
      }
      const detail = path === null ? null : await this.api.experiment(path);
      if (path !== this.#selected) {
        return;
      }
      this.#detail = detail;
      this.#problem = null;
      if (detail?.job && !this.#isEnded(detail.job)) {
        this.#take(detail.job.state === 'running' ? detail.job : await this.api.job(detail.job));
      }
    } catch (error) {
      this.#problem = failure(error);
      throw error; // the poll asks less often
    } finally {
      this.stateChanged.emit();
    }
  }

  /** Show a job, and follow it as long as it runs. */
  #take(job: IJob): void {
    if (this.#isEnded(job) || job.path !== this.#selected) {
      return; // an answer that was overtaken
    }
    const before = this.#job?.id === job.id ? this.#job : null;
    this.#job = job;
    if (job.state === 'running' && this.#following === null) {
      void this.#follow(job);
    }
    if (before && job.state !== 'running') {
      this.#jobEnded.emit(job);
      this.reload();
    }
  }

  /** Whether the end of this job is known already: an ended job does not run again. */
  #isEnded(job: IJob): boolean {
    return this.#job?.id === job.id && this.#job.state !== 'running';
  }

  async #follow(job: IJob): Promise<void> {
    const following = new AbortController();
    this.#following = following;
    const onJob = (now: IJob): void => {
      if (this.#following === following) {
        this.#take(now);
        this.stateChanged.emit();
      }
    };
    try {
      await followJob(this.api, job, onJob, following.signal);
    } catch {
      // A broken stream: the poll shows where the job stands and follows it again.
    } finally {
      if (this.#following === following) {
        this.#following = null;
      }
    }
  }

  readonly #poll: Poll;
  readonly #jobEnded = new Signal<this, IJob>(this);
  #experiments: readonly ISummary[] | null = null;
  #listIsOld = true;
  #selected: string | null = null;
  #detail: IDetail | null = null;
  #job: IJob | null = null;
  #problem: Problem | Refused | null = null;
  #answer: Problem | Refused | null = null;
  #following: AbortController | null = null;
}
