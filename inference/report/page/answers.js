// A sample that several runs answered: their answers beside each other, and by what it is found.
// What the list needs is in data; reasoning and responses are in packed blocks, unpacked when they are asked for.

async function unpackedBlock(block) {
  const packed = atob(document.getElementById(`responses-${block}`).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i); // Uint8Array.from takes ten times as long
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function reply(answer, run) {
  return element(
    "span",
    "reply",
    element("span", "run", data.runs[run]),
    element("span", "labels", element("span", "answer", isFailed(answer) ? "no response" : answer.answer), ...marks(answer)),
    confidenceBar(answer),
  );
}

function summary(sample) {
  const truth = element("span", "truth", `label: ${sample.truth || "none"}`);
  const where = element("span", "where", `${sample.task} · ${sample.id}`);
  const head = element("span", "what", element("span", "labels", truth), where);
  return rowButton("row several", picture(sample, "thumbnail"), head, element("span", "replies", ...sample.answers.map(reply)));
}

// All of one run's answer, once its block is unpacked.
function wholeReply(answer, run) {
  return element(
    "section",
    "whole",
    element("h4", "", data.runs[run]),
    factList([...answerFacts(answer), ...imageShown(answer)]),
    reasoning(answer),
    rawResponse(answer),
  );
}

function details(sample, index) {
  const said = element("div", "replies whole", element("p", "none", "unpacking …"));
  unpackedBlock(Math.floor(index / data.responseBlock)).then((block) => {
    const rest = block[index % data.responseBlock];
    said.replaceChildren(...sample.answers.map((answer, run) => wholeReply({ ...answer, ...rest[run] }, run)));
  });
  const asked = element("div", "asked", picture(sample, "large"), factList([["label", sample.truth || "none"], ...questionFacts(sample)]));
  return element("div", "details several", asked, said);
}

const answered = (sample) => sample.answers.filter((answer) => !isFailed(answer));
const allAnswered = (sample) => sample.answers.every((answer) => !isFailed(answer));
const right = (answer) => result(answer) === "right";

const RESULTS = new Map([
  ["differ", (sample) => new Set(answered(sample).map((answer) => answer.answer)).size > 1],
  ["right", (sample) => sample.answers.every(right)],
  ["wrong", (sample) => allAnswered(sample) && !sample.answers.some(right)],
  ["failed", (sample) => !allAnswered(sample)],
  ...data.runs.flatMap((name, run) => [
    [`only:${name}`, (sample) => sample.answers.every((answer, other) => right(answer) === (other === run))],
    [`not:${name}`, (sample) => sample.answers.every((answer, other) => right(answer) === (other !== run))],
  ]),
]);

const confidences = (sample) => answered(sample).map((answer) => answer.confidence).filter((value) => value !== null);

const ORDERS = {
  apart: (sample) => Math.max(...confidences(sample)) - Math.min(...confidences(sample)),
  worst: (sample) => {
    const gaps = answered(sample).map(squaredGap).filter((gap) => gap !== null);
    return gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  },
};

let texts = null; // what the search looks in: after the first search all responses are unpacked
let unpackingAll = null;

async function unpackTexts() {
  const all = [];
  for (let first = 0; first < data.samples.length; first += data.responseBlock) {
    for (const [i, rest] of (await unpackedBlock(first / data.responseBlock)).entries()) {
      const sample = data.samples[first + i];
      const said = sample.answers.flatMap((answer, run) => [answer.answer, answer.error, rest[run].response]);
      all.push([sample.id, sample.task, sample.truth, sample.image, ...said].filter(Boolean).join("\n").toLowerCase());
    }
  }
  texts = all;
  onAddress();
}

function searchTexts() {
  if (texts === null) unpackingAll ??= unpackTexts();
  return texts;
}

function metricsText(samples) {
  const shares = data.runs.map((name, run) => {
    const correct = samples.map((sample) => sample.answers[run]).filter((answer) => !isFailed(answer)).map((answer) => answer.correct);
    return correct.length ? `${name} ${meanPercent(correct)} %` : null;
  });
  const known = shares.filter((share) => share !== null);
  return known.length ? ` · right: ${known.join(", ")}` : "";
}
