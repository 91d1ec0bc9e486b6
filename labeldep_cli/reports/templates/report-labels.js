// The table of labels: one score at a time, sorted by any column, filtered by name.
{
  const table = $("label-table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const value = (row, k) => {
    const text = row.cells[k].textContent;
    return k === 0 ? text.toLowerCase() : text === "–" ? -Infinity : parseFloat(text);
  };
  const sort = (k) => {
    const down = heads[k].ariaSort ? heads[k].ariaSort === "ascending" : k > 0;
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[k].setAttribute("aria-sort", down ? "descending" : "ascending");
    const way = down ? -1 : 1;
    const order = (a, b) => (a < b ? -way : a > b ? way : 0);
    body.append(...[...body.rows].sort((a, b) => order(value(a, k), value(b, k))));
  };
  heads.forEach((head, k) => {
    const button = element("button", head.textContent);
    button.addEventListener("click", () => sort(k));
    head.replaceChildren(button);
  });
  const show = (score) => {
    for (const cell of table.querySelectorAll("[data-score]")) cell.hidden = cell.dataset.score !== score;
  };
  const filter = () => {
    const query = $("label-filter").value.trim().toLowerCase();
    for (const row of body.rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(query);
    $("label-count").textContent = `${[...body.rows].filter((row) => !row.hidden).length} of ${body.rows.length} labels`;
  };
  $("label-filter").addEventListener("input", filter);
  $("label-controls").addEventListener("change", (event) => event.target.name === "score" && show(event.target.value));
  $("label-controls").hidden = false;
  show($("label-controls").querySelector(":checked").value);
  filter();
}
