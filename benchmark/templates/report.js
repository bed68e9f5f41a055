"use strict";
// Filter by verdict, and links that unfold what they lead to. Without scripts the bar stays hidden, and details open by hand.
(function () {
  const bar = document.getElementById("filter");
  const claims = document.querySelectorAll("article[data-verdicts]");
  const shown = bar.querySelector(".shown");
  function show(verdict) {
    const all = verdict === "all";
    let number = 0;
    claims.forEach(function (claim) {
      const fits = all || claim.dataset.verdicts.split(" ").includes(verdict);
      claim.hidden = !fits;
      number += fits ? 1 : 0;
    });
    document.querySelectorAll("#ledger details.chapter").forEach(function (chapter) {
      const any = chapter.querySelector("article:not([hidden])") !== null;
      chapter.hidden = !any;
      if (!all) chapter.open = any;
    });
    bar.querySelectorAll("button").forEach(function (button) {
      button.setAttribute("aria-pressed", String(button.dataset.show === verdict));
    });
    shown.textContent = all ? "" : number + (number === 1 ? " claim" : " claims");
  }
  function unfold() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    if (target.closest("[hidden]")) show("all");
    const inside = target.matches("article") ? target.querySelector("details") : target;
    for (let node = inside; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.scrollIntoView();
  }
  bar.addEventListener("click", function (event) {
    const button = event.target.closest("button");
    if (button) show(button.getAttribute("aria-pressed") === "true" ? "all" : button.dataset.show);
  });
  window.addEventListener("hashchange", unfold);
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (each) { each.open = true; });
  });
  bar.hidden = false;
  unfold();
})();
