/** The REST interface under `/itera/`: its types, its errors, one function a route. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

export interface ISummary {
  readonly path: string;
  readonly name: string;
  readonly question: string;
  readonly phase: string | null;
  readonly outcome: string | null;
  readonly locked: readonly string[];
  readonly updated: string;
  /** Why the folder cannot be read, in one sentence. */
  readonly broken: string | null;
  /** Its record is long and still being read; what stands here may be old. */
  readonly reading: boolean;
}

export interface IPhase {
  readonly id: string;
  readonly title: string;
  readonly state: 'done' | 'current' | 'waiting';
  readonly at: string | null;
  readonly took_s: number | null;
  /** Who may act next: you, itera, custodian. */
  readonly actor: string;
  readonly notebook: string;
  /** Why it cannot go on yet. */
  readonly why: string | null;
}

export interface ISeal {
  readonly state: 'none' | 'sealed' | 'opened' | 'decided';
  readonly at: string | null;
  readonly rows: number | null;
  readonly custody: string;
  readonly touches: number;
  readonly sha256: string | null;
}

export interface IFigure {
  readonly id: string;
  readonly label: string;
  readonly value: string;
  readonly note: string;
}

export interface IRecord {
  readonly seq: number;
  readonly type: string;
  readonly at: string;
  readonly text: string;
}

export interface IRefusal {
  readonly safeguard: string;
  readonly what: string;
  readonly why: string;
  readonly instead: string;
  /** A person's reason would let it pass. */
  readonly asks: boolean;
}

export interface IAction {
  readonly id: string;
  readonly label: string;
  readonly enabled: boolean;
  readonly refusal: IRefusal | null;
  /** The question to ask before it starts. */
  readonly confirm: string | null;
}

export interface IProgress {
  readonly label: string;
  readonly done: number;
  readonly total: number;
  readonly text: string;
}

export interface IJob {
  readonly id: string;
  readonly path: string;
  readonly action: string;
  readonly state: 'running' | 'done' | 'failed' | 'interrupted';
  readonly started: string;
  readonly ended: string | null;
  readonly progress: IProgress | null;
  readonly message: string | null;
  readonly refusal: IRefusal | null;
  /** Static HTML of the pilot: shown in a frame without scripts. */
  readonly html: string | null;
  /** The rendered page, relative to the server's root. */
  readonly page: string | null;
}

export interface IDetail extends ISummary {
  readonly phases: readonly IPhase[];
  readonly seal: ISeal;
  readonly figures: readonly IFigure[];
  readonly ledger: readonly IRecord[];
  readonly actions: readonly IAction[];
  readonly job: IJob | null;
}

export interface INotebook {
  readonly experiment: string | null;
  readonly phase: string | null;
  readonly locked: readonly string[];
  readonly text: string;
}

export interface ICreated {
  readonly path: string;
  readonly notebook: string;
}

/** The form of a new experiment; what is empty is left to the server. */
export interface INewExperiment {
  readonly under: string;
  readonly name: string;
  readonly data: string;
  readonly expected: string;
  readonly baseline: string;
  readonly arms: readonly string[];
  readonly id: string;
  readonly slices: readonly string[];
  readonly inputs: readonly string[];
  readonly model: string;
  readonly min_effect: string;
  readonly question: string;
}

/** A request that failed: what happened, where, and how to go on. */
export class Problem extends Error {
  constructor(
    readonly what: string,
    readonly where: string,
    readonly fix: string
  ) {
    super(what);
  }
}

/** A request that a safeguard refused. */
export class Refused extends Error {
  constructor(readonly refusal: IRefusal) {
    super(`${refusal.safeguard}: ${refusal.what}`);
  }
}

/** Any failure as a Problem or a Refused. */
export function failure(error: unknown): Problem | Refused {
  if (error instanceof Problem || error instanceof Refused) {
    return error;
  }
  if (error instanceof ServerConnection.NetworkError) {
    return new Problem(
      'The Jupyter server does not answer.',
      'the connection of this browser tab',
      'wait: the panel asks again by itself; if the server was stopped, start it and reload the page'
    );
  }
  return new Problem(String(error), 'the itera panel', 'reload the page');
}

export class Api {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  async experiments(): Promise<readonly ISummary[]> {
    return (await this.get<{ experiments: ISummary[] }>('experiments')).experiments;
  }

  async experiment(path: string): Promise<IDetail> {
    return this.get('experiment', { path });
  }

  async notebook(path: string): Promise<INotebook> {
    return this.get('notebook', { path });
  }

  async create(wanted: INewExperiment): Promise<ICreated> {
    return this.post('experiments', wanted);
  }

  async demo(under: string): Promise<ICreated> {
    return this.post('experiments', { demo: true, under });
  }

  async start(path: string, action: string): Promise<IJob> {
    return this.post('jobs', { path, action, confirmed: true });
  }

  /** Record a person's reason where a safeguard asks; the conclusion prints it. */
  async answer(path: string, safeguard: string, why: string): Promise<void> {
    await this.post('answers', { path, safeguard, why });
  }

  /** A job with what it left to look at. */
  async job({ id, path }: IJob): Promise<IJob> {
    return this.get(`jobs/${encodeURIComponent(id)}`, { path });
  }

  async interrupt(job: IJob): Promise<void> {
    await this.request(`jobs/${encodeURIComponent(job.id)}`, { path: job.path }, { method: 'DELETE' });
  }

  /** The event stream of a job; the caller reads its body. */
  async events(job: IJob, signal: AbortSignal): Promise<Response> {
    return this.request(`jobs/${encodeURIComponent(job.id)}/events`, { path: job.path }, { signal });
  }

  private async get<T>(route: string, query: Record<string, string> = {}): Promise<T> {
    return (await this.request(route, query, {})).json() as Promise<T>;
  }

  private async post<T>(route: string, body: unknown): Promise<T> {
    const init = { method: 'POST', body: JSON.stringify(body) };
    return (await this.request(route, {}, init)).json() as Promise<T>;
  }

  private async request(route: string, query: Record<string, string>, init: RequestInit): Promise<Response> {
    const url = URLExt.join(this.settings.baseUrl, 'itera', route) + URLExt.objectToQueryString(query);
    const response = await ServerConnection.makeRequest(url, init, this.settings);
    if (!response.ok) {
      throw await refusedOrProblem(response, route);
    }
    return response;
  }
}

async function refusedOrProblem(response: Response, route: string): Promise<Problem | Refused> {
  const body = await response.json().catch(() => ({}));
  if (body.refusal) {
    return new Refused(body.refusal as IRefusal);
  }
  if (body.error) {
    return new Problem(body.error.what, body.error.where, body.error.fix);
  }
  const where = `the server's answer to itera/${route}: ${response.status} ${response.statusText}`;
  if (response.status === 403) {
    return new Problem(
      'The Jupyter server does not know this browser tab.',
      where,
      'reload the page and log in'
    );
  }
  const fix = 'jupyter server extension enable itera_nb.server, then start the Jupyter server again';
  return new Problem('The server part of itera does not answer.', where, fix);
}
