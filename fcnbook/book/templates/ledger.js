(() => {
  const table = document.getElementById("ledger");
  const form = document.getElementById("filters");
  const count = document.getElementById("count");
  const entries = [...table.tBodies];

  const filter = () => {
    let shown = 0;
    for (const entry of entries) {
      const fits = [...form.elements].every((choice) => !choice.value || entry.dataset[choice.name] === choice.value);
      entry.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${entries.length} lines`;
  };
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();

  // Blank cells have no data-sort and stay at the end, whichever way the column is sorted.
  const sort = (place, head) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const key = (entry) => entry.rows[0].cells[place].dataset.sort;
    const isNumber = head.classList.contains("number");
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const order = isNumber ? x - y : x < y ? -1 : x > y ? 1 : 0;
      return down ? -order : order;
    };
    table.append(...[...table.tBodies].sort(compare));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = head.title;
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(place, head));
    head.replaceChildren(button);
  });
})();
