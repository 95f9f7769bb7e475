"""Answers to the exercises of notebook 05, every weight at once: near misses that must be refused, and styles that must pass."""


def walk(candidates: str, order: str, ends: str = "crossings[0][0] >= 1") -> str:
    """A walk along the line from piece to piece: who may take over, and in which order."""
    return f"""
def decision_map(z):
    def slope(v):
        return z[v][1] - z[v][0]

    at, word, pieces = 0.0, max(range(len(z)), key=lambda v: z[v][0]), []
    for _ in range(100):
        rivals = [v for v in range(len(z)) if {candidates}]
        crossings = [((z[word][0] - z[v][0]) / (slope(v) - slope(word)), -slope(v), v) for v in rivals]
        crossings.sort(key=lambda c: {order})
        if not crossings or {ends}:
            return [*pieces, (at, 1.0, word)]
        border, _, rival = crossings[0]
        pieces.append((at, border, word))
        at, word = border, rival
    return pieces
"""


RIGHT_WALK = walk("slope(v) > slope(word)", "c")
OPEN = "[v for v in range(len(z[0])) if not any({} for u in range(len(z[0])) if u != v)]"
WINNERS = "[max(range(len(z[0])), key=lambda v: sum(w * row[v] for w, row in zip(corner, z))) for corner in corners]"
SHOELACE = "sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, {}))"
SHIFTED = "corners[1:] + corners[:1]"

NEAR_MISSES: dict[str, dict[str, str]] = {
    "05.1": {
        "the weight of the first adapter": "lambda a, b: (b[1] - a[1]) / ((a[0] - b[0]) + (b[1] - a[1]))",
        "the middle": "lambda a, b: 0.5",
        "leads not taken": "lambda a, b: a[0] / (a[0] + b[1])",
        "read off a grid of a thousand": (
            "lambda a, b: min((k / 1000 for k in range(1001)), key=lambda t: abs((1 - t) * (a[0] - b[0]) + t * (a[1] - b[1])))"
        ),
        "the ratio of both leads": "lambda a, b: (a[0] - b[0]) / (b[1] - a[1])",
        "the difference of both leads": "lambda a, b: (a[0] - b[0]) / ((a[0] - b[0]) - (b[1] - a[1]))",
        "the lines not crossed": "lambda a, b: (a[0] - b[0]) / (a[0] - b[0] + b[0] - a[1])",
    },
    "05.2": {
        "the winners at both ends alone": """
def decision_map(z):
    a, b = (max(range(len(z)), key=lambda v: z[v][k]) for k in (0, 1))
    if a == b:
        return [(0.0, 1.0, a)]
    t = (z[a][0] - z[b][0]) / (z[a][0] - z[b][0] + z[b][1] - z[a][1])
    return [(0.0, t, a), (t, 1.0, b)]
""",
        "the steepest takes over first": walk("slope(v) > slope(word)", "(c[1], c)"),
        "the first word of the list takes over": walk("slope(v) > slope(word)", "c[2]"),
        "a step that ends at the first border": walk("slope(v) > slope(word)", "c", "pieces"),
        "borders beyond the line": walk("slope(v) > slope(word)", "c", "False"),
        "the last piece is missing": RIGHT_WALK.replace("[*pieces, (at, 1.0, word)]", "pieces"),
        "the last border first": walk("slope(v) > slope(word)", "(-c[0], c)"),
        "the winners at both ends and in the middle": """
def decision_map(z):
    best = [max(range(len(z)), key=lambda v: (1 - t) * z[v][0] + t * z[v][1]) for t in (0, 0.5, 1)]
    pieces, at = [], 0.0
    for a, b in zip(best, best[1:]):
        if a != b:
            border = (z[a][0] - z[b][0]) / (z[a][0] - z[b][0] + z[b][1] - z[a][1])
            pieces.append((at, border, a))
            at = border
    return [*pieces, (at, 1.0, best[-1])]
""",
        "borders off by half a step of a thousand": RIGHT_WALK.replace("at, word = border, rival", "at, word = round(border, 3), rival"),
        "every piece begins at 0": RIGHT_WALK.replace("pieces.append((at, border, word))", "pieces.append((0.0, border, word))"),
    },
    "05.4": {
        "favourites alone": "lambda z: sorted({max(range(len(row)), key=lambda v: row[v]) for row in z})",
        "a tie beats, too": "lambda z: " + OPEN.format("all(row[u] >= row[v] for row in z)"),
        "beaten with one adapter is enough": "lambda z: " + OPEN.format("any(row[u] > row[v] for row in z)"),
        "beaten by sum": "lambda z: " + OPEN.format("sum(row[u] for row in z) > sum(row[v] for row in z)"),
        "beaten by the best of each adapter together": "lambda z: [v for v in range(len(z[0])) if any(row[v] == max(row) for row in z)]",
        "the words that are beaten": "lambda z: " + OPEN.format("all(row[u] > row[v] for row in z)").replace("not any", "any"),
        "the two first adapters alone": "lambda z: " + OPEN.format("all(row[u] > row[v] for row in z[:2])"),
        "compared with the favourites alone": """
def open_words(z):
    z = np.array(z)
    return [v for v in range(z.shape[1]) if not any((z[:, v] < z[:, u]).all() for u in z.argmax(1))]
""",
        "every word": "lambda z: list(range(len(z[0])))",
    },
    "05.5": {
        "the middle alone": """
def agreed(corners, z):
    return int((np.array(corners).mean(0) @ np.array(z)).argmax())
""",
        "the first corner alone": "lambda corners, z: " + WINNERS + "[0]",
        "the most frequent": "lambda corners, z: max(" + WINNERS + ", key=" + WINNERS + ".count)",
        "the first and the last corner": f"""
def agreed(corners, z):
    w = {WINNERS}
    return w[0] if w[0] == w[-1] else -1
""",
        "all adapters' own words": """
def agreed(corners, z):
    w = {max(range(len(row)), key=lambda v: row[v]) for row in z}
    return w.pop() if len(w) == 1 else -1
""",
        "the middle and the first corner": """
def agreed(corners, z):
    middle = int((np.array(corners).mean(0) @ np.array(z)).argmax())
    return middle if middle == int((np.array(corners[0]) @ np.array(z)).argmax()) else -1
""",
        "a word that is best with every adapter": """
def agreed(corners, z):
    best = [v for v in range(len(z[0])) if all(row[v] == max(row) for row in z)]
    return best[0] if best else -1
""",
        "the largest sum over the corners": """
def agreed(corners, z):
    return int((np.array(corners) @ np.array(z)).sum(0).argmax())
""",
        "where they disagree the first word": f"""
def agreed(corners, z):
    w = {WINNERS}
    return w[0] if len(set(w)) == 1 else 0
""",
    },
    "05.3": {
        "half of it, the area between two weights": "lambda corners: abs(" + SHOELACE.format(SHIFTED) + ") / 2",
        "negative one way round": "lambda corners: " + SHOELACE.format(SHIFTED),
        "the last side is missing": "lambda corners: abs(" + SHOELACE.format("corners[1:]") + ")",
        "the first three corners alone": """
def share(corners):
    corners = corners[:3]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, corners[1:] + corners[:1])))
""",
        "of the drawn triangle": "lambda corners: abs(" + SHOELACE.format(SHIFTED) + ") * math.sqrt(3) / 4",
        "the part of the edges' length": """
def share(corners):
    c = np.array(corners, dtype=float)
    return np.linalg.norm(c - np.roll(c, -1, axis=0), axis=1).sum() / (3 * math.sqrt(2))
""",
        "the corners' mean": "lambda corners: sum(c[0] for c in corners) / len(corners)",
        "each part made positive": "lambda corners: sum(abs(a[0] * b[1] - b[0] * a[1]) for a, b in zip(corners, " + SHIFTED + "))",
        "the corners' box": "lambda corners: math.prod(max(c[k] for c in corners) - min(c[k] for c in corners) for k in (0, 1))",
    },
    "05.6": {
        "the best region, in reach or not": "lambda worth, reachable: sum(max(w) for w in worth) / len(worth)",
        "a sum": "lambda worth, reachable: sum(max(w[i] for i in r) for w, r in zip(worth, reachable))",
        "the best client": "lambda worth, reachable: max(max(w[i] for i in r) for w, r in zip(worth, reachable))",
        "the mean of what is in reach": "lambda worth, reachable: np.mean([np.mean([w[i] for i in r]) for w, r in zip(worth, reachable)])",
        "the worst in reach": "lambda worth, reachable: sum(min(w[i] for i in r) for w, r in zip(worth, reachable)) / len(worth)",
        "as many as are in reach, from the first": (
            "lambda worth, reachable: sum(max(w[: len(r)]) for w, r in zip(worth, reachable)) / len(worth)"
        ),
        "the median client": "lambda worth, reachable: float(np.median([max(w[i] for i in r) for w, r in zip(worth, reachable)]))",
        "the first in reach": "lambda worth, reachable: sum(w[r[0]] for w, r in zip(worth, reachable)) / len(worth)",
        "one number for all regions": "lambda worth, reachable: np.mean([w[i] for w, r in zip(worth, reachable) for i in r])",
        "clients with one region left out": "lambda worth, reachable: sum(max(w[i] for i in r) for w, r in zip(worth, reachable) if r[1:])",
        "never below zero": "lambda worth, reachable: sum(max(0, *(w[i] for i in r)) for w, r in zip(worth, reachable)) / len(worth)",
    },
    "05.7": {
        "chosen on the original": """
def flattery(scores, counts):
    chosen = max(scores, key=sum)
    return sum(c * s for c, s in zip(counts, chosen)) / sum(counts) - sum(chosen) / len(chosen)
""",
        "less the best of the original": """
def flattery(scores, counts):
    return max(sum(c * s for c, s in zip(counts, line)) / sum(counts) for line in scores) - max(sum(line) / len(line) for line in scores)
""",
        "a client counts once": """
def flattery(scores, counts):
    held = [j for j, c in enumerate(counts) if c]
    chosen = max(scores, key=lambda line: sum(line[j] for j in held))
    return sum(chosen[j] for j in held) / len(held) - sum(chosen) / len(chosen)
""",
        "divided by the clients that are in it": """
def flattery(scores, counts):
    chosen = max(scores, key=lambda line: sum(c * s for c, s in zip(counts, line)))
    return sum(c * s for c, s in zip(counts, chosen)) / sum(c > 0 for c in counts) - sum(chosen) / len(chosen)
""",
        "less the score of those left out": """
def flattery(scores, counts):
    chosen = max(scores, key=lambda line: sum(c * s for c, s in zip(counts, line)))
    out = [s for c, s in zip(counts, chosen) if not c] or [0.0]
    return sum(c * s for c, s in zip(counts, chosen)) / sum(counts) - sum(out) / len(out)
""",
        "the other way round": """
def flattery(scores, counts):
    chosen = max(scores, key=lambda line: sum(c * s for c, s in zip(counts, line)))
    return sum(chosen) / len(chosen) - sum(c * s for c, s in zip(counts, chosen)) / sum(counts)
""",
        "never negative": """
def flattery(scores, counts):
    chosen = max(scores, key=lambda line: sum(c * s for c, s in zip(counts, line)))
    return abs(sum(c * s for c, s in zip(counts, chosen)) / sum(counts) - sum(chosen) / len(chosen))
""",
        "the promise alone": "lambda scores, counts: max(sum(c * s for c, s in zip(counts, line)) / sum(counts) for line in scores)",
    },
    "05.8": {
        "a straight line": """
def enough(n_1, r_1, n_2, r_2, wanted):
    return -1 if r_2 >= r_1 else n_1 + (r_1 - wanted) * (n_2 - n_1) / (r_1 - r_2)
""",
        "always one over the root": "lambda n_1, r_1, n_2, r_2, wanted: -1 if r_2 >= r_1 else n_1 * (r_1 / wanted) ** 2",
        "always one over the number": "lambda n_1, r_1, n_2, r_2, wanted: -1 if r_2 >= r_1 else n_1 * r_1 / wanted",
        "the power itself, not its inverse": """
def enough(n_1, r_1, n_2, r_2, wanted):
    return -1 if r_2 >= r_1 else n_1 * (r_1 / wanted) ** (math.log(r_1 / r_2) / math.log(n_2 / n_1))
""",
        "from the second number on, with the first lack": """
def enough(n_1, r_1, n_2, r_2, wanted):
    return -1 if r_2 >= r_1 else n_2 * (r_1 / wanted) ** (math.log(n_2 / n_1) / math.log(r_1 / r_2))
""",
        "a fall that is not asked for": """
def enough(n_1, r_1, n_2, r_2, wanted):
    return n_1 * (r_1 / wanted) ** (math.log(n_2 / n_1) / (abs(math.log(r_1 / r_2)) or 1))
""",
        "rounded up": """
def enough(n_1, r_1, n_2, r_2, wanted):
    return -1 if r_2 >= r_1 else math.ceil(n_1 * (r_1 / wanted) ** (math.log(n_2 / n_1) / math.log(r_1 / r_2)))
""",
        "so many more": """
def enough(n_1, r_1, n_2, r_2, wanted):
    return -1 if r_2 >= r_1 else n_1 * (r_1 / wanted) ** (math.log(n_2 / n_1) / math.log(r_1 / r_2)) - n_2
""",
    },
    "05.9": {
        "all scores in one pot": "lambda scores: np.std(scores, ddof=1) / sum(map(len, scores)) ** 0.5",
        "for new clients": "lambda scores: np.std([sum(x) / len(x) for x in scores], ddof=len(scores) > 1) / len(scores) ** 0.5",
        "a variance that is too small": "lambda scores: sum(np.var(x) / len(x) for x in scores) ** 0.5 / len(scores)",
        "not divided by the clients": "lambda scores: sum(np.var(x, ddof=1) / len(x) for x in scores) ** 0.5",
        "the mean of the clients' errors": "lambda scores: sum((np.var(x, ddof=1) / len(x)) ** 0.5 for x in scores) / len(scores)",
        "the mean of the clients' variances": "lambda scores: (sum(np.var(x, ddof=1) / len(x) for x in scores) / len(scores)) ** 0.5",
        "not divided by the samples": "lambda scores: sum(np.var(x, ddof=1) for x in scores) ** 0.5 / len(scores)",
        "the variance, not its root": "lambda scores: sum(np.var(x, ddof=1) / len(x) for x in scores) / len(scores) ** 2",
    },
}
"""By exercise ("02.3"): what is wrong with an answer, and its source."""

ACCEPTED: dict[str, dict[str, str]] = {
    "05.1": {
        "fractions": """
def border(a, b):
    a, b = [Fraction(x) for x in a], [Fraction(x) for x in b]
    return (a[0] - b[0]) / ((a[0] - b[0]) + (b[1] - a[1]))
""",
        "NumPy": "lambda a, b: np.linalg.solve([[1.0, b[0] - b[1]], [1.0, a[0] - a[1]]], [b[0], a[0]])[1]",
        "PyTorch": """
def border(a, b):
    lead = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    return lead[0] / (lead[0] - lead[1])
""",
    },
    "05.2": {
        "a walk": RIGHT_WALK,
        "all borders, then the winners between them": """
def decision_map(z):
    at = {0.0, 1.0}
    for a in z:
        for b in z:
            fall = (a[0] - b[0]) + (b[1] - a[1])
            if fall and 0 < (a[0] - b[0]) / fall < 1:
                at.add((a[0] - b[0]) / fall)
    at, pieces = sorted(at), []
    for start, end in zip(at, at[1:]):
        if end - start < 1e-12:
            continue
        t = (start + end) / 2
        word = max(range(len(z)), key=lambda v: (1 - t) * z[v][0] + t * z[v][1])
        if pieces and pieces[-1][2] == word:
            pieces[-1] = [pieces[-1][0], end, word]
        else:
            pieces.append([start, end, word])
    return pieces
""",
    },
    "05.4": {
        "in another order": "lambda z: " + OPEN.format("all(row[u] > row[v] for row in z)") + "[::-1]",
        "NumPy": """
def open_words(z):
    z = np.array(z)
    beaten = (z[:, None, :] > z[:, :, None]).all(0).any(1)
    return np.flatnonzero(~beaten)
""",
        "PyTorch": """
def open_words(z):
    z = torch.tensor(z)
    return torch.nonzero(~(z[:, None, :] > z[:, :, None]).all(0).any(1)).flatten()
""",
    },
    "05.5": {
        "a loop": f"""
def agreed(corners, z):
    w = {WINNERS}
    return w[0] if len(set(w)) == 1 else -1
""",
        "PyTorch": """
def agreed(corners, z):
    words = (torch.tensor(corners).double() @ torch.tensor(z).double()).argmax(1)
    return words[0] if (words == words[0]).all() else torch.tensor(-1)
""",
    },
    "05.3": {
        "NumPy": """
def share(corners):
    x, y = np.array(corners, dtype=float)[:, 1:].T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))
""",
        "a fan of triangles": """
def share(corners):
    return sum(abs(np.linalg.det(np.array([corners[0], b, c]))) for b, c in zip(corners[1:], corners[2:]))
""",
    },
    "05.6": {
        "a loop": """
def bound(worth, reachable):
    total = 0.0
    for scores, regions in zip(worth, reachable):
        total += max(scores[i] for i in regions)
    return total / len(worth)
""",
        "NumPy": "lambda worth, reachable: np.mean([np.array(w)[r].max() for w, r in zip(worth, reachable)])",
        "PyTorch": "lambda worth, reachable: torch.stack([torch.tensor(w)[r].max() for w, r in zip(worth, reachable)]).mean()",
    },
    "05.7": {
        "a loop": """
def flattery(scores, counts):
    best, real = None, 0.0
    for line in scores:
        promise = sum(c * s for c, s in zip(counts, line)) / sum(counts)
        if best is None or promise > best:
            best, real = promise, sum(line) / len(line)
    return best - real
""",
        "NumPy": """
def flattery(scores, counts):
    scores, counts = np.array(scores), np.array(counts)
    there = scores @ counts / counts.sum()
    return there.max() - scores[there.argmax()].mean()
""",
        "PyTorch": """
def flattery(scores, counts):
    scores, counts = torch.tensor(scores).double(), torch.tensor(counts).double()
    there = scores @ counts / counts.sum()
    return there.max() - scores[there.argmax()].mean()
""",
    },
    "05.8": {
        "the factor first": """
def enough(n_1, r_1, n_2, r_2, wanted):
    if r_2 >= r_1:
        return -1
    a = math.log(r_1 / r_2) / math.log(n_2 / n_1)
    return (r_1 * n_1**a / wanted) ** (1 / a)
""",
        "NumPy": """
def enough(n_1, r_1, n_2, r_2, wanted):
    if r_2 >= r_1:
        return -1
    slope, height = np.polyfit(np.log([n_1, n_2]), np.log([r_1, r_2]), 1)
    return np.exp((np.log(wanted) - height) / slope)
""",
    },
    "05.9": {
        "a loop": """
def standard_error(scores):
    total = 0.0
    for line in scores:
        mean = sum(line) / len(line)
        total += sum((s - mean) ** 2 for s in line) / (len(line) - 1) / len(line)
    return total**0.5 / len(scores)
""",
        "NumPy": """
def standard_error(scores):
    s = np.array(scores)
    return np.sqrt(s.var(1, ddof=1).sum() / s.shape[1]) / len(s)
""",
        "PyTorch": """
def standard_error(scores):
    s = torch.tensor(scores, dtype=torch.float64)
    return (s.var(1).sum() / s.shape[1]).sqrt() / len(s)
""",
    },
}
"""By exercise: the style of a right answer ("NumPy"), and its source."""
