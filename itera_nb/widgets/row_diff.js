// The browser's part of the row-diff inspector. It holds the few blocks of rows that it shows and asks the kernel
// for the rest. Every text of a row goes through `textContent`: it is somebody else's, and never markup.

const ROW = 26; // pixels
const SHOWN = 12.5; // rows: the half one says that there is more
const BLOCK = 250; // rows a request
const KEPT = 24; // blocks
const TALLEST = 8_000_000; // pixels: browsers cut taller elements, so beyond it the scroll bar is a scale
const SLOW = 1500; // milliseconds until the status says that the kernel is busy
const MOST_TOKENS = 12_000;
const MOST_EDITS = 900;
const LONGEST_WORDS = 200_000; // characters that are still taken apart into words

// text ------------------------------------------------------------------------------------------------------------

// What joins letters and chooses an emoji's look is part of ordinary text.
const INVISIBLE = /(?![\t\n\u200c\u200d\ufe0e\ufe0f])[\p{Cc}\p{Default_Ignorable_Code_Point}\u2028\u2029]/gu;

/** Text with control, override and invisible characters as symbols: none may move what is shown, or hide. */
export function visible(text) {
  return text.replace(INVISIBLE, (character) => {
    const code = character.codePointAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    const digits = code.toString(16).padStart(4, "0");
    return digits.length > 4 ? `\\u{${digits}}` : `\\u${digits}`;
  });
}

const oneLine = (text) => visible(text).replace(/\n/g, "\u21b5").replace(/\t/g, "\u21e5");

let segmenter;
function tokens(text) {
  if (typeof Intl.Segmenter !== "function") return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
  segmenter ??= new Intl.Segmenter(undefined, { granularity: "word" });
  return Array.from(segmenter.segment(text), (part) => part.segment);
}

/**
 * The two texts in runs, `[[text, changed], ...]` each, compared word by word. Work is bounded: where two texts are
 * too long or too different, what lies between their common start and end counts as changed.
 */
export function diffWords(one, two) {
  if (one === two) return [[[one, false]], [[two, false]]];
  const long = Math.max(one.length, two.length) > LONGEST_WORDS;
  const [a, b] = long ? [Array.from(one), Array.from(two)] : [tokens(one), tokens(two)];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const left = a.slice(start, a.length - end);
  const right = b.slice(start, b.length - end);
  const same = long || left.length + right.length > MOST_TOKENS ? [] : common(left, right);
  const [keptLeft, keptRight] = [new Set(same.map((m) => m[0])), new Set(same.map((m) => m[1]))];
  return [
    [a, left, keptLeft],
    [b, right, keptRight],
  ].map(([all, middle, kept]) =>
    runs([
      [all.slice(0, start).join(""), false],
      ...middle.map((token, i) => [token, !kept.has(i)]),
      [all.slice(all.length - end).join(""), false],
    ]),
  );
}

/** Pairs of equal tokens: Myers' O(ND) algorithm, given up after MOST_EDITS edits. */
function common(a, b) {
  const most = Math.min(a.length + b.length, MOST_EDITS);
  const reach = new Int32Array(2 * most + 3);
  const trace = [];
  for (let d = 0; d <= most; d += 1) {
    trace.push(reach.slice(most - d, most + d + 3));
    for (let k = -d; k <= d; k += 2) {
      const at = most + 1 + k;
      let x = k === -d || (k !== d && reach[at - 1] < reach[at + 1]) ? reach[at + 1] : reach[at - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      reach[at] = x;
      if (x >= a.length && x - k >= b.length) return backtrack(trace, d, a.length, b.length);
    }
  }
  return [];
}

function backtrack(trace, edits, x, y) {
  const pairs = [];
  for (let d = edits; d >= 0; d -= 1) {
    const reach = trace[d];
    const k = x - y;
    const at = (j) => reach[j + d + 1];
    const from = k === -d || (k !== d && at(k - 1) < at(k + 1)) ? k + 1 : k - 1;
    const fromX = d === 0 ? 0 : at(from);
    const fromY = d === 0 ? 0 : fromX - from;
    while (x > fromX && y > fromY) {
      x -= 1;
      y -= 1;
      pairs.push([x, y]);
    }
    [x, y] = [fromX, fromY];
  }
  return pairs;
}

/** Neighbours of one sort joined; a lone space between two changed words is changed with them. */
function runs(parts) {
  const filled = parts.filter(([text]) => text);
  filled.forEach((part, i) => {
    if (!part[1] && !part[0].trim() && filled[i - 1]?.[1] && filled[i + 1]?.[1]) part[1] = true;
  });
  const joined = [];
  for (const [text, changed] of filled) {
    if (joined.length && joined.at(-1)[1] === changed) joined.at(-1)[0] += text;
    else joined.push([text, changed]);
  }
  return joined;
}

// elements --------------------------------------------------------------------------------------------------------

/** An element; strings become text, functions listeners, other values attributes (`false` and null: none). */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Text of a row: isolated, in its own direction. */
const foreign = (tag, attributes, ...children) => h(tag, { dir: "auto", ...attributes }, ...children);

const plain = new Intl.NumberFormat("en-US");
const count = (n) => plain.format(n);

function figure(value, name) {
  if (value === null || value === undefined) return "\u2013";
  if (name === "cost") return `$${Number(value.toPrecision(3))}`;
  if (name === "latency") return value < 1000 ? `${Number(value.toPrecision(3))} ms` : `${(value / 1000).toFixed(1)} s`;
  const text = String(Number(Math.abs(value).toFixed(3)));
  if (name === "delta") return text === "0" ? "0" : (value > 0 ? "+" : "\u2212") + text;
  return (value < 0 && text !== "0" ? "\u2212" : "") + (name === "severity" ? count(Math.abs(value)) : text);
}

const KIND_CLASS = (kind) => `itera-rd-kind itera-rd-${kind.replace(/ /g, "-")}`;
const SIGN = { win: "\u25b2", loss: "\u25bc", flaky: "\u223c", "both pass": "\u2713", "both fail": "\u2717", tie: "=" };

const kindMark = (kind) =>
  h("span", { class: KIND_CLASS(kind) }, h("span", { "aria-hidden": "true" }, SIGN[kind] ?? "?"), ` ${kind}`);

const marked = (parts, tag, shown) =>
  parts.map(([text, changed]) => (changed ? h(tag, {}, shown(text)) : document.createTextNode(shown(text))));

// the kernel ------------------------------------------------------------------------------------------------------

/** Questions and answers over the widget's channel. */
class Kernel {
  #model;
  #listener;
  #waiting = new Map();
  // Two drawings of one widget hear the same answers: numbers must not collide.
  #number = Math.floor(Math.random() * 2 ** 40);

  constructor(model, onBusy) {
    this.#model = model;
    this.onBusy = onBusy;
    this.#listener = (message) => this.#receive(message);
    model.on("msg:custom", this.#listener);
  }

  ask(ask, content = {}) {
    this.#number += 1;
    const n = this.#number;
    const late = setTimeout(() => this.onBusy(true), SLOW);
    return new Promise((resolve, reject) => {
      this.#waiting.set(n, { resolve, reject, late });
      this.#model.send({ n, ask, ...content });
    });
  }

  #receive(message) {
    const waiting = this.#waiting.get(message?.n);
    if (!waiting) return;
    this.#waiting.delete(message.n);
    clearTimeout(waiting.late);
    if (!this.#waiting.size) this.onBusy(false);
    if (message.error) waiting.reject(new Error(message.error));
    else waiting.resolve(message);
  }

  dispose() {
    for (const { late } of this.#waiting.values()) clearTimeout(late);
    this.#model.off("msg:custom", this.#listener);
  }
}

/** Whether a key is the inspector's: the notebook has shortcuts for single keys, deleting the cell among them. */
const ours = (event) =>
  !(event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab") &&
  (!event.shiftKey || event.key.length === 1);

// the inspector ---------------------------------------------------------------------------------------------------

const TITLES = { id: "id", kind: "result", delta: "\u0394 score", modes: "failure modes", severity: "severity" };
const WIDTHS = { id: 132, kind: 104, modes: 150, delta: 84, base: 84, arm: 84, severity: 96, cost: 92, latency: 92 };
const NUMBER_WIDTH = 68;

class RowDiff {
  #model;
  #kernel;
  #part; // what the kernel said of the part that is shown
  #query; // what is asked of it
  #view = { total: 0, of: 0, unread: 0, hidden: 0, counts: {}, summaries: {}, columns: [] };
  #blocks = new Map(); // first row / BLOCK -> block; the last used last
  #asked = new Set();
  #generation = 0; // of the view: late answers to an older one are dropped
  #top = 0; // first row shown, with its fraction
  #drawnScroll = 0; // the scroll position that belongs to #top
  #direction = 1;
  #at = 0; // selected row
  #detail = null;
  #trial = 0;
  #why = "";

  constructor(model, el) {
    this.#model = model;
    this.#kernel = new Kernel(model, (busy) => this.#busy(busy));
    this.#build(el);
    // A horizontal scroll bar that comes or goes takes its height from the rows.
    this.sizes = new ResizeObserver(() => this.#view.total && this.#measure());
    this.sizes.observe(this.content);
    this.#start();
  }

  dispose() {
    this.#kernel.dispose();
    window.removeEventListener("keydown", this.guard, true);
    this.sizes.disconnect();
    clearTimeout(this.typing);
    clearTimeout(this.settling);
    clearTimeout(this.keeping);
  }

  // what is there -------------------------------------------------------------------------------------------------

  #build(el) {
    const name = `itera-rd-${Math.floor(Math.random() * 1e9)}`;
    this.name = name;
    this.bar = h("div", { class: "itera-rd-bar", role: "group", "aria-label": "Which rows" });
    this.kinds = h("div", { class: "itera-rd-kinds", role: "group", "aria-label": "Results" });
    this.header = h("div", { class: "itera-rd-header", role: "row", "aria-rowindex": "1" });
    this.rows = h("div", { class: "itera-rd-rows", role: "rowgroup" });
    this.content = h(
      "div",
      { class: "itera-rd-content", role: "presentation" },
      h("div", { class: "itera-rd-head", role: "rowgroup" }, this.header),
      this.rows,
    );
    this.grid = h(
      "div",
      {
        class: "itera-rd-grid",
        role: "grid",
        tabindex: "0",
        "aria-label": "Rows",
        "aria-keyshortcuts": "j k n p PageUp PageDown Home End",
        scroll: () => this.#scrolled(),
      },
      this.content,
    );
    this.grid.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.box = h("input", {
      type: "number",
      min: "1",
      step: "1",
      class: "itera-rd-box",
      "aria-label": "Go to row",
      change: () => this.#go(Number(this.box.value) - 1),
    });
    this.of = h("span", { class: "itera-rd-of" });
    this.note = h("span");
    this.said = h("span", { class: "itera-rd-said", role: "status", "aria-live": "polite" });
    this.told = h("span", { class: "itera-rd-told", role: "status", "aria-live": "polite" });
    const step = (by, label, sign) =>
      h("button", { type: "button", class: "itera-rd-button", title: label, click: () => this.#difference(by) }, sign);
    this.foot = h(
      "div",
      { class: "itera-rd-foot" },
      h("label", {}, "Row ", this.box),
      this.of,
      step(-1, "Previous difference (p)", "\u2191 difference"),
      step(1, "Next difference (n)", "\u2193 difference"),
      this.note,
      this.told,
      h("span", { class: "itera-rd-keys" }, h("kbd", {}, "j"), h("kbd", {}, "k"), " row  ", h("kbd", {}, "n"),
        h("kbd", {}, "p"), " difference  ", h("kbd", {}, "/"), " search  ", h("kbd", {}, "g"), " go to"),
    );
    this.side = h("section", { class: "itera-rd-detail", tabindex: "-1", "aria-label": "The selected row" });
    this.error = h("div", { class: "itera-rd-error", role: "alert", hidden: true });
    this.root = h("div", { class: "itera-rd", keydown: (event) => this.#key(event) });
    // Notebook 7 takes shortcuts before the element with the focus sees them: this attribute on it holds them back.
    this.guard = (event) => {
      if (this.root.contains(event.target)) event.target.toggleAttribute("data-lm-suppress-shortcuts", ours(event));
    };
    window.addEventListener("keydown", this.guard, true);
    this.root.append(this.bar, this.kinds, this.grid, this.foot, this.error, this.side, this.said);
    el.append(this.root);
  }

  async #start() {
    try {
      const start = await this.#kernel.ask("start", { count: BLOCK });
      this.start = start;
      const kept = this.#model.get("settings") ?? {};
      this.#part = start.parts.find((part) => part.name === kept.part) ?? start.parts[0];
      this.#query = this.#allowed(kept);
      this.#bar();
      if (JSON.stringify(this.#query) === JSON.stringify(this.#allowed({}))) this.#shown(start.view);
      else await this.#ask();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Settings that this part offers; what it does not know falls back to all rows of its first arm. */
  #allowed(kept) {
    const part = this.#part;
    const one = (value, known) => (known.includes(value) ? value : "");
    return {
      part: part.name,
      arm: one(kept.arm, part.arms) || part.arms[0],
      kind: one(kept.kind, ["different", ...this.start.kinds]),
      slice: one(kept.slice, part.slices),
      mode: one(kept.mode, part.modes),
      text: "",
      sort: "",
      descending: false,
    };
  }

  #fail(error) {
    this.error.textContent = visible(error.message);
    this.error.hidden = false;
  }

  #busy(busy) {
    if (busy === this.root.classList.contains("itera-rd-waiting")) return; // what was told since stays
    this.root.classList.toggle("itera-rd-waiting", busy);
    this.told.textContent = busy ? "The kernel is busy; if it was restarted, run the cell again." : "";
  }

  // which rows ----------------------------------------------------------------------------------------------------

  #bar() {
    const part = this.#part;
    const query = this.#query;
    const change = (name) => (event) => this.#change({ [name]: event.target.value });
    const option = (value, label, chosen) => h("option", { value, selected: value === chosen }, visible(label));
    const select = (label, name, options) =>
      options.length < 2
        ? null
        : h("label", { class: "itera-rd-choice" }, h("span", {}, label),
            h("select", { change: change(name) }, options.map(([v, text]) => option(v, text, query[name]))));
    const parts =
      this.start.parts.length < 2
        ? null
        : h("span", { class: "itera-rd-parts", role: "group", "aria-label": "Part" },
            this.start.parts.map((p) =>
              h("button", {
                type: "button", class: "itera-rd-button", "aria-pressed": String(p === part),
                click: () => this.#choosePart(p),
              }, p.name)));
    this.search = h("input", {
      type: "search",
      class: "itera-rd-search",
      placeholder: part.guarded ? "Search ids and rows you have read" : "Search ids and text",
      "aria-label": part.guarded ? "Search ids and the text of rows you have read" : "Search ids and text",
      maxlength: "200",
      input: () => {
        clearTimeout(this.typing);
        this.typing = setTimeout(() => this.#change({ text: this.search.value }), 250);
      },
    });
    this.search.value = query.text;
    this.bar.replaceChildren(
      ...[
        parts,
        h("span", { class: "itera-rd-versus" }, foreign("bdi", {}, visible(part.baseline)), " beside "),
        part.arms.length > 1
          ? h("select", { "aria-label": "Arm", change: change("arm") },
              part.arms.map((arm) => option(arm, arm, query.arm)))
          : foreign("bdi", { class: "itera-rd-versus" }, visible(part.arms[0])),
        select("Slice", "slice", [["", "all"], ...part.slices.map((s) => [s, s])]),
        select("Failure mode", "mode", [["", "all"], ...part.modes.map((m) => [m, m])]),
        this.search,
      ].filter(Boolean),
    );
  }

  #choosePart(part) {
    this.#part = part;
    this.#query = this.#allowed({ kind: this.#query.kind });
    this.#bar();
    this.#ask();
  }

  #change(values) {
    Object.assign(this.#query, values);
    this.#ask();
  }

  async #ask(at = 0) {
    this.#generation += 1;
    const generation = this.#generation;
    const { text: _, ...settings } = this.#query; // what was searched for may be a row's text: it is not kept
    this.#model.set("settings", settings);
    this.#model.save_changes();
    try {
      const view = await this.#kernel.ask("view", { ...this.#query, first: 0, count: BLOCK });
      if (generation !== this.#generation) return;
      this.#shown(view, at);
    } catch (error) {
      if (generation === this.#generation) this.#fail(error);
    }
  }

  #shown(view, at = 0) {
    this.error.hidden = true;
    this.#view = view;
    this.#blocks = new Map([[0, view.block]]);
    this.#asked.clear();
    this.#detail = null;
    this.#trial = 0;
    this.#at = Math.min(at, Math.max(view.total - 1, 0));
    this.#drawKinds();
    this.#drawHeader();
    this.#measure();
    this.#setTop(at ? this.#at - 5 : 0);
    this.#select(this.#at);
  }

  #drawKinds() {
    const { counts } = this.#view;
    const different = this.start.differences.reduce((sum, kind) => sum + (counts[kind] ?? 0), 0);
    const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
    const there = this.start.kinds.filter((kind) => counts[kind] || this.#query.kind === kind);
    const held = this.kinds.contains(document.activeElement) ? document.activeElement.dataset.kind : null;
    const chip = (kind, label, n) =>
      h("button", {
        type: "button", class: "itera-rd-chip", "data-kind": kind, "aria-pressed": String(this.#query.kind === kind),
        click: () => this.#change({ kind: this.#query.kind === kind ? "" : kind }),
      }, label, h("span", { class: "itera-rd-n" }, count(n)));
    this.kinds.replaceChildren(
      chip("", "all", total),
      chip("different", "differences", different),
      ...there.map((kind) => chip(kind, kindMark(kind), counts[kind])),
    );
    if (held !== null) [...this.kinds.children].find((c) => c.dataset.kind === held)?.focus();
  }

  // the header ----------------------------------------------------------------------------------------------------

  #title(key) {
    // The arm first: narrow headers lose their end.
    if (key === "output:base") return this.#part.baseline;
    if (key === "output:arm") return this.#query.arm;
    if (key === "base") return `${this.#part.baseline} score`;
    if (key === "arm") return `${this.#query.arm} score`;
    if (key === "cost" || key === "latency") return `${this.#query.arm} ${key}`;
    return key.startsWith("slice:") ? key.slice(6) : TITLES[key];
  }

  #drawHeader() {
    const { columns, summaries, total, unread, of } = this.#view;
    const closed = this.#part.guarded && unread === of;
    const output = closed ? "minmax(96px, 1fr)" : "minmax(230px, 3fr)";
    const widths = columns.map((key) => {
      if (key.startsWith("output:")) return output;
      return key.startsWith("slice:") ? "minmax(112px, 1fr)" : `${WIDTHS[key]}px`;
    });
    this.grid.style.setProperty("--itera-rd-columns", [`${NUMBER_WIDTH}px`, ...widths].join(" "));
    const sum = (key) => (key.startsWith("output:") ? (closed ? 96 : 230) : key.startsWith("slice:") ? 112 : WIDTHS[key]);
    this.content.style.minWidth = `${NUMBER_WIDTH + columns.reduce((all, key) => all + sum(key), 0)}px`;
    this.grid.setAttribute("aria-rowcount", String(total + 1));
    this.grid.setAttribute("aria-colcount", String(columns.length + 1));
    const focused = this.header.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.header.replaceChildren(
      h("div", { role: "columnheader", "aria-colindex": "1", class: "itera-rd-cell itera-rd-number" }, "row"),
      ...columns.map((key, i) => {
        const sorted = this.#query.sort === key;
        const order = sorted ? (this.#query.descending ? "descending" : "ascending") : "none";
        const arrow = sorted ? (this.#query.descending ? " \u2193" : " \u2191") : "";
        return h("div", {
          role: "columnheader", "aria-colindex": String(i + 2), "aria-sort": order,
          class: `itera-rd-cell${key === "id" ? " itera-rd-pin" : ""}`,
        }, h("button", {
          type: "button", class: "itera-rd-sort", "data-key": key, title: `Sort by ${visible(this.#title(key))}`,
          click: () => this.#sort(key),
        }, foreign("bdi", {}, visible(this.#title(key))), arrow), this.#summary(key, summaries[key]));
      }),
    );
    if (focused) [...this.header.querySelectorAll("[data-key]")].find((b) => b.dataset.key === focused)?.focus();
  }

  #sort(key) {
    const { sort, descending } = this.#query;
    if (sort !== key) this.#change({ sort: key, descending: false });
    else this.#change(descending ? { sort: "", descending: false } : { descending: true });
  }

  #summary(key, summary) {
    if (key === "kind") return this.#kindBar();
    if (key.startsWith("output:")) return this.#readLine();
    if (summary?.bars) return this.#labelBar(summary);
    return summary ? this.#histogram(key, summary) : null;
  }

  #kindBar() {
    const { counts } = this.#view;
    const kinds = this.start.kinds.filter((kind) => counts[kind]);
    const parts = kinds.map((kind) => {
      const part = h("span", { class: `itera-rd-part itera-rd-${kind.replace(/ /g, "-")}`, title: `${kind} ${count(counts[kind])}` });
      part.style.flexGrow = counts[kind];
      return part;
    });
    const says = kinds.map((kind) => `${kind} ${count(counts[kind])}`).join(", ") || "no rows";
    return h("div", { class: "itera-rd-stack", role: "img", "aria-label": says }, parts);
  }

  #readLine() {
    const { unread, of } = this.#view;
    if (!this.#part.guarded) return null;
    return h("div", { class: "itera-rd-range" }, `${count(of - unread)} of ${count(of)} read`);
  }

  #labelBar({ bars, rest }) {
    const shown = [...bars.map(([name, n]) => [name, n]), [`${rest[0]} more`, rest[1]]].filter(([, n]) => n);
    const says = shown.map(([name, n]) => `${visible(name) || "(none)"} ${count(n)}`).join(", ") || "none";
    const parts = shown.map(([, n], i) => {
      const part = h("span", { class: `itera-rd-part itera-rd-label${i % 2}` });
      part.style.flexGrow = n;
      return part;
    });
    const top = shown.length ? visible(shown[0][0]) || "(none)" : "none";
    return h("div", { title: says },
      h("div", { class: "itera-rd-stack", role: "img", "aria-label": says }, parts),
      h("div", { class: "itera-rd-range" }, foreign("bdi", {}, top), shown.length ? ` ${count(shown[0][1])}` : ""));
  }

  #histogram(key, { low, high, total, shown }) {
    const svg = (tag, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      return element;
    };
    const highest = Math.max(...total, 1);
    const path = (values) =>
      values.map((n, i) => (n ? `M${i} 16V${16 - Math.max(1, (15 * n) / highest)}h.86V16z` : "")).join("");
    const drawing = svg("svg", {
      viewBox: `0 0 ${total.length} 16`, preserveAspectRatio: "none", class: "itera-rd-bins", role: "img",
      "aria-label": `from ${figure(low, key)} to ${figure(high, key)}`,
    });
    drawing.append(svg("path", { d: path(total), class: "itera-rd-all" }), svg("path", { d: path(shown), class: "itera-rd-some" }));
    return h("div", {}, drawing,
      h("div", { class: "itera-rd-range itera-rd-ends" }, h("span", {}, figure(low, key)), h("span", {}, figure(high, key))));
  }

  // scrolling -----------------------------------------------------------------------------------------------------

  get #visible() {
    return Math.min(SHOWN, this.#view.total);
  }

  get #height() {
    return Math.min(this.#view.total * ROW, TALLEST);
  }

  /** Sizes that follow from the number of rows. */
  #measure() {
    const shown = Math.max(this.#visible, 1) * ROW;
    this.rows.style.height = `${shown}px`;
    this.content.style.height = "auto";
    const head = this.header.parentElement.offsetHeight || 64;
    this.head = head;
    const bar = this.grid.offsetHeight - this.grid.clientHeight; // border, and the horizontal scroll bar
    this.grid.style.height = `${head + shown + Math.max(bar, 2)}px`;
    this.rows.style.top = `${head}px`;
    this.content.style.height = `${head + Math.max(this.#height, shown)}px`;
  }

  get #most() {
    return Math.max(this.#view.total - this.#visible, 0);
  }

  get #travel() {
    return Math.max(this.grid.scrollHeight - this.grid.clientHeight, 0);
  }

  #setTop(top) {
    const bounded = Math.min(Math.max(top, 0), this.#most);
    this.#direction = bounded < this.#top ? -1 : 1;
    this.#top = bounded;
    this.grid.scrollTop = this.#most ? (bounded / this.#most) * this.#travel : 0;
    this.#drawnScroll = this.grid.scrollTop;
    this.#draw();
  }

  #scrolled() {
    const at = this.grid.scrollTop;
    if (Math.abs(at - this.#drawnScroll) < 1) return; // our own doing, or sideways
    const top = this.#travel ? (at / this.#travel) * this.#most : 0;
    this.#direction = top < this.#top ? -1 : 1;
    this.#top = top;
    this.#drawnScroll = at;
    this.#draw();
  }

  /** Where the scroll bar is a scale, a wheel step would skip thousands of rows: it moves by rows instead. */
  #wheel(event) {
    if (this.#view.total * ROW <= TALLEST || event.ctrlKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) return;
    const rows = event.deltaMode === 1 ? event.deltaY : event.deltaY / ROW;
    const top = Math.min(Math.max(this.#top + rows, 0), this.#most);
    if (top === this.#top) return;
    event.preventDefault();
    this.#setTop(top);
  }

  // rows ----------------------------------------------------------------------------------------------------------

  #block(position) {
    const number = Math.floor(position / BLOCK);
    const block = this.#blocks.get(number);
    if (block) {
      this.#blocks.delete(number); // the last used is the last to go
      this.#blocks.set(number, block);
    }
    return block;
  }

  async #need(number) {
    if (number < 0 || number * BLOCK >= this.#view.total) return;
    if (this.#blocks.has(number) || this.#asked.has(number) || this.#asked.size > 1) return;
    const generation = this.#generation;
    this.#asked.add(number);
    try {
      const block = await this.#kernel.ask("rows", { ...this.#query, first: number * BLOCK, count: BLOCK });
      if (generation !== this.#generation) return;
      this.#blocks.set(number, block);
      while (this.#blocks.size > KEPT) this.#blocks.delete(this.#blocks.keys().next().value);
      this.#asked.delete(number);
      this.#draw();
    } catch (error) {
      if (generation === this.#generation) this.#fail(error);
    }
  }

  #draw() {
    const first = Math.floor(this.#top);
    const last = Math.min(Math.ceil(this.#top + this.#visible), this.#view.total);
    const drawn = [];
    for (let position = first; position < last; position += 1) {
      const block = this.#block(position);
      const row = block ? this.#row(position, block, position - block.first) : this.#emptyRow(position);
      row.style.transform = `translateY(${(position - this.#top) * ROW}px)`;
      drawn.push(row);
    }
    this.rows.replaceChildren(...drawn);
    this.#point();
    const [here, there] = [Math.floor(first / BLOCK), Math.floor(Math.max(last - 1, 0) / BLOCK)];
    this.#need(here);
    this.#need(there);
    // What is looked at comes first; the block after it is fetched once that is here.
    if (this.#blocks.has(here) && this.#blocks.has(there)) this.#need(this.#direction > 0 ? there + 1 : here - 1);
  }

  #rowAttributes(position) {
    return {
      role: "row",
      id: `${this.name}-${position}`,
      class: "itera-rd-row",
      "aria-rowindex": String(position + 2),
      "aria-selected": String(position === this.#at),
      click: () => this.#select(position),
    };
  }

  #emptyRow(position) {
    return h("div", { ...this.#rowAttributes(position), "aria-busy": "true" },
      h("div", { role: "gridcell", class: "itera-rd-cell itera-rd-number" }, count(position + 1)),
      h("div", { role: "gridcell", class: "itera-rd-cell itera-rd-pin" }, "\u2026"));
  }

  #row(position, block, i) {
    const hidden = block.hidden[i];
    const read = this.#part.guarded && !hidden;
    const outputs = hidden ? null : diffWords(block["output:base"][i], block["output:arm"][i]);
    const cell = (key, at) => {
      const attributes = { role: "gridcell", "aria-colindex": String(at + 2) };
      if (key === "id") {
        const eye = read ? h("span", { title: "read: counted in the ledger", role: "img", "aria-label": "read" }, "\u25c9 ") : null;
        return foreign("div", { ...attributes, class: "itera-rd-cell itera-rd-pin" }, eye, oneLine(block.id[i]));
      }
      if (key === "kind") return h("div", { ...attributes, class: "itera-rd-cell" }, kindMark(this.start.kinds[block.kind[i]]));
      if (key.startsWith("output:")) {
        if (hidden) return h("div", { ...attributes, class: "itera-rd-cell itera-rd-hidden" }, "not read");
        const side = key === "output:base" ? 0 : 1;
        return foreign("div", { ...attributes, class: "itera-rd-cell itera-rd-text" }, marked(outputs[side], side ? "ins" : "del", oneLine));
      }
      if (key === "modes") return foreign("div", { ...attributes, class: "itera-rd-cell" }, this.#modes(block.modes?.[i] ?? 0));
      if (key.startsWith("slice:")) {
        return foreign("div", { ...attributes, class: "itera-rd-cell" }, oneLine(this.#part.labels[key.slice(6)][block[key][i]] ?? ""));
      }
      const value = block[key][i];
      const sign = key === "delta" && value ? (value > 0 ? " itera-rd-up" : " itera-rd-down") : "";
      return h("div", { ...attributes, class: `itera-rd-cell itera-rd-figure${sign}` }, figure(value, key));
    };
    return h("div", this.#rowAttributes(position),
      h("div", { role: "gridcell", "aria-colindex": "1", class: "itera-rd-cell itera-rd-number" }, count(position + 1)),
      this.#view.columns.map(cell));
  }

  #modes(mask) {
    return this.#part.modes.filter((_, bit) => (mask >> bit) & 1).map(oneLine).join(", ");
  }

  // selecting -----------------------------------------------------------------------------------------------------

  #select(position) {
    const { total, unread, of } = this.#view;
    this.of.textContent = total === of ? ` of ${count(total)}` : ` of ${count(total)} (${count(of)} in all)`;
    this.box.max = String(total);
    this.note.textContent = this.#part.guarded ? `${count(of - unread)} of ${count(of)} ${this.#part.name} rows read` : "";
    if (!total) {
      this.box.value = "";
      this.rows.replaceChildren(h("div", { role: "row" }, h("div", { role: "gridcell", class: "itera-rd-none" }, "No row fits: clear a filter.")));
      this.side.replaceChildren();
      return;
    }
    const bounded = Math.min(Math.max(position, 0), total - 1);
    if (bounded !== this.#at) {
      this.#trial = 0;
      this.told.textContent = "";
    }
    this.#at = bounded;
    this.box.value = String(bounded + 1);
    if (bounded < this.#top) this.#setTop(bounded);
    else if (bounded + 1 > this.#top + this.#visible) this.#setTop(bounded + 1 - this.#visible);
    else this.#point();
    this.#settle();
  }

  #point() {
    for (const row of this.rows.children) {
      if (row.id) row.setAttribute("aria-selected", String(row.id === `${this.name}-${this.#at}`));
    }
    const there = [...this.rows.children].find((row) => row.id === `${this.name}-${this.#at}`);
    if (there) this.grid.setAttribute("aria-activedescendant", there.id);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  #go(position) {
    if (!Number.isFinite(position) || !this.#view.total) return;
    const bounded = Math.min(Math.max(Math.round(position), 0), this.#view.total - 1);
    if (bounded < this.#top || bounded + 1 > this.#top + this.#visible) this.#setTop(bounded - 5);
    this.#select(bounded);
  }

  async #difference(step) {
    if (!this.#query) return;
    try {
      const { at } = await this.#kernel.ask("difference", { ...this.#query, at: this.#at, step });
      if (at === null) this.told.textContent = step > 0 ? "No difference further down." : "No difference further up.";
      else this.#go(at);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The detail of the selected row, once the keys rest: holding j down must not ask for every row. */
  #settle() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.#askDetail(), this.#detail ? 40 : 0);
  }

  async #askDetail() {
    const [generation, at] = [this.#generation, this.#at];
    try {
      const detail = await this.#kernel.ask("detail", { ...this.#query, at, trial: this.#trial });
      if (generation !== this.#generation || at !== this.#at) return;
      this.#detail = detail;
      this.#drawDetail();
      clearTimeout(this.keeping);
      this.keeping = setTimeout(() => {
        this.#model.set("selected", detail.id);
        this.#model.save_changes();
      }, 200);
    } catch (error) {
      if (generation === this.#generation) this.#fail(error);
    }
  }

  // the selected row ----------------------------------------------------------------------------------------------

  #drawDetail() {
    const row = this.#detail;
    const kind = this.start.kinds[row.kind];
    const facts = [...row.slices.map(([name, label]) => `${name} = ${label}`), ...(row.severity === null ? [] : [`severity ${figure(row.severity, "severity")}`])];
    const head = h("header", { class: "itera-rd-title" },
      h("h4", {}, foreign("bdi", {}, visible(row.id))),
      kindMark(kind),
      facts.map((fact) => foreign("span", { class: "itera-rd-fact" }, oneLine(fact))));
    const [base, arm] = row.sides;
    const outputs = row.hidden ? [null, null] : diffWords(base.output.text, arm.output.text);
    const typing = this.side.querySelector(".itera-rd-why:focus") !== null;
    this.side.replaceChildren(
      head,
      row.hidden ? this.#gate() : "",
      ...(row.texts.length ? [h("div", { class: "itera-rd-texts" }, row.texts.map((part) => this.#text(part, null)))] : []),
      h("div", { class: "itera-rd-sides" }, row.sides.map((side, i) => this.#sideOf(side, outputs[i], i ? "ins" : "del"))),
    );
    if (typing) (this.side.querySelector(".itera-rd-why") ?? this.grid).focus({ preventScroll: true });
    const scores = row.sides.map((side) => figure(side.score)).join(" and ");
    this.said.textContent = `Row ${count(this.#at + 1)}, ${visible(row.id).slice(0, 80)}, ${kind}, scores ${scores}${row.hidden ? ", text not read" : ""}`;
  }

  #sideOf(side, parts, tag) {
    const trials = side.trials.length < 2 ? null
      : h("span", { class: "itera-rd-trials", role: "group", "aria-label": `Trials of ${visible(side.arm)}` },
          side.trials.map((score, t) => h("button", {
            type: "button", class: "itera-rd-chip", "aria-pressed": String(t === side.trial),
            title: `Trial ${t + 1}`, click: () => { this.#trial = t; this.#askDetail(); },
          }, `trial ${t + 1}: ${figure(score)}`)));
    const figures = [`score ${figure(side.score)}`];
    if (side.cost !== null) figures.push(figure(side.cost, "cost"));
    if (side.latency !== null) figures.push(figure(side.latency, "latency"));
    return h("div", { class: "itera-rd-side" },
      h("div", { class: "itera-rd-name" }, foreign("bdi", {}, visible(side.arm)), h("span", { class: "itera-rd-figures" }, figures.join(" \u00b7 "))),
      side.modes.length ? h("div", { class: "itera-rd-modes" }, side.modes.map((mode) => foreign("span", { class: "itera-rd-fact" }, oneLine(mode)))) : null,
      trials,
      parts === null ? null : this.#text({ ...side.output, title: "output" }, side, marked(parts, tag, visible)),
      side.notes.map((note) => this.#text(note, side)));
  }

  /** A text in full, or its start with a button for the rest. */
  #text(part, side, shown = null) {
    const body = foreign("div", { class: "itera-rd-body", tabindex: "0", role: "group", "aria-label": visible(part.title) },
      shown ?? visible(part.text));
    if (!part.length) body.append(h("span", { class: "itera-rd-hidden" }, "(empty)"));
    const more = part.length - part.text.length;
    const expand = more <= 0 ? null
      : h("button", { type: "button", class: "itera-rd-button", click: (event) => this.#expand(event.target, body, part, side) },
          `Show ${count(more)} more characters`);
    return h("div", {},
      h("div", { class: "itera-rd-label" }, foreign("bdi", {}, visible(part.title))), body, expand);
  }

  async #expand(button, body, part, side) {
    try {
      const { text } = await this.#kernel.ask("text", {
        part: this.#part.name, row: this.#detail.row, title: part.title, side: side?.arm ?? null, trial: side?.trial ?? 0,
      });
      body.textContent = visible(text);
      const rest = part.length - text.length;
      body.focus({ preventScroll: true }); // the button had it
      button.replaceWith(h("span", { class: "itera-rd-range" }, rest > 0 ? `${count(rest)} characters are not shown; the word-level marks end where the text was cut` : "shown in full, without word-level marks"));
    } catch (error) {
      this.#fail(error);
    }
  }

  /** What stands in place of a row that nobody has read. */
  #gate() {
    const { hidden } = this.#view;
    const most = this.start.most;
    const at = this.#at; // the row that this form stands for, even if the selection moves on
    if (!this.start.mayReveal) return h("p", { class: "itera-rd-gate" }, "The text of this row may not be shown.");
    const why = h("input", { type: "text", class: "itera-rd-why", maxlength: "2000", "aria-label": "Why do you read it?", placeholder: "Why do you read it? For example: what both arms get wrong", input: () => { this.#why = why.value; ready(); } });
    const one = h("button", { type: "submit", class: "itera-rd-button itera-rd-main" }, "Reveal this row");
    const all = h("button", { type: "button", class: "itera-rd-button", click: () => this.#reveal(null) }, `Reveal all ${count(hidden)} unread rows of this view`);
    const ready = () => {
      one.disabled = !this.#why.trim();
      all.disabled = one.disabled || hidden > most;
    };
    why.value = this.#why;
    ready();
    return h("form", { class: "itera-rd-gate", submit: (event) => { event.preventDefault(); if (!one.disabled) this.#reveal(at); } },
      h("p", {}, h("strong", {}, "Not read. "), "What you read here you can tune to, so each row that is shown is recorded and counted on the conclusion (SG29). Scores need no reveal."),
      h("div", { class: "itera-rd-line" }, why, one, hidden > 1 ? all : null),
      hidden > most ? h("p", { class: "itera-rd-range" }, `To reveal many at once, narrow the view to ${count(most)} unread rows or fewer.`) : null);
  }

  async #reveal(at) {
    const content = { ...this.#query, why: this.#why, at, expected: this.#view.hidden };
    try {
      const { revealed } = await this.#kernel.ask("reveal", content);
      await this.#ask(this.#at);
      this.told.textContent = `${count(revealed)} ${revealed === 1 ? "row" : "rows"} revealed and recorded.`;
      this.grid.focus({ preventScroll: true });
    } catch (error) {
      this.#fail(error);
    }
  }

  // keys ----------------------------------------------------------------------------------------------------------

  #key(event) {
    const typing = event.target.matches("input, select, textarea");
    if (!ours(event)) return;
    event.stopPropagation();
    if (typing) {
      if (event.key === "Escape") this.grid.focus();
      if (event.key === "Enter" && event.target === this.box) this.grid.focus();
      return;
    }
    const page = Math.max(Math.floor(this.#visible) - 1, 1);
    const inGrid = event.target === this.grid;
    const keys = {
      j: () => this.#select(this.#at + 1),
      k: () => this.#select(this.#at - 1),
      n: () => this.#difference(1),
      p: () => this.#difference(-1),
      g: () => (this.box.focus(), this.box.select()),
      r: () => this.side.querySelector(".itera-rd-why")?.focus(),
      "/": () => this.search?.focus(),
      Escape: () => this.grid.focus(),
      ...(inGrid && {
        ArrowDown: () => this.#select(this.#at + 1),
        ArrowUp: () => this.#select(this.#at - 1),
        PageDown: () => this.#select(this.#at + page),
        PageUp: () => this.#select(this.#at - page),
        Home: () => this.#select(0),
        End: () => this.#select(this.#view.total - 1),
        Enter: () => this.side.focus(),
      }),
    };
    if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  }
}

export default {
  render({ model, el }) {
    const inspector = new RowDiff(model, el);
    return () => inspector.dispose();
  },
};
