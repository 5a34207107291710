#!/usr/bin/env python3
"""Writes the configs of SimCLR, BYOL, SwAV, SimSiam and Barlow Twins: with and without Un-Mix on CIFAR by the program that each is known from, BYOL by
the independent re-run of Un-Mix (Mini-SSL), SwAV on ImageNet, and one of each for a CPU. One place for what they share; run it from the
repository's root after a change here.
"""
from pathlib import Path

from make_configs import text

CIFAR = {
    "cifar10": ("CIFAR-10", {"name": "cifar10", "root": "data/cifar-10-batches-bin"}),
    "cifar100": ("CIFAR-100", {"name": "cifar100", "root": "data/cifar-100-binary"}),
}
METHODS = ("simclr", "byol", "swav", "simsiam", "barlow")
NOT_RUN = "Not yet run here."
OTHER_KNN = "The kNN figure this run prints is another protocol."

# What the mixture is, and what in it is ours.
UNMIX = "With Un-Mix (arXiv 2003.05438v2 and later), by which alone it differs from {base}.json: prob .5, Beta(1, 1), image i with image N - 1 - i. "
UNMIX_PAIR = (
    "The authors' program for {title} was never released. prob, beta and the pair of images are its author's answer to issue 5 of the program's repository, the form of the "
    "loss is that of its README (mixture.anchor = view2, the view that is not in the mixture), the loss of a pair that of the program named above"
)
UNMIX_BRANCH = "; that the mixture goes through both nets of BYOL (mixture.branch = both) follows from the two and is said nowhere"
UNMIX_OURS = "Un-Mix with {title} is carried over by us: no program and no paper has it. "
UNMIX_TIME = " Un-Mix encodes a third batch: 1.5 times the step of the baseline (derived)."

SOURCE = {
    "simclr": (
        "SimCLR (arXiv 2002.05709) on {data} as in htdt's self-supervised, the program on which Un-Mix rests its SimCLR: ResNet-18 with the stem for small images, batch 512, 1000 "
        "epochs, Adam 3e-3 with an L2 penalty of 1e-6, rate warmed up over 500 steps (5.1546 epochs of 97), x .2 at 50 and at 25 epochs before the end, here as shares of the "
        "length, head 512-1024-64 with a batch norm behind each layer over the rows of both views, temperature .5, plain batch norm (model.bn_splits = 1). "
        "The program has biases in front of norms, on which no output depends; here there are none. "
    ),
    "byol": (
        "BYOL (arXiv 2006.07733) on {data} as in htdt's self-supervised, the program on which Un-Mix rests its BYOL: ResNet-18 with the stem for small images, batch 512, 1000 epochs, "
        "Adam 3e-3 with an L2 penalty of 1e-6, rate warmed up over 500 steps (5.1546 epochs of 97), x .2 at 50 and at 25 epochs before the end, here as shares of the length, head "
        "512-1024-64 and predictor 64-1024-64 with batch norm between, the sum of both directions, target momentum from .99 to 1 on a cosine per epoch, plain batch norm "
        "(model.bn_splits = 1). The program has biases in front of norms, on which no output depends; here there are none. "
    ),
    "swav": (
        "SwAV (arXiv 2006.09882) on {data} as in Un-Mix's program for CIFAR: its \"resnet18\" has bottleneck blocks, 2048 features and one pixel more of padding (resnet26b, "
        "cifar_pad), batch 128, LARC (LARS with eta .001, no clip, nothing excluded), .6 to .0006 on a cosine per step after a warm-up of 5 epochs from 0, decay 1e-6, two crops of 32 "
        "pixels and from .14 of the area, no blur, 100 prototypes frozen for 5005 steps, head 2048-512-128 with batch norm. 400 epochs are its script's; its table also has "
        "200, 600, 800 and 1000. Its queue of 120 rows is cut down to whole batches of 128, that is to none: method.memory.size = 0. Half precision there, 32 bits here. "
    ),
    "simsiam": (
        "SimSiam (arXiv 2011.10566, its experiments on CIFAR-10) with the settings that re-implementations of them state: ResNet-18 with the stem for small images, batch 512, 800 "
        "epochs, SGD .06 (.03 for a batch of 256) on a cosine per epoch, decay 5e-4, crops from .2 of the area, MoCo v2's augmentations without blur, head of two layers and 2048 "
        "values, predictor 2048-512-2048. Taken over by us from its ImageNet program: the predictor's rate is constant (optim.predictor.constant) and the last norm of "
        "every residual block starts at 0 (model.zero_init_residual); the re-implementations have one rate for all and count epochs of the cosine from 1. "
    ),
    "barlow": (
        "Barlow Twins (arXiv 2103.03230) on {data} as in solo-learn's recipe for CIFAR: ResNet-18 with one pixel more of padding in the stem for small images (cifar_pad), batch 256, "
        "1000 epochs, LARS .3 with eta .02, clipped, biases and norms excluded, decay 1e-4, warm-up of 10 epochs from 3e-5, then a cosine per step, head 512-2048-2048-2048 "
        "with batch norm, off-diagonal weight .0051, the whole loss times .1, views without blur, of which the second is solarised with .2. 16 bits there, 32 here. "
    ),
}
C100 = {
    "simclr": "Mean and deviation are those of CIFAR-10, as in that program. ",
    "byol": "Mean and deviation are those of CIFAR-10, as in that program. ",
    "swav": "Mean and deviation are those of CIFAR-10, as in that program. ",
    "simsiam": "Carried over by us to CIFAR-100, mean and deviation of CIFAR-10 included: the paper has CIFAR-10 alone. ",
    "barlow": "",
}
TITLE = {"simclr": "SimCLR", "byol": "BYOL", "swav": "SwAV", "simsiam": "SimSiam", "barlow": "Barlow Twins"}
TIME = {
    "simclr": "Not yet timed here. Both views have a gradient: 1.5 times the work of MoCo (derived).",
    "byol": "Not yet timed here. Both views go through both nets: twice the work of MoCo (derived).",
    "swav": "Not yet timed here. Both views have a gradient: 1.5 times the work of MoCo with this net (derived).",
    "simsiam": "Not yet timed here. Both views have a gradient: 1.5 times the work of MoCo (derived).",
    "barlow": "Not yet timed here. Both views have a gradient: 1.5 times the work of MoCo (derived).",
}

# Published, percent: without and with Un-Mix.
FIGURE = (
    "Published for 1000 epochs: {} % without, {} % with Un-Mix (linear, read off a figure of arXiv 2003.05438; protocol presumed to be that of the program, `unmix eval linear --protocol "
    "htdt`)."
)
TABLE = (
    "Published for 200 / 400 / 600 / 800 / 1000 epochs: {} % without, {} % with Un-Mix (README of Un-Mix's program; its linear probe, best epoch of the test images: `unmix eval linear "
    "--protocol cifar`)."
)
SWAV = {
    "cifar10": TABLE.format("84.9 / 88.8 / 90.1 / 90.8 / 91.5", "86.8 / 90.4 / 92.0 / 92.5 / 93.0"),
    "cifar100": TABLE.format("57.9 / 64.5 / 65.7 / 67.2 / 67.5", "61.1 / 66.1 / 68.5 / 69.1 / 69.9"),
}
FIGURES = {
    ("cifar10", "simclr"): ("91.8", "92.3"), ("cifar100", "simclr"): ("67.7", "68.7"),
    ("cifar10", "byol"): ("92.4", "94.1"), ("cifar100", "byol"): ("65.9", "71.4"),
}
BARLOW = {"cifar10": "92.10", "cifar100": "70.90"}
SIMSIAM = {
    "cifar10": "Published: 91.8 % linear after 800 epochs (the paper; 91.94 % in a re-implementation: 100 epochs, batch 256, SGD 30, as `unmix eval linear --protocol moco`).",
    "cifar100": "Nothing is published for these settings (solo-learn's SimSiam, another recipe of 1000 epochs: 66.04 %, a linear layer trained beside it).",
}


def expectation(data: str, method: str, unmix: bool) -> str:
    if method == "swav":
        said = SWAV[data]
    elif method == "simsiam":
        said = SIMSIAM[data]
    elif method == "barlow":
        said = f"Published for 1000 epochs: {BARLOW[data]} % (solo-learn; a linear layer that is trained beside the encoder, which `unmix` does not have)."
    else:
        said = FIGURE.format(*FIGURES[data, method])
    if unmix and method in ("simsiam", "barlow"):
        said = f"Nothing is published for this setting with Un-Mix. Without it: {said[0].lower()}{said[1:]}"
    return f"{said} {OTHER_KNN} {NOT_RUN}"


def source(data: str, method: str, unmix: bool) -> str:
    said = SOURCE[method].format(data=CIFAR[data][0]) + (C100[method] if data == "cifar100" else "")
    if unmix:
        said += UNMIX.format(base=f"{data}-{method}-none")
        if method in ("simclr", "byol"):
            said += UNMIX_PAIR.format(title=TITLE[method]) + (UNMIX_BRANCH if method == "byol" else "") + ". docs/methods.md says what is computed."
        elif method == "swav":
            said += (
                "The loss is the formula of its author (issue 7 of the program's repository); the released program reverses the assignment alone, which method.legacy_flip = true repeats."
            )
        else:
            said += UNMIX_OURS.format(title=TITLE[method]) + "docs/methods.md says what is computed."
    return said.strip()


# What a program trains with: everything that is not the default.
ADAM = {"name": "adam", "lr": 0.003, "weight_decay": 1e-6}
STEPS = {"kind": "multistep", "milestones_at": [0.95, 0.975], "factor": 0.2, "warmup_epochs": 5.1546}


def head(hidden: int, dim: int, **more) -> dict:
    return {"name": "mlp", "hidden": hidden, "hidden_norm": True, "dim": dim, **more}


SETTINGS = {
    "simclr": {
        "data": {"batch": 512},
        "views": {"recipe": "htdt_cifar", "crop": {"size": 32}},
        "method": {"name": "simclr", "temperature": 0.5},
        "model": {"bn_splits": 1, "head": head(1024, 64, last_norm="affine")},
        "optim": ADAM,
        "schedule": {"epochs": 1000, **STEPS},
    },
    "byol": {
        "data": {"batch": 512},
        "views": {"recipe": "htdt_cifar", "crop": {"size": 32}},
        "method": {"name": "byol", "predictor": {"hidden": 1024}, "key_momentum": 0.99, "key_momentum_schedule": "cosine_epoch"},
        "model": {"bn_splits": 1, "head": head(1024, 64)},
        "optim": ADAM,
        "schedule": {"epochs": 1000, **STEPS},
    },
    "swav": {
        "data": {"batch": 128},
        "views": {"recipe": "swav_cifar", "crop": {"size": 32}},
        "method": {"name": "swav", "prototypes": 100, "freeze_prototypes_steps": 5005},
        "model": {"name": "resnet26b", "stem": "cifar_pad", "bn_splits": 1, "head": head(512, 128)},
        "optim": {"name": "lars", "lr": 0.6, "trust": 0.001, "weight_decay": 1e-6},
        "schedule": {"epochs": 400, "per_step": True, "warmup_epochs": 5, "warmup_start": 0.0, "final_lr": 0.0006},
    },
    "simsiam": {
        "data": {"batch": 512},
        "views": {"recipe": "cifar_moco", "crop": {"size": 32, "min_area": 0.2}},
        "method": {"name": "simsiam", "predictor": {"hidden": 512}},
        "model": {"bn_splits": 1, "zero_init_residual": True, "head": head(2048, 2048, last_norm="plain")},
        "optim": {"lr": 0.06, "weight_decay": 0.0005, "predictor": {"constant": True}},
        "schedule": {"epochs": 800},
    },
    "barlow": {
        "data": {"batch": 256},
        "views": {"recipe": "solo_asymmetric_1", "second_recipe": "solo_asymmetric_2", "crop": {"size": 32}},
        "method": {"name": "barlow", "scale": 0.1},
        "model": {"stem": "cifar_pad", "bn_splits": 1, "head": head(2048, 2048, layers=3)},
        "optim": {
            "name": "lars", "lr": 0.3, "trust": 0.02, "lars_clip": True, "lars_exclude": ["norm", "bias"], "weight_decay": 0.0001,
        },
        "schedule": {"epochs": 1000, "per_step": True, "warmup_epochs": 10, "warmup_start": 3e-5},
    },
}
# solo-learn's for CIFAR-100; the other programs have those of CIFAR-10 for both.
SOLO_C100 = {"mean": [0.5071, 0.4865, 0.4409], "std": [0.2673, 0.2564, 0.2762]}


def command(name: str, more: str = "") -> str:
    return f"cargo run --release -- pretrain --config configs/{name}.json{more}"


def cifar(data: str, method: str, unmix: bool) -> tuple[str, dict]:
    title, files = CIFAR[data]
    settings, name = SETTINGS[method], f"{data}-{method}-{'unmix' if unmix else 'none'}"
    views = settings["views"] | (SOLO_C100 if (data, method) == ("cifar100", "barlow") else {})
    about = {
        "source": source(data, method, unmix),
        "command": command(name),
        "hardware": f"one GPU (not yet measured; `unmix plan` sums up what it takes). data.source.root is the folder of {title}'s binary version.",
        "time": TIME[method] + (UNMIX_TIME if unmix else ""),
        "expectation": expectation(data, method, unmix),
    }
    return name, {
        "about": about,
        "data": {"source": files, **settings["data"]},
        "views": views,
        "mixture": {"name": "unmix" if unmix else "none"},
        **{key: settings[key] for key in ("method", "model", "optim", "schedule")},
        "checkpoint": {"every_epochs": 10},
    }


# Mini-SSL: its data sets with mean and deviation, and its table, 200-NN / linear, without and with Un-Mix.
MINISSL = {
    "cifar10": (
        *CIFAR["cifar10"], "the folder of CIFAR-10's binary version", 32, [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010],
        0.99, 0.9703, "87.54 / 89.54", "87.99 / 90.37",
    ),
    "cifar100": (
        *CIFAR["cifar100"], "the folder of CIFAR-100's binary version", 32, [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761],
        0.99, 0.9703, "57.24 / 63.16", "59.11 / 65.30",
    ),
    "tiny-imagenet": (
        "Tiny ImageNet", {"name": "tiny_imagenet", "root": "data/tiny-imagenet-200"}, "the folder tiny-imagenet-200 as it is unpacked", 64,
        [0.4802, 0.4481, 0.3975], [0.2302, 0.2265, 0.2262], 0.996, 0.988, "37.65 / 45.29", "38.65 / 47.29",
    ),
}
MINISSL_SOURCE = (
    "BYOL on {title} as in Mini-SSL, an independent re-run of Un-Mix: ResNet-18 with the stem for small images, batch 256, 200 epochs, SGD .06 with a warm-up of 5 epochs from 0 and a cosine "
    "per step to 0, decay 5e-4 on all parameters, MoCo v2's augmentations at {size} pixels, blur included, head 512-2048-128 and predictor 128-2048-128 with batch norm between, mean of "
    "both directions, target momentum {momentum} throughout, 8 groups of batch norm in the backbone (model.bn_splits, the default), plain ones in head and predictor, the target's "
    "batch shuffled. Flips come last here and first there, which is the same distribution. Momentum .9 of SGD is presumed."
)
MINISSL_TINY = " Its net for Tiny ImageNet has a max pool behind the 3x3 convolution, for which there is no model.stem: without it every map has four times the pixels, so that its figures bind less."
MINISSL_UNMIX = (
    " With Un-Mix: prob .5, Beta(1, 1), the mixture through both nets. The program mixes view 2 and compares it with view 1, here view 1 is mixed and compared with view 2 (mixture.anchor = view2): "
    "both views are independent draws of one distribution and the loss of the clean pair is symmetric in them, so that exchanging their names turns one into the other. "
    "The program moves the target before each of its three pairs, that is three times per step while the online net stays, which is once with momentum {before} cubed: "
    "method.key_momentum = {after}, beside the mixture the only difference to {base}.json. In the program the second and the third pair see the target after one and two moves more; here all see it after the third. It "
    "encodes the mixture four times, here it is encoded once by each net, which shows in running statistics and in which images share a group of the target's batch norm."
)
MINISSL_EXPECTATION = (
    "Published (README of Mini-SSL, these 200 epochs, one seed): {without} % without, {with_it} % with Un-Mix, kNN / linear. kNN: k 200, T 0.1 on the 512 features (eval.knn.layer = features), last or best epoch is not "
    "said. Linear: 100 epochs, batch 256, SGD 30 with Nesterov's momentum .9, x .1 after 60 and 80; `unmix eval linear --protocol moco` has all of it but Nesterov. "
)


def minissl(data: str, unmix: bool) -> tuple[str, dict]:
    title, files, root, size, mean, std, before, after, without, with_it = MINISSL[data]
    name = f"{data}-byol-{'unmix' if unmix else 'none'}-minissl"
    dot = lambda value: f"{value:g}".removeprefix("0")  # noqa: E731
    said = MINISSL_SOURCE.format(title=title, size=size, momentum=dot(before)) + (MINISSL_TINY if size == 64 else "")
    if unmix:
        said += MINISSL_UNMIX.format(before=dot(before), after=dot(after), base=f"{data}-byol-none-minissl")
    about = {
        "source": said,
        "command": command(name),
        "hardware": f"one GPU (not yet measured; `unmix plan` sums up what it takes). data.source.root is {root}.",
        "time": TIME["byol"] + (UNMIX_TIME if unmix else ""),
        "expectation": MINISSL_EXPECTATION.format(without=without, with_it=with_it) + NOT_RUN,
    }
    return name, {
        "about": about,
        "data": {"source": files, "batch": 256},
        "views": {"recipe": "moco_v2", "crop": {"size": size}, "mean": mean, "std": std},
        "mixture": {"name": "unmix" if unmix else "none"},
        "method": {
            "name": "byol", "predictor": {"hidden": 2048}, "key_momentum": after if unmix else before,
            "key_momentum_schedule": "constant", "directions": "mean", "shuffle_bn": True,
        },
        "model": {"head": head(2048, 128)},
        "optim": {"lr": 0.06, "weight_decay": 0.0005},
        "schedule": {"epochs": 200, "per_step": True, "warmup_epochs": 5, "warmup_start": 0.0},
        "checkpoint": {"every_epochs": 10},
        "eval": {"knn": {"layer": "features"}},
    }


def imagenet(unmix: bool) -> tuple[str, dict]:
    name = f"imagenet-swav-{'unmix' if unmix else 'none'}"
    said = (
        "SwAV (arXiv 2006.09882) with the settings of its 200 epochs at batch 256: ResNet-50, two crops of 224 pixels (.14 to 1 of the area) and six of 96 (.05 to .14), 3000 prototypes frozen for 5005 steps, a "
        "queue of 3840 rows per assigning crop from epoch 15, LARC (LARS with eta .001, no clip, nothing excluded), .6 to .0006 on a cosine per step without a warm-up, decay 1e-6, head "
        "2048-2048-128 with batch norm. Its batch norm is synchronised over 4 GPUs of 64 images, which is plain batch norm on one (model.bn_splits = 1). Half precision there, 32 bits here."
    )
    if unmix:
        said += (
            " With Un-Mix (arXiv 2003.05438v2 and later), by which alone it differs from imagenet-swav-none.json, as in Un-Mix's script of the same length: it sets no probability, and its program's default is 0, so that "
            "regions alone are mixed. Crops 1, 3, 5 and 7 of the eight are mixed. Its program draws lambda anew for every box from the kept area of the one before and weighs all terms by the last; here one lambda is drawn per "
            "step, with a box and a kept area for each mixed crop, and the loss is the formula of its author: docs/methods.md. Each of its GPUs draws a mixture of its own; here one draw holds for the batch."
        )
    published = "72.7 % linear after these 200 epochs (README of SwAV's program; 100 epochs, batch 256, SGD .3 on a cosine, decay 1e-6: `unmix eval linear --protocol cifar --set eval.linear.batch=256`)."
    about = {
        "source": said,
        "command": command(name),
        "hardware": "one GPU with 80 GB (an estimate, not yet measured; `unmix plan --images 1281167` sums up what it takes). data.source.root holds ImageNet's train and val folders.",
        "time": "Not yet timed here. PyTorch: the script asks for 72 h on 4 GPUs." if unmix else "Not yet timed here.",
        "expectation": (
            (f"Nothing is published for Un-Mix at this setting. Without it: {published}" if unmix else f"Published: {published}")
            + " eval.enabled is false: a kNN over 1.28 million images would hold some 10 GB of features, and no such figure is published. " + NOT_RUN
        ),
    }
    return name, {
        "about": about,
        "data": {"source": {"name": "folder", "root": "data/imagenet"}, "batch": 256},
        "views": {
            "recipe": "swav", "crop": {"size": 224},
            "crops": [{"count": 2, "min_area": 0.14}, {"count": 6, "size": 96, "min_area": 0.05, "max_area": 0.14}],
        },
        "mixture": {"name": "unmix", "prob": 0.0} if unmix else {"name": "none"},
        "method": {"name": "swav", "prototypes": 3000, "freeze_prototypes_steps": 5005, "memory": {"size": 3840, "start_epoch": 15}},
        "model": {"name": "resnet50", "stem": "imagenet", "bn_splits": 1, "head": head(2048, 128)},
        "optim": {"name": "lars", "lr": 0.6, "trust": 0.001, "weight_decay": 1e-6},
        "schedule": {"epochs": 200, "per_step": True, "final_lr": 0.0006},
        "checkpoint": {"every_epochs": 5},
        "eval": {"enabled": False},
    }


# For two CPU cores: an eighth of the width, heads as much narrower.
CPU = {
    "simclr": (
        "head 64-128-64, temperature .5 and Adam 3e-3 as in htdt's self-supervised",
        {"method": {"name": "simclr", "temperature": 0.5}, "head": head(128, 64, last_norm="affine"), "optim": ADAM},
    ),
    "byol": (
        "head 64-128-64, predictor 64-128-64 and Adam 3e-3 as in htdt's self-supervised, target momentum from .99 to 1 on a cosine per step",
        {"method": {"name": "byol", "predictor": {"hidden": 128}, "key_momentum": 0.99}, "head": head(128, 64), "optim": ADAM},
    ),
    "swav": (
        "head 64-128-64, 100 prototypes frozen for 100 steps, no queue, and Adam 1e-3 in the place of LARC",
        {
            "method": {"name": "swav", "prototypes": 100, "freeze_prototypes_steps": 100}, "head": head(128, 64),
            "optim": {"name": "adam", "lr": 0.001, "weight_decay": 1e-6},
        },
    ),
    "simsiam": (
        "head 64-256-256, predictor 256-64-256 with a constant rate, residual blocks that start as their shortcuts, SGD .03 and 5e-4",
        {
            "method": {"name": "simsiam", "predictor": {"hidden": 64}}, "head": head(256, 256, last_norm="plain"), "zero_init_residual": True,
            "optim": {"lr": 0.03, "weight_decay": 0.0005, "predictor": {"constant": True}},
        },
    ),
    "barlow": (
        "head 64-256-256-256, off-diagonal weight .0051, the whole loss times .1, and LARS .3 with eta .02, clipped, biases and norms excluded, as in solo-learn",
        {
            "method": {"name": "barlow", "scale": 0.1}, "head": head(256, 256, layers=3), "optim": SETTINGS["barlow"]["optim"],
        },
    ),
}


def cpu(method: str) -> tuple[str, dict]:
    name, (said, settings) = f"cifar10-cpu-{method}", CPU[method]
    zero = {"zero_init_residual": True} if settings.get("zero_init_residual") else {}
    about = {
        "source": (
            f"{TITLE[method]} at the size of cifar10-cpu.json, of which it has images, views, width, batch and length: an eighth of ResNet-18's width, views of 16x16 pixels, 2 epochs. {said[0].upper()}{said[1:]}. "
            "Settings of our own, for comparing mixtures at equal settings."
        ),
        "command": command(name, " --set mixture.name=unmix"),
        "hardware": "2 CPU cores, no GPU",
        "time": (
            f"Not yet timed here. {'Twice' if method == 'byol' else '1.5 times'} the work of cifar10-cpu.json, which takes about 8 minutes, and 1.5 times that with unmix (derived)."
        ),
        "expectation": "Nothing is published for this setting. After 2 epochs the differences are of the size of the noise. " + NOT_RUN,
    }
    return name, {
        "about": about,
        "data": {"source": {"name": "folder", "root": "data/cifar10"}, "batch": 128},
        "views": {"recipe": "cifar_moco", "crop": {"size": 16, "min_area": 0.2}},
        "method": settings["method"],
        "model": {"width": 0.125, "stem_channels": 8, "bn_splits": 1, **zero, "head": settings["head"]},
        "optim": settings["optim"],
        "schedule": {"epochs": 2, "per_step": True},
    }


def configs():
    for unmix in (False, True):
        yield from (cifar(data, method, unmix) for data in CIFAR for method in METHODS)
        yield from (minissl(data, unmix) for data in MINISSL)
        yield imagenet(unmix)
    yield from (cpu(method) for method in METHODS)


if __name__ == "__main__":
    for name, config in configs():
        Path(f"configs/{name}.json").write_text(text(config))
