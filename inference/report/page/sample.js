"use strict";
// One sample as elements. Text only ever enters the page by textContent, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const thumbnailBlocks = new Map();

function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null)); // strings become text nodes
  return node;
}

// The copies come in blocks of JSON: one is parsed when a sample of it is first shown.
function thumbnailAddress(index) {
  const block = Math.floor(index / data.thumbnailBlock);
  if (!thumbnailBlocks.has(block)) {
    thumbnailBlocks.set(block, JSON.parse(document.getElementById(`thumbnails-${block}`).textContent));
  }
  return thumbnailBlocks.get(block)[index % data.thumbnailBlock];
}

function picture(sample, className) {
  if (sample.thumbnail === undefined) return element("span", `${className} missing`, "no image");
  const image = element("img", className);
  image.alt = "";
  image.decoding = "async";
  image.src = thumbnailAddress(sample.thumbnail);
  return image;
}

const isFailed = (sample) => sample.error !== undefined;
const result = (sample) => (isFailed(sample) ? "failed" : sample.correct ? "right" : "wrong");
const hasFalseStatement = (sample) => (sample.statements ?? []).some((statement) => statement.verdict === "false");
const percent = (fraction) => (100 * fraction).toFixed(1);

// The Brier score's term of one sample: how far its confidence was from what happened.
const squaredGap = (sample) => (sample.confidence === null ? null : (sample.confidence - sample.correct) ** 2);

function confidenceBar(sample) {
  if (isFailed(sample) || sample.confidence === null) {
    return element("span", "confidence none", isFailed(sample) ? "" : "no confidence");
  }
  const filled = element("span", "filled");
  filled.style.width = `${100 * sample.confidence}%`;
  return element("span", "confidence", element("span", "bar", filled), element("span", "number", shown(sample.confidence)));
}

// A confidence with the two decimals that models state, or with more when it has more.
function shown(confidence) {
  const text = confidence.toFixed(2);
  return Math.abs(Number(text) - confidence) < 1e-9 ? text : confidence.toPrecision(4);
}

function summary(sample) {
  const answer = element("span", "answer", isFailed(sample) ? "no response" : sample.answer);
  const truth = result(sample) === "right" ? null : element("span", "truth", `label: ${sample.truth || "none"}`);
  const marks = [element("span", `mark ${result(sample)}`, result(sample))];
  if (sample.malformed) marks.unshift(element("span", "mark malformed", "malformed"));
  if (hasFalseStatement(sample)) marks.unshift(element("span", "mark false", "untrue"));
  const where = element("span", "where", `${sample.task} · ${sample.id}`);
  const button = element(
    "button",
    "row",
    picture(sample, "thumbnail"),
    element("span", "what", element("span", "labels", answer, truth), where),
    confidenceBar(sample),
    element("span", "marks", ...marks),
  );
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  return button;
}

function facts(sample) {
  const pairs = [["label", sample.truth || "none"]];
  if (!isFailed(sample)) {
    pairs.push(["answer", sample.answer]);
    if (sample.published !== sample.answer) pairs.push(["answer, published protocol", sample.published]);
    pairs.push(["confidence", sample.confidence === null ? "none" : shown(sample.confidence)]);
    if (sample.confidence !== null) pairs.push(["(confidence − correctness)²", squaredGap(sample).toFixed(4)]);
    for (const [name, value] of Object.entries(sample.others)) pairs.push([name, shown(value)]);
    if (sample.votes) {
      pairs.push(["votes", sample.votes.map(([label, share]) => `${label} ${percent(share)} %`).join(", ")]);
      pairs.push(["vote share of the answer", shown(sample.voteShare)]);
    }
    if (sample.finish && sample.finish !== "stop") pairs.push(["response ended by", sample.finish]);
  }
  const labels = data.candidates[sample.candidates].join(", ");
  pairs.push(["candidates", labels || "none"], ["image", sample.image || "none"]);
  if (sample.shown) pairs.push(["the model saw, instead", sample.shown]);
  if (sample.problem) pairs.push(["why no image", sample.problem]);
  pairs.push(["id", sample.id]);
  return element("dl", "facts", ...pairs.flatMap(([name, text]) => [element("dt", "", name), element("dd", "", text)]));
}

function statementNote({ verdict, said, true: names }) {
  const truth = names.length ? names.join(" or ") : "no evidence for this answer";
  return element("dd", "untrue", verdict === "false" ? `false: ${said.join(", ")} (true: ${truth})` : `missing: ${truth}`);
}

function reasoning(sample) {
  if (isFailed(sample)) return element("p", "error", sample.error);
  const steps = data.steps.map((name, i) => [name, sample.steps[i]]);
  const parts = steps.flatMap(([name, text]) => [
    element("dt", "", name),
    text === null ? element("dd", "none", "not in the response") : element("dd", "", text),
    ...(sample.statements ?? []).filter(({ section }) => section === name).map(statementNote),
  ]);
  return element("dl", "steps", ...parts);
}

function details(sample) {
  const raw = element("details", "", element("summary", "", "Response as the model wrote it"));
  raw.append(element("pre", "", sample.response));
  return element(
    "div",
    "details",
    picture(sample, "large"),
    element("div", "said", reasoning(sample), sample.response ? raw : null),
    facts(sample),
  );
}

function sampleItem(sample, index) {
  const item = element("li", "sample", summary(sample));
  item.dataset.index = index;
  return item;
}
