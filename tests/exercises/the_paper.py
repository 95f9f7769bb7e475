"""Answers to the exercises of notebook 08, the paper: near misses that must be refused, and styles that must pass."""

NEAR_MISSES: dict[str, dict[str, str]] = {
    "08.1": {
        "one level": "search_points = 27 * 32",
        "no prompts": "search_points = 135",
        "the zero vector left out": "search_points = 134 * 32",
        "batches of 16": "search_points = 135 * 16",
    },
    "08.2": {
        "no logarithm": """
def advantages(scores):
    mean = sum(scores) / len(scores)
    return [s - mean for s in scores]
""",
        "the mean of the others": """
import math
def advantages(scores):
    logs = [math.log(min(max(s, 1e-4), 0.9999)) for s in scores]
    return [x - (sum(logs) - x) / (len(logs) - 1) for x in logs]
""",
        "no upper limit": """
import math
def advantages(scores):
    logs = [math.log(max(s, 1e-4)) for s in scores]
    return [x - sum(logs) / len(logs) for x in logs]
""",
        "another lower limit": """
import math
def advantages(scores):
    logs = [math.log(min(max(s, 1e-3), 0.9999)) for s in scores]
    return [x - sum(logs) / len(logs) for x in logs]
""",
        "the logarithm of the mean": """
import math
def advantages(scores):
    clipped = [min(max(s, 1e-4), 0.9999) for s in scores]
    return [math.log(s) - math.log(sum(clipped) / len(clipped)) for s in clipped]
""",
        "divided by the spread": """
import numpy as np
def advantages(scores):
    logs = np.log(np.clip(scores, 1e-4, 0.9999))
    return (logs - logs.mean()) / (logs.std() + 1e-8)
""",
        "always three": """
import math
def advantages(scores):
    logs = [math.log(min(max(s, 1e-4), 0.9999)) for s in scores]
    return [x - sum(logs) / 3 for x in logs]
""",
    },
    "08.3": {
        "the bug as it stands": """
def advantages(scores, logp, base_logp, beta):
    mean = sum(scores) / len(scores)
    return [s - mean for s in scores]
""",
        "the same KL off every reply": """
def advantages(scores, logp, base_logp, beta):
    kl = sum(a - b for a, b in zip(logp, base_logp)) / len(logp)
    rewards = [s - beta * kl for s in scores]
    return [r - sum(rewards) / len(rewards) for r in rewards]
""",
        "the wrong sign": """
def advantages(scores, logp, base_logp, beta):
    rewards = [s + beta * (a - b) for s, a, b in zip(scores, logp, base_logp)]
    return [r - sum(rewards) / len(rewards) for r in rewards]
""",
        "the size of the difference": """
def advantages(scores, logp, base_logp, beta):
    rewards = [s - beta * abs(a - b) for s, a, b in zip(scores, logp, base_logp)]
    return [r - sum(rewards) / len(rewards) for r in rewards]
""",
        "after the mean": """
def advantages(scores, logp, base_logp, beta):
    mean = sum(scores) / len(scores)
    return [s - mean - beta * (a - b) for s, a, b in zip(scores, logp, base_logp)]
""",
        "the mean of the others": """
def advantages(scores, logp, base_logp, beta):
    rewards = [s - beta * (a - b) for s, a, b in zip(scores, logp, base_logp)]
    return [r - (sum(rewards) - r) / (len(rewards) - 1) for r in rewards]
""",
    },
    "08.4": {
        "all validations": """
import numpy as np
def stops(means, patience, tolerance):
    m = np.array(means)
    return len(m) >= patience and bool(m.mean() > 0 and m.std() / m.mean() < tolerance)
""",
        "too few are enough": """
import numpy as np
def stops(means, patience, tolerance):
    m = np.array(means[-patience:])
    return bool(len(m) and m.mean() > 0 and m.std() / m.mean() < tolerance)
""",
        "not divided by the mean": """
import numpy as np
def stops(means, patience, tolerance):
    m = np.array(means[-patience:])
    return len(m) >= patience and bool(m.mean() > 0 and m.std() < tolerance)
""",
        "one fewer in the variance": """
import numpy as np
def stops(means, patience, tolerance):
    m = np.array(means[-patience:])
    return len(m) >= patience and bool(m.mean() > 0 and m.std(ddof=1) / m.mean() < tolerance)
""",
        "means of 0 stop": """
import numpy as np
def stops(means, patience, tolerance):
    m = np.array(means[-patience:])
    return len(m) >= patience and bool(m.std() < tolerance * m.mean() or m.std() == 0)
""",
        "divided by the mean of all": """
import numpy as np
def stops(means, patience, tolerance):
    m = np.array(means[-patience:])
    return len(m) >= patience and bool(m.mean() > 0 and m.std() / np.mean(means) < tolerance)
""",
        "means below 0 stop": """
import numpy as np
def stops(means, patience, tolerance):
    m = np.array(means[-patience:])
    return len(m) >= patience and bool(m.mean() != 0 and m.std() / abs(m.mean()) < tolerance)
""",
        "half the range for the spread": """
def stops(means, patience, tolerance):
    last = means[-patience:]
    return len(last) >= patience > 0 < sum(last) and (max(last) - min(last)) / 2 < tolerance * sum(last) / patience
""",
        "the first ones": """
import numpy as np
def stops(means, patience, tolerance):
    m = np.array(means[:patience])
    return len(m) >= patience and bool(m.mean() > 0 and m.std() / m.mean() < tolerance)
""",
    },
    "08.5": {
        "not divided by n": """
def t_value(first, second, n):
    return (first[0] - second[0]) / (first[1] ** 2 + second[1] ** 2) ** 0.5
""",
        "spreads added": """
def t_value(first, second, n):
    return (first[0] - second[0]) / ((first[1] + second[1]) / n**0.5)
""",
        "the size of the difference": """
def t_value(first, second, n):
    return abs(first[0] - second[0]) / ((first[1] ** 2 + second[1] ** 2) / n) ** 0.5
""",
        "n less one": """
def t_value(first, second, n):
    return (first[0] - second[0]) / ((first[1] ** 2 + second[1] ** 2) / (n - 1)) ** 0.5
""",
        "always five seeds": """
def t_value(first, second, n):
    return (first[0] - second[0]) / ((first[1] ** 2 + second[1] ** 2) / 5) ** 0.5
""",
    },
    "08.6": {
        "rounded": """
import math
def price(d, spacing):
    levels = max(1, round(math.log2(1 / spacing)))
    return levels, levels * 3**d
""",
        "rounded down": """
import math
def price(d, spacing):
    levels = max(1, math.floor(math.log2(1 / spacing)))
    return levels, levels * 3**d
""",
        "none for a wide spacing": """
import math
def price(d, spacing):
    levels = math.ceil(math.log2(1 / spacing))
    return levels, levels * 3**d
""",
        "always three objectives": """
import math
def price(d, spacing):
    levels = max(1, math.ceil(math.log2(1 / spacing)))
    return levels, levels * 27
""",
        "the full grid": """
import math
def price(d, spacing):
    levels = max(1, math.ceil(math.log2(1 / spacing)))
    return levels, (2**levels + 1) ** d
""",
        "the zero vector left out": """
import math
def price(d, spacing):
    levels = max(1, math.ceil(math.log2(1 / spacing)))
    return levels, levels * (3**d - 1)
""",
        "points first": """
import math
def price(d, spacing):
    levels = max(1, math.ceil(math.log2(1 / spacing)))
    return levels * 3**d, levels
""",
        "a last level too many": """
import math
def price(d, spacing):
    levels = math.floor(math.log2(1 / spacing)) + 1
    return levels, levels * 3**d
""",
    },
    "08.7": {
        "divided by the pairs": """
def diversity_2(words):
    pairs = list(zip(words, words[1:]))
    return len(set(pairs)) / len(pairs) if pairs else 0.0
""",
        "pairs without order": """
def diversity_2(words):
    return len({frozenset(p) for p in zip(words, words[1:])}) / len(words) if words else 0.0
""",
        "all pairs counted": """
def diversity_2(words):
    return len(list(zip(words, words[1:]))) / len(words) if words else 0.0
""",
        "single words": """
def diversity_2(words):
    return len(set(words)) / len(words) if words else 0.0
""",
        "no word is an error": """
def diversity_2(words):
    return len(set(zip(words, words[1:]))) / len(words)
""",
        "letters in a row": """
def diversity_2(words):
    return len({a + b for a, b in zip(words, words[1:])}) / len(words) if words else 0.0
""",
        "pairs that do not overlap": """
def diversity_2(words):
    return len(set(zip(words[::2], words[1::2]))) / len(words) if words else 0.0
""",
    },
}
"""By exercise ("02.3"): what is wrong with an answer, and its source."""

ACCEPTED: dict[str, dict[str, str]] = {
    "08.1": {
        "a product": "search_points = 5 * 27 * 32",
        "a float": "search_points = 4320.0",
        "NumPy": "import numpy as np\nsearch_points = np.int64(4320)",
    },
    "08.2": {
        "torch": """
import torch
def advantages(scores):
    logs = torch.tensor(scores).clamp(1e-4, 0.9999).log()
    return logs - logs.mean()
""",
        "NumPy": """
import numpy as np
def advantages(scores):
    logs = np.log(np.clip(scores, 1e-4, 0.9999))
    return logs - logs.mean()
""",
        "a tuple": """
import math
def advantages(scores):
    logs = [math.log(min(max(s, 1e-4), 0.9999)) for s in scores]
    return tuple(x - sum(logs) / len(logs) for x in logs)
""",
    },
    "08.3": {
        "NumPy": """
import numpy as np
def advantages(scores, logp, base_logp, beta):
    rewards = np.array(scores) - beta * (np.array(logp) - np.array(base_logp))
    return rewards - rewards.mean()
""",
        "torch": """
import torch
def advantages(scores, logp, base_logp, beta):
    scores, logp, base_logp = map(torch.tensor, (scores, logp, base_logp))
    rewards = scores - beta * (logp - base_logp)
    return rewards - rewards.mean()
""",
    },
    "08.4": {
        "statistics": """
from statistics import fmean, pstdev
def stops(means, patience, tolerance):
    last = means[-patience:]
    if len(last) < patience or fmean(last) <= 0:
        return False
    return pstdev(last) / fmean(last) < tolerance
""",
        "NumPy's bool": """
import numpy as np
def stops(means, patience, tolerance):
    if len(means) < patience:
        return np.bool_(False)
    last = np.array(means[-patience:])
    return np.logical_and(last.mean() > 0, last.std() < tolerance * last.mean())
""",
    },
    "08.5": {
        "math": """
import math
def t_value(first, second, n):
    return (first[0] - second[0]) / math.hypot(first[1], second[1]) * math.sqrt(n)
""",
        "NumPy": """
import numpy as np
def t_value(first, second, n):
    (a, s), (b, u) = first, second
    return np.float64(a - b) / np.sqrt(np.float64(s**2 + u**2) / n)
""",
    },
    "08.6": {
        "a loop": """
def price(d, spacing):
    levels = 1
    while 2.0**-levels > spacing:
        levels += 1
    return levels, levels * 3**d
""",
        "NumPy, a list": """
import numpy as np
def price(d, spacing):
    levels = max(1, int(np.ceil(-np.log2(spacing))))
    return [levels, levels * 3**d]
""",
    },
    "08.7": {
        "pairwise": """
from itertools import pairwise
def diversity_2(words):
    return len(set(pairwise(words))) / max(1, len(words))
""",
        "Fraction": """
from fractions import Fraction
def diversity_2(words):
    return Fraction(len({(a, b) for a, b in zip(words, words[1:])}), len(words)) if words else 0
""",
    },
}
"""By exercise: the style of a right answer ("NumPy"), and its source."""
