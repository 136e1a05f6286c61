/** The commands: launcher, palette, menus and panel all go through them. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, InputDialog, showDialog, showErrorMessage } from '@jupyterlab/apputils';

import { failure, IAction, ICreated, ISummary, Refused } from './api';
import { OpenDocuments } from './documents';
import { iteraIcon } from './icon';
import { PanelModel } from './model';
import { askNewExperiment, experimentsFolder } from './new-experiment';
import { PANEL_ID } from './panel/panel';
import { phaseOf } from './panel/stepper';

export const CATEGORY = 'itera';

export const Command = {
  create: 'itera:new',
  demo: 'itera:demo',
  open: 'itera:open',
  runPhase: 'itera:run-phase',
  render: 'itera:render',
  verify: 'itera:verify',
  showPanel: 'itera:show-panel'
} as const;

const CWD = { cwd: { type: 'string', description: 'Folder, relative to the server’s root.' } };
const PATH = {
  path: { type: 'string', description: 'The experiment’s folder, relative to the server’s root.' },
  name: { type: 'string', description: 'How a label calls it.' }
};

export function addCommands(app: JupyterFrontEnd, model: PanelModel, documents: OpenDocuments): void {
  const { commands } = app;
  const add = (
    id: string,
    label: string,
    caption: string,
    properties: object,
    execute: (args: Args) => Promise<void>
  ): void => {
    commands.addCommand(id, {
      label: args => (args.name ? `Open ${String(args.name)}` : label),
      caption,
      icon: iteraIcon,
      describedBy: { args: { type: 'object', properties } as never },
      execute: async args => told(() => execute(args as Args))
    });
  };

  add(
    Command.create,
    'New experiment',
    'Should we ship this change? Start from a data file and two arms',
    CWD,
    async args => opened(app, model, await askNewExperiment(model.api, args.cwd ?? ''))
  );
  add(Command.demo, 'Demo experiment', 'The sentiment example, ready to run without a key', CWD, async args =>
    opened(app, model, await model.api.demo(experimentsFolder(args.cwd ?? '')))
  );
  add(Command.open, 'Open recent experiment', 'Open an experiment where it stands', PATH, async args => {
    const path = args.path ?? (await choose(await model.api.experiments()));
    if (path) {
      await openExperiment(app, model, path);
    }
  });
  const addRun = (id: string, label: string, caption: string, isWanted: (id: string) => boolean): void =>
    add(id, label, caption, {}, () => runWanted(app, model, documents, isWanted));
  addRun(
    Command.runPhase,
    'Run phase',
    'Run the next phase of the experiment headless',
    id => phaseOf(id) !== null
  );
  addRun(Command.render, 'Render the conclusion', 'Write the conclusion page', id => id === 'render');
  addRun(
    Command.verify,
    'Verify the record',
    'Check the record, the seal and the result',
    id => id === 'verify'
  );
  add(Command.showPanel, 'Show the itera panel', 'Phases, test set, figures and record', {}, async () => {
    app.shell.activateById(PANEL_ID);
  });
}

/** Ask what an action wants asked, then start it as a job. */
export async function runAction(documents: OpenDocuments, model: PanelModel, action: IAction): Promise<void> {
  if (action.confirm) {
    const { button } = await showDialog({
      title: action.label,
      body: action.confirm,
      buttons: [Dialog.cancelButton(), Dialog.okButton({ label: action.label })]
    });
    if (!button.accept) {
      return;
    }
  }
  if (model.selected !== null) {
    await documents.save(model.selected);
  }
  await model.start(action.id);
}

interface Args {
  readonly cwd?: string;
  readonly path?: string;
}

/** Run something and tell of its failure. */
export async function told(execute: () => Promise<void>): Promise<void> {
  try {
    await execute();
  } catch (error) {
    const failed = failure(error);
    const lines =
      failed instanceof Refused
        ? [failed.message, failed.refusal.why, `Instead: ${failed.refusal.instead}`]
        : [failed.what, `Where: ${failed.where}`, `Fix: ${failed.fix}`];
    await showErrorMessage('itera', lines.join('\n'));
  }
}

async function opened(app: JupyterFrontEnd, model: PanelModel, created: ICreated | null): Promise<void> {
  if (created) {
    model.reload();
    model.select(created.path);
    app.shell.activateById(PANEL_ID);
    await app.commands.execute('docmanager:open', { path: created.notebook });
  }
}

/** Open the notebook of the phase where an experiment stands, and the panel. */
async function openExperiment(app: JupyterFrontEnd, model: PanelModel, path: string): Promise<void> {
  model.select(path);
  app.shell.activateById(PANEL_ID);
  const { phases } = await model.api.experiment(path);
  const phase = phases.find(one => one.state === 'current') ?? phases[phases.length - 1];
  if (phase) {
    await app.commands.execute('docmanager:open', { path: phase.notebook });
  }
}

/** Run one of the wanted actions of the panel's experiment; without an enabled one, say why. */
async function runWanted(
  app: JupyterFrontEnd,
  model: PanelModel,
  documents: OpenDocuments,
  isWanted: (id: string) => boolean
): Promise<void> {
  const path = model.selected ?? (await choose(await model.api.experiments()));
  if (!path) {
    return;
  }
  model.select(path);
  app.shell.activateById(PANEL_ID);
  const detail = await model.api.experiment(path);
  const actions = detail.actions.filter(action => isWanted(action.id));
  const enabled = actions.filter(action => action.enabled);
  const refusal = actions.find(action => action.refusal)?.refusal;
  if (enabled.length === 0 && refusal) {
    throw new Refused(refusal);
  }
  const action = enabled.length > 1 ? await chooseAction(enabled, detail.phase) : enabled[0];
  if (action) {
    await runAction(documents, model, action);
  }
}

async function chooseAction(actions: readonly IAction[], phase: string | null): Promise<IAction | undefined> {
  const { value } = await InputDialog.getItem({
    title: 'Run phase',
    label: 'What to run',
    items: actions.map(action => action.label),
    current: Math.max(
      0,
      actions.findIndex(action => phaseOf(action.id) === phase)
    )
  });
  return actions.find(action => action.label === value);
}

async function choose(experiments: readonly ISummary[]): Promise<string | null> {
  if (experiments.length === 0) {
    await showErrorMessage('No experiment yet', 'Start one: New experiment, or Demo experiment.');
    return null;
  }
  const { value } = await InputDialog.getItem({
    title: 'Open recent experiment',
    label: 'Newest first',
    items: experiments.map(nameOf)
  });
  return experiments.find(one => nameOf(one) === value)?.path ?? null;
}

/** Two folders may hold experiments of one name. */
function nameOf({ name, path }: ISummary): string {
  return path === '.' ? name : path;
}
