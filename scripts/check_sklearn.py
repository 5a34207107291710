#!/usr/bin/env python3
"""Compares kNN and linear probes of unmix with scikit-learn's on the same features.

    python scripts/check_sklearn.py --unmix target/release/unmix --run runs/NAME [--layer 6]

Needs scikit-learn and safetensors. Exits with 1 if an accuracy differs by more than 0.1 points.

kNN: cosine similarity s, k neighbours, weights exp(s / T). Probe: both minimise the mean cross-entropy plus 1e-2 / 2 of the squared weights,
bias included (an appended column of ones without intercept); unmix by Adam with a falling rate, scikit-learn by L-BFGS, so they agree where
both have converged, which is what is compared.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

DECAY = 1e-2


def unmix(args, *rest):
    command = [args.unmix, "eval", rest[0], "--run", args.run, "--device", args.device, *rest[1:]]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def knn(rows, labels, queries, truth, k, temperature):
    classifier = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1.0 - d) / temperature))
    return 100.0 * np.mean(classifier.fit(rows, labels).predict(queries) == truth)


def probe(rows, labels, queries, truth):
    ones = lambda x: np.concatenate([x, np.ones((len(x), 1))], 1)
    classifier = LogisticRegression(C=1.0 / (DECAY * len(rows)), fit_intercept=False, tol=1e-7, max_iter=20000)
    return 100.0 * np.mean(classifier.fit(ones(rows), labels).predict(ones(queries)) == truth)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unmix", required=True, help="the program")
    parser.add_argument("--run", required=True, help="folder of a run")
    parser.add_argument("--layer", type=int, default=6)
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=500, help="of unmix's probe")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file, out, layer = str(Path(folder) / "features.safetensors"), folder, str(args.layer)
        unmix(args, "features", "--layer", layer, "--features", file)
        tensors = load_file(file)
        train, test = (tensors[f"{split}.features"].astype(np.float64) for split in ("train", "test"))
        labels, truth = (tensors[f"{split}.labels"].astype(int) for split in ("train", "test"))
        votes = ["--k", str(args.k), "--temperature", str(args.temperature)]
        ours_knn = json.loads(unmix(args, "knn", "--layer", layer, *votes, "--out", out, "--json"))["top1"]
        settings = [f"eval.linear.weight_decay={DECAY}", "eval.linear.batch=1000", "eval.linear.final_lr=1e-5"]
        settings = [part for setting in settings for part in ("--set", setting)]
        linear = ["--layer", layer, "--protocol", "htdt", "--epochs", str(args.epochs), "--lr", "0.02", "--out", out, "--json"]
        ours_probe = json.loads(unmix(args, "linear", *linear, *settings))["results"][0]["result"]["top1_last"]
    failed = False
    for name, ours, theirs in [
        ("kNN", ours_knn, knn(train, labels, test, truth, args.k, args.temperature)),
        ("probe", ours_probe, probe(train, labels, test, truth)),
    ]:
        off = abs(ours - theirs)
        failed |= off > 0.1 + 1e-9
        print(f"{name}: unmix {ours:.2f} %, scikit-learn {theirs:.2f} %, apart {off:.3f} points")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
