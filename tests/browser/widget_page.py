"""A widget in a bare page: its real browser part and its real message handler, with no Jupyter between them."""

import json

# The four calls of the model that a widget's browser part uses.
MODEL = """
const listeners = new Map();
const traits = JSON.parse(TRAITS);
window.synced = traits;
window.asked = [];
const model = {
  get: (name) => traits[name],
  set: (name, value) => { traits[name] = structuredClone(value); },
  save_changes: () => {},
  on: (name, f) => listeners.set(name, [...(listeners.get(name) ?? []), f]),
  off: (name, f) => listeners.set(name, (listeners.get(name) ?? []).filter((g) => g !== f)),
  send: async (content) => {
    window.asked.push(content.ask);
    const answers = JSON.parse(await window.toKernel(JSON.stringify(content)));
    for (const answer of answers) for (const f of listeners.get("msg:custom") ?? []) f(answer, []);
  },
};
"""
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>widget</title><style>{css}</style>
<style>body {{ margin: 8px; {theme} }} h1, h2, h3 {{ margin: 0; font-size: 9px; }}</style></head><body><main><h1>A notebook</h1><h2>2</h2><h3>3</h3><div id="here"></div></main></body></html>"""
LIGHT = {
    "--jp-layout-color1": "white", "--jp-layout-color2": "#eeeeee", "--jp-layout-color3": "#bdbdbd",
    "--jp-layout-color4": "#757575", "--jp-border-color1": "#bdbdbd", "--jp-border-color2": "#e0e0e0",
    "--jp-ui-font-color1": "rgba(0, 0, 0, 0.87)", "--jp-brand-color1": "#1976d2", "--jp-success-color1": "#388e3c",
    "--jp-error-color1": "#d32f2f", "--jp-warn-color1": "#f57c00", "--jp-cell-editor-background": "#f5f5f5",
}  # fmt: skip
DARK = {
    "--jp-layout-color1": "#212121", "--jp-layout-color2": "#424242", "--jp-layout-color3": "#616161",
    "--jp-layout-color4": "#757575", "--jp-border-color1": "#616161", "--jp-border-color2": "#424242",
    "--jp-ui-font-color1": "rgba(255, 255, 255, 1)", "--jp-brand-color1": "#2196f3", "--jp-success-color1": "#4caf50",
    "--jp-error-color1": "#f44336", "--jp-warn-color1": "#ff9800", "--jp-cell-editor-background": "#212121",
    "background": "#212121", "color": "white",
}  # fmt: skip


def mount(context, widget, *, theme=None):
    """A page of `context` that shows `widget`; its messages go to the widget's own handler."""
    page = context.new_page()
    page.problems = []
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    page.on("dialog", lambda d: page.problems.append(f"dialog: {d.message}") or d.dismiss())
    sent = []
    widget.send = sent.append

    def to_kernel(text):
        widget._on_message(widget, json.loads(text), [])
        answers, sent[:] = json.dumps(sent, allow_nan=False), []
        return answers

    page.expose_function("toKernel", to_kernel)
    style = "; ".join(f"{name}: {value}" for name, value in (theme or {}).items())
    page.set_content(PAGE.format(css=str(widget._css), theme=style))
    traits = json.dumps(json.dumps({"selected": widget.selected, "settings": widget.settings}))
    page.evaluate(
        "async ([source, setup]) => {"
        " const url = URL.createObjectURL(new Blob([source], {type: 'text/javascript'}));"
        " window.widget = await import(url);"
        " window.model = new Function(setup + '; return model;')();"
        " window.dispose = widget.default.render({model, el: document.getElementById('here')}); }",
        [str(widget._esm), MODEL.replace("TRAITS", traits)],
    )
    return page
