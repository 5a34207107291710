#!/usr/bin/env python3
"""Checks `unmix export` and `unmix import` against the libraries they are for.

    pip install torch torchvision timm safetensors numpy
    cargo build --release && python scripts/check_export.py [--unmix target/release/unmix]

1. Shapes. For several models, trains two steps on generated images, exports, builds the model of torchvision and of timm from the file's
   metadata alone, loads it with strict=True, and compares the features of the two libraries and of the Python that the command prints.
2. Numbers. Trains a ResNet-18 on 512 of the embedded images, and repeats the kNN measurement of `unmix eval knn` with torchvision's model:
   images read from the asset files, normalised by the exported mean and std, features of torchvision, votes counted here. All three figures
   (top-1 and top-5 on the pooled features, top-1 on the embedding) must agree to one image in 512. As a control, the same weights with the
   normalisation left out must not agree: the measurement does tell a wrong model from the right one.
3. The way back. What torchvision saves, wrapped as a checkpoint of MoCo, comes through `unmix import` with the same bits.

Exit status 0 if all of it holds.
"""

import argparse
import gzip
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

ROOT = Path(__file__).resolve().parent.parent
SMOKE = ROOT / "configs" / "smoke.json"
# A learning rate of almost nothing: norms over two values each have gradients that would blow the weights up.
TINY_RUN = ["schedule.steps=2", "optim.lr=1e-6", "eval.enabled=false", "data.batch=4", "log.preview=0", "method.memory.size=64",
            'data.source={"name":"synthetic","count":16,"test_count":4}', "views.crop.size=32"]


def unmix(*args):
    done = subprocess.run([str(UNMIX), *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"unmix {' '.join(map(str, args))}\n{done.stdout}{done.stderr}")
    return done.stdout


def train(run, *settings):
    sets = [part for setting in settings for part in ("--set", setting)]
    unmix("pretrain", "--config", SMOKE, "--quiet", "--device", "cpu", "--out", run, *sets)


def about(file):
    with safe_open(file, "pt") as tensors:
        return json.loads(tensors.metadata()["unmix"])


def build(library, note):
    """The model that the metadata describes, without a head unless the file has one."""
    basic = note["block"] == "basic"
    if library == "torchvision":
        model = ResNet(BasicBlock if basic else Bottleneck, note["layers"])
        model.fc = torch.nn.Identity()
    else:
        block = timm.models.resnet.BasicBlock if basic else timm.models.resnet.Bottleneck
        model = timm.models.resnet.ResNet(block, note["layers"], num_classes=0, channels=note["planes"])
    padding = {"imagenet": None, "cifar": 1, "cifar_pad": 2}[note["stem"]]
    if padding:
        model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, padding, bias=False)
        model.maxpool = torch.nn.Identity()
    if note["head"]:
        assert note["head"]["name"] == "linear"
        model.fc = torch.nn.Linear(note["features"], note["head"]["dim"])
    return model


def loaded(library, file):
    model = build(library, about(file))
    model.load_state_dict(load_file(file), strict=True)
    return model.eval()


def named(library, name):
    """The library's own constructor, where it has one for the shape."""
    if library == "torchvision":
        model = getattr(torchvision.models, name)()
        model.fc = torch.nn.Identity()
        return model
    return timm.create_model(name, num_classes=0)


def check_shapes(dir):
    cases = [("resnet18", "cifar", 1), ("resnet18", "imagenet", 1), ("resnet50", "imagenet", 1), ("resnet50", "cifar", 1),
             ("resnet34", "cifar_pad", 1), ("resnet26b", "cifar_pad", 1), ("resnet18", "cifar", 0.5)]
    for name, stem, width in cases:
        run, file = dir / f"{name}-{stem}-{width}", dir / f"{name}-{stem}-{width}.safetensors"
        train(run, *TINY_RUN, f"model.name={name}", f"model.stem={stem}", f"model.width={width}", "model.stem_channels=64")
        input = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        features = {}
        for library in ["torchvision", "timm"] if width == 1 else ["timm"]:
            said = unmix("export", "--run", run, "--naming", library, "--out", file)
            scope = {}
            exec(said.split("\n", 1)[1], scope)  # the lines that the command prints for its user
            with torch.no_grad():
                features[library] = loaded(library, file)(input)
                assert torch.equal(scope["m"].eval()(input), features[library]), said
            if stem == "imagenet":
                named(library, name).load_state_dict(load_file(file), strict=True)
        shape = tuple(features["timm"].shape)
        assert shape == (3, about(file)["features"]) and features["timm"].isfinite().all()
        apart = max((features["timm"] - other).abs().max().item() for other in features.values())
        assert apart < 1e-4, apart
        print(f"ok  {name}, stem {stem}, width {width}: strict in {' and '.join(features)}, features {shape}")


def images(split, count):
    folder = ROOT / "assets" / "fashion-mnist"
    pixels = gzip.decompress((folder / f"{split}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{split}-labels-idx1-ubyte.gz").read_bytes())
    grey = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28)[:count]
    return torch.from_numpy(grey.copy()), np.frombuffer(labels, np.uint8, offset=8)[:count]


def vote(bank, known, queries, truth, k, temperature):
    """Top-1 and top-5 of a weighted kNN, in per cent; ties go to the smaller label."""
    similarity = queries @ bank.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    votes = np.zeros((len(queries), known.max() + 1))
    for row, columns in enumerate(nearest):
        np.add.at(votes[row], known[columns], np.exp(similarity[row, columns] / temperature))
    order = np.argsort(-votes, axis=1, kind="stable")
    return [100 * np.mean((order[:, :n] == truth[:, None]).any(axis=1)) for n in (1, 5)]


def features(model, grey, note, normalise=True):
    mean, std = (torch.tensor(note[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    out = []
    with torch.no_grad():
        for batch in grey.split(128):
            x = batch[:, None].expand(-1, 3, -1, -1).float() / 255
            x = (x - mean) / std if normalise else x
            y = model(x).double()
            out.append(y / y.norm(dim=1, keepdim=True))
    return torch.cat(out).numpy()


def check_numbers(dir):
    run, count = dir / "numbers", 512
    train(run, "model.width=1", "model.stem_channels=64", "schedule.steps=16", "eval.enabled=false")
    want = json.loads(unmix("eval", "knn", "--run", run, "--device", "cpu", "--json", "--set", "eval.knn.layer=6"))
    files = {"drop": dir / "pooled.safetensors", "keep": dir / "embedding.safetensors"}
    for head, file in files.items():
        unmix("export", "--run", run, "--out", file, "--head", head)
    (bank, known), (queries, truth) = images("train", count), images("t10k", count)

    def knn(file, normalise=True):
        model, note = loaded("torchvision", file), about(file)
        rows = [features(model, grey, note, normalise) for grey in (bank, queries)]
        return vote(rows[0], known, rows[1], truth, want["k"], want["temperature"])

    pooled, embedding, control = knn(files["drop"]), knn(files["keep"]), knn(files["drop"], normalise=False)
    pairs = [("top-1, pooled", want["top1"], pooled[0]), ("top-5, pooled", want["top5"], pooled[1]),
             ("top-1, embedding", want["other_top1"], embedding[0])]
    for what, ours, theirs in pairs:
        assert abs(ours - theirs) <= 100 / count + 1e-9, (what, ours, theirs)
        print(f"ok  kNN {what}: unmix {ours:.2f} %, torchvision {theirs:.2f} %")
    assert max(abs(control[0] - want["top1"]), abs(control[1] - want["top5"])) > 100 / count + 1e-9, control
    print(f"ok  control without normalisation: top-1 {control[0]:.2f} %, top-5 {control[1]:.2f} %")


def check_import(dir):
    source = torchvision.models.resnet50()
    for module in source.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    state = {f"module.encoder_q.{name}": value for name, value in source.state_dict().items()}
    for suffix, modern in (("zip", True), ("legacy", False)):
        file, out = dir / f"{suffix}.pth", dir / f"{suffix}.safetensors"
        torch.save({"epoch": 1, "state_dict": state}, file, _use_new_zipfile_serialization=modern)
        unmix("import", "--weights", file, "--config", SMOKE, "--out", out, "--set", "model.name=resnet50", "--set", "model.width=1",
              "--set", "model.stem=imagenet", "--set", "model.stem_channels=64")
        target = torchvision.models.resnet50()
        target.fc = torch.nn.Identity()
        target.load_state_dict(load_file(out), strict=True)
        same = [torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items()
                if not name.endswith("num_batches_tracked")]
        assert all(same) and len(same) == 265
        print(f"ok  import of a MoCo checkpoint ({suffix}): {len(same)} tensors with the same bits")


def main():
    global UNMIX
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unmix", type=Path, default=ROOT / "target" / "release" / "unmix")
    UNMIX = parser.parse_args().unmix.resolve()
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}")
    with tempfile.TemporaryDirectory() as dir:
        check_shapes(Path(dir))
        check_numbers(Path(dir))
        check_import(Path(dir))


if __name__ == "__main__":
    main()
