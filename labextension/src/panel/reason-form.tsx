import * as React from 'react';

const WHY_ID = 'itera-reason';

/** A person's reason where a safeguard asks for one; it is recorded. */
export function ReasonForm(props: { onReason: (why: string) => void }): JSX.Element {
  const [why, setWhy] = React.useState('');
  const isEmpty = !why.trim();
  const submit = (event: React.FormEvent): void => {
    event.preventDefault();
    if (!isEmpty) {
      props.onReason(why.trim());
    }
  };
  return (
    <form className="jp-Itera-reason" onSubmit={submit}>
      <label htmlFor={WHY_ID}>Your reason to go on; the conclusion prints it</label>
      <textarea
        id={WHY_ID}
        className="jp-mod-styled"
        rows={2}
        value={why}
        data-testid="itera-reason"
        data-lm-suppress-shortcuts="true"
        onChange={event => setWhy(event.target.value)}
      />
      <button
        type="submit"
        className={`jp-Button jp-mod-styled ${isEmpty ? 'jp-mod-reject' : 'jp-mod-accept'}`}
        aria-disabled={isEmpty}
        data-testid="itera-record-reason"
      >
        Record the reason and go on
      </button>
    </form>
  );
}
