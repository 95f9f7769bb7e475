"""Answers to the exercises of notebook 07, steerable policies: near misses that must be refused, and styles that must pass."""

GATED = "def gated(x, A, B, g, s):\n"
WORDS = "import numpy as np\n\ndef next_words(h, logits, A, B, s, points):\n"
FLIP = "import numpy as np\n\ndef flip(z_base, z_policy):\n    z, one = np.array(z_base), np.array(z_policy)\n    a = int(z.argmax())\n"
SLOPES = "    slope = (one - z) - (one - z)[a]\n"
SHARE = "import numpy as np\n\ndef dominated_share(first, second):\n    first, second = np.array(first), np.array(second)\n"
OVER = "    over = lambda p, q: (p >= q).all() and (p > q).any()\n"
FRONT = "    front = [q for q in second if not any(over(p, q) for p in second)]\n"

UNDO = "import numpy as np\n\ndef undo(B, w):\n    w = np.array(w) / sum(w)\n"

GUIDED = (
    "import numpy as np\n\ndef guided_word(base, rewards, w, beta):\n    z, r, total = np.array(base), np.array(rewards), sum(w)\n"
    "    w = np.array(w) / total\n    soft = lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum()\n"
)

NEAR_MISSES: dict[str, dict[str, str]] = {
    "07.1": {
        "the weights in turn": "def clp_gates(w, R):\n    return [1.0] * R + list(w) * R",
        "no shared block": "def clp_gates(w, R):\n    return [x for x in w for _ in range(R)]",
        "one shared gate": "def clp_gates(w, R):\n    return [1.0] + [x for x in w for _ in range(R)]",
        "the shared block last": "def clp_gates(w, R):\n    return [x for x in w for _ in range(R)] + [1.0] * R",
        "weights divided by the rank": "def clp_gates(w, R):\n    return [1.0] * R + [x / R for x in w for _ in range(R)]",
    },
    "07.2": {
        "every row with the first one's gates": GATED + "    return s * ((x @ A.T) * g[:1]) @ B.T",
        "gates averaged over the rows": GATED + "    return s * ((x @ A.T) * g.mean(0)) @ B.T",
        "no scale": GATED + "    return ((x @ A.T) * g) @ B.T",
        "no gates": GATED + "    return s * (x @ A.T) @ B.T",
        "gates squared": GATED + "    return s * ((x @ A.T) * g * g) @ B.T",
    },
    "07.3": {
        "the plain logits left out": WORDS + "    e = np.array([s * b @ (a @ h) for a, b in zip(A, B)])\n    return (points @ e).argmax(1)",
        "no scale": WORDS + "    e = np.array([logits + b @ (a @ h) for a, b in zip(A, B)])\n    return (points @ e).argmax(1)",
        "experts added up, whatever the weights": WORDS
        + "    e = logits + s * sum(b @ (a @ h) for a, b in zip(A, B))\n    return np.full(len(points), e.argmax())",
        "the word of each user's favourite expert": WORDS
        + "    e = np.array([logits + s * b @ (a @ h) for a, b in zip(A, B)])\n    return e.argmax(1)[points.argmax(1)]",
        "A and B averaged apart": WORDS
        + "    soup = [sum(w * b for w, b in zip(p, B)) @ (sum(w * a for w, a in zip(p, A)) @ h) for p in points]\n"
        "    return (logits + s * np.array(soup)).argmax(1)",
        "probabilities mixed": WORDS + "    e = np.array([logits + s * b @ (a @ h) for a, b in zip(A, B)])\n"
        "    q = np.exp(e - e.max(1, keepdims=True))\n    return (points @ (q / q.sum(1, keepdims=True))).argmax(1)",
    },
    "07.4": {
        "the policy's word alone": FLIP
        + "    b = int(one.argmax())\n    if b == a:\n        return float('inf'), a\n"
        + SLOPES
        + "    return (z[a] - z[b]) / slope[b], b",
        "cut at 1": FLIP + SLOPES + "    found = [(min((z[a] - z[v]) / slope[v], 1.0), v) for v in range(len(z)) if slope[v] > 0]\n"
        "    return min(found) if found else (float('inf'), a)",
        "the base's second word alone": FLIP
        + SLOPES
        + "    v = int(z.argsort()[-2])\n"
        + "    return ((z[a] - z[v]) / slope[v], v) if slope[v] > 0 else (float('inf'), a)",
        "negative strengths too": FLIP + SLOPES + "    found = [((z[a] - z[v]) / slope[v], v) for v in range(len(z)) if slope[v] != 0]\n"
        "    return min(found) if found else (float('inf'), a)",
        "the policy's logits for the slope": FLIP
        + "    slope = one - one[a]\n    found = [((z[a] - z[v]) / slope[v], v) for v in range(len(z)) if slope[v] > 0]\n"
        "    return min(found) if found else (float('inf'), a)",
        "the last crossing": FLIP + SLOPES + "    found = [((z[a] - z[v]) / slope[v], v) for v in range(len(z)) if slope[v] > 0]\n"
        "    return max(found) if found else (float('inf'), a)",
        "a constant counts": FLIP
        + "    slope = one - z\n    found = [((z[a] - z[v]) / slope[v], v) for v in range(len(z)) if v != a and slope[v] > 0]\n"
        "    return min(found) if found else (float('inf'), a)",
    },
    "07.5": {
        "boxes added up": "def area(points):\n    return sum(x * y for x, y in points)",
        "the box around all": "def area(points):\n    return max(x for x, _ in points) * max(y for _, y in points)",
        "the largest box": "def area(points):\n    return max(x * y for x, y in points)",
        "two by two, what is shared": "def area(points):\n    points = sorted(set(map(tuple, points)))\n"
        "    pairs = zip(points, points[1:])\n"
        "    return sum(x * y for x, y in points) - sum(min(a, c) * min(b, d) for (a, b), (c, d) in pairs)",
        "dominated points stay": "def area(points):\n    total, before = 0.0, 0.0\n    for x, y in sorted(points):\n"
        "        total, before = total + (x - before) * y, x\n    return total",
        "a slope between the points": "def area(points):\n    best, front = 0.0, []\n    for x, y in sorted(points, reverse=True):\n"
        "        if y > best:\n            best = y\n            front.append((x, y))\n    front.reverse()\n"
        "    total = front[0][0] * front[0][1]\n    for (a, b), (c, d) in zip(front, front[1:]):\n"
        "        total += (c - a) * (b + d) / 2\n    return total",
    },
    "07.6": {
        "an equal point dominates": SHARE
        + OVER
        + FRONT
        + "    front = np.unique(front, axis=0)\n    return sum(any((p >= q).all() for p in first) for q in front) / len(front)",
        "higher in every objective": SHARE
        + OVER
        + FRONT
        + "    front = np.unique(front, axis=0)\n    return sum(any((p > q).all() for p in first) for q in front) / len(front)",
        "a point twice counts twice": SHARE + OVER + FRONT + "    return sum(any(over(p, q) for p in first) for q in front) / len(front)",
        "all points of the second": SHARE
        + OVER
        + "    rows = np.unique(second, axis=0)\n    return sum(any(over(p, q) for p in first) for q in rows) / len(rows)",
        "the other way round": SHARE + OVER + "    front = np.unique([q for q in first if not any(over(p, q) for p in first)], axis=0)\n"
        "    return sum(any(over(p, q) for p in second) for q in front) / len(front)",
    },
    "07.7": {
        "the largest score": "def steering(p, w):\n    given = float((w * p).sum(1).mean())\n    return given, float(p.max()) - given",
        "the best answer for its own weights": "def steering(p, w):\n    given = (w * p).sum(1)\n"
        "    return float(given.mean()), float(given.max() - given.mean())",
        "the mean of the objectives": "def steering(p, w):\n    given = float(p.mean())\n"
        "    return given, float((w @ p.T).max(1).mean()) - given",
        "the best weights of an answer": "def steering(p, w):\n    u = w @ p.T\n    given = float(u.diagonal().mean())\n"
        "    return given, float(u.max(0).mean()) - given",
        "the best, not what it adds": "def steering(p, w):\n    u = w @ p.T\n    return float(u.diagonal().mean()), float(u.max(1).mean())",
    },
    "07.8": {
        "the matrix not transposed": UNDO + "    return np.linalg.solve(B, w)",
        "the weights themselves, as a soup has them": UNDO + "    return w",
        "mixed once more": UNDO + "    return B.T @ w",
        "negative coefficients cut off": UNDO + "    return np.maximum(np.linalg.solve(B.T, w), 0)",
        "negative ones cut off, the rest divided by their sum": UNDO
        + "    x = np.maximum(np.linalg.solve(B.T, w), 0)\n    return x / x.sum()",
        "weights not divided by their sum": "import numpy as np\n\ndef undo(B, w):\n    return np.linalg.solve(B.T, np.array(w))",
        "the nearest backbone alone": UNDO + "    return np.eye(len(w))[np.argmin(((B - w) ** 2).sum(1))]",
        "coefficients divided by their sum": UNDO + "    x = np.linalg.solve(B.T, w)\n    return x / x.sum()",
        "each coefficient on its own": UNDO + "    return w / B.diagonal()",
    },
    "07.9": {
        "the base counted as one of the objectives": GUIDED + "    return soft((z + w @ r / beta) / (1 + 1 / beta))",
        "weights times beta": GUIDED + "    return soft(z + beta * (w @ r))",
        "weights not divided by their sum": GUIDED + "    return soft(z + total * (w @ r) / beta)",
        "the base left out": GUIDED + "    return soft(w @ r / beta)",
        "moved from the base towards the reward models": GUIDED + "    return soft(z + (w @ r - z) / beta)",
        "probabilities mixed": GUIDED + "    p = soft(z) + sum(x * soft(row) for x, row in zip(w, r)) / beta\n    return p / p.sum()",
        "a product that is not divided by its sum": GUIDED
        + "    return soft(z) * np.prod([soft(row) ** (x / beta) for x, row in zip(w, r)], axis=0)",
        "probabilities as rewards": GUIDED + "    return soft(z + sum(x * soft(row) for x, row in zip(w, r)) / beta)",
        "scores instead of probabilities": GUIDED + "    return z + w @ r / beta",
    },
}
"""By exercise ("02.3"): what is wrong with an answer, and its source."""

ACCEPTED: dict[str, dict[str, str]] = {
    "07.1": {
        "lists": "def clp_gates(w, R):\n    return [1.0] * R + [x for x in w for _ in range(R)]",
        "NumPy": "import numpy as np\n\ndef clp_gates(w, R):\n    return np.concatenate([np.ones(R), np.repeat(w, R)])",
        "PyTorch": "import torch\n\ndef clp_gates(w, R):\n    return torch.cat([torch.ones(R), torch.tensor(w).repeat_interleave(R)])",
    },
    "07.2": {
        "NumPy": GATED + "    return s * ((x @ A.T) * g) @ B.T",
        "PyTorch": "import torch\n\n"
        + GATED
        + "    x, A, B, g = (torch.as_tensor(m) for m in (x, A, B, g))\n    return s * torch.einsum('nk,rk,nr,mr->nm', x, A, g, B)",
        "row by row": "import numpy as np\n\n" + GATED + "    return [s * B @ np.diag(row) @ A @ v for v, row in zip(x, g)]",
    },
    "07.3": {
        "NumPy": WORDS + "    e = np.array([logits + s * b @ (a @ h) for a, b in zip(A, B)])\n    return (points @ e).argmax(1)",
        "user after user": WORDS
        + "    return [int((logits + s * sum(w * b @ (a @ h) for w, a, b in zip(p, A, B))).argmax()) for p in points]",
        "PyTorch": "import torch\n" + WORDS + "    e = torch.tensor(np.array([logits + s * b @ (a @ h) for a, b in zip(A, B)]))\n"
        "    return (torch.tensor(points) @ e).argmax(1)",
    },
    "07.4": {
        "NumPy": FLIP + SLOPES + "    found = [((z[a] - z[v]) / slope[v], v) for v in range(len(z)) if slope[v] > 0]\n"
        "    return min(found) if found else (np.inf, a)",
        "Fraction": "from fractions import Fraction\n\ndef flip(z_base, z_policy):\n"
        "    z, one = ([Fraction(str(x)) for x in row] for row in (z_base, z_policy))\n    a = z.index(max(z))\n"
        "    slope = [q - p - one[a] + z[a] for p, q in zip(z, one)]\n"
        "    found = [((z[a] - z[v]) / slope[v], v) for v in range(len(z)) if slope[v] > 0]\n"
        "    return min(found) if found else (float('inf'), a)",
    },
    "07.5": {
        "from the right": "def area(points):\n    total, height = 0.0, 0.0\n    for x, y in sorted(map(tuple, points), reverse=True):\n"
        "        total, height = total + x * max(0.0, y - height), max(height, y)\n    return total",
        "NumPy": "import numpy as np\n\ndef area(points):\n    p = np.array(points)\n    p = p[np.lexsort((p[:, 1], p[:, 0]))[::-1]]\n"
        "    top = np.maximum.accumulate(p[:, 1])\n    return (p[:, 0] * np.diff(top, prepend=0)).sum()",
        "Fraction": "from fractions import Fraction\n\ndef area(points):\n    total = height = Fraction(0)\n"
        "    for x, y in sorted(((Fraction(str(x)), Fraction(str(y))) for x, y in points), reverse=True):\n"
        "        total, height = total + x * max(Fraction(0), y - height), max(height, y)\n    return total",
    },
    "07.6": {
        "NumPy": SHARE
        + OVER
        + FRONT
        + "    front = np.unique(front, axis=0)\n    return np.mean([any(over(p, q) for p in first) for q in front])",
        "Fraction": "from fractions import Fraction\n\ndef dominated_share(first, second):\n"
        "    over = lambda p, q: all(a >= b for a, b in zip(p, q)) and tuple(p) != tuple(q)\n"
        "    front = {tuple(q) for q in second if not any(over(p, q) for p in second)}\n"
        "    return Fraction(sum(any(over(p, q) for p in first) for q in front), len(front))",
    },
    "07.7": {
        "NumPy": "def steering(p, w):\n    u = w @ p.T\n    given = u.diagonal().mean()\n    return given, u.max(1).mean() - given",
        "PyTorch": "import torch\n\ndef steering(p, w):\n    u = torch.tensor(w) @ torch.tensor(p).T\n"
        "    return u.diagonal().mean(), u.amax(1).mean() - u.diagonal().mean()",
        "lists": "def steering(p, w):\n    dot = lambda a, b: sum(x * y for x, y in zip(a, b))\n    n = len(w)\n"
        "    given = sum(dot(a, b) for a, b in zip(w, p)) / n\n"
        "    return [given, sum(max(dot(a, b) for b in p) for a in w) / n - given]",
    },
    "07.8": {
        "NumPy": UNDO + "    return np.linalg.solve(B.T, w)",
        "the inverse": UNDO + "    return w @ np.linalg.inv(B)",
        "PyTorch": "import torch\n\ndef undo(B, w):\n    B, w = torch.as_tensor(B), torch.tensor(w, dtype=torch.float64)\n"
        "    return torch.linalg.solve(B.T, w / w.sum())",
        "fractions": "from fractions import Fraction\n\ndef undo(B, w):\n    d, total = len(w), sum(map(Fraction, w))\n"
        "    M = [[Fraction(float(B[j][i])) for j in range(d)] + [Fraction(w[i]) / total] for i in range(d)]\n"
        "    for i in range(d):\n        M[i] = [x / M[i][i] for x in M[i]]\n"
        "        for j in range(d):\n            if j != i:\n                M[j] = [a - M[j][i] * b for a, b in zip(M[j], M[i])]\n"
        "    return [row[d] for row in M]",
    },
    "07.9": {
        "NumPy": GUIDED + "    return soft(z + w @ r / beta)",
        "a product of probabilities": GUIDED
        + "    p = soft(z) * np.prod([soft(row) ** (x / beta) for x, row in zip(w, r)], axis=0)\n    return p / p.sum()",
        "PyTorch": "import torch\n\ndef guided_word(base, rewards, w, beta):\n    w = torch.tensor(w) / sum(w)\n"
        "    logp = torch.tensor(rewards).log_softmax(-1)\n"
        "    return (torch.tensor(base).log_softmax(-1) + (w[:, None] * logp).sum(0) / beta).softmax(-1)",
        "lists": "from math import exp\n\ndef guided_word(base, rewards, w, beta):\n    total = sum(w)\n"
        "    z = [b + sum(x * row[v] for x, row in zip(w, rewards)) / total / beta for v, b in enumerate(base)]\n"
        "    e = [exp(x - max(z)) for x in z]\n    return [x / sum(e) for x in e]",
    },
}
"""By exercise: the style of a right answer ("NumPy"), and its source."""
