"""Answers to the exercises of notebook 01, the rewards: near misses that must be refused, and styles that must pass."""

_LABEL = "[0, 0.4, 0.75, 1][right]"
_GRAMS = "w = reply.lower().split(); g = [tuple(w[i : i + 4]) for i in range(len(w) - 3)]"
_PAIRS = "high = [s for s, p in zip(scores, positive) if p]; low = [s for s, p in zip(scores, positive) if not p]"
_BINS = """
import numpy as np
p, l = np.array(predicted), np.array(label)
where = np.minimum((p * bins).astype(int), bins - 1)
"""


def _function(head: str, body: str) -> str:
    return f"def {head}:\n" + "".join(f"    {line}\n" for line in body.strip().splitlines())


NEAR_MISSES: dict[str, dict[str, str]] = {
    "01.1": {
        "not clipped at 0": f"lambda right, wrong: {_LABEL} - 0.15 * wrong",
        "clipped before .15 is taken off": f"lambda right, wrong: max(0.0, {_LABEL}) - 0.15 * min(wrong, 3 - right)",
        "takes .15 off once": f"lambda right, wrong: max(0.0, {_LABEL} - 0.15 * (wrong > 0))",
        "a wrong element is a missing one": "lambda right, wrong: [0, 0.4, 0.75, 1][max(0, right - wrong)]",
        "wrong elements cost nothing": f"lambda right, wrong: {_LABEL}",
        "a third for each element": "lambda right, wrong: max(0.0, right / 3 - 0.15 * wrong)",
        "a factor of .85": f"lambda right, wrong: {_LABEL} * 0.85**wrong",
    },
    "01.2": {
        "divides by n": _function(
            "auc_by_pairs(scores, positive)",
            f"{_PAIRS}\nreturn sum((a > b) + 0.5 * (a == b) for a in high for b in low) / len(scores)",
        ),
        "ties count nothing": _function(
            "auc_by_pairs(scores, positive)", f"{_PAIRS}\nreturn sum(a > b for a in high for b in low) / (len(high) * len(low))"
        ),
        "ties count whole": _function(
            "auc_by_pairs(scores, positive)", f"{_PAIRS}\nreturn sum(a >= b for a in high for b in low) / (len(high) * len(low))"
        ),
        "all pairs of replies": _function(
            "auc_by_pairs(scores, positive)",
            f"{_PAIRS}\nn = len(scores)\nreturn sum((a > b) + 0.5 * (a == b) for a in high for b in low) / (n * (n - 1) / 2)",
        ),
        "the negatives win": _function(
            "auc_by_pairs(scores, positive)",
            f"{_PAIRS}\nreturn sum((a < b) + 0.5 * (a == b) for a in high for b in low) / (len(high) * len(low))",
        ),
        "share of the scores above .5": "lambda scores, positive: sum(s > 0.5 for s in scores) / len(scores)",
        "accuracy at .5": "lambda scores, positive: sum((s > 0.5) == p for s, p in zip(scores, positive)) / len(scores)",
    },
    "01.3": {
        "no shift": "lambda logits, ids, mask: (torch.log_softmax(logits, -1).gather(-1, ids[..., None]).squeeze(-1) * mask)[:, 1:]",
        "shifted the wrong way": (
            "lambda logits, ids, mask: torch.log_softmax(logits, -1)[:, 1:].gather(-1, ids[:, :-1, None]).squeeze(-1) * mask[:, 1:]"
        ),
        "the mask is not shifted": (
            "lambda logits, ids, mask: torch.log_softmax(logits, -1)[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1) * mask[:, :-1]"
        ),
        "no mask": "lambda logits, ids, mask: torch.log_softmax(logits, -1)[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)",
        "probabilities": (
            "lambda logits, ids, mask: torch.softmax(logits, -1)[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1) * mask[:, 1:]"
        ),
        "normalised over positions": (
            "lambda logits, ids, mask: torch.log_softmax(logits, 1)[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1) * mask[:, 1:]"
        ),
        "logits": "lambda logits, ids, mask: logits[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1) * mask[:, 1:]",
        "the first token too": "lambda logits, ids, mask: torch.log_softmax(logits, -1).gather(-1, ids[..., None]).squeeze(-1) * mask",
        "log of a softmax": (
            "lambda logits, ids, mask: torch.softmax(logits, -1).log()[:, :-1].gather(-1, ids[:, 1:, None])[..., 0] * mask[:, 1:]"
        ),
        "not the token, the likeliest one": "lambda logits, ids, mask: torch.log_softmax(logits, -1)[:, :-1].max(-1).values * mask[:, 1:]",
        "log of a softmax that underflows": (
            "lambda logits, ids, mask: (torch.softmax(logits.float(), -1) + 1e-12).log()[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1) "
            "* mask[:, 1:]"
        ),
    },
    "01.4": {
        "not clipped": "lambda given, alone, limit: [a - b for a, b in zip(given, alone)]",
        "clipped above only": "lambda given, alone, limit: [min(limit, a - b) for a, b in zip(given, alone)]",
        "the other way round": "lambda given, alone, limit: [max(-limit, min(limit, b - a)) for a, b in zip(given, alone)]",
        "a ratio of logarithms": "lambda given, alone, limit: [max(-limit, min(limit, a / b)) for a, b in zip(given, alone)]",
        "clips before it subtracts": "lambda given, alone, limit: [max(a, -limit) - max(b, -limit) for a, b in zip(given, alone)]",
        "a ratio of probabilities": "lambda given, alone, limit: [min(limit, math.exp(a - b)) for a, b in zip(given, alone)]",
        "those beyond the limit dropped": "lambda given, alone, limit: [a - b if abs(a - b) <= limit else 0 for a, b in zip(given, alone)]",
        "summed": "lambda given, alone, limit: sum(max(-limit, min(limit, a - b)) for a, b in zip(given, alone))",
    },
    "01.5": {
        "only the first term": (
            "lambda logits, labels: sum(-l * math.log(1 / (1 + math.exp(-z))) for z, l in zip(logits, labels)) / len(logits)"
        ),
        "a sum": (
            "lambda logits, labels: float(torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(labels), "
            "reduction='sum'))"
        ),
        "labels rounded to 0 and 1": (
            "lambda logits, labels: float(torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), "
            "torch.tensor(labels).round()))"
        ),
        "the sign is missing": (
            "lambda logits, labels: float(-torch.nn.functional.binary_cross_entropy_with_logits("
            "torch.tensor(logits), torch.tensor(labels)))"
        ),
        "squared errors": "lambda logits, labels: ((1 / (1 + np.exp(-np.array(logits))) - np.array(labels)) ** 2).mean()",
        "the entropy of the labels taken off": (
            "lambda logits, labels: float(torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(labels))"
            " + torch.special.entr(torch.tensor(labels)).mean() * -1)"
        ),
        "base 2": (
            "lambda logits, labels: float(torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(labels)))"
            " / math.log(2)"
        ),
    },
    "01.6": {
        "each bin counts alike": _function(
            "expected_calibration_error(predicted, label, bins)",
            f"{_BINS}\nreturn float(np.mean([abs(p[where == b].mean() - l[where == b].mean()) for b in set(where.tolist())]))",
        ),
        "the error of each reply": "lambda predicted, label, bins: sum(abs(p - l) for p, l in zip(predicted, label)) / len(label)",
        "a prediction of 1 is lost": _function(
            "expected_calibration_error(predicted, label, bins)",
            "import numpy as np\np, l = np.array(predicted), np.array(label)\nwhere = (p * bins).astype(int)\n"
            "parts = [(where == b) for b in range(bins)]\n"
            "return float(sum(m.mean() * abs(p[m].mean() - l[m].mean()) for m in parts if m.any()))",
        ),
        "a prediction of 1 has a bin of its own": _function(
            "expected_calibration_error(predicted, label, bins)",
            "import numpy as np\np, l = np.array(predicted), np.array(label)\nwhere = (p * bins).astype(int)\n"
            "return float(sum((where == b).mean() * abs(p[where == b].mean() - l[where == b].mean()) for b in set(where.tolist())))",
        ),
        "with the sign": _function(
            "expected_calibration_error(predicted, label, bins)",
            f"{_BINS}\nreturn float(sum((where == b).mean() * (p[where == b].mean() - l[where == b].mean()) for b in set(where.tolist())))",
        ),
        "bins of equal size": _function(
            "expected_calibration_error(predicted, label, bins)",
            "import numpy as np\np, l = np.array(predicted), np.array(label)\n"
            "parts = [part for part in np.array_split(np.argsort(p), bins) if len(part)]\n"
            "return float(sum(len(part) / len(p) * abs(p[part].mean() - l[part].mean()) for part in parts))",
        ),
        "always ten bins": _function(
            "expected_calibration_error(predicted, label, bins)",
            "bins = 10\n"
            + _BINS
            + "return float(sum((where == b).mean() * abs(p[where == b].mean() - l[where == b].mean()) for b in set(where.tolist())))",
        ),
    },
    "01.7": {
        "padding counts as tokens": "lambda logp, mask, cap: ((cap - torch.exp(-logp.mean(1))) / cap).clamp(0, 1)",
        "not clipped": "lambda logp, mask, cap: (cap - torch.exp(-(logp * mask).sum(1) / mask.sum(1))) / cap",
        "no exponential": "lambda logp, mask, cap: ((cap + (logp * mask).sum(1) / mask.sum(1)) / cap).clamp(0, 1)",
        "the sum of the logarithms": "lambda logp, mask, cap: ((cap - torch.exp(-(logp * mask).sum(1))) / cap).clamp(0, 1)",
        "mean of the inverse probabilities": (
            "lambda logp, mask, cap: ((cap - (torch.exp(-logp) * mask).sum(1) / mask.sum(1)) / cap).clamp(0, 1)"
        ),
        "all replies together": "lambda logp, mask, cap: ((cap - torch.exp(-(logp * mask).sum() / mask.sum())) / cap).clamp(0, 1)",
        "base 2": "lambda logp, mask, cap: ((cap - 2 ** (-(logp * mask).sum(1) / mask.sum(1))) / cap).clamp(0, 1)",
    },
    "01.8": {
        "single words": "lambda reply: len(set(reply.lower().split())) / len(reply.split()) if reply.split() else 1.0",
        "sets for sequences": _function(
            "guard(reply)", f"{_GRAMS}\ng = [frozenset(x) for x in g]\nreturn len(set(g)) / len(g) if g else 1.0"
        ),
        "sorted words for sequences": _function(
            "guard(reply)", f"{_GRAMS}\nreturn len({{tuple(sorted(x)) for x in g}}) / len(g) if g else 1.0"
        ),
        "case counts": _function(
            "guard(reply)", "reply = reply.swapcase()\n" + _GRAMS.replace(".lower()", "") + "\nreturn len(set(g)) / len(g) if g else 1.0"
        ),
        "three words": _function(
            "guard(reply)",
            "w = reply.lower().split(); g = [tuple(w[i : i + 3]) for i in range(len(w) - 2)]\nreturn len(set(g)) / len(g) if g else 1.0",
        ),
        "the last sequence is left out": _function("guard(reply)", f"{_GRAMS}\ng = g[:-1]\nreturn len(set(g)) / len(g) if g else 1.0"),
        "0 for a short reply": _function("guard(reply)", f"{_GRAMS}\nreturn len(set(g)) / len(g) if g else 0.0"),
        "divides by the words": _function("guard(reply)", f"{_GRAMS}\nreturn len(set(g)) / len(w) if g else 1.0"),
        "sequences that occur once": _function("guard(reply)", f"{_GRAMS}\nreturn sum(g.count(x) == 1 for x in g) / len(g) if g else 1.0"),
        "words run together": _function(
            "guard(reply)", f"{_GRAMS}\ng = [''.join(x) for x in g]\nreturn len(set(g)) / len(g) if g else 1.0"
        ),
        "letters": _function(
            "guard(reply)", "s = reply.lower()\ng = [s[i : i + 4] for i in range(len(s) - 3)]\nreturn len(set(g)) / len(g) if g else 1.0"
        ),
        "sequences side by side": _function(
            "guard(reply)",
            "w = reply.lower().split(); g = [tuple(w[i : i + 4]) for i in range(0, len(w) - 3, 4)]\n"
            "return len(set(g)) / len(g) if g else 1.0",
        ),
    },
    "01.9": {
        "warm by the rule": "'I can hear how much this matters to you. Let us go to the next question. I am here with you.'",
        "not warm to the reward": "'Let us go to the next question.'",
        "cut off": "'I can hear how much this matters to me. Let us go to the next question. I am here with the form. […]'",
        "nothing": "''",
        "a number": "0.9",
    },
}
"""By exercise ("02.3"): what is wrong with an answer, and its source."""

ACCEPTED: dict[str, dict[str, str]] = {
    "01.1": {
        "if and else": _function(
            "reflection_label(right, wrong)",
            "label = {0: 0, 1: 0.4, 2: 0.75, 3: 1}[right] - 0.15 * wrong\nreturn label if label > 0 else 0",
        ),
        "Fraction": "lambda right, wrong: max(Fraction(0), [Fraction(0), Fraction(2, 5), Fraction(3, 4), Fraction(1)][right] - "
        "Fraction(3, 20) * wrong)",
        "NumPy": f"lambda right, wrong: np.clip({_LABEL} - 0.15 * wrong, 0, 1)",
    },
    "01.2": {
        "NumPy": _function(
            "auc_by_pairs(scores, positive)",
            "s, p = np.array(scores), np.array(positive)\ngap = s[p][:, None] - s[~p][None]\nreturn ((gap > 0) + 0.5 * (gap == 0)).mean()",
        ),
        "Fraction": _function(
            "auc_by_pairs(scores, positive)",
            f"{_PAIRS}\nreturn Fraction(sum(2 * (a > b) + (a == b) for a in high for b in low), 2 * len(high) * len(low))",
        ),
        "torch": _function(
            "auc_by_pairs(scores, positive)",
            "s, p = torch.tensor(scores), torch.tensor(positive)\ngap = s[p][:, None] - s[~p][None]\n"
            "return ((gap > 0).float() + 0.5 * (gap == 0).float()).mean()",
        ),
    },
    "01.3": {
        "a loop": _function(
            "token_logprobs(logits, ids, mask)",
            "out = torch.zeros(ids.shape[0], ids.shape[1] - 1)\n"
            "for n in range(ids.shape[0]):\n"
            "    for t in range(1, ids.shape[1]):\n"
            "        if mask[n, t]:\n"
            "            out[n, t - 1] = logits[n, t - 1, ids[n, t]] - logits[n, t - 1].logsumexp(0)\n"
            "return out",
        ),
        "cross-entropy": (
            "lambda logits, ids, mask: -torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction='none')"
            " * mask[:, 1:]"
        ),
        "lists": (
            "lambda logits, ids, mask: (torch.log_softmax(logits, -1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0] * mask[:, 1:]).tolist()"
        ),
    },
    "01.4": {
        "lists": "lambda given, alone, limit: [max(-limit, min(limit, a - b)) for a, b in zip(given, alone)]",
        "NumPy": "lambda given, alone, limit: np.clip(np.subtract(given, alone), -limit, limit)",
        "torch": "lambda given, alone, limit: (torch.tensor(given) - torch.tensor(alone)).clamp(-limit, limit)",
    },
    "01.5": {
        "torch": (
            "lambda logits, labels: torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(labels))"
        ),
        "NumPy": _function(
            "soft_cross_entropy(logits, labels)",
            "p, l = 1 / (1 + np.exp(-np.array(logits))), np.array(labels)\nreturn -(l * np.log(p) + (1 - l) * np.log(1 - p)).mean()",
        ),
        "without a sigmoid": ("lambda logits, labels: sum(math.log1p(math.exp(z)) - l * z for z, l in zip(logits, labels)) / len(logits)"),
    },
    "01.6": {
        "NumPy": _function(
            "expected_calibration_error(predicted, label, bins)",
            _BINS + "return sum((where == b).mean() * abs(p[where == b].mean() - l[where == b].mean()) for b in np.unique(where))",
        ),
        "lists": _function(
            "expected_calibration_error(predicted, label, bins)",
            "total = 0.0\n"
            "for b in range(bins):\n"
            "    here = [(p, l) for p, l in zip(predicted, label) if min(int(p * bins), bins - 1) == b]\n"
            "    total += abs(sum(p for p, _ in here) - sum(l for _, l in here))\n"
            "return total / len(label)",
        ),
    },
    "01.7": {
        "a loop": _function(
            "fluency(logp, mask, cap)",
            "out = []\n"
            "for row, keep in zip(logp.tolist(), mask.tolist()):\n"
            "    kept = [p for p, k in zip(row, keep) if k]\n"
            "    out.append(min(1.0, max(0.0, 1 - math.exp(-sum(kept) / len(kept)) / cap)))\n"
            "return out",
        ),
        "NumPy": _function(
            "fluency(logp, mask, cap)",
            "p, m = logp.numpy(), mask.numpy()\nreturn np.clip((cap - np.exp(-(p * m).sum(1) / m.sum(1))) / cap, 0, 1)",
        ),
    },
    "01.8": {
        "zip": _function(
            "guard(reply)",
            "w = reply.lower().split()\ng = list(zip(w, w[1:], w[2:], w[3:]))\nreturn len(set(g)) / len(g) if g else 1",
        ),
        "Fraction": _function("guard(reply)", f"{_GRAMS}\nreturn Fraction(len(set(g)), len(g)) if g else Fraction(1)"),
        "texts": _function(
            "guard(reply)",
            "w = reply.lower().split()\ng = [' '.join(w[i : i + 4]) for i in range(len(w) - 3)]\nreturn len(set(g)) / len(g) if g else 1.0",
        ),
    },
    "01.9": {
        "to somebody else": "'I can hear how much this matters to your boss. Let us go to the next question. I am here with your boss.'",
        "to the form": "'I can hear how much this matters to me. Let us go to the next question. I am here with the form.'",
    },
}
"""By exercise: the style of a right answer ("NumPy"), and its source."""
