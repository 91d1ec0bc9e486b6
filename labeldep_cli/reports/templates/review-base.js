// What the pages of a review share: elements, the states of a card's labels, messages. Names of labels and files are data: they only become text.
const $ = (id) => document.getElementById(id);
const element = (name, text = "", className = "") => Object.assign(document.createElement(name), { textContent: text, className });

// A name within a sentence: what could turn or break the rest of the sentence is shown as its code. Elsewhere <bdi> keeps it apart.
const within = (name) => name.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);

// A state is the labels of an image: {present, unknown}, numbers of labels; all others are absent.
const valueIn = (state, label) => (state.present.includes(label) ? 1 : state.unknown.includes(label) ? -1 : 0);
const withValue = (state, label, value) => {
  const put = (list, wanted) => [...list.filter((k) => k !== label), ...(wanted ? [label] : [])].sort((a, b) => a - b);
  return { present: put(state.present, value === 1), unknown: put(state.unknown, value === -1) };
};
const sameLabels = (a, b) => String(a.present) === String(b.present) && String(a.unknown) === String(b.unknown);

// A card's states are the labels as the table has them, then those after each standing decision.
const current = (card) => card.states[card.states.length - 1];
const isDecided = (card) => !card.conflicts && card.states.some((state) => state.decision && state.decision.kind !== "skip");
const suggestedIn = (card) => (card.suspects ?? []).reduce((state, one) => withValue(state, one.label, one.present ? 1 : 0), current(card));
const timeNow = () => `${new Date().toISOString().slice(0, 19)}Z`;

// A message that something was not saved; `actions` are shown as buttons.
const alertWith = (text, actions = {}) => {
  $("alert").hidden = !text;
  $("alert-text").textContent = text;
  for (const id of ["again", "rescue"]) {
    $(id).hidden = !actions[id];
    $(id).onclick = actions[id] ?? null;
  }
};
