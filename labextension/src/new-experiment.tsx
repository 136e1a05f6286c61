/** The dialog of a new experiment: the fields of `itera new`. */

import * as React from 'react';

import { Dialog, ReactWidget, showDialog } from '@jupyterlab/apputils';

import { Api, failure, ICreated, INewExperiment, Problem, Refused } from './api';
import { Notice } from './panel/notice';

const EXPERIMENTS = 'docs/experiments';

/** Where new experiments go, seen from a folder: `docs/experiments` in it, or the one that it lies in. */
export function experimentsFolder(cwd: string): string {
  const inside = cwd.match(/^(.*\/)?docs\/experiments(?=\/|$)/);
  return inside ? inside[0] : cwd ? `${cwd}/${EXPERIMENTS}` : EXPERIMENTS;
}

/** Ask until the server takes it or the user gives up; null if so. What was typed stays. */
export async function askNewExperiment(api: Api, cwd: string): Promise<ICreated | null> {
  let values: Values = { under: experimentsFolder(cwd) };
  let problem: Problem | Refused | null = null;
  for (;;) {
    const { button, value }: Dialog.IResult<Values> = await showDialog({
      title: 'New experiment',
      body: new Form(values, problem),
      buttons: [Dialog.cancelButton(), Dialog.okButton({ label: 'Create' })],
      focusNodeSelector: 'input[name="name"]'
    });
    if (!button.accept || value === null) {
      return null;
    }
    values = value;
    const empty = REQUIRED.filter(({ name }) => !value[name]).map(({ label }) => label);
    if (empty.length > 0) {
      problem = new Problem(`Not filled in: ${empty.join(', ')}.`, 'this form', 'fill them in');
      continue;
    }
    try {
      return await api.create(requestOf(value));
    } catch (error) {
      problem = failure(error);
    }
  }
}

type Values = Readonly<Record<string, string>>;

interface IField {
  readonly name: keyof INewExperiment;
  readonly label: string;
  readonly hint: string;
}

const REQUIRED: readonly IField[] = [
  { name: 'name', label: 'Name', hint: 'lower-case letters, digits and dashes: support-fees' },
  {
    name: 'data',
    label: 'Data file',
    hint: 'CSV, Parquet or JSON lines, one row a line; path from the server’s folder'
  },
  { name: 'expected', label: 'Label column', hint: 'the right answer of each row' },
  {
    name: 'baseline',
    label: 'Baseline',
    hint: 'today’s behaviour: prompt.md, path/file.py:function, https://… or exec: COMMAND'
  },
  { name: 'arms', label: 'Candidates', hint: 'one to three of the same form, one a line' }
];

const OPTIONAL: readonly IField[] = [
  { name: 'question', label: 'Question', hint: 'one sentence that ends in ship, scope or kill' },
  { name: 'id', label: 'Id column', hint: 'identifies a row; found if exactly one fits' },
  {
    name: 'inputs',
    label: 'Input columns',
    hint: 'what the arms see, separated by commas; the rest if empty'
  },
  {
    name: 'slices',
    label: 'Slices',
    hint: 'columns whose values must not lose, separated by commas: tenant'
  },
  { name: 'model', label: 'Model', hint: 'for prompts: anthropic/MODEL' },
  { name: 'min_effect', label: 'Smallest gain worth acting on', hint: '5pp if empty' },
  { name: 'under', label: 'Folder', hint: 'where the experiment’s folder is made' }
];

class Form extends ReactWidget implements Dialog.IBodyWidget<Values> {
  constructor(
    private readonly values: Values,
    private readonly problem: Problem | Refused | null
  ) {
    super();
    this.addClass('jp-Itera-form');
  }

  getValue(): Values {
    const values: Record<string, string> = {};
    this.node.querySelectorAll<HTMLInputElement | HTMLTextAreaElement>('[name]').forEach(field => {
      values[field.name] = field.value.trim();
    });
    return values;
  }

  protected override render(): JSX.Element {
    return (
      <>
        {this.problem ? <Notice failure={this.problem} /> : null}
        {REQUIRED.map(field => (
          <Field key={field.name} field={field} value={this.values[field.name] ?? ''} required />
        ))}
        <details open={OPTIONAL.some(({ name }) => name !== 'under' && Boolean(this.values[name]))}>
          <summary>More: question, columns, slices, model, folder</summary>
          {OPTIONAL.map(field => (
            <Field key={field.name} field={field} value={this.values[field.name] ?? ''} required={false} />
          ))}
        </details>
      </>
    );
  }
}

function Field(props: { field: IField; value: string; required: boolean }): JSX.Element {
  const { name, label, hint } = props.field;
  const id = `itera-field-${name}`;
  const common = {
    id,
    name,
    defaultValue: props.value,
    'aria-required': props.required,
    'aria-describedby': `${id}-hint`,
    className: 'jp-mod-styled'
  };
  return (
    <div className="jp-Itera-field">
      <label htmlFor={id}>{label}</label>
      {name === 'arms' ? (
        <textarea rows={2} {...common} />
      ) : (
        <input type="text" spellCheck={false} {...common} />
      )}
      <p className="jp-Itera-meta" id={`${id}-hint`}>
        {hint}
      </p>
    </div>
  );
}

function requestOf(values: Values): INewExperiment {
  const text = (name: keyof INewExperiment): string => values[name] ?? '';
  const list = (name: keyof INewExperiment, separator: string): string[] =>
    text(name)
      .split(separator)
      .map(part => part.trim())
      .filter(Boolean);
  return {
    under: text('under'),
    name: text('name'),
    data: text('data'),
    expected: text('expected'),
    baseline: text('baseline'),
    arms: list('arms', '\n'),
    id: text('id'),
    slices: list('slices', ','),
    inputs: list('inputs', ','),
    model: text('model'),
    min_effect: text('min_effect'),
    question: text('question')
  };
}
