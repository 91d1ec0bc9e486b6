// One image at a time, with its labels, and a decision on each.
// Shows `data` and hands each decision {number, kind, before, after} to `save`. Returns {replace}, for a card that has changed.
const startReview = (data, save, wished = "") => {
  const { labels, cards } = data;
  const AHEAD = 4;
  const lastOf = (number) => current(cards[number]).decision;
  // What may be undone, the last decision last: also those of before, if this session goes on with them.
  const decidedHere = [...data.recent], pictures = new Map();
  let order = [], at = 0, draft = null, choices = [];
  const card = () => cards[order[at]];

  const unreadable = async (picture) => {
    const told = element("p", "This image cannot be read.");
    picture.replaceWith(told);
    const reason = await fetch(picture.src).then((response) => (response.ok ? "" : response.text()), () => "");
    if (reason) told.textContent = `This image cannot be read: ${reason}.`;
  };
  // Images are fetched ahead, so that the next one is there when a decision is made.
  const pictureOf = (number) => {
    if (!pictures.has(number)) {
      const picture = new Image();
      picture.alt = cards[number].path;
      picture.addEventListener("error", () => unreadable(picture));
      picture.src = data.imageOf(number);
      pictures.set(number, picture);
    }
    return pictures.get(number);
  };
  const showPicture = () => {
    const number = order[at];
    const name = element("figcaption");
    name.id = "name";
    name.append(element("bdi", card().path), ` · ${card().split}`);
    const has = data.imageOf && data.imageOf(number);
    $("picture").replaceChildren(has ? pictureOf(number) : element("p", data.images ? "This image cannot be read." : "Ready features have no image."), name);
    const ahead = order.slice(at + 1, at + 1 + AHEAD).filter((k) => data.imageOf && data.imageOf(k));
    for (const k of ahead) pictureOf(k);
    for (const k of pictures.keys()) if (k !== number && !ahead.includes(k) && Math.abs(order.indexOf(k) - at) > AHEAD) pictures.delete(k);
  };

  const chip = (label, state, shown) => {
    const was = valueIn(state, label) === 1, is = valueIn(shown, label) === 1;
    const item = element("li", was === is ? "" : is ? "+ " : "− ", was === is ? "" : is ? "right" : "wrong");
    item.append(element("bdi", labels[label]));
    return item;
  };
  const showLabels = (shown) => {
    const written = card().states[0];
    const named = [...new Set([...written.present, ...shown.present])].sort((a, b) => a - b);
    $("labels").replaceChildren(...(named.length ? named.map((label) => chip(label, written, shown)) : [element("li", "no label")]));
    $("unknown").hidden = !shown.unknown.length;
    const listed = shown.unknown.slice(0, 30).map((label) => within(labels[label])).join(", ");
    $("unknown").textContent = `Unknown: ${listed}${shown.unknown.length > 30 ? `, and ${shown.unknown.length - 30} more` : ""}`;
    const decision = current(card()).decision;
    $("decided").hidden = !decision;
    if (decision) {
      const what = { accept: "suggestion accepted", reject: "labels are right", edit: "edited", skip: "skipped" }[decision.kind];
      $("decided").textContent = `Decided: ${what}, by ${within(decision.who) || "nobody named"}, ${decision.time.replace("T", " ").replace("Z", " UTC")}`;
    }
    $("conflicts").hidden = !card().conflicts;
    $("conflicts").replaceChildren(...(card().conflicts ?? []).map((text) => element("li", `An earlier correction is not applied. ${text}`)));
  };
  const showSuspects = (shown) => {
    const suspects = card().suspects ?? [];
    $("suspicion").hidden = !suspects.length;
    $("suspects").replaceChildren(...suspects.map((one, k) => {
      const item = element("li", "", one.rare ? "" : "mistake"), button = element("button", "", "suspect");
      button.append(`${one.present ? "+ With " : "− Without "}`, element("bdi", labels[one.label]), "? ");
      if (k < 9) button.append(element("kbd", String(k + 1)));
      button.setAttribute("aria-pressed", String(valueIn(shown, one.label) === (one.present ? 1 : 0)));
      button.addEventListener("click", () => toggleSuspect(k));
      item.append(button, ...one.words.map((text) => element("p", text)));
      return item;
    }));
    const open = !draft && sameLabels(suggestedIn(card()), current(card()));
    $("accept").hidden = !suspects.length && !draft;
    $("accept").disabled = open;
    $("accept-text").textContent = draft ? "Save" : suspects.length > 1 ? `Accept all ${suspects.length}` : "Accept";
  };
  const showProgress = () => {
    const decided = order.filter((k) => isDecided(cards[k]));
    const skipped = order.filter((k) => !isDecided(cards[k]) && lastOf(k)?.kind === "skip").length;
    const text = `Image ${at + 1} of ${order.length}, ${decided.length} decided${skipped ? `, ${skipped} skipped` : ""}`;
    $("progress").textContent = order.length ? text : "No image";
    Object.assign($("share"), { max: Math.max(order.length, 1), value: decided.length });
    $("undo").disabled = !(order.length && card().states.length > 1) && !decidedHere.length;
    $("finished").hidden = !order.length || decided.length < order.length;
    if (!$("finished").hidden) showFinished(decided.length);
  };
  const showFinished = (n) => {
    const corrected = order.filter((k) => !sameLabels(current(cards[k]), cards[k].states[0])).length;
    const which = $("label-filter").value ? ` with ${within($("label-filter").value)}` : "";
    const left = cards.filter((one) => !isDecided(one)).length;
    $("finished-title").textContent = n === 1 ? `The only image${which} is decided` : `All ${n} images${which} are decided`;
    const found = `${corrected} corrected, ${n - corrected} right as written.`;
    $("finished-text").textContent = `${found} ${left ? `${left} with other labels are left: choose "all" above.` : data.ending}`;
  };
  const show = () => {
    const editing = !$("editor").hidden, some = order.length > 0;
    $("card").hidden = $("actions").hidden = !some;
    $("nothing").hidden = some;
    $("nothing").textContent = cards.length ? "No image has this label among its suspects or its labels." : "There is no image to decide on.";
    $("actions").hidden ||= editing;
    $("suspicion").hidden = $("own").hidden = editing;
    showProgress();
    if (!some) return;
    showPicture();
    if (editing) return showChoices();
    const shown = draft ?? current(card());
    showLabels(shown);
    showSuspects(shown);
  };

  const goTo = (position) => {
    at = Math.min(Math.max(position, 0), Math.max(order.length - 1, 0));
    draft = null;
    $("editor").hidden = true;
    show();
  };
  // The next undecided image, from here on and then from the start; after those, one that was skipped.
  const advance = () => {
    const around = [...order.keys()].map((k) => (at + 1 + k) % order.length);
    const open = around.filter((position) => !isDecided(cards[order[position]]));
    const fresh = open.find((position) => cards[order[position]].states.length === 1 || cards[order[position]].conflicts);
    goTo(fresh ?? open[0] ?? at);
  };
  const decide = (kind, after) => {
    const number = order[at], before = current(card());
    if (kind === "undo") card().states.pop();
    else card().states.push({ ...after, decision: { kind, who: data.who, time: timeNow() } });
    delete card().conflicts;
    save({ number, kind, before, after });
  };
  const settle = (kind, after) => {
    decidedHere.push(order[at]);
    decide(kind, after);
    advance();
  };
  // A decision is named by what it comes to, however it was made.
  const settleAs = (after) => {
    const kind = sameLabels(after, card().states[0]) ? "reject" : sameLabels(after, suggestedIn(card())) ? "accept" : "edit";
    settle(kind, after);
  };
  const accept = () => {
    if (draft) settleAs(draft);
    else if (!$("accept").hidden && !$("accept").disabled) settle("accept", suggestedIn(card()));
  };
  const undo = () => {
    if (order.length && card().states.length > 1) {
      const here = decidedHere.lastIndexOf(order[at]);
      if (here >= 0) decidedHere.splice(here, 1);
    } else if (decidedHere.length) {
      const number = decidedHere.pop();
      if (!order.includes(number)) choose("");
      goTo(order.indexOf(number));
    } else return;
    draft = null;
    const { present, unknown } = card().states[card().states.length - 2] ?? current(card());
    decide("undo", { present, unknown });
    show();
  };
  const toggleSuspect = (k) => {
    const one = card().suspects[k], shown = draft ?? current(card()), wanted = one.present ? 1 : 0;
    draft = withValue(shown, one.label, valueIn(shown, one.label) === wanted ? 1 - wanted : wanted);
    if (sameLabels(draft, current(card()))) draft = null;
    show();
    $("suspects").children[k].firstElementChild.focus();
  };

  // The editor: all labels, those that are present first, and a filter.
  const edit = (byKeyboard) => {
    draft ??= { present: [...current(card()).present], unknown: [...current(card()).unknown] };
    const rank = (label) => [1, -1, 0].indexOf(valueIn(draft, label));
    choices = [...labels.keys()].sort((a, b) => rank(a) - rank(b) || a - b);
    $("editor").hidden = false;
    $("filter").value = "";
    show();
    if (byKeyboard) $("filter").focus();
    else $("editor").scrollIntoView({ block: "nearest" });
  };
  const matching = () => {
    const wanted = $("filter").value.trim().toLowerCase();
    const found = choices.filter((label) => labels[label].toLowerCase().includes(wanted));
    return wanted ? found.sort((a, b) => labels[b].toLowerCase().startsWith(wanted) - labels[a].toLowerCase().startsWith(wanted)) : found;
  };
  const showChoices = () => {
    const found = matching(), wanted = $("filter").value.trim();
    $("choices").replaceChildren(...found.map((label, k) => {
      const item = element("li"), button = element("button", "", wanted && k === 0 ? "first" : "");
      button.type = "button";
      button.append(element("bdi", labels[label]));
      button.setAttribute("aria-pressed", { 1: "true", 0: "false", "-1": "mixed" }[valueIn(draft, label)]);
      button.addEventListener("click", () => switchLabel(label, k));
      item.append(button);
      return item;
    }));
    $("matches").textContent = !wanted ? `${labels.length} labels` : found.length ? `${found.length} match: Enter switches ${within(labels[found[0]])}` : "No label matches";
  };
  // Present and absent; a label that was unknown may become so again.
  const switchLabel = (label, focus) => {
    const cycle = valueIn(card().states[0], label) === -1 ? [-1, 1, 0] : [0, 1];
    draft = withValue(draft, label, cycle[(cycle.indexOf(valueIn(draft, label)) + 1) % cycle.length]);
    showChoices();
    if (focus !== undefined) $("choices").children[focus]?.firstElementChild.focus();
  };
  const cancel = () => {
    document.activeElement.blur(); // a hidden field would keep the keys
    goTo(at);
  };
  const saveDraft = () => {
    document.activeElement.blur();
    settleAs(draft);
  };
  $("filter").addEventListener("input", showChoices);
  $("editor").addEventListener("submit", (event) => {
    event.preventDefault();
    const found = matching();
    if (document.activeElement !== $("filter") || !$("filter").value.trim()) saveDraft();
    else if (found.length) {
      $("filter").value = "";
      switchLabel(found[0]);
    }
  });
  const inEditor = (event) => {
    const buttons = [...$("choices").querySelectorAll("button")], here = buttons.indexOf(document.activeElement);
    if (event.key === "Escape") cancel();
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) saveDraft();
    else if (event.key === "ArrowDown") buttons[Math.min(here + 1, buttons.length - 1)]?.focus();
    else if (event.key === "ArrowUp") (here > 0 ? buttons[here - 1] : $("filter")).focus();
    else if (here >= 0 && event.key.length === 1 && event.key !== " ") return $("filter").focus(); // and the letter goes there
    else return;
    event.preventDefault();
  };

  const keys = {
    a: accept, r: () => settle("reject", card().states[0]), e: () => edit(true), s: () => settle("skip", current(card())), u: undo,
    ArrowLeft: () => goTo(at - 1), ArrowRight: () => goTo(at + 1),
  };
  // Keyboards of other scripts have the keys at the same places.
  const nameOf = ({ key, code }) => (/^\p{L}$/u.test(key) ? (/[a-z]/i.test(key) ? key : code.slice(3)).toLowerCase() : key);
  document.addEventListener("keydown", (event) => {
    if (!$("editor").hidden) return inEditor(event);
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("input, select, textarea")) return;
    const name = nameOf(event);
    if (!order.length && name !== "u") return;
    const suspect = /^[1-9]$/.test(event.key) && card().suspects?.[event.key - 1];
    if (suspect) toggleSuspect(event.key - 1);
    else if (keys[name]) keys[name]();
    else if (event.key === "Enter" && draft && !event.target.closest("button")) accept();
    else return;
    event.preventDefault();
  });
  const clicks = { accept, reject: keys.r, edit: (event) => edit(event.detail === 0), skip: keys.s, undo, previous: keys.ArrowLeft, next: keys.ArrowRight, cancel };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);

  // The labels by which a card is found.
  const labelsOf = (one) => new Set(one.suspects ? one.suspects.map(({ label }) => label) : [...one.states[0].present, ...one.states[0].unknown]);
  const choose = (name) => {
    const label = labels.indexOf(name);
    order = [...cards.keys()].filter((k) => label < 0 || labelsOf(cards[k]).has(label));
    $("label-filter").value = label < 0 ? "" : name;
    const first = order.findIndex((k) => !isDecided(cards[k]));
    goTo(Math.max(first, 0));
  };
  const counts = labels.map(() => 0);
  for (const one of cards) for (const label of labelsOf(one)) counts[label] += 1;
  const option = (name, text) => Object.assign(element("option", text), { value: name });
  const filter = $("label-filter");
  filter.replaceChildren(option("", `all (${cards.length})`), ...labels.flatMap((name, k) => (counts[k] ? [option(name, `${within(name)} (${counts[k]})`)] : [])));
  // After a click, the keys are the page's again. By keyboard, the arrows go through the labels until Enter or Esc.
  let byKeyboard = false;
  filter.addEventListener("pointerdown", () => { byKeyboard = false; });
  filter.addEventListener("keydown", ({ key }) => {
    byKeyboard = !["Enter", "Escape"].includes(key);
    if (!byKeyboard) filter.blur();
  });
  filter.addEventListener("change", () => {
    choose(filter.value);
    if (!byKeyboard) document.activeElement.blur();
  });
  choose(wished);
  // A card as it is on the disk. What is on the screen is drawn again only if it differs: the focus would be lost.
  const replace = (number, card) => {
    const before = cards[number];
    cards[number] = card;
    const same = before.states.length === card.states.length && sameLabels(current(before), current(card)) && !card.conflicts;
    if (number !== order[at] || same) return showProgress();
    draft = null;
    show();
  };
  return { replace };
};
