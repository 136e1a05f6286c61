/** The chip in a notebook's toolbar: the phase, and what is locked. */

import * as React from 'react';

import { ReactWidget } from '@jupyterlab/apputils';
import { DocumentRegistry } from '@jupyterlab/docregistry';
import { Debouncer } from '@lumino/polling';

import { INotebook } from './api';
import { iteraIcon } from './icon';
import { PanelModel } from './model';

const SETTLE_MS = 500;

/** Hidden in notebooks that belong to no experiment. */
export class Chip extends ReactWidget {
  constructor(
    private readonly context: DocumentRegistry.Context,
    private readonly model: PanelModel,
    private readonly onClick: () => void
  ) {
    super();
    this.addClass('jp-Itera-chip');
    this.hide();
    // A cell may lock something, a job may end, the file may move.
    context.sessionContext.statusChanged.connect(this.onChange, this);
    context.pathChanged.connect(this.onChange, this);
    model.stateChanged.connect(this.onModel, this);
    this.onChange();
  }

  override dispose(): void {
    this.#ask.dispose();
    this.context.sessionContext.statusChanged.disconnect(this.onChange, this);
    this.context.pathChanged.disconnect(this.onChange, this);
    this.model.stateChanged.disconnect(this.onModel, this);
    super.dispose();
  }

  protected override render(): JSX.Element {
    const text = this.#notebook?.text ?? '';
    return (
      <button
        className="jp-ToolbarButtonComponent jp-mod-minimal jp-Button"
        aria-label={`itera: ${text}. Show the panel`}
        title={`itera: ${text}`}
        data-testid="itera-chip"
        onClick={this.onClick}
      >
        <iteraIcon.react tag="span" />
        <span className="jp-ToolbarButtonComponent-label">{text}</span>
      </button>
    );
  }

  private onChange(): void {
    void this.#ask.invoke().catch(() => undefined); // superseded, or the notebook was closed
  }

  private onModel(): void {
    const { detail } = this.model;
    const now =
      detail && detail.path === this.#notebook?.experiment ? detail.phase + detail.locked.join() : this.#seen;
    if (now !== this.#seen) {
      this.#seen = now;
      this.onChange();
    }
  }

  readonly #ask = new Debouncer(async () => {
    const found = await this.model.api.notebook(this.context.localPath).catch(() => this.#notebook);
    if (!this.isDisposed) {
      this.#notebook = found;
      this.setHidden(!found?.experiment);
      this.update();
    }
  }, SETTLE_MS);

  #notebook: INotebook | null = null;
  #seen = '';
}
