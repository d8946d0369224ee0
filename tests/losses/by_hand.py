"""The losses as their papers define them, pixel by pixel, in float64: means over units, or 0."""

import math

import numpy as np


def pixels(log_probs, label):
    """The log-probabilities (C,) and the class of each labelled pixel."""
    rows = log_probs.double().numpy().transpose(0, 2, 3, 1).reshape(-1, log_probs.shape[1])
    return [(row, k) for row, k in zip(rows, label.numpy().reshape(-1).tolist(), strict=True) if k >= 0]


def cross_entropy(log_probs, label, weights=None, smoothing=0.0):
    num_class = log_probs.shape[1]
    weights = [1.0] * num_class if weights is None else weights.tolist()
    total = units = 0.0
    for log_p, k in pixels(log_probs, label):
        total -= weights[k] * (1 - smoothing) * log_p[k]
        for c in range(num_class):
            total -= weights[c] * smoothing / num_class * log_p[c]
        units += weights[k]
    return total / units if units else 0.0


def focal(log_probs, label, weights=None, gamma=2.0):
    weights = [1.0] * log_probs.shape[1] if weights is None else weights.tolist()
    total = units = 0.0
    for log_p, k in pixels(log_probs, label):
        total -= weights[k] * (1 - math.exp(log_p[k])) ** gamma * log_p[k]
        units += weights[k]
    return total / units if units else 0.0


def ohem(log_probs, label, weights=None, threshold=0.7, min_kept=1 / 16):
    weights = [1.0] * log_probs.shape[1] if weights is None else weights.tolist()
    hardest_first = sorted((math.exp(log_p[k]), k) for log_p, k in pixels(log_probs, label))
    least = math.ceil(min_kept * len(hardest_first))
    kept = [(p, k) for i, (p, k) in enumerate(hardest_first) if p < threshold or i < least]
    units = sum(weights[k] for _, k in kept)
    return -sum(weights[k] * math.log(p) for p, k in kept) / units if units else 0.0


def dice(log_probs, label):
    losses = []
    for c in range(log_probs.shape[1]):
        overlap = squares = size = 0.0
        for log_p, k in pixels(log_probs, label):
            p, g = math.exp(log_p[c]), float(k == c)
            overlap, squares, size = overlap + p * g, squares + p * p, size + g * g
        if size:
            losses.append(1 - 2 * overlap / (squares + size))
    return sum(losses) / len(losses) if losses else 0.0


def lovasz(log_probs, label):
    """By the definition of a set function's Lovász extension: equations 5, 8 and 9 of Berman et al. 2018."""
    losses = []
    for c in range(log_probs.shape[1]):
        truth = {i for i, (_, k) in enumerate(pixels(log_probs, label)) if k == c}
        errors = []
        for i, (log_p, _) in enumerate(pixels(log_probs, label)):
            errors.append(1 - math.exp(log_p[c]) if i in truth else math.exp(log_p[c]))
        if not truth:
            continue
        loss, wrong = 0.0, set()
        for i in np.argsort(errors)[::-1].tolist():
            before = len(wrong) / len(truth | wrong)
            wrong = wrong | {i}
            loss += errors[i] * (len(wrong) / len(truth | wrong) - before)
        losses.append(loss)
    return sum(losses) / len(losses) if losses else 0.0
