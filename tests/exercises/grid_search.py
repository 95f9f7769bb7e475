"""Answers to the exercises of notebook 04, the search for the weights: near misses that must be refused, and styles that must pass."""

SQUARES = "[(i, j) for i in (0, 1) for j in (0, 1)]"
CORNERS = "[means[a][b] for a in (i, i + 1) for b in (j, j + 1)]"


def square(rule: str) -> str:
    """The square that a rule over its corners `c` prefers."""
    return f"""
def best_square(means):
    def rule(square):
        i, j = square
        c = {CORNERS}
        return {rule}
    return max({SQUARES}, key=rule)
"""


def line(halves: str, answer: str = "max(seen, key=lambda k: values[k])") -> str:
    """A search on a line: `halves` says whether the lower half is taken."""
    return f"""
def search_line(values):
    low, high, seen = 0, len(values) - 1, []
    while high - low > 1:
        middle = (low + high) // 2
        last = [low, middle, high]
        seen += last
        if {halves}:
            high = middle
        else:
            low = middle
    return {answer}
"""


NEAR_MISSES: dict[str, dict[str, str]] = {
    "04.1": {
        "the largest smallest corner": square("min(c)"),
        "the largest corner, the peak": square("max(c)"),
        "the middles of the whole square's edges": """
def best_square(means):
    return int(means[2][1] > means[0][1]), int(means[1][2] > means[1][0])
""",
        "the middles of the edges around the square": """
def best_square(means):
    return max([(i, j) for i in (0, 1) for j in (0, 1)], key=lambda s: means[2 * s[0]][1] + means[1][2 * s[1]])
""",
        "the outer corner alone": square("means[2 * i][2 * j]"),
        "one diagonal": square("means[i][j] + means[i + 1][j + 1]"),
        "the axes exchanged": f"""
def best_square(means):
    def rule(square):
        i, j = square
        return sum({CORNERS})
    i, j = max({SQUARES}, key=rule)
    return j, i
""",
        "the smallest sum": square("-sum(c)"),
        "the product of the corners": square("math.prod(c)"),
        "each axis on its own": """
def best_square(means):
    return int(sum(means[2]) > sum(means[0])), int(sum(row[2] for row in means) > sum(row[0] for row in means))
""",
        "counted from 1": square("sum(c)").replace(", key=rule)", ", key=rule)[0] + 1, 0"),
    },
    "04.2": {
        "the upper end left out": "lambda d, levels: (2**levels) ** d",
        "the points of the hierarchical search": "lambda d, levels: 3**d * levels",
        "the last grid alone": "lambda d, levels: 3**d",
        "the exponents exchanged": "lambda d, levels: (2**d + 1) ** levels",
        "two points too many": "lambda d, levels: (2**levels + 1) ** d - 2",
        "one level finer": "lambda d, levels: (2 ** (levels + 1) + 1) ** d",
    },
    "04.3": {
        "the best of all values": "lambda values: max(range(len(values)), key=lambda k: values[k])",
        "the half that holds the best of the three points": line("max(values[low], values[middle]) >= max(values[middle], values[high])"),
        "the half with the smaller sum": line("values[low] <= values[high]"),
        "the half whose lower end is the better one": line("min(values[low], values[middle]) >= min(values[middle], values[high])"),
        "the lower half always": line("True"),
        "the best value instead of its place": line("values[low] >= values[high]", "max(values[k] for k in seen)"),
        "one level too few": line("values[low] >= values[high]").replace("high - low > 1", "high - low > 2 or not seen"),
        "the half whose middle beats its end": line("values[middle] >= values[high]"),
        "a share of the way instead of an index": line(
            "values[low] >= values[high]", "max(seen, key=lambda k: values[k]) / (len(values) - 1)"
        ),
        "the ends alone": line("values[low] >= values[high]").replace("last = [low, middle, high]", "last = [low, high]"),
    },
    "04.4": {
        "the zero vector counts": "lambda points: len({tuple(x / (sum(w) or 1) for x in w) for w in points})",
        "vectors without the first weight are left out": "lambda points: len({tuple(x / w[0] for x in w) for w in points if w[0]})",
        "the different points": "lambda points: len({tuple(w) for w in points if any(w)})",
        "the order of the weights is lost": "lambda points: len({tuple(sorted(x / sum(w) for x in w)) for w in points if any(w)})",
        "rounded too far": "lambda points: len({tuple(round(x / sum(w), 1) for x in w) for w in points if any(w)})",
        "divided by the length, as floats": "lambda points: len({tuple(np.array(w) / np.linalg.norm(w)) for w in points if any(w)})",
        "divided by the first weight, or by 1": "lambda points: len({tuple(x / (w[0] or 1) for x in w) for w in points if any(w)})",
        "which weights are not zero": "lambda points: len({tuple(x > 0 for x in w) for w in points if any(w)})",
        "the two first weights alone": "lambda points: len({tuple(x / (sum(w[:2]) or 1) for x in w[:2]) for w in points if any(w)})",
        "the fault that is asked for": "lambda points: len({tuple(x / w[0] for x in w) for w in points})",
    },
    "04.5": {
        "all but the zero vector": "lambda d: 3**d - 1",
        "the zero vector counts": "lambda d: 3**d - 2**d + 1",
        "half of them": "lambda d: (3**d - 1) // 2",
        "vectors of 0 and 1": "lambda d: 2**d - 1",
        "right for three objectives": "lambda d: 19",
        "doubled vectors counted for one objective alone": "lambda d: 3**d - 2 * d - 2",
    },
    "04.6": {
        "whole replies are read, too": "lambda replies: len({tuple(r[:t]) for r in replies for t in range(len(r) + 1)})",
        "the empty prefix is left out": "lambda replies: len({tuple(r[:t]) for r in replies for t in range(1, len(r))})",
        "every reply on its own": "lambda replies: sum(len(r) for r in replies)",
        "different words at each place": "lambda replies: len({(t, r[t]) for r in replies for t in range(len(r))})",
        "different replies on their own": "lambda replies: sum(len(r) for r in set(map(tuple, replies)))",
        "different words": "lambda replies: len({token for r in replies for token in r})",
        "beginnings as texts, where 1, 23 is 12, 3": """
def prefixes_to_read(replies):
    return len({"".join(map(str, reply[:t])) for reply in replies for t in range(len(reply))})
""",
        "what is shared with the reply before alone": """
def prefixes_to_read(replies):
    count, before = 0, []
    for reply in replies:
        shared = 0
        while shared < min(len(reply), len(before)) and reply[shared] == before[shared]:
            shared += 1
        count += len(reply) - (min(shared + 1, len(reply)) if before else 0)
        before = reply
    return count
""",
        "the last two words": "lambda replies: len({tuple(r[max(0, t - 2):t]) for r in replies for t in range(len(r))})",
    },
}
"""By exercise ("02.3"): what is wrong with an answer, and its source."""

ACCEPTED: dict[str, dict[str, str]] = {
    "04.1": {
        "a list": square("sum(c)").replace(f"max({SQUARES}, key=rule)", f"list(max({SQUARES}, key=rule))"),
        "NumPy": """
def best_square(means):
    m = np.array(means)
    sums = m[:-1, :-1] + m[1:, :-1] + m[:-1, 1:] + m[1:, 1:]
    return np.unravel_index(sums.argmax(), sums.shape)
""",
        "PyTorch": """
def best_square(means):
    sums = torch.nn.functional.avg_pool2d(torch.tensor(means, dtype=torch.float64)[None], 2, stride=1)[0]
    return torch.tensor(divmod(int(sums.argmax()), 2))
""",
    },
    "04.2": {
        "a formula": "lambda d, levels: (2**levels + 1) ** d",
        "NumPy": "lambda d, levels: np.prod([np.int64(2**levels + 1)] * d)",
        "as a fraction": "lambda d, levels: Fraction((2**levels + 1) ** d)",
    },
    "04.3": {
        "by recursion": """
def search_line(values):
    def best(low, high):
        middle = (low + high) // 2
        seen = [low, middle, high]
        if high - low > 2:
            seen.append(best(low, middle) if values[low] >= values[high] else best(middle, high))
        return max(seen, key=lambda k: values[k])
    return best(0, len(values) - 1)
""",
        "NumPy": line("values[low] >= values[high]", "np.array(seen)[np.array(values)[seen].argmax()]"),
    },
    "04.4": {
        "divided by the length, rounded": """
def count_directions(points):
    return len({tuple((np.array(w) / np.linalg.norm(w)).round(6)) for w in points if any(w)})
""",
        "by the greatest common divisor": "lambda points: len({tuple(x // math.gcd(*w) for x in w) for w in points if any(w)})",
        "fractions": "lambda points: len({tuple(Fraction(x, max(w)) for x in w) for w in points if any(w)})",
        "NumPy": """
def count_directions(points):
    w = np.array(points, dtype=float)
    w = w[w.sum(1) > 0]
    return len(np.unique((w / w.sum(1, keepdims=True)).round(9), axis=0))
""",
    },
    "04.5": {
        "a formula": "lambda d: 3**d - 2**d",
        "by counting": """
from itertools import product

def directions(d):
    return len({tuple(x / sum(w) for x in w) for w in product((0, 1, 2), repeat=d) if any(w)})
""",
        "NumPy": "lambda d: np.int64(3) ** d - np.int64(2) ** d",
    },
    "04.6": {
        "a tree": """
def prefixes_to_read(replies):
    tree = {}
    def nodes(branch):
        return 1 + sum(nodes(below) for below in branch.values() if below)
    for reply in replies:
        branch = tree
        for token in reply:
            branch = branch.setdefault(token, {})
    return nodes(tree)
""",
        "whole replies taken away again": """
def prefixes_to_read(replies):
    beginnings = {tuple(r[:t]) for r in replies for t in range(len(r) + 1)}
    return len(beginnings - {tuple(r) for r in replies})
""",
        "tensors": "lambda replies: torch.tensor(len({tuple(r[:t]) for r in replies for t in range(len(r))}))",
    },
}
"""By exercise: the style of a right answer ("NumPy"), and its source."""
