"use strict";
// Puts what the server sends into its place. Elements that can have the focus are outside of
// these places, or keep what they are.
const live = document.getElementById("live");
let heard = 0;

function show(text, tone) {
  const name = "badge " + tone;
  if (live.textContent !== text) live.textContent = text;
  if (live.className !== name) live.className = name;
}

const source = new EventSource("/api/events");
source.addEventListener("section", (event) => {
  const { id, html } = JSON.parse(event.data);
  const place = document.getElementById(id);
  if (place) place.innerHTML = html;
  heard = Date.now();
  show("live", "good");
});
source.addEventListener("error", () => show("not live: connecting again", "warn"));
// A server that was paused keeps its connections and says nothing.
setInterval(() => {
  if (heard && Date.now() - heard > 5000) show("not live: nothing heard for 5 s", "warn");
}, 1000);
