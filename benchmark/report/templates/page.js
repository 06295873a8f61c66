/* Sorting, filtering, and details of pictures. The page is whole without it: all rows and numbers are in the HTML. */
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const body = document.body;

  /* Tables: a button in every header; numbers by data-value, others as text; what is not known comes last. */
  const key = (row, place) => {
    const cell = row.cells[place];
    if ("value" in cell.dataset) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    if (text === "-" || text === "") return null;
    return cell.tagName === "TD" && /^[-+]?[\d.]/.test(text) ? parseFloat(text.replaceAll(",", "")) : text;
  };
  const compare = (a, b) => {
    const [one, two] = [a, b].map((value) => typeof value === "number");
    if (one && two) return a - b;
    return one === two ? a.localeCompare(b, "en", { numeric: true }) : two - one; /* numbers before texts */
  };
  const sort = (table, header) => {
    const first = header.dataset.first || "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = header.getAttribute("aria-sort") === first ? other : first;
    all("th[aria-sort]", table).forEach((th) => th.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [key(row, header.cellIndex), row]);
    rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  all("table.sortable").forEach((table) => {
    all("thead th:not(.picture):not(.unsorted)", table).forEach((header) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(table, header));
    });
  });

  /* Filters. */
  const controls = document.querySelector(".controls");
  if (controls) {
    const [words, top, columns, shown] = ["filter", "top", "all", "shown"].map((id) => document.getElementById(id));
    const tables = all("table.leaderboard, table.bare, table.overview");
    const apply = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0, total = 0;
      const names = new Set();
      tables.forEach((table) => {
        [...table.tBodies[0].rows].forEach((row) => {
          const fits = wanted.every((word) => row.dataset.words.includes(word)) && (!top.checked || "top" in row.dataset);
          row.hidden = !fits;
          if ("row" in row.dataset) { total += 1; count += fits; }
          if (fits) names.add(row.dataset.name);
        });
      });
      all(".point").forEach((point) => point.classList.toggle("out", !rowOf(point)));
      all("#curves .curve, #curves .legend li").forEach((item) => item.classList.toggle("out", wanted.length > 0 && !names.has(item.dataset.name)));
      shown.value = count === total ? `${total} rows` : `${count} of ${total} rows`;
    };
    const rowOf = (point) => all("tr[data-row]", point.closest("section")).some((row) => row.dataset.name === point.dataset.name && !row.hidden);
    const show = () => body.classList.toggle("brief", !columns.checked);
    words.addEventListener("input", apply);
    top.addEventListener("change", apply);
    columns.addEventListener("change", show);
    controls.addEventListener("submit", (event) => event.preventDefault());
    controls.hidden = false;
    words.value = "";
    top.checked = columns.checked = false;
    show();
    apply();
  }

  /* One thing lit at a time: a name, in a table, a legend and the pictures of its section. */
  const light = (section, name) => {
    all(".lit", section).forEach((item) => item.classList.remove("lit"));
    all(".has-lit", section).forEach((item) => item.classList.remove("has-lit"));
    if (name === null) return;
    all("[data-name]", section).filter((item) => item.dataset.name === name).forEach((item) => item.classList.add("lit"));
    all(".plot > svg", section).filter((svg) => svg.querySelector(".lit")).forEach((svg) => svg.classList.add("has-lit"));
  };
  const pinned = (section) => { const found = section.querySelector("[aria-pressed='true']"); return found ? found.closest("li").dataset.name : null; };

  const tip = document.getElementById("tip");
  const tell = (item, x, y) => {
    const name = item.dataset.name, head = document.createElement("b");
    head.textContent = name;
    tip.replaceChildren(head, ...item.getAttribute("aria-label").slice(name.length + 2).split("; ").map((text) => {
      const line = document.createElement("span");
      line.textContent = text;
      return line;
    }));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + 16 + box.height > innerHeight ? Math.max(8, y - box.height - 12) : y + 16}px`;
  };
  const quiet = () => { tip.hidden = true; };

  all(".plot [data-name]").forEach((item) => {
    const section = item.closest("section"), title = item.querySelector("title");
    item.setAttribute("aria-label", title.textContent);
    title.remove(); /* the browser's own tip would stand over ours */
    const enter = (event) => { light(section, item.dataset.name); tell(item, event.clientX, event.clientY); };
    const leave = () => { light(section, pinned(section)); quiet(); };
    item.addEventListener("pointerenter", enter);
    item.addEventListener("pointermove", (event) => tell(item, event.clientX, event.clientY));
    item.addEventListener("pointerleave", leave);
    if (!item.classList.contains("point")) return;
    item.setAttribute("role", "img");
    item.addEventListener("focus", () => {
      const box = item.querySelector(".mark").getBoundingClientRect();
      light(section, item.dataset.name);
      tell(item, box.right, box.bottom);
    });
    item.addEventListener("blur", leave);
  });
  addEventListener("scroll", quiet, { passive: true });

  /* A picture is one stop of the tab key; arrows go from point to point, from left to right. */
  all(".scatter > svg").forEach((svg) => {
    const points = all(".point", svg);
    const x = (point) => point.querySelector(".reach").cx.baseVal.value;
    points.sort((a, b) => x(a) - x(b));
    points.forEach((point, place) => point.setAttribute("tabindex", place ? "-1" : "0"));
    svg.addEventListener("keydown", (event) => {
      const place = points.indexOf(document.activeElement), last = points.length - 1;
      const next = { ArrowRight: place + 1, ArrowDown: place + 1, ArrowLeft: place - 1, ArrowUp: place - 1, Home: 0, End: last }[event.key];
      if (event.key === "Escape") quiet();
      if (next === undefined || place < 0) return;
      event.preventDefault();
      points[place].setAttribute("tabindex", "-1");
      const target = points[Math.max(0, Math.min(last, next))];
      target.setAttribute("tabindex", "0");
      target.focus();
    });
  });

  all(".leaderboard tbody tr").forEach((row) => {
    const section = row.closest("section");
    row.addEventListener("pointerenter", () => light(section, row.dataset.name));
    row.addEventListener("pointerleave", () => light(section, null));
  });

  /* Legends: names become buttons that light their curve, and keep it lit when pressed. */
  all(".legend li").forEach((item) => {
    const section = item.closest("section"), name = item.querySelector(".entry"), button = document.createElement("button");
    button.type = "button";
    button.className = "entry";
    button.setAttribute("aria-pressed", "false");
    button.append(...name.childNodes);
    name.replaceWith(button);
    const enter = () => light(section, item.dataset.name), leave = () => light(section, pinned(section));
    item.addEventListener("pointerenter", enter);
    item.addEventListener("pointerleave", leave);
    button.addEventListener("focus", enter);
    button.addEventListener("blur", leave);
    button.addEventListener("click", () => {
      const press = button.getAttribute("aria-pressed") !== "true";
      all("[aria-pressed]", section).forEach((other) => other.setAttribute("aria-pressed", "false"));
      button.setAttribute("aria-pressed", String(press));
      light(section, press ? item.dataset.name : null);
    });
  });
})();
