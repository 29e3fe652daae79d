"use strict";
// Puts what the server sends into its place. Elements that can have the focus are outside of
// these places, or keep what they are.
const live = document.getElementById("live");
let source = null;
let heard = 0;

function show(text, tone) {
  const name = "badge " + tone;
  if (live.textContent !== text) live.textContent = text;
  if (live.className !== name) live.className = name;
}

function listen() {
  source = new EventSource("/api/events");
  source.addEventListener("section", (event) => {
    const { id, html } = JSON.parse(event.data);
    const place = document.getElementById(id);
    if (place) place.innerHTML = html;
    heard = Date.now();
    show("live", "good");
  });
  source.addEventListener("error", () => {
    show("not live: connecting again", "warn");
    // Refused, as by a coordinator that is starting: the browser does not try again.
    if (source && source.readyState === EventSource.CLOSED) source = null;
  });
}

// A page that nobody sees asks for nothing.
function look() {
  if (!document.hidden) {
    if (!source) listen();
  } else if (source) {
    source.close();
    source = null;
    heard = 0;
  }
}

document.addEventListener("visibilitychange", look);
setInterval(() => {
  look();
  // A server that was paused keeps its connections and says nothing.
  if (heard && Date.now() - heard > 5000) show("not live: nothing heard for 5 s", "warn");
}, 2000);
look();
