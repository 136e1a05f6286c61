/** Cards in the launcher: a new experiment, the demo, and the ones worked on last. */

import { ILauncher } from '@jupyterlab/launcher';
import { IDisposable } from '@lumino/disposable';

import { ISummary } from './api';
import { CATEGORY, Command } from './commands';
import { PanelModel } from './model';

const RECENT = 3;

export function addCards(launcher: ILauncher, model: PanelModel): void {
  launcher.add({ command: Command.create, category: CATEGORY, rank: 1 });
  launcher.add({ command: Command.demo, category: CATEGORY, rank: 2 });

  let shown = '';
  let cards: IDisposable[] = [];
  const show = (experiments: readonly ISummary[] | null): void => {
    const recent = (experiments ?? []).filter(one => one.broken === null).slice(0, RECENT);
    const now = recent.map(one => one.path).join('\n');
    if (experiments === null || now === shown) {
      return;
    }
    shown = now;
    cards.forEach(card => card.dispose());
    cards = recent.map(({ path, name }, index) =>
      launcher.add({ command: Command.open, args: { path, name }, category: CATEGORY, rank: 3 + index })
    );
  };
  model.stateChanged.connect(() => show(model.experiments));
  // The panel may never be opened; without the server part there are no experiments to offer.
  void model.api.experiments().then(show, () => undefined);
}
