"""Near misses and right answers in other styles, for the exercises of notebook 02, PPO."""

from __future__ import annotations

LOSS = """def policy_loss(logp, old_logp, advantages, mask, epsilon):
    ratio = ({ratio}).exp()
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
    return {loss}
"""
RIGHT_RATIO, RIGHT_LOSS = "logp - old_logp", "(torch.max(-advantages * ratio, -advantages * clipped) * mask).sum() / mask.sum()"


def loss(ratio: str = RIGHT_RATIO, loss: str = RIGHT_LOSS) -> str:
    """The source of a clipped loss with these parts."""
    return "import torch\n\n" + LOSS.format(ratio=ratio, loss=loss)


GAE = """def advantages(rewards, values, gamma, lam):
    out, following = [0.0] * len(rewards), 0.0
    for t in reversed(range(len(rewards))):
        next_value = {next_value}
        delta = rewards[t] + {gamma} * next_value - values[t]
        following = delta + {factor} * following
        out[t] = {out}
    return out
"""


def gae(next_value: str = "values[t + 1] if t + 1 < len(values) else 0.0", **parts: str) -> str:
    """The source of generalised advantage estimation with these parts."""
    return GAE.format(**{"next_value": next_value, "gamma": "gamma", "factor": "gamma * lam", "out": "following"} | parts)


NEAR_MISSES: dict[str, dict[str, str]] = {
    "02.1": {
        "the reply alone": "def f(tokens, end):\n    return [1] * (tokens.index(end) + 1 if end in tokens else len(tokens))",
        "one place too many": "def f(tokens, end):\n    return [int(end not in tokens[: max(t - 1, 0)]) for t in range(len(tokens))]",
        "leaves the end token out": (
            "def reply_mask(tokens, end):\n    n = tokens.index(end) if end in tokens else len(tokens)\n"
            "    return [int(t < n) for t in range(len(tokens))]"
        ),
        "all that is no end token": "def reply_mask(tokens, end):\n    return [int(token != end) for token in tokens]",
        "up to the last end token": (
            "def reply_mask(tokens, end):\n    n = len(tokens) - tokens[::-1].index(end) if end in tokens else len(tokens)\n"
            "    return [int(t < n) for t in range(len(tokens))]"
        ),
        "nothing of a reply that never ends": (
            "def reply_mask(tokens, end):\n    n = tokens.index(end) + 1 if end in tokens else 0\n"
            "    return [int(t < n) for t in range(len(tokens))]"
        ),
        "leaves the padding out by its number": ("def reply_mask(tokens, end):\n    return [int(token != 0) for token in tokens]"),
    },
    "02.2": {
        "of the token before": (
            "def f(logits, ids, P):\n    return logits[P - 1 : -1].log_softmax(-1).gather(-1, ids[P - 1 : -1, None]).squeeze(-1)"
        ),
        "no shift": "def f(logits, ids, P):\n    return logits[P:].log_softmax(-1).gather(-1, ids[P:, None]).squeeze(-1)",
        "shifted the wrong way": (
            "def f(logits, ids, P):\n    logp = logits.roll(-1, 0)[P:].log_softmax(-1)\n"
            "    return logp.gather(-1, ids[P:, None]).squeeze(-1)"
        ),
        "logits instead of log-probabilities": (
            "def f(logits, ids, P):\n    return logits[P - 1 : -1].gather(-1, ids[P:, None]).squeeze(-1)"
        ),
        "probabilities": ("def f(logits, ids, P):\n    return logits[P - 1 : -1].softmax(-1).gather(-1, ids[P:, None]).squeeze(-1)"),
        "the likeliest word's": "def f(logits, ids, P):\n    return logits[P - 1 : -1].log_softmax(-1).max(-1).values",
        "softmax over positions": (
            "def f(logits, ids, P):\n    return logits.log_softmax(0)[P - 1 : -1].gather(-1, ids[P:, None]).squeeze(-1)"
        ),
        "the prompt's tokens too": ("def f(logits, ids, P):\n    return logits[:-1].log_softmax(-1).gather(-1, ids[1:, None]).squeeze(-1)"),
    },
    "02.3": {
        "k3 for the penalty": (
            "import math\n\ndef f(score, p, q, beta):\n    r = [-beta * (math.exp(b - a) - 1 + a - b) for a, b in zip(p, q)]\n"
            "    r[-1] += score\n    return r"
        ),
        "probabilities, not their logarithms": (
            "import math\n\ndef f(score, p, q, beta):\n    r = [-beta * (math.exp(a) - math.exp(b)) for a, b in zip(p, q)]\n"
            "    r[-1] += score\n    return r"
        ),
        "the score at every token": "def f(score, p, q, beta):\n    return [score - beta * (a - b) for a, b in zip(p, q)]",
        "the score at the first token": (
            "def f(score, p, q, beta):\n    r = [-beta * (a - b) for a, b in zip(p, q)]\n    r[0] += score\n    return r"
        ),
        "the KL rewarded": ("def f(score, p, q, beta):\n    r = [beta * (a - b) for a, b in zip(p, q)]\n    r[-1] += score\n    return r"),
        "no penalty at the last token": (
            "def f(score, p, q, beta):\n    r = [-beta * (a - b) for a, b in zip(p, q)]\n    r[-1] = score\n    return r"
        ),
        "the whole penalty at the last token": (
            "def f(score, p, q, beta):\n    return [0.0] * (len(p) - 1) + [score - beta * (sum(p) - sum(q))]"
        ),
        "a penalty that is never a gain": (
            "def f(score, p, q, beta):\n    r = [-beta * max(0.0, a - b) for a, b in zip(p, q)]\n    r[-1] += score\n    return r"
        ),
        "beta forgotten": "def f(score, p, q, beta):\n    r = [b - a for a, b in zip(p, q)]\n    r[-1] += score\n    return r",
    },
    "02.4": {
        "the other sign": "import torch\n\ndef f(p, q):\n    d = q - p\n    return torch.stack([d, d.exp() - 1 - d])",
        "the other direction of k3": "import torch\n\ndef f(p, q):\n    d = p - q\n    return torch.stack([d, d.exp() - 1 - d])",
        "k1 made positive": "import torch\n\ndef f(p, q):\n    d = p - q\n    return torch.stack([d.abs(), (-d).exp() - 1 + d])",
        "k2 for k3": "import torch\n\ndef f(p, q):\n    d = p - q\n    return torch.stack([d, d**2 / 2])",
        "weighted by the probability": (
            "import torch\n\ndef f(p, q):\n    d = p - q\n    return torch.stack([p.exp() * d, (-d).exp() - 1 + d])"
        ),
        "k3 first": "import torch\n\ndef f(p, q):\n    d = p - q\n    return torch.stack([(-d).exp() - 1 + d, d])",
    },
    "02.5": {
        "from the first token on": gae().replace("reversed(range(len(rewards)))", "range(len(rewards))"),
        "gamma twice": gae(factor="gamma * gamma * lam"),
        "rewards less values": "def f(rewards, values, gamma, lam):\n    return [r - v for r, v in zip(rewards, values)]",
        "the last value is its own successor": gae("values[min(t + 1, len(values) - 1)]"),
        "gamma forgotten at the next value": gae(gamma="1.0"),
        "gamma forgotten in the sum": gae(factor="lam"),
        "lambda forgotten": gae(factor="gamma"),
        "TD errors alone": gae(out="delta"),
        "returns": gae(out="following + values[t]"),
        "the value before": gae("values[t - 1] if t else 0.0"),
    },
    "02.6": {
        "all tokens both times": "counts = (12, 12)",
        "the last one both times": "counts = (1, 1)",
        "the other way round": "counts = (12, 1)",
        "none without lambda": "counts = (0, 12)",
        "the last with lambda is left out": "counts = (1, 11)",
    },
    "02.7": {
        "the variance over one less": "def f(x, mask):\n    v = x[mask.bool()]\n    return (x - v.mean()) / (v.var() + 1e-8).sqrt() * mask",
        "the variance of all": (
            "def f(x, mask):\n    v = x[mask.bool()]\n    return (x - v.mean()) / (x.var(correction=0) + 1e-8).sqrt() * mask"
        ),
        "over the padding too": "def f(x, mask):\n    return (x - x.mean()) / (x.var(correction=0) + 1e-8).sqrt() * mask",
        "padding is not 0": ("def f(x, mask):\n    v = x[mask.bool()]\n    return (x - v.mean()) / (v.var(correction=0) + 1e-8).sqrt()"),
        "row by row": (
            "def f(x, mask):\n    n = mask.sum(1, keepdim=True)\n    c = (x - (x * mask).sum(1, keepdim=True) / n) * mask\n"
            "    return c / ((c**2).sum(1, keepdim=True) / n + 1e-8).sqrt()"
        ),
        "not centred": "def f(x, mask):\n    v = x[mask.bool()]\n    return x / (v.var(correction=0) + 1e-8).sqrt() * mask",
        "divides by the variance": (
            "def f(x, mask):\n    v = x[mask.bool()]\n    return (x - v.mean()) / (v.var(correction=0) + 1e-8) * mask"
        ),
        "the mean of masked numbers over all places": (
            "def f(x, mask):\n    c = (x - (x * mask).mean()) * mask\n    return c / ((c**2).sum() / mask.sum() + 1e-8).sqrt()"
        ),
    },
    "02.8": {
        "0 beyond the range": "def f(ratio, A, e):\n    return -ratio * A if abs(ratio - 1) <= e else 0.0",
        "clips the product": "def f(ratio, A, e):\n    return -min(ratio * A, min(max(ratio * A, 1 - e), 1 + e))",
        "always clipped": "def f(ratio, A, e):\n    return -min(max(ratio, 1 - e), 1 + e) * A",
        "never clipped": "def f(ratio, A, e):\n    return -ratio * A",
        "the larger objective": "def f(ratio, A, e):\n    return -max(ratio * A, min(max(ratio, 1 - e), 1 + e) * A)",
        "the sign": "def f(ratio, A, e):\n    return min(ratio * A, min(max(ratio, 1 - e), 1 + e) * A)",
        "clipped above alone": "def f(ratio, A, e):\n    return -min(ratio * A, min(ratio, 1 + e) * A)",
        "clipped about 0": "def f(ratio, A, e):\n    return -min(ratio * A, min(max(ratio, -e), e) * A)",
    },
    "02.9": {
        "never clipped": "def f(ratio, A, e):\n    return -A * ratio",
        "0 outside the range, whatever the advantage": "def f(ratio, A, e):\n    return -A * ratio if 1 - e <= ratio <= 1 + e else 0.0",
        "by the ratio, not its logarithm": (
            "def f(ratio, A, e):\n    return 0.0 if A > 0 and ratio > 1 + e or A < 0 and ratio < 1 - e else -A"
        ),
        "of the objective": ("def f(ratio, A, e):\n    return 0.0 if A > 0 and ratio > 1 + e or A < 0 and ratio < 1 - e else A * ratio"),
        "clipped where it could be undone": (
            "def f(ratio, A, e):\n    return 0.0 if A < 0 and ratio > 1 + e or A > 0 and ratio < 1 - e else -A * ratio"
        ),
        "the gradient of the edge": "def f(ratio, A, e):\n    return -A * min(max(ratio, 1 - e), 1 + e)",
    },
    "02.10": {
        "by replies": loss(loss=RIGHT_LOSS.replace("mask.sum()", "len(mask)")),
        "all three bugs": loss("old_logp - logp", "torch.min(-advantages * ratio, -advantages * clipped).mean()"),
        "the ratio upside down": loss("old_logp - logp"),
        "the smaller loss": loss(loss=RIGHT_LOSS.replace("max", "min")),
        "a mean over padding too": loss(loss="(torch.max(-advantages * ratio, -advantages * clipped) * mask).mean()"),
        "padding in the sum": loss(loss="torch.max(-advantages * ratio, -advantages * clipped).sum() / mask.sum()"),
        "a mean of means": loss(loss="((torch.max(-advantages * ratio, -advantages * clipped) * mask).sum(1) / mask.sum(1)).mean()"),
        "a sum": loss(loss="(torch.max(-advantages * ratio, -advantages * clipped) * mask).sum()"),
    },
    "02.11": {
        "the median of the others": (
            "import numpy as np\n\ndef f(scores):\n    return [s - np.median(scores[:i] + scores[i + 1 :]) for i, s in enumerate(scores)]"
        ),
        "the mean of all": "def f(scores):\n    return [s - sum(scores) / len(scores) for s in scores]",
        "divides by k": "def f(scores):\n    return [s - (sum(scores) - s) / len(scores) for s in scores]",
        "the mean of all, scaled the wrong way": (
            "def f(scores):\n    k = len(scores)\n    return [(k - 1) / k * (s - sum(scores) / k) for s in scores]"
        ),
        "leaves out all of its score": (
            "def f(scores):\n    out = []\n    for s in scores:\n        rest = [x for x in scores if x != s] or [s]\n"
            "        out.append(s - sum(rest) / len(rest))\n    return out"
        ),
        "the best of the others": ("def f(scores):\n    return [s - max(scores[:i] + scores[i + 1 :]) for i, s in enumerate(scores)]"),
        "standardised": ("import numpy as np\n\ndef f(scores):\n    return (np.array(scores) - np.mean(scores)) / (np.std(scores) + 1e-8)"),
    },
}
"""By exercise ("02.3"): what is wrong with an answer, and its source."""

ACCEPTED: dict[str, dict[str, str]] = {
    "02.1": {
        "list": (
            "def f(tokens, end):\n    n = tokens.index(end) + 1 if end in tokens else len(tokens)\n"
            "    return [int(t < n) for t in range(len(tokens))]"
        ),
        "bools": ("def f(tokens, end):\n    return [end not in tokens[:t] for t in range(len(tokens))]"),
        "torch": (
            "import torch\n\ndef f(tokens, end):\n    ended = torch.tensor(tokens) == end\n"
            "    return (ended.cumsum(0) - ended.long() == 0).long()"
        ),
        "NumPy": (
            "import numpy as np\n\ndef f(tokens, end):\n    e = np.array(tokens) == end\n    return (np.cumsum(e) - e == 0).astype(float)"
        ),
    },
    "02.2": {
        "torch": "def f(logits, ids, P):\n    return logits[P - 1 : -1].log_softmax(-1).gather(-1, ids[P:, None]).squeeze(-1)",
        "loop": "def f(logits, ids, P):\n    return [float(logits[t - 1].log_softmax(-1)[ids[t]]) for t in range(P, len(ids))]",
        "cross-entropy": (
            "import torch.nn.functional as F\n\ndef f(logits, ids, P):\n"
            "    return -F.cross_entropy(logits[P - 1 : -1], ids[P:], reduction='none')"
        ),
        "NumPy": (
            "import numpy as np\n\ndef f(logits, ids, P):\n"
            "    z = logits.double().numpy()[P - 1 : -1]\n    z = z - z.max(1, keepdims=True)\n"
            "    logp = z - np.log(np.exp(z).sum(1, keepdims=True))\n    return logp[np.arange(len(z)), ids.numpy()[P:]]"
        ),
    },
    "02.3": {
        "list": "def f(score, p, q, beta):\n    r = [-beta * (a - b) for a, b in zip(p, q)]\n    r[-1] += score\n    return r",
        "NumPy": (
            "import numpy as np\n\ndef f(score, p, q, beta):\n    r = beta * (np.array(q) - np.array(p))\n    r[-1] += score\n    return r"
        ),
        "torch": (
            "import torch\n\ndef f(score, p, q, beta):\n"
            "    r = -beta * (torch.tensor(p) - torch.tensor(q))\n    r[-1] += score\n    return r"
        ),
        "Fraction": (
            "from fractions import Fraction as F\n\ndef f(score, p, q, beta):\n    r = [-F(beta) * (F(a) - F(b)) for a, b in zip(p, q)]\n"
            "    r[-1] += F(score)\n    return tuple(r)"
        ),
    },
    "02.4": {
        "tuple of tensors": "def f(p, q):\n    d = p - q\n    return d, (-d).exp() - 1 + d",
        "lists": (
            "from math import exp\n\ndef f(p, q):\n    d = [a - b for a, b in zip(p.tolist(), q.tolist())]\n"
            "    return [d, [exp(-x) - 1 + x for x in d]]"
        ),
        "NumPy": "import numpy as np\n\ndef f(p, q):\n    d = p.numpy() - q.numpy()\n    return np.stack([d, np.expm1(-d) + d])",
    },
    "02.5": {
        "list": gae(),
        "sums": (
            "def f(r, v, gamma, lam):\n    v = [*v, 0.0]\n    d = [r[t] + gamma * v[t + 1] - v[t] for t in range(len(r))]\n"
            "    return [sum((gamma * lam) ** (l - t) * d[l] for l in range(t, len(d))) for t in range(len(d))]"
        ),
        "NumPy": (
            "import numpy as np\n\ndef f(r, v, gamma, lam):\n    v = np.append(v, 0)\n    d = np.array(r) + gamma * v[1:] - v[:-1]\n"
            "    for t in range(len(d) - 2, -1, -1):\n        d[t] += gamma * lam * d[t + 1]\n    return d"
        ),
        "torch": (
            "import torch\n\ndef f(r, v, gamma, lam):\n    r, v = torch.tensor(r), torch.tensor([*v, 0.0])\n"
            "    d = r + gamma * v[1:] - v[:-1]\n    for t in range(len(d) - 2, -1, -1):\n"
            "        d[t] = d[t] + gamma * lam * d[t + 1]\n    return d"
        ),
    },
    "02.6": {"tuple": "counts = (1, 12)", "list": "counts = [1, 12]", "NumPy": "import numpy as np\n\ncounts = np.array([1.0, 12.0])"},
    "02.7": {
        "torch": "def f(x, mask):\n    v = x[mask.bool()]\n    return (x - v.mean()) / (v.var(correction=0) + 1e-8).sqrt() * mask",
        "NumPy": (
            "import numpy as np\n\ndef f(x, mask):\n    x, m = x.numpy(), mask.numpy()\n    v = x[m > 0]\n"
            "    return np.where(m > 0, (x - v.mean()) / np.sqrt(v.var() + 1e-8), 0)"
        ),
        "sums": (
            "def f(x, mask):\n    n = mask.sum()\n    c = (x - (x * mask).sum() / n) * mask\n"
            "    return (c / ((c**2).sum() / n + 1e-8).sqrt()).tolist()"
        ),
    },
    "02.8": {
        "minimum": "def f(ratio, A, e):\n    return -min(ratio * A, min(max(ratio, 1 - e), 1 + e) * A)",
        "cases": "def f(ratio, A, e):\n    return -A * (min(ratio, 1 + e) if A > 0 else max(ratio, 1 - e))",
        "torch": (
            "import torch\n\ndef f(ratio, A, e):\n    r, A = torch.tensor(ratio), torch.tensor(A)\n"
            "    return torch.max(-A * r, -A * r.clamp(1 - e, 1 + e))"
        ),
        "NumPy": "import numpy as np\n\ndef f(ratio, A, e):\n    return -np.minimum(ratio * A, np.clip(ratio, 1 - e, 1 + e) * A)",
    },
    "02.9": {
        "cases": "def f(ratio, A, e):\n    return 0 if A > 0 and ratio > 1 + e or A < 0 and ratio < 1 - e else -A * ratio",
        "autograd": (
            "import torch\n\ndef f(ratio, A, e):\n    logp = torch.tensor(ratio).log().requires_grad_()\n    r = logp.exp()\n"
            "    loss = -torch.min(r * A, r.clamp(1 - e, 1 + e) * A)\n    loss.backward()\n    return logp.grad"
        ),
        "NumPy": (
            "import numpy as np\n\ndef f(ratio, A, e):\n    inside = np.clip(ratio, 1 - e, 1 + e) * A >= ratio * A\n"
            "    return np.where(inside, -A * ratio, 0.0)"
        ),
    },
    "02.10": {
        "torch": loss(),
        "minus the smaller objective": loss(loss="-(torch.min(advantages * ratio, advantages * clipped) * mask).sum() / mask.sum()"),
        "the masked tokens": loss(loss="torch.max(-advantages * ratio, -advantages * clipped)[mask.bool()].mean()"),
        "NumPy": (
            "import numpy as np\n\ndef f(p, q, A, m, e):\n    p, q, A, m = (x.numpy() for x in (p, q, A, m))\n    r = np.exp(p - q)\n"
            "    return (np.maximum(-A * r, -A * np.clip(r, 1 - e, 1 + e)) * m).sum() / m.sum()"
        ),
    },
    "02.11": {
        "list": "def f(scores):\n    k = len(scores)\n    return [s - (sum(scores) - s) / (k - 1) for s in scores]",
        "the mean of all, scaled": "def f(scores):\n    k = len(scores)\n    return [k / (k - 1) * (s - sum(scores) / k) for s in scores]",
        "NumPy": "import numpy as np\n\ndef f(scores):\n    s = np.array(scores)\n    return s - (s.sum() - s) / (len(s) - 1)",
        "Fraction": (
            "from fractions import Fraction as F\n\ndef f(scores):\n    s = [F(x) for x in scores]\n"
            "    return [x - (sum(s) - x) / (len(s) - 1) for x in s]"
        ),
    },
}
"""By exercise: the style of a right answer ("NumPy"), and its source."""
