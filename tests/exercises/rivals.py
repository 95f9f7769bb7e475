"""Answers to the exercises of notebook 06, the rivals: near misses that must be refused, and styles that must pass."""

ALONE = "def alone(rewards, k):\n"
DYNAOPT = "import math\n\ndef dynaopt_step(controller, raised, arm, gains, drawn, mu):\n"
EXP3 = """    def updated(q, a, r):
        p = (1 - mu) * q[a] / sum(q) + mu / len(q)
        return [x * math.exp(mu * r / (len(q) * p)) if b == a else x for b, x in enumerate(q)]

"""
MEAN = "    gain = sum(gains) / len(gains)\n"
RAISE = "    raised = updated(raised, drawn, 1.0) if drawn < len(raised) else list(raised)\n"
SHARES = "    return controller, raised, [q / sum(raised) for q in raised]\n"
SOUP = "import numpy as np\n\ndef soup_less_average(A, B, w):\n"
ENDS = "    return d.mean(), d.mean() - reach, d.mean() + reach"
GROUPS = "    groups = [rewards[i:i + k] for i in range(0, len(rewards), k)]\n"
PAIRED = "import numpy as np\nfrom scipy import stats\n\ndef paired(first, second):\n    d = np.array(first) - np.array(second)\n"
HOLM = "def holm(p, alpha):\n    m, order = len(p), sorted(range(len(p)), key=lambda i: p[i])\n    rejected = [False] * len(p)\n"

NEAR_MISSES: dict[str, dict[str, str]] = {
    "06.1": {
        "the reply stands in its own baseline (GRPO's advantage)": ALONE
        + GROUPS
        + "    return [r - sum(g) / k for g in groups for r in g]",
        "the baseline is of all prompts": ALONE
        + "    n = len(rewards)\n    return [r - (sum(rewards) - r) / (n - 1) if n > 1 else 0.0 for r in rewards]",
        "replies to a prompt are taken to stand k apart": "import numpy as np\n\n" + ALONE + "    g = np.array(rewards).reshape(k, -1)\n"
        "    return (g - (g.sum(0) - g) / (k - 1)).ravel()",
        "the others' sum, not their mean": ALONE + GROUPS + "    return [r - (sum(g) - r) for g in groups for r in g]",
        "divided by k": ALONE + GROUPS + "    return [r - (sum(g) - r) / k for g in groups for r in g]",
    },
    "06.2": {
        "the chance to be drawn is forgotten": DYNAOPT
        + "    def updated(q, a, r):\n        return [x * math.exp(mu * r / len(q)) if b == a else x for b, x in enumerate(q)]\n\n"
        + MEAN
        + "    controller = updated(controller, arm, gain)\n"
        + RAISE
        + SHARES,
        "the objective is raised by its gain, not by 1": DYNAOPT
        + EXP3
        + MEAN
        + "    controller = updated(controller, arm, gain)\n"
        + RAISE.replace("1.0", "gains[drawn]")
        + SHARES,
        "the arm that is judged is raised": DYNAOPT
        + EXP3
        + MEAN
        + "    controller = updated(controller, arm, gain)\n"
        + RAISE.replace("drawn", "arm")
        + SHARES,
        "the arm that was drawn is judged": DYNAOPT + EXP3 + MEAN + "    controller = updated(controller, drawn, gain)\n" + RAISE + SHARES,
        "the controller is given the sum of the gains": DYNAOPT
        + EXP3
        + "    controller = updated(controller, arm, sum(gains))\n"
        + RAISE
        + SHARES,
        "the weights do not sum to one": DYNAOPT
        + EXP3
        + MEAN
        + "    controller = updated(controller, arm, gain)\n"
        + RAISE
        + "    return controller, raised, list(raised)\n",
        "an arm is judged by its own objective's gain": DYNAOPT
        + EXP3
        + MEAN
        + "    controller = updated(controller, arm, gains[arm] if arm < len(gains) else gain)\n"
        + RAISE
        + SHARES,
        "K is d for both bandits": DYNAOPT
        + EXP3.replace("mu / len(q)", "mu / len(raised)").replace("(len(q) * p)", "(len(raised) * p)")
        + MEAN
        + "    controller = updated(controller, arm, gain)\n"
        + RAISE
        + SHARES,
        "weights mixed with exploration": DYNAOPT
        + EXP3
        + MEAN
        + "    controller = updated(controller, arm, gain)\n"
        + RAISE
        + "    d = len(raised)\n    return controller, raised, [(1 - mu) * q / sum(raised) + mu / d for q in raised]\n",
    },
    "06.3": {
        "the own terms alone": SOUP
        + "    return sum(x * x * b @ a for x, a, b in zip(w, A, B)) - sum(x * b @ a for x, a, b in zip(w, A, B))",
        "the cross terms alone": SOUP
        + "    n = range(len(w))\n    return sum((w[i] * w[j] * B[i] @ A[j] for i in n for j in n if i != j), 0 * (B[0] @ A[0]))",
        "square roots of the weights (peft's linear)": SOUP
        + "    soup = sum(x ** .5 * b for x, b in zip(w, B)) @ sum(x ** .5 * a for x, a in zip(w, A))\n"
        "    return soup - sum(x * b @ a for x, a, b in zip(w, A, B))",
        "average less soup": SOUP + "    soup = sum(x * b for x, b in zip(w, B)) @ sum(x * a for x, a in zip(w, A))\n"
        "    return sum(x * b @ a for x, a, b in zip(w, A, B)) - soup",
        "weights forgotten in the average": SOUP + "    soup = sum(x * b for x, b in zip(w, B)) @ sum(x * a for x, a in zip(w, A))\n"
        "    return soup - sum(b @ a for a, b in zip(A, B)) / len(A)",
    },
    "06.4": {
        "the search is not counted": "def consumed(runs, listed, clients):\n    return sum(runs), max(runs)",
        "the search is counted once a run": "def consumed(runs, listed, clients):\n"
        "    search = listed * clients\n    return sum(r + search for r in runs), max(runs) + search",
        "the points are counted, not the clients": "def consumed(runs, listed, clients):\n"
        "    return sum(runs) + listed, max(runs) + listed",
        "the last run for the longest": "def consumed(runs, listed, clients):\n    search = listed * clients\n"
        "    return sum(runs) + search, runs[-1] + search",
        "the search counts in the sum alone": "def consumed(runs, listed, clients):\n    return sum(runs) + listed * clients, max(runs)",
    },
    "06.5": {
        "the normal's 1.96": PAIRED + "    reach = 1.96 * d.std(ddof=1) / len(d) ** .5\n" + ENDS,
        "divided by n": PAIRED + "    reach = stats.t.ppf(.975, len(d) - 1) * d.std() / len(d) ** .5\n" + ENDS,
        "5 % on each side": PAIRED + "    reach = stats.t.ppf(.95, len(d) - 1) * d.std(ddof=1) / len(d) ** .5\n" + ENDS,
        "the spread of a seed, not of the mean": PAIRED + "    reach = stats.t.ppf(.975, len(d) - 1) * d.std(ddof=1)\n" + ENDS,
        "not paired": PAIRED
        + "    a, b, n = np.array(first), np.array(second), len(d)\n    error = ((a.var(ddof=1) + b.var(ddof=1)) / n) ** .5\n"
        "    reach = stats.t.ppf(.975, n - 1) * error\n" + ENDS,
        "the middle alone is missing": PAIRED + "    reach = stats.t.ppf(.975, len(d) - 1) * d.std(ddof=1) / len(d) ** .5\n"
        "    return d.mean() - reach, d.mean() + reach, d.mean()",
    },
    "06.6": {
        "a p as large as its bound stops it": HOLM
        + "    for step, i in enumerate(order):\n        if p[i] >= alpha / (m - step):\n            break\n"
        "        rejected[i] = True\n    return rejected",
        "no correction": "def holm(p, alpha):\n    return [x <= alpha for x in p]",
        "Bonferroni": "def holm(p, alpha):\n    return [x <= alpha / len(p) for x in p]",
        "it does not stop": HOLM
        + "    for step, i in enumerate(order):\n        rejected[i] = p[i] <= alpha / (m - step)\n    return rejected",
        "from the largest down (Hochberg)": HOLM + "    for step in reversed(range(m)):\n        if p[order[step]] <= alpha / (m - step):\n"
        "            for i in order[:step + 1]:\n                rejected[i] = True\n            break\n    return rejected",
        "Benjamini and Hochberg": HOLM + "    for step in reversed(range(m)):\n        if p[order[step]] <= alpha * (step + 1) / m:\n"
        "            for i in order[:step + 1]:\n                rejected[i] = True\n            break\n    return rejected",
        "in the order of the p values": HOLM
        + "    for step, i in enumerate(order):\n        if p[i] > alpha / (m - step):\n            break\n"
        "        rejected[step] = True\n    return rejected",
    },
}
"""By exercise ("02.3"): what is wrong with an answer, and its source."""

ACCEPTED: dict[str, dict[str, str]] = {
    "06.1": {
        "NumPy": "import numpy as np\n\ndef alone(rewards, k):\n    g = np.array(rewards).reshape(-1, k)\n"
        "    return (g - (g.sum(1, keepdims=True) - g) / (k - 1)).ravel()",
        "PyTorch": "import torch\n\ndef alone(rewards, k):\n    g = torch.tensor(rewards, dtype=torch.float64).view(-1, k)\n"
        "    return (k / (k - 1) * (g - g.mean(1, keepdim=True))).flatten()",
        "lists": ALONE + GROUPS + "    return [r - (sum(g) - r) / (k - 1) for g in groups for r in g]",
    },
    "06.2": {
        "lists": DYNAOPT + EXP3 + MEAN + "    controller = updated(controller, arm, gain)\n" + RAISE + SHARES,
        "NumPy": "import numpy as np\n\ndef dynaopt_step(controller, raised, arm, gains, drawn, mu):\n"
        "    def updated(q, a, r):\n        q = np.array(q)\n        p = (1 - mu) * q / q.sum() + mu / len(q)\n"
        "        return q * np.exp(mu * r * (np.arange(len(q)) == a) / (len(q) * p))\n\n"
        "    controller = updated(controller, arm, np.mean(gains))\n"
        "    raised = updated(raised, drawn, 1) if drawn < len(raised) else np.array(raised)\n"
        "    return controller, raised, raised / raised.sum()",
    },
    "06.3": {
        "NumPy": SOUP + "    soup = sum(x * b for x, b in zip(w, B)) @ sum(x * a for x, a in zip(w, A))\n"
        "    return soup - sum(x * b @ a for x, a, b in zip(w, A, B))",
        "PyTorch": "import torch\n\ndef soup_less_average(A, B, w):\n    A, B = ([torch.as_tensor(m) for m in ms] for ms in (A, B))\n"
        "    soup = sum(x * b for x, b in zip(w, B)) @ sum(x * a for x, a in zip(w, A))\n"
        "    return soup - sum(x * b @ a for x, a, b in zip(w, A, B))",
        "lists": SOUP + "    soup = sum(x * b for x, b in zip(w, B)) @ sum(x * a for x, a in zip(w, A))\n"
        "    return (soup - sum(x * b @ a for x, a, b in zip(w, A, B))).tolist()",
    },
    "06.4": {
        "a tuple": "def consumed(runs, listed, clients):\n    s = listed * clients\n    return sum(runs) + s, max(runs) + s",
        "NumPy": "import numpy as np\n\ndef consumed(runs, listed, clients):\n"
        "    return np.array([np.sum(runs), np.max(runs)]) + listed * clients",
        "Fraction": "from fractions import Fraction\n\ndef consumed(runs, listed, clients):\n    s = Fraction(listed * clients)\n"
        "    return [sum(runs) + s, max(runs) + s]",
    },
    "06.5": {
        "NumPy": PAIRED + "    reach = stats.t.ppf(.975, len(d) - 1) * d.std(ddof=1) / len(d) ** .5\n" + ENDS,
        "an array": PAIRED
        + "    reach = stats.t.ppf(.975, len(d) - 1) * stats.sem(d)\n    return np.array([d.mean(), d.mean() - reach, d.mean() + reach])",
        "PyTorch": "import torch\nfrom scipy import stats\n\ndef paired(first, second):\n"
        "    d = torch.tensor(first, dtype=torch.float64) - torch.tensor(second, dtype=torch.float64)\n"
        "    reach = float(stats.t.ppf(.975, len(d) - 1)) * d.std() / len(d) ** .5\n"
        "    return [d.mean(), d.mean() - reach, d.mean() + reach]",
    },
    "06.6": {
        "lists": HOLM + "    for step, i in enumerate(order):\n        if p[i] > alpha / (m - step):\n            break\n"
        "        rejected[i] = True\n    return rejected",
        "NumPy": "import numpy as np\n\ndef holm(p, alpha):\n    p = np.array(p)\n    order = p.argsort()\n"
        "    small = p[order] <= alpha / np.arange(len(p), 0, -1)\n    rejected = np.zeros(len(p), bool)\n"
        "    rejected[order] = np.cumprod(small).astype(bool)\n    return rejected",
    },
}
"""By exercise: the style of a right answer ("NumPy"), and its source."""
