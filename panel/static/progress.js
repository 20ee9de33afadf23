// How far a write has come: requested, seen, applied or refused; with its manual actions. Pure; as panel/views.py says it.

const FINAL = new Set(["done", "refused"]);

export function follow({ generation, manual = [] }, status) {
  const control = status?.control;
  const said = new Map((control?.manual ?? []).map((one) => [one.id, one]));
  const actions = manual.map((id) => said.get(id) ?? { id, state: "waiting", text: "" });
  if (!control || (control.seen ?? 0) < generation) return { stage: "requested", reasons: [], actions, settled: false };
  if ((control.applied ?? 0) < generation) {
    return { stage: control.problem ? "refused" : "seen", reasons: control.problem ? [control.problem] : [], actions, settled: false };
  }
  const refused = actions.filter((one) => one.state === "refused").map((one) => one.text);
  const reasons = [...(control.applied === generation ? control.refused : []), ...refused];
  return { stage: "applied", reasons, actions, settled: actions.every((one) => FINAL.has(one.state)) };
}

// ✓ requested ✓ seen ○ applied, in words that read without color.
export function steps({ stage }) {
  const reached = { requested: 1, seen: 2, refused: 2, applied: 3 }[stage];
  const words = ["requested", "seen", "applied"].map((word, index) => `${index < reached ? "✓" : "○"} ${word}`);
  if (stage === "refused") words[2] = "✕ refused";
  return words.join("  ");
}

export function summary(actions) {
  if (!actions.length) return "";
  if (actions.length === 1) return `${actions[0].state}${actions[0].text ? `: ${actions[0].text}` : ""}`;
  const by = (state) => actions.filter((one) => one.state === state).length;
  return ["done", "ordered", "waiting", "refused"].filter(by).map((state) => `${by(state)} ${state}`).join(", ");
}
