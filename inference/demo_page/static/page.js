"use strict";
// The form works without this script. With it, an image can be dropped and pasted too, and stays chosen.

const form = document.querySelector("form");
const input = document.getElementById("image");
const drop = document.getElementById("drop");
const preview = document.getElementById("preview");
const prediction = document.getElementById("prediction");
let asked = 0; // counts questions and images: an answer to an earlier one is not shown

function show(className, text) {
  const line = document.createElement("p");
  line.className = className;
  if (className === "problem") line.role = "alert";
  line.textContent = text;
  prediction.replaceChildren(line);
  prediction.scrollIntoView({ block: "nearest" }); // on a phone it is below the form
}

function imageChosen() {
  asked += 1;
  prediction.replaceChildren();
  URL.revokeObjectURL(preview.src);
  const [file] = input.files;
  preview.hidden = !file;
  if (file) preview.src = URL.createObjectURL(file);
}

function choose(file) {
  if (!file) return;
  const one = new DataTransfer();
  one.items.add(file);
  input.files = one.files;
  imageChosen();
}

async function ask(event) {
  event.preventDefault();
  const question = (asked += 1);
  show("working", "Working …");
  try {
    const reply = await fetch(form.action, { method: "POST", body: new FormData(form) });
    const answer = new DOMParser().parseFromString(await reply.text(), "text/html").getElementById("prediction");
    if (question !== asked) return;
    if (answer) prediction.replaceChildren(...answer.childNodes);
    else show("problem", `The server could not answer (status ${reply.status}).`);
  } catch {
    if (question === asked) show("problem", "The server does not reply: is it still running?");
  }
}

async function takeScene(event) {
  event.preventDefault();
  const image = event.currentTarget.querySelector("img");
  const content = await (await fetch(image.src)).blob();
  choose(new File([content], image.src.split("/").pop(), { type: content.type }));
}

document.getElementById("hint").hidden = false;
preview.addEventListener("error", () => { preview.hidden = true; }); // no image: the server says what is wrong
input.addEventListener("change", imageChosen);
form.addEventListener("submit", ask);
for (const button of document.querySelectorAll("[name=example]")) button.addEventListener("click", takeScene);
document.addEventListener("paste", (event) => choose(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  choose(event.dataTransfer.files[0]);
});
imageChosen(); // a browser may keep the choice when the page is loaded again
