"""Classifiers that see features through their inner products only: the few-label probes of the kernel literature.

Kernels are of features centred over the bank and scaled by one number that makes k(x, x) equal 1 on average over the
bank, so that the constants below mean the same for every kernel and every network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmark.probes.logistic import Problem
from benchmark.probes.threads import one_thread

# Few labels are separable in any feature space: close to a hard margin.
SVM_C = 10.0
# The same for every method; between 0.1 and 1 few-label accuracy on digits' tune split moves by about a point.
RIDGE_ALPHA = 0.3


def svm_accuracy(problem: Problem, rows: NDArray[np.int64]) -> float:
    """Of scikit-learn's support vector machine, one against one, trained on the bank's ``rows``, on the queries."""
    from sklearn.svm import SVC

    K_MM, K_NM = _kernels(problem, rows)
    with one_thread():
        machine = SVC(C=SVM_C, kernel="precomputed").fit(K_MM, problem.bank_labels[rows])
        return float((machine.predict(K_NM) == problem.queries_labels).mean())


def ridge_accuracy(problem: Problem, rows: NDArray[np.int64]) -> float:
    """Of kernel ridge regression on centred one-hot labels, f(x) = k_x (K + αI)⁻¹ (Y − Ȳ) + Ȳ; the largest wins."""
    K_MM, K_NM = _kernels(problem, rows)
    classes, label_M = np.unique(problem.bank_labels[rows], return_inverse=True)
    Y_MC = np.eye(len(classes))[label_M]
    K_MM.flat[:: len(K_MM) + 1] += RIDGE_ALPHA
    with one_thread():
        scores_NC = K_NM @ np.linalg.solve(K_MM, Y_MC - Y_MC.mean(axis=0)) + Y_MC.mean(axis=0)
    return float((classes[scores_NC.argmax(axis=1)] == problem.queries_labels).mean())


def _kernels(problem: Problem, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # A Problem's features have mean square 1: the squared norm of a row is their number, on average.
    some_MD = problem.bank[rows] / problem.bank.shape[1]
    return problem.bank[rows] @ some_MD.T, problem.queries @ some_MD.T
