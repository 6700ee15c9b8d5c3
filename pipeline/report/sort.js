// Sort a table by the column whose heading is clicked; the page is complete without it.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent;
  heads.forEach((head, i) => head.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;
    const rows = [...body.rows].sort((a, b) => {
      const [left, right] = [value(a, i), value(b, i)];
      const number = left - right;
      return sign * (Number.isNaN(number) ? compare(left, right) : number);
    });
    body.append(...rows);
  }));
}
