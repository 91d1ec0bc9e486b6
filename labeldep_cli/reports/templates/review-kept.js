// The page of an audit: decisions are kept in this browser, and saved as a file for the one who has labeldep.
const data = JSON.parse($("review-data").textContent);
const KEY = `labeldep audit ${data.id}`;
const kept = { who: "", decisions: [] };
let keeps = true;
try {
  Object.assign(kept, JSON.parse(localStorage.getItem(KEY) ?? "{}"));
} catch {
  keeps = false;
}
let unsaved = kept.decisions.length;
const tell = () => {
  const n = kept.decisions.length, where = keeps ? "kept in this browser" : "not kept by this browser: save them before you close the page";
  $("kept").textContent = n ? `${n} decision${n === 1 ? "" : "s"}, ${where}` : "";
  $("save").disabled = !n;
};
const keep = () => {
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    keeps = false;
  }
  tell();
};
const recent = [];
for (const { number, kind, after, time, who } of kept.decisions) {
  const { states } = data.cards[number];
  if (kind === "undo") {
    states.pop();
    recent.splice(recent.lastIndexOf(number), 1);
  } else {
    states.push({ ...after, decision: { kind, who, time } });
    recent.push(number);
  }
}
$("who").value = data.who = kept.who;
$("who").addEventListener("input", () => { data.who = kept.who = $("who").value.trim(); keep(); });
$("save").addEventListener("click", () => {
  const name = kept.who.replace(/[^\w-]+/g, "-");
  saveFile(`decisions${name && `-${name}`}.csv`, decisionFile(data, kept.decisions));
  unsaved = 0;
});
window.addEventListener("beforeunload", (event) => { if (!keeps && unsaved) event.preventDefault(); });
const save = (decision) => {
  kept.decisions.push({ ...decision, time: timeNow(), who: kept.who });
  unsaved += 1;
  keep();
};
tell();
// Two windows would overwrite each other's decisions.
window.addEventListener("storage", ({ key }) => { if (key === KEY) location.reload(); });
const imageOf = data.images ? (number) => data.cards[number].image : null;
startReview({ ...data, imageOf, recent, ending: "Save your decisions, and send the file back." }, save);
