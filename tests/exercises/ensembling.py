"""Answers to the exercises of notebook 03, hidden-state ensembling: near misses that must be refused, and styles that must pass."""

NEAR_MISSES: dict[str, dict[str, str]] = {
    "03.1": {
        "softmax of the weights": "def next_word(h, w, W):\n    return int((W @ (w.softmax(0) @ h)).argmax())",
        "only which weights are above zero": "def next_word(h, w, W):\n    return int((W @ ((w > 0).float() @ h)).argmax())",
        "squared weights": "def next_word(h, w, W):\n    return int((W @ (w**2 @ h)).argmax())",
        "ignores the weights": "def next_word(h, w, W):\n    return int((W @ h.mean(0)).argmax())",
        "the adapter with most weight": "def next_word(h, w, W):\n    return int((W @ h[w.argmax()]).argmax())",
        "states of length 1": "def next_word(h, w, W):\n    return int((W @ (w @ (h / h.norm(dim=1, keepdim=True)))).argmax())",
        "mixes probabilities": "def next_word(h, w, W):\n    return int((w @ (h @ W.T).softmax(-1)).argmax())",
        "a vote of favourites": (
            "import torch\n\ndef next_word(h, w, W):\n    votes = torch.zeros(len(W))\n    for x, v in zip(w, (h @ W.T).argmax(-1)):\n"
            "        votes[v] += x\n    return int(votes.argmax())"
        ),
        "the score, not the word": "def next_word(h, w, W):\n    return float((W @ (w @ h)).max())",
    },
    "03.2": {
        "does not normalise": "def product_of_experts(p, w):\n    return (p ** w[:, None]).prod(0)",
        "mixes probabilities": "def product_of_experts(p, w):\n    return w @ p / w.sum()",
        "divides the weights by their sum": (
            "def product_of_experts(p, w):\n    w = w / w.sum()\n    q = (p ** w[:, None]).prod(0)\n    return q / q.sum()"
        ),
        "ignores the weights": "def product_of_experts(p, w):\n    q = p.prod(0)\n    return q / q.sum()",
        "zero times minus infinity": "def product_of_experts(p, w):\n    return (w @ p.log()).softmax(0)",
        "a little added before the logarithm": "def product_of_experts(p, w):\n    return (w @ (p + 1e-12).log()).softmax(0)",
        "forbidden by one, whatever its weight": (
            "def product_of_experts(p, w):\n    q = (p ** w[:, None]).prod(0) * (p > 0).all(0)\n    return q / q.sum()"
        ),
        "weights as factors": "def product_of_experts(p, w):\n    q = (p * w[:, None]).prod(0)\n    return q / q.sum()",
        "normalises by the largest": "def product_of_experts(p, w):\n    q = (p ** w[:, None]).prod(0)\n    return q / q.max()",
    },
    "03.3": {
        "absolute leads": (
            "def margin(z, w):\n    a, b = (w @ z).topk(2).indices\n    return float((w * (z[:, a] - z[:, b]).abs()).sum())"
        ),
        "clamped leads": (
            "def margin(z, w):\n    a, b = (w @ z).topk(2).indices\n    return float((w * (z[:, a] - z[:, b]).clamp(min=0)).sum())"
        ),
        "each adapter's own margin": "def margin(z, w):\n    best = z.topk(2).values\n    return float(w @ (best[:, 0] - best[:, 1]))",
        "probabilities": "def margin(z, w):\n    best = (w @ z).softmax(0).topk(2).values\n    return float(best[0] - best[1])",
        "divides by the weights' sum": "def margin(z, w):\n    s = (w / w.sum() @ z).topk(2).values\n    return float(s[0] - s[1])",
        "runner-up minus winner": "def margin(z, w):\n    best = (w @ z).topk(2).values\n    return float(best[1] - best[0])",
        "from the least likely word": "def margin(z, w):\n    s = w @ z\n    return float(s.max() - s.min())",
        "only the best different score": ("def margin(z, w):\n    s = w @ z\n    return float(s.max() - s[s < s.max()].max())"),
    },
    "03.4": {
        "adds the same to each": "def rescaled(w, total):\n    return [x + (total - sum(w)) / len(w) for x in w]",
        "takes the weights to sum to 1": "def rescaled(w, total):\n    return [total * x for x in w]",
        "scales the largest to the total": "def rescaled(w, total):\n    return [total * x / max(w) for x in w]",
        "squares": "def rescaled(w, total):\n    return [total * x**2 / sum(y**2 for y in w) for x in w]",
        "no weight above 1": "def rescaled(w, total):\n    return [min(1.0, total * x / sum(w)) for x in w]",
        "softmax": "import torch\n\ndef rescaled(w, total):\n    return total * torch.tensor(w).softmax(0)",
        "length in place of sum": "import numpy as np\n\ndef rescaled(w, total):\n    return total * np.array(w) / np.linalg.norm(w)",
    },
    "03.5": {"as at w": "ratio = 3", "twice": "ratio = 6", "the root": "ratio = 3**0.5", "the other way round": "ratio = 1 / 9"},
    "03.6": {
        "the soup": (
            "def merged_change(A, B, scale, w):\n    return scale * sum(x * b for x, b in zip(w, B)) @ sum(x * a for x, a in zip(w, A))"
        ),
        "the soup of roots": (
            "def merged_change(A, B, scale, w):\n"
            "    return scale * sum(x**0.5 * b for x, b in zip(w, B)) @ sum(x**0.5 * a for x, a in zip(w, A))"
        ),
        "forgets the scale": "def merged_change(A, B, scale, w):\n    return sum(x * b @ a for x, a, b in zip(w, A, B))",
        "scale twice": "def merged_change(A, B, scale, w):\n    return sum(x * scale**2 * b @ a for x, a, b in zip(w, A, B))",
        "weights twice": "def merged_change(A, B, scale, w):\n    return sum((x * b) @ (x * a) * scale for x, a, b in zip(w, A, B))",
        "transposed": "def merged_change(A, B, scale, w):\n    return sum(x * scale * b @ a for x, a, b in zip(w, A, B)).T",
        "divides by the sum of weights": (
            "def merged_change(A, B, scale, w):\n    return sum(x * scale * b @ a for x, a, b in zip(w, A, B)) / (sum(w) or 1)"
        ),
    },
    "03.7": {
        "states only": "linear = {'a'}",
        "the parameters too": "linear = {'a', 'c', 'd', 'e', 'f'}",
        "log-probabilities too": "linear = {'a', 'b', 'c', 'e', 'f'}",
        "not the probabilities": "linear = {'a', 'e', 'f'}",
        "not the guidance": "linear = {'a', 'c', 'e'}",
    },
}
"""By exercise ("02.3"): what is wrong with an answer, and its source."""

ACCEPTED: dict[str, dict[str, str]] = {
    "03.1": {
        "logits mixed": "def next_word(h, w, W):\n    return int((w @ (h @ W.T)).argmax())",
        "weights that sum to 1": "def next_word(h, w, W):\n    return int((W @ (w / w.sum() @ h)).argmax())",
        "a tensor": "def next_word(h, w, W):\n    return (W @ (w @ h)).argmax()",
        "NumPy": "import numpy as np\n\ndef next_word(h, w, W):\n    return np.argmax(W.numpy() @ (w.numpy() @ h.numpy()))",
        "lists": (
            "def next_word(h, w, W):\n    h, w, W = h.tolist(), w.tolist(), W.tolist()\n"
            "    f = [sum(x * row[k] for x, row in zip(w, h)) for k in range(len(h[0]))]\n"
            "    scores = [sum(a * b for a, b in zip(row, f)) for row in W]\n    return scores.index(max(scores))"
        ),
    },
    "03.2": {
        "torch": "def product_of_experts(p, w):\n    q = (p ** w[:, None]).prod(0)\n    return q / q.sum()",
        "NumPy": "def product_of_experts(p, w):\n    q = (p.numpy() ** w.numpy()[:, None]).prod(0)\n    return q / q.sum()",
        "list": (
            "def product_of_experts(p, w):\n    q = [1.0] * p.shape[1]\n    for x, row in zip(w.tolist(), p.tolist()):\n"
            "        q = [a * b**x for a, b in zip(q, row)]\n    return [a / sum(q) for a in q]"
        ),
    },
    "03.3": {
        "sorted": "def margin(z, w):\n    s = sorted((w @ z).tolist())\n    return s[-1] - s[-2]",
        "NumPy": "import numpy as np\n\ndef margin(z, w):\n    s = np.sort(w.numpy() @ z.numpy())\n    return s[-1] - s[-2]",
        "a tensor": "def margin(z, w):\n    best = (w @ z).topk(2).values\n    return best[0] - best[1]",
        "leads of the two best": ("def margin(z, w):\n    a, b = (w @ z).topk(2).indices\n    return float(w @ (z[:, a] - z[:, b]))"),
    },
    "03.4": {
        "list": "def rescaled(w, total):\n    return [total * x / sum(w) for x in w]",
        "tuple": "def rescaled(w, total):\n    return tuple(x / sum(w) * total for x in w)",
        "NumPy": "import numpy as np\n\ndef rescaled(w, total):\n    return np.array(w) / np.sum(w) * total",
        "torch": "import torch\n\ndef rescaled(w, total):\n    return torch.tensor(w) * total / sum(w)",
        "Fraction": (
            "from fractions import Fraction as F\n\ndef rescaled(w, total):\n    return [F(x) * F(total) / sum(F(y) for y in w) for x in w]"
        ),
    },
    "03.5": {
        "float": "ratio = 9.0",
        "Fraction": "from fractions import Fraction\n\nratio = Fraction(6, 2) ** 2",
        "computed": "ratio = (0.6 / 0.2) ** 2",
    },
    "03.6": {
        "torch": "def merged_change(A, B, scale, w):\n    return sum(x * scale * b @ a for x, a, b in zip(w, A, B))",
        "NumPy": (
            "import numpy as np\n\ndef merged_change(A, B, scale, w):\n"
            "    return scale * np.sum([x * b.numpy() @ a.numpy() for x, a, b in zip(w, A, B)], axis=0)"
        ),
        "one product": (
            "import torch\n\ndef merged_change(A, B, scale, w):\n"
            "    return scale * torch.cat([x * b for x, b in zip(w, B)], 1) @ torch.cat(list(A))"
        ),
    },
    "03.7": {
        "set": "linear = {'a', 'c', 'e', 'f'}",
        "list, other order": "linear = ['f', 'a', 'e', 'c']",
        "tuple": "linear = ('a', 'c', 'e', 'f')",
        "capitals": "linear = {'A', 'C', 'E', 'F'}",
    },
}
"""By exercise: the style of a right answer ("NumPy"), and its source."""
