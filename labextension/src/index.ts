import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, IToolbarWidgetRegistry, Notification } from '@jupyterlab/apputils';
import { DocumentWidget } from '@jupyterlab/docregistry';
import { ILauncher } from '@jupyterlab/launcher';

import { Api, IJob } from './api';
import { addCommands, CATEGORY, Command, runAction, told } from './commands';
import { contextOf, OpenDocuments } from './documents';
import { addCards } from './launcher';
import { PanelModel } from './model';
import { Panel, PANEL_ID } from './panel/panel';
import { Chip } from './toolbar';

/** Nothing of Lab's shell is required: Notebook 7 has no launcher and no layout to restore. */
const plugin: JupyterFrontEndPlugin<void> = {
  id: 'itera-nb:plugin',
  description: 'Sealed-test-set experiments: launcher, toolbar and side panel.',
  autoStart: true,
  optional: [ICommandPalette, ILauncher, IToolbarWidgetRegistry, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    toolbars: IToolbarWidgetRegistry | null,
    restorer: ILayoutRestorer | null
  ) => {
    const model = new PanelModel(new Api(app.serviceManager.serverSettings), () => panel.isVisible);
    const documents = new OpenDocuments(app);
    const show = (): void => app.shell.activateById(PANEL_ID);
    const open = (path: string): void => void app.commands.execute('docmanager:open', { path });
    const panel: Panel = new Panel(model, {
      open,
      run: action => void told(() => runAction(documents, model, action)),
      create: () => void app.commands.execute(Command.create),
      demo: () => void app.commands.execute(Command.demo)
    });
    app.shell.add(panel, 'right', { rank: 1000 });
    restorer?.add(panel, PANEL_ID);

    addCommands(app, model, documents);
    Object.values(Command).forEach(command => palette?.addItem({ command, category: CATEGORY }));
    if (launcher) {
      addCards(launcher, model);
    }
    toolbars?.addFactory<DocumentWidget>(
      'Notebook',
      'itera',
      ({ context }) => new Chip(context, model, show)
    );
    model.jobEnded.connect((_, job) => {
      void documents.reload(job.path);
      tell(job, panel.isVisible, open);
    });
    followNotebook(app, model);
  }
};

/** The panel shows the experiment of the notebook in front. */
function followNotebook(app: JupyterFrontEnd, model: PanelModel): void {
  const { shell } = app;
  const follow = async (): Promise<void> => {
    const widget = shell.currentWidget;
    const path = contextOf(widget)?.localPath;
    const found = path?.endsWith('.ipynb') && (await model.api.notebook(path).catch(() => null));
    if (found && found.experiment && shell.currentWidget === widget) {
      model.select(found.experiment);
    }
  };
  shell.currentChanged?.connect(() => void follow());
  void app.restored.then(follow);
}

/** Show the page that a job wrote; tell of any other job if the panel cannot. */
function tell(job: IJob, panelIsVisible: boolean, open: (path: string) => void): void {
  if (job.page) {
    open(job.page);
  } else if (!panelIsVisible) {
    Notification.emit(`itera ${job.action}: ${job.state}`, job.state === 'done' ? 'success' : 'warning', {
      autoClose: 5_000
    });
  }
}

export default plugin;
