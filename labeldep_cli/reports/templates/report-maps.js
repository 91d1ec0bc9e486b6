// Heat maps: the pair under the pointer or chosen by the arrow keys is described; large maps are shown one at a time.
if (report.pairing) {
  const { n, names, counts } = report.pairing;
  const lift = (count, i, j) => (count[i][i] && count[j][j] ? (count[i][j] * n) / (count[i][i] * count[j][j]) : 0);
  const describe = (count, i, j) => `${count[i][j]} images, lift ${lift(count, i, j).toFixed(2)}`;
  const read = (i, j) => {
    $("pair").textContent = i === j
      ? `${names[i]}: in ${counts.map((count, k) => `${k ? report.letters[k - 1] : "truth"} ${count[i][i]}`).join(", ")} images`
      : `${names[i]} + ${names[j]}: ${counts.map((count, k) => `${k ? report.letters[k - 1] : "truth"} ${describe(count, i, j)}`).join("; ")}`;
  };
  const maps = [...document.querySelectorAll(".map")];
  for (const map of maps) {
    const place = map.querySelector(".scroll"), svg = map.querySelector("svg");
    const left = +svg.dataset.left, cell = +svg.dataset.cell;
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    let at = [0, 0];
    const move = (i, j) => {
      at = [i, j].map((k) => Math.min(Math.max(k, 0), names.length - 1));
      const [y, x] = at.map((k) => left + k * cell);
      for (const [key, v] of Object.entries({ x, y, width: cell, height: cell, class: "cursor" })) cursor.setAttribute(key, v);
      svg.append(cursor);
      read(...at);
    };
    const point = (event) => {
      const box = svg.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top].map((v) => Math.floor((v - left) / cell));
      if (x >= 0 && y >= 0) move(y, x);
    };
    for (const kind of ["pointermove", "click"]) svg.addEventListener(kind, point); // a finger's tap does not move
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    place.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      move(at[0] + step[0], at[1] + step[1]);
      const spare = place.clientWidth / 2;
      place.scrollLeft = left + at[1] * cell - spare;
    });
  }
  if ("wide" in $("maps").dataset) {
    const show = (chosen) => maps.forEach((map, k) => { map.hidden = k !== chosen; });
    maps.forEach((map, k) => {
      const radio = Object.assign(element("input"), { type: "radio", name: "map", checked: k === 0 });
      radio.addEventListener("change", () => show(k));
      const label = element("label");
      label.append(radio, ` ${map.querySelector("figcaption").textContent}`);
      $("map-controls").append(label);
    });
    $("map-controls").hidden = false;
    show(0);
  }
}
