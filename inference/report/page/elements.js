"use strict";
// Parts of a sample as elements. Text only ever enters the page by textContent, never as HTML.

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

// A sample of one run, or the answer of one of several runs.
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

function marks(sample) {
  const all = [element("span", `mark ${result(sample)}`, result(sample))];
  if (sample.malformed) all.unshift(element("span", "mark malformed", "malformed"));
  return all;
}

function rowButton(className, ...children) {
  const button = element("button", className, ...children);
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  return button;
}

// What an answer says beside its reasoning, as pairs of name and text.
function answerFacts(sample) {
  if (isFailed(sample)) return [];
  const pairs = [["answer", sample.answer]];
  if (sample.published !== sample.answer) pairs.push(["answer, published protocol", sample.published]);
  pairs.push(["confidence", sample.confidence === null ? "none" : shown(sample.confidence)]);
  if (sample.confidence !== null) pairs.push(["(confidence − correctness)²", squaredGap(sample).toFixed(4)]);
  for (const [name, value] of Object.entries(sample.others)) pairs.push([name, shown(value)]);
  if (sample.votes) {
    pairs.push(["votes", sample.votes.map(([label, share]) => `${label} ${percent(share)} %`).join(", ")]);
    pairs.push(["vote share of the answer", shown(sample.voteShare)]);
  }
  if (sample.finish && sample.finish !== "stop") pairs.push(["response ended by", sample.finish]);
  return pairs;
}

// What was asked.
function questionFacts(sample) {
  const pairs = [["candidates", data.candidates[sample.candidates].join(", ") || "none"], ["image", sample.image || "none"]];
  if (sample.further) pairs.push(["further images, not shown here", sample.further.join(", ")]);
  if (sample.problem) pairs.push(["why no image", sample.problem]);
  return [...pairs, ["id", sample.id]];
}

const imageShown = (sample) => (sample.shown ? [["the model saw, instead", sample.shown]] : []);

function factList(pairs) {
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

function rawResponse(sample) {
  if (!sample.response) return null;
  const raw = element("details", "", element("summary", "", "Response as the model wrote it"));
  raw.append(element("pre", "", sample.response));
  return raw;
}

function sampleItem(sample, index) {
  const item = element("li", "sample", summary(sample));
  item.dataset.index = index;
  return item;
}

const meanPercent = (values) => percent(values.reduce((sum, value) => sum + value, 0) / values.length);
