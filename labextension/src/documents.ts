/** Documents that are open while a job rewrites their files. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { DocumentRegistry, DocumentWidget } from '@jupyterlab/docregistry';

/** The open document of a widget. */
export function contextOf(widget: unknown): DocumentRegistry.Context | null {
  return widget instanceof DocumentWidget ? widget.context : null;
}

/** Keeps the documents of an experiment and its jobs from overwriting each other. */
export class OpenDocuments {
  constructor(private readonly app: JupyterFrontEnd) {}

  /** Save what was edited in an experiment's folder, so that a job sees it. */
  async save(folder: string): Promise<void> {
    for (const context of this.below(folder)) {
      if (context.model.dirty) {
        await context.save();
      }
      this.#saved.set(context, written(context));
    }
  }

  /** Show what a job wrote; a document that was edited meanwhile keeps its edits. */
  async reload(folder: string): Promise<void> {
    // A file that is gone has nothing to show, and must not keep the others from it.
    await Promise.allSettled(this.below(folder).map(context => this.show(context)));
  }

  private async show(context: DocumentRegistry.Context): Promise<void> {
    const isEdited = context.model.dirty && written(context) !== this.#saved.get(context);
    const file = await this.app.serviceManager.contents.get(context.path, { content: false });
    if (!isEdited && file.last_modified !== context.contentsModel?.last_modified) {
      await context.revert();
    }
  }

  private below(folder: string): DocumentRegistry.Context[] {
    const prefix = folder === '.' ? '' : `${folder}/`; // the server may have been started in the experiment
    return [...this.app.shell.widgets('main')]
      .map(contextOf)
      .filter((context): context is DocumentRegistry.Context => !!context?.localPath.startsWith(prefix));
  }

  readonly #saved = new WeakMap<DocumentRegistry.Context, string>();
}

/** What a person writes: a kernel that connects changes a notebook's metadata, which is no edit. */
function written(context: DocumentRegistry.Context): string {
  if (!context.localPath.endsWith('.ipynb')) {
    return context.model.toString();
  }
  const { cells } = context.model.toJSON() as unknown as { cells: readonly { source: unknown }[] };
  return JSON.stringify(cells.map(cell => cell.source));
}
