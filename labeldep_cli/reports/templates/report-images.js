// Images: each opens in a dialog that shows the evidence for each of its labels.
{
  const PAGE = 48;
  const { records, letters, space, critics } = report;
  const items = [...$("all").children], dialog = $("looked");
  const texts = records.map((record) =>
    [record.name, ...record.labels.filter((label) => label[1] > 0 || label[2]).map((label) => space[label[0]])].join(" ").toLowerCase());
  let limit = PAGE, matching = [], current = 0;
  const filter = () => {
    const query = $("image-filter").value.trim().toLowerCase();
    matching = [...records.keys()].filter((k) => texts[k].includes(query));
    const shown = new Set(matching.slice(0, limit));
    items.forEach((item, k) => { item.hidden = !shown.has(k); });
    $("image-count").textContent = `${shown.size} shown of ${matching.length} that match`;
    $("more").hidden = shown.size === matching.length;
  };
  $("image-filter").addEventListener("input", () => { limit = PAGE; filter(); });
  $("more").addEventListener("click", () => {
    const first = matching[limit];
    limit += PAGE;
    filter();
    items[first].firstElementChild.focus();
  });

  const signed = (v) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(2);
  const sign = (truth) => ({ 1: "yes", 0: "no" })[truth] ?? "unknown";
  const withIt = (p, added) => {
    const odds = (Math.min(Math.max(p, 0.0005), 0.9995) / (1 - Math.min(Math.max(p, 0.0005), 0.9995))) * Math.exp(added);
    return odds === Infinity ? 1 : odds / (1 + odds);
  };
  const row = ([label, truth, chosen, p, added]) => {
    const tr = element("tr"), head = element("th", space[label]);
    head.scope = "row";
    const cells = [sign(truth), ...p.map((v, k) => `${chosen & (1 << k) ? "✓ " : ""}${(v / 1000).toFixed(3)}`)];
    critics.forEach((run, k) => cells.push(signed(added[k] / 100), withIt(p[run] / 1000, added[k] / 100).toFixed(3)));
    tr.append(head, ...cells.map((cell) => element("td", cell)));
    return tr;
  };
  const look = (k) => {
    current = k;
    const record = records[k], picture = items[k].querySelector("img");
    $("looked-name").textContent = record.name;
    $("looked-picture").hidden = !picture;
    if (picture) $("looked-picture").src = picture.src;
    $("looked-wrong").textContent = `Labels wrong: ${record.wrong.map((wrong, run) => `${letters[run]} ${wrong}`).join(", ")}`;
    $("looked-labels").replaceChildren(...record.labels.map(row));
    if (!dialog.open) dialog.showModal();
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if ("look" in button.dataset) look(+button.dataset.look);
    if ("by" in button.dataset) {
      const at = matching.indexOf(current), among = at < 0 ? [...records.keys()] : matching;
      const here = at < 0 ? current : at;
      look(among[(here + Number(button.dataset.by) + among.length) % among.length]);
    }
    if ("close" in button.dataset) dialog.close();
  });
  $("image-controls").hidden = false;
  filter();
}
