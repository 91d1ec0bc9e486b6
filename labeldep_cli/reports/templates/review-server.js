// The page of `labeldep review`: decisions go to the server one after another, in the order in which they are made.
const RETRY = 2000, PATIENCE = 5000; // milliseconds
const begin = (data) => {
  const queue = [];
  let sending = false, stopped = false;
  const rescue = () => saveFile("decisions.csv", decisionFile(data, queue));
  const fail = (why, again = true) => {
    const left = queue.length === 1 ? "1 decision is" : `${queue.length} decisions are`;
    alertWith(`${left} not saved: ${why}`, { rescue, ...(again ? { again: () => { stopped = false; send(); } } : {}) });
  };
  const send = async () => {
    if (sending || stopped || !queue.length) return;
    sending = true;
    const [decision] = queue;
    let response = null, told = null;
    try {
      const body = JSON.stringify(decision), signal = AbortSignal.timeout(PATIENCE);
      response = await fetch("decide", { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
      if (response.headers.get("Content-Type") === "application/json") told = await response.json();
    } catch { response = null; /* no answer in time, or half of one: the server is gone or stopped */ }
    sending = false;
    if (!response) {
      fail("labeldep review does not answer. It is tried again by itself.");
      setTimeout(send, RETRY);
    } else if (told?.card) {
      queue.shift();
      if (!response.ok) for (let k = queue.length - 1; k >= 0; k -= 1) if (queue[k].number === decision.number) queue.splice(k, 1);
      if (!queue.some(({ number }) => number === decision.number)) page.replace(decision.number, told.card);
      alertWith(response.ok ? "" : `${within(told.card.path)} was decided elsewhere meanwhile, and your decision on it is not saved: look at it again.`);
      send();
    } else {
      stopped = true;
      fail(told?.error ?? "labeldep review was started again and has a new address. Save them, and read them with --take.", Boolean(told));
    }
  };
  const save = (decision) => {
    queue.push({ ...decision, key: crypto.randomUUID(), time: timeNow(), who: data.who }); // the key: one sent twice is written once
    if (stopped) fail("see above.", false);
    send();
  };
  window.addEventListener("beforeunload", (event) => { if (queue.length) event.preventDefault(); });
  const numbered = data.images ? (number) => `image/${number}` : null;
  const ending = "Close this page, and end the command with Ctrl-C: it says what comes next.";
  const page = startReview({ ...data, imageOf: numbered, ending }, save, JSON.parse($("wished-label").textContent));
};
fetch("cards").then((response) => response.json()).then(begin, () => alertWith("labeldep review does not answer: start it again, and open the new address."));
