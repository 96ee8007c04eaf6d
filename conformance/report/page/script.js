// Reasons of cells show on hover, on keyboard focus and on a tap; Escape or a tap
// elsewhere hides them. Everything else works without scripts.
(() => {
  const tip = document.getElementById("tip");
  let owner = null, pinned = false;

  const hide = () => {
    if (!owner) return;
    owner.setAttribute("aria-expanded", "false");
    owner.removeAttribute("aria-describedby");
    owner = null;
    pinned = false;
    tip.hidden = true;
  };

  const show = (cell) => {
    if (owner === cell) return;
    hide();
    owner = cell;
    tip.replaceChildren();
    const head = document.createElement("strong");
    head.textContent = cell.dataset.what + ": " + cell.dataset.word;
    const why = document.createElement("p");
    why.textContent = cell.dataset.reason;
    tip.append(head, why);
    if (cell.dataset.href) {
      const more = document.createElement("a");
      more.href = "#" + cell.dataset.href;
      more.textContent = "Details";
      tip.append(more);
    }
    tip.hidden = false;
    cell.setAttribute("aria-expanded", "true");
    cell.setAttribute("aria-describedby", "tip");
    place();
  };

  // place puts the reason beside its cell, and inside the window.
  const place = () => {
    const at = owner.getBoundingClientRect();
    if (at.bottom < 0 || at.top > innerHeight) { hide(); return; }
    const box = tip.getBoundingClientRect(), gap = 6;
    const below = at.bottom + gap + box.height <= innerHeight;
    tip.style.top = Math.max(gap, below ? at.bottom + gap : at.top - box.height - gap) + "px";
    tip.style.left = Math.max(gap, Math.min(at.left + at.width / 2 - box.width / 2, document.documentElement.clientWidth - box.width - gap)) + "px";
  };

  for (const cell of document.querySelectorAll(".cell")) {
    cell.addEventListener("pointerenter", (e) => { if (e.pointerType === "mouse" && !pinned) show(cell); });
    cell.addEventListener("pointerleave", (e) => { if (e.pointerType === "mouse" && !pinned && !tip.matches(":hover")) hide(); });
    cell.addEventListener("focus", () => { if (cell.matches(":focus-visible") && !pinned) show(cell); });
    cell.addEventListener("blur", (e) => { if (!pinned && !tip.contains(e.relatedTarget)) hide(); });
    cell.addEventListener("click", () => {
      if (owner === cell && pinned) { hide(); return; }
      if (owner !== cell) { pinned = false; show(cell); }
      pinned = true;
    });
  }
  tip.addEventListener("click", (e) => { if (e.target.closest("a")) hide(); });
  addEventListener("keydown", (e) => { if (e.key === "Escape") { const back = owner; hide(); back?.focus(); } });
  addEventListener("pointerdown", (e) => { if (owner && !tip.contains(e.target) && !e.target.closest(".cell")) hide(); });
  for (const what of ["scroll", "resize"]) addEventListener(what, () => owner && place(), { passive: true, capture: true });

  // A link into closed details opens them.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Search and filter of cases.
  for (const tools of document.querySelectorAll(".tools")) {
    const section = tools.closest("section");
    const words = tools.querySelector("input[type=search]"), only = tools.querySelector("input[type=checkbox]");
    const apply = () => {
      const q = words.value.trim().toLowerCase();
      for (const group of section.querySelectorAll(".profile")) {
        let shown = 0;
        for (const c of group.querySelectorAll(".case")) {
          c.hidden = (q && !c.dataset.find.includes(q)) || (only.checked && ["good", "none"].includes(c.dataset.class));
          if (!c.hidden) shown++;
        }
        group.hidden = shown === 0;
        if (shown && (q || only.checked)) group.open = true;
      }
    };
    tools.hidden = false;
    words.addEventListener("input", apply);
    only.addEventListener("change", apply);
  }
})();
