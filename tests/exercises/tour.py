"""Answers to the exercises of notebook 00, the task and the tour: near misses that must be refused, and styles that must pass."""

_UTILITY = "def utility(scores, weights):\n    return "
_LABEL = "def reflection_label(right, wrong):\n    earned = {0: 0.0, 1: 0.4, 2: 0.75, 3: 1.0}[right]\n    return "


def _front(kept: str, dominates: str = "all(x >= y for x, y in zip(a, b)) and any(x > y for x, y in zip(a, b))") -> str:
    return f"def front(scores):\n    def dominates(a, b):\n        return {dominates}\n\n    return {kept}"


def _switch(body: str) -> str:
    return f"def switch(a, b):\n    p, q = a[0] - b[0], a[1] - b[1]\n    {body}"


_KEPT = "[i for i, b in enumerate(scores) if not any(dominates(a, b) for a in scores)]"

NEAR_MISSES: dict[str, dict[str, str]] = {
    "00.1": {
        "wrong elements cost nothing": "0.40",
        "one of the two costs": "0.25",
        "all three count as right": "0.70",
        "a wrong one counts as right": "0.60",
        "nothing is left": "0",
    },
    "00.2": {
        "wrong elements cost nothing": _LABEL + "earned",
        "no floor at 0": _LABEL + "earned - 0.15 * wrong",
        "any number of wrong ones costs once": _LABEL + "max(0, earned - 0.15 * (wrong > 0))",
        "wrong ones take right ones away": "def reflection_label(right, wrong):\n    return [0, 0.4, 0.75, 1][max(0, right - wrong)]",
        "a third for each element": "def reflection_label(right, wrong):\n    return max(0, right / 3 - 0.15 * wrong)",
        "a share is taken off": _LABEL + "max(0, earned * (1 - 0.15 * wrong))",
    },
    "00.3": {
        "ignores the weights": _UTILITY + "sum(scores) / len(scores)",
        "does not divide": _UTILITY + "sum(s * w for s, w in zip(scores, weights))",
        "divides by the number of objectives": _UTILITY + "sum(s * w for s, w in zip(scores, weights)) / len(weights)",
        "divides by the scores": _UTILITY + "sum(s * w for s, w in zip(scores, weights)) / sum(scores)",
        "the objective of the greatest weight": _UTILITY + "max(zip(weights, scores))[1]",
        "leaves out the last objective": _UTILITY + "sum(s * w for s, w in zip(scores[:-1], weights)) / sum(weights)",
    },
    "00.4": {
        "the best sum alone": "def front(scores):\n    return [max(range(len(scores)), key=lambda i: sum(scores[i]))]",
        "only the best at one objective": (
            "def front(scores):\n    return sorted({max(range(len(scores)), key=lambda i: scores[i][k]) for k in range(len(scores[0]))})"
        ),
        "all that are best at some objective": (
            "def front(scores):\n    best = [max(column) for column in zip(*scores)]\n"
            "    return [i for i, s in enumerate(scores) if any(x == b for x, b in zip(s, best))]"
        ),
        "compares with earlier replies only": _front("[i for i, b in enumerate(scores) if not any(dominates(a, b) for a in scores[:i])]"),
        "two objectives only": _front(_KEPT, "a[0] >= b[0] and a[-1] >= b[-1] and (a[0] > b[0] or a[-1] > b[-1])"),
        "the first two objectives only": _front(_KEPT, "all(x >= y for x, y in zip(a[:2], b)) and any(x > y for x, y in zip(a[:2], b))"),
        "better in all": _front(_KEPT, "all(x > y for x, y in zip(a, b))"),
        "equals drop each other": _front(
            "[i for i, b in enumerate(scores) if not any(dominates(a, b) for j, a in enumerate(scores) if j != i)]",
            "all(x >= y for x, y in zip(a, b))",
        ),
        "one of equals": _front("[i for i, b in enumerate(scores) if b not in scores[:i] and not any(dominates(a, b) for a in scores)]"),
        "the replies, not their indices": _front("[b for b in scores if not any(dominates(a, b) for a in scores)]"),
        "the dominated ones": _front("[i for i, b in enumerate(scores) if any(dominates(a, b) for a in scores)]"),
    },
    "00.5": {
        "the other objective's weight": _switch("return None if p * q >= 0 else 1 - p / (p - q)"),
        "outside 0 to 1 too": _switch("return None if p == q else p / (p - q)"),
        "no sign": _switch("return None if p * q >= 0 else p / (p + q) if p + q else 0.5"),
        "half way": _switch("return None if p * q >= 0 else 0.5"),
        "only if the first reply is ahead": _switch("return p / (p - q) if p > 0 > q else None"),
        "0 where nothing changes": _switch("return 0.0 if p * q >= 0 else p / (p - q)"),
        "to two digits": _switch("return None if p * q >= 0 else round(p / (p - q), 2)"),
        "an end where they are equal": _switch("return None if p * q > 0 or p == q else p / (p - q)"),
    },
    "00.6": {
        "level with both at one weight": "[(1, 0), (0.5, 0.5), (0, 1)]",
        "best in the middle": "[(1, 0), (0.6, 0.6), (0, 1)]",
        "dominated": "[(1, 0.5), (0.4, 0.4), (0, 1)]",
        "the first is the one": "[(0.4, 0.4), (1, 0), (0, 1)]",
        "best near one end": "[(0.9, 0), (0.3, 0.2), (0.1, 0.15)]",
        "scores above 1": "[(4, 0), (1, 1), (0, 4)]",
        "four replies": "[(1, 0), (0.4, 0.4), (0, 1), (0, 0)]",
        "three objectives": "[(1, 0, 0), (0.4, 0.4, 0.4), (0, 1, 0)]",
        "all the same": "[(0.5, 0.5)] * 3",
        "texts": '[("1", "0"), ("0.4", "0.4"), ("0", "1")]',
        "level with one at an end": "[(0.4, 0), (0.4, 0.3), (0, 1)]",
        "in per cent": "[(100, 0), (40, 40), (0, 100)]",
    },
}
"""By exercise ("02.3"): what is wrong with an answer, and its source."""

ACCEPTED: dict[str, dict[str, str]] = {
    "00.1": {"a number": "0.1", "computed": "0.40 - 2 * 0.15", "Fraction": "Fraction(1, 10)", "NumPy": "np.float32(0.1)"},
    "00.2": {
        "NumPy": "def reflection_label(right, wrong):\n    return np.maximum(0, np.array([0, 0.4, 0.75, 1])[right] - 0.15 * wrong)",
        "torch": "def reflection_label(right, wrong):\n    return (torch.tensor([0, 0.4, 0.75, 1])[right] - 0.15 * wrong).clamp(min=0)",
        "Fraction": (
            "def reflection_label(right, wrong):\n"
            "    return max(Fraction(0), [Fraction(0), Fraction(2, 5), Fraction(3, 4), Fraction(1)][right] - Fraction(3, 20) * wrong)"
        ),
    },
    "00.3": {
        "NumPy": _UTILITY + "np.average(scores, weights=weights)",
        "torch": _UTILITY + "torch.tensor(scores) @ torch.tensor(weights, dtype=torch.float32) / sum(weights)",
        "Fraction": _UTILITY + "sum(Fraction(s) * Fraction(w) for s, w in zip(scores, weights)) / sum(map(Fraction, weights))",
    },
    "00.4": {
        "NumPy": (
            "def front(scores):\n    s = np.array(scores)\n    a, b = s[:, None], s[None]\n"
            "    return np.flatnonzero(~((a >= b).all(2) & (a > b).any(2)).any(0))"
        ),
        "torch": (
            "def front(scores):\n    s = torch.tensor(scores)\n    a, b = s[:, None], s[None]\n"
            "    return (~((a >= b).all(2) & (a > b).any(2)).any(0)).nonzero().flatten()"
        ),
        "tuple": _front(f"tuple({_KEPT})"),
    },
    "00.5": {
        "NumPy": _switch("return None if p * q >= 0 else np.float64(p) / np.float64(p - q)"),
        "torch": _switch("return None if p * q >= 0 else torch.tensor(p / (p - q))"),
        "by bisection": (
            "def switch(a, b):\n    lead = lambda w: (1 - w) * (a[0] - b[0]) + w * (a[1] - b[1])\n    if lead(0) * lead(1) >= 0:\n"
            "        return None\n    low, high = 0.0, 1.0\n    for _ in range(60):\n        middle = (low + high) / 2\n"
            "        low, high = (middle, high) if lead(middle) * lead(0) > 0 else (low, middle)\n    return low"
        ),
    },
    "00.6": {
        "tuples": "[(1, 0), (0.4, 0.4), (0, 1)]",
        "the other way round": "((0.0, 0.9), (0.1, 0.2), (0.9, 0.0))",
        "NumPy": "np.array([[1, 0], [0.3, 0.5], [0, 1]])",
        "torch": "torch.tensor([[0.8, 0.1], [0.4, 0.3], [0.1, 0.9]])",
        "Fraction": "[(1, 0), (Fraction(2, 5), Fraction(1, 2)), (0, 1)]",
    },
}
"""By exercise: the style of a right answer ("NumPy"), and its source."""
