// Decisions as a file in the form of corrections.csv, which `labeldep review DATASET --take FILE` reads.
const HEADER = "time,who,table,path,before,after,unknown_before,unknown_after,content,decision";
const decisionFile = (data, decisions) => {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  // As JSON also where a spreadsheet would compute the cell.
  const textCell = (text) => (/^(?![+-])[\w .:/+-]*$/.test(text) ? text : JSON.stringify(text));
  const listCell = (numbers) => (numbers.length ? JSON.stringify(numbers.map((k) => data.labels[k])) : "");
  const line = ({ number, kind, before, after, time, who }) => {
    const { path, content = "" } = data.cards[number];
    const lists = [before.present, after.present, before.unknown, after.unknown].map(listCell);
    return [...[time, who, data.table, path].map(textCell), ...lists, content, kind].map(quoted).join(",");
  };
  return `${[HEADER, ...decisions.map(line)].join("\n")}\n`;
};
const saveFile = (name, text) => {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};
