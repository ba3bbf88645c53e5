// A sample of one run: its row, what opens below it, and by what it is found.

function summary(sample) {
  const answer = element("span", "answer", isFailed(sample) ? "no response" : sample.answer);
  const truth = result(sample) === "right" ? null : element("span", "truth", `label: ${sample.truth || "none"}`);
  const all = marks(sample);
  if (hasFalseStatement(sample)) all.unshift(element("span", "mark false", "untrue"));
  const where = element("span", "where", `${sample.task} · ${sample.id}`);
  return rowButton(
    "row",
    picture(sample, "thumbnail"),
    element("span", "what", element("span", "labels", answer, truth), where),
    confidenceBar(sample),
    element("span", "marks", ...all),
  );
}

function details(sample) {
  return element(
    "div",
    "details",
    picture(sample, "large"),
    element("div", "said", reasoning(sample), rawResponse(sample)),
    factList([["label", sample.truth || "none"], ...answerFacts(sample), ...imageShown(sample), ...questionFacts(sample)]),
  );
}

const RESULTS = new Map([
  ["right", (sample) => result(sample) === "right"],
  ["wrong", (sample) => result(sample) === "wrong"],
  ["failed", isFailed],
  ["malformed", (sample) => sample.malformed],
  ["false", hasFalseStatement],
]);

const ORDERS = {
  worst: squaredGap,
  most: (sample) => sample.confidence,
  least: (sample) => -sample.confidence,
};

const confidences = (sample) => (typeof sample.confidence === "number" ? [sample.confidence] : []);

let texts = null; // what the search looks in, made at the first search
function searchTexts() {
  texts ??= data.samples.map((sample) =>
    [sample.id, sample.task, sample.truth, sample.answer, sample.image, sample.response, sample.error]
      .filter(Boolean).join("\n").toLowerCase());
  return texts;
}

function metricsText(samples) {
  const answered = samples.filter((sample) => !isFailed(sample));
  const stated = answered.flatMap(confidences);
  let text = "";
  if (answered.length) text += ` · ${meanPercent(answered.map((sample) => sample.correct))} % right`;
  if (stated.length) text += ` · mean confidence ${meanPercent(stated)} %`;
  return text;
}
