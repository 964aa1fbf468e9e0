"""The losses equal the released program (values and gradients), plain loops, and themselves on two processes."""

from __future__ import annotations

import doctest
import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from stmine_hf.modeling.fisvl import losses_fisvl
from stmine_hf.modeling.fisvl.losses_fisvl import (
    EPS,
    ValueGuidedSchedule,
    affiliation_loss,
    contrastive_loss,
    gather_rows,
    gather_with_grad,
    scene_adaptive_loss,
    triplet_loss,
)

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "fisvl"
REFERENCE = json.loads((FIXTURES / "losses.json").read_text())
TENSORS = load_file(FIXTURES / "losses.safetensors")
TWO_PROCESS = json.loads((FIXTURES / "two_process.json").read_text())
IDS = torch.tensor(REFERENCE["image_idx"])
SCENES = torch.tensor(REFERENCE["scene_label"])
LENGTHS = torch.tensor(REFERENCE["length"], dtype=torch.float64)
MENDS = {
    "official": {},
    "i_positives_masked": {"mask_positives": True},
    "ii_float_weights": {"integer_weights": False},
    "iii_below_margin_dropped": {"drop_below_margin": True},
    "all_mended": {"mask_positives": True, "integer_weights": False, "drop_below_margin": True},
}


def run(name: str, dtype: torch.dtype = torch.float32, **mends: bool):
    """The loss called `name` in the fixtures on their embeddings: value, d/d image, d/d text, d/d temperature."""
    image = TENSORS["image_feat"].to(dtype, copy=True).requires_grad_()
    text = TENSORS["text_feat"].to(dtype, copy=True).requires_grad_()
    kind, *details = name.removeprefix("temp0.4/").split("/")
    temperature = torch.tensor(0.4 if name.startswith("temp0.4/") else 0.07).to(dtype).requires_grad_()
    if kind.startswith("contrastive"):
        weigh = ValueGuidedSchedule().weighs_captions(int(details[0].removeprefix("epoch")))
        ids = IDS if kind == "contrastive" else None
        loss = contrastive_loss(image, text, temperature, ids, LENGTHS if weigh else None)
    elif kind == "affiliation":
        loss = affiliation_loss(image, text, temperature, SCENES)
    elif kind == "scene":
        numbers = REFERENCE["configs"][details[0]]
        betas = {"beta1": numbers["beta1"], "beta2": numbers["beta2"], "margin": numbers["alpha_m"]}
        epoch = int(details[1].removeprefix("epoch"))
        loss = scene_adaptive_loss(image, text, temperature, IDS, SCENES, epoch, **betas, **mends)
    else:
        margin = float(details[0].removeprefix("margin"))
        loss = triplet_loss(image, text, margin, hardest=details[1].endswith("true"))
    loss.backward()
    return loss, image.grad, text.grad, temperature.grad


def difference(ours: torch.Tensor, reference: torch.Tensor | float) -> float:
    return (ours.detach().double() - torch.as_tensor(reference, dtype=torch.float64)).abs().max().item()


def title(name: str) -> str:
    """The row of the parity table a case belongs to: `temp0.4/scene/rsicd/epoch5` -> `scene loss`."""
    kind, *details = name.removeprefix("temp0.4/").split("/")
    if kind == "contrastive" and details[0] in ("epoch10", "epoch15"):
        return "length-weighted contrastive loss"
    return {"contrastive_no_idx": "contrastive loss without ids"}.get(kind, f"{kind} loss")


def gradient_key(name: str) -> str | None:
    """Where the fixtures keep the gradients of `name`; those of a later epoch with equal values are stored once."""
    for later, stored in (("epoch9", "epoch5"), ("epoch9", "epoch0"), ("epoch15", "epoch10"), ("", "")):
        key = name.replace(later, stored) if later else name
        if f"{key}/d_image_feat" in TENSORS:
            return key
    return None


@pytest.mark.parametrize("name", REFERENCE["losses"])
def test_parity_of_value_and_gradients(name, parity):
    stored = REFERENCE["losses"][name]
    loss, d_image, d_text, d_temperature = run(name)
    value_tolerance = 1e-5 if "triplet" in name else 2e-6
    parity(title(name), difference(loss, stored["value"]), value_tolerance)
    assert str(loss.dtype) == f"torch.{stored['dtype']}"
    if (key := gradient_key(name)) is not None:
        parity(f"{title(name)}: gradients", difference(d_image, TENSORS[f"{key}/d_image_feat"]), 2e-6)
        parity(f"{title(name)}: gradients", difference(d_text, TENSORS[f"{key}/d_text_feat"]), 2e-6)
    for ours, norm in ((d_image, stored["grad_image_norm"]), (d_text, stored["grad_text_norm"])):
        assert abs(ours.double().norm().item() - norm) <= 2e-6 + 1e-5 * norm
    d_temp = stored["grad_temp2"] if "affiliation" in name else stored["grad_temp"]
    if d_temp is None:
        assert d_temperature is None
    else:
        # float32 noise of a sum over 144 logits of either sign, each up to 9, divided by temperature 0.07
        parity(f"{title(name)}: d temperature", difference(d_temperature, d_temp), 2e-5)


@pytest.mark.parametrize("name", REFERENCE["losses"])
def test_parity_in_double_precision(name, parity):
    loss, *_ = run(name, torch.float64)
    assert loss.dtype == torch.float64
    # the release keeps targets and affiliations in float32 even here: 1 + 6e-5 is rounded by 4e-8
    tolerance = 3e-7 if "contrastive/" in name or "affiliation" in name else 1e-12
    parity(f"{title(name)}: in float64", difference(loss, REFERENCE["losses"][name]["value_float64"]), tolerance)


def test_every_stored_gradient_is_compared():
    used = {gradient_key(name) for name in REFERENCE["losses"]}
    stored = {key.removesuffix("/d_image_feat") for key in TENSORS if key.endswith("/d_image_feat")}
    assert used - {None} == {key for key in stored if key.rsplit("/", 1)[-1] not in MENDS}


@pytest.mark.parametrize("mend", MENDS)
@pytest.mark.parametrize("name", REFERENCE["scene_defects"])
def test_parity_of_the_mended_scene_loss(name, mend, parity):
    stored = REFERENCE["scene_defects"][name][mend]
    loss, d_image, d_text, _ = run(name, **MENDS[mend])
    parity(f"{title(name)}, {mend}", difference(loss, stored["value"]), 2e-6)
    norms = {"grad_norm_image": d_image, "grad_norm_text": d_text}
    worst = max(abs(gradient.double().norm().item() - stored[key]) for key, gradient in norms.items())
    parity(f"{title(name)}, {mend}: gradient norms", worst, 1e-5)
    if f"{name}/{mend}/d_image_feat" in TENSORS:
        parity(f"{title(name)}, {mend}: gradients", difference(d_image, TENSORS[f"{name}/{mend}/d_image_feat"]), 2e-6)
        parity(f"{title(name)}, {mend}: gradients", difference(d_text, TENSORS[f"{name}/{mend}/d_text_feat"]), 2e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Second proof: the formulas as plain loops over Python numbers.


def loop_softmax(row: list[float]) -> list[float]:
    top = max(row)
    exps = [math.exp(x - top) for x in row]
    return [x / sum(exps) for x in exps]


def loop_scores(rows, columns, temperature) -> list[list[float]]:
    return [[sum(x * y for x, y in zip(a, b, strict=True)) / temperature for b in columns] for a in rows]


def transpose(matrix):
    return [list(row) for row in zip(*matrix, strict=True)]


def loop_cross_entropy(logits, targets) -> float:
    terms = []
    for row, target in zip(logits, targets, strict=True):
        terms.append(-sum(t * math.log(p) for t, p in zip(target, loop_softmax(row), strict=True)))
    return sum(terms) / len(terms)


def loop_contrastive(image, text, temperature, ids=None, weights=None) -> float:
    logits = loop_scores(image, text, temperature)
    if weights is not None:
        logits = [[score * weight for score, weight in zip(row, weights, strict=True)] for row in logits]
    rows = range(len(image))
    targets = [[float(i == j) for j in rows] for i in rows]
    if ids is not None:
        targets = [[float(ids[i] == ids[j]) + EPS for j in rows] for i in rows]
        targets = [[target / sum(row) for target in row] for row in targets]
    return (loop_cross_entropy(logits, targets) + loop_cross_entropy(transpose(logits), targets)) / 2


def loop_affiliation(image, text, temperature, scenes, ranks=None) -> float:
    """With `ranks`, centres are taken over the rows of a row's own process only, as in the release."""
    rows = range(len(image))
    ranks = ranks or [0 for _ in rows]

    def centres(embeds):
        found = []
        for i in rows:
            member = [(float(scenes[i] == scenes[j]) + EPS) * (ranks[i] == ranks[j]) for j in rows]
            found.append(
                [
                    sum(m * e[d] for m, e in zip(member, embeds, strict=True)) / sum(member)
                    for d in range(len(embeds[0]))
                ]
            )
        return found

    identity = [[float(i == j) for j in rows] for i in rows]
    i2t = loop_cross_entropy(loop_scores(image, centres(text), temperature), identity)
    t2i = loop_cross_entropy(transpose(loop_scores(text, centres(image), temperature)), identity)
    return (i2t + t2i) / 2


def loop_affiliation_one_centre(image, text, temperature, scenes) -> float:
    def side(embeds, others) -> float:
        names = sorted(set(scenes))
        centres = []
        for name in names:
            own = [e for e, scene in zip(others, scenes, strict=True) if scene == name]
            centres.append([sum(column) / len(own) for column in zip(*own, strict=True)])
        targets = [[float(name == scene) for name in names] for scene in scenes]
        return loop_cross_entropy(loop_scores(embeds, centres, temperature), targets)

    return (side(image, text) + side(text, image)) / 2


def loop_scene(image, text, temperature, ids, scenes, epoch, beta1, beta2, margin, mends=None) -> float:
    mends = mends or {}

    def side(scores, embeds) -> float:
        rows = range(len(embeds))
        hardest = []
        for i in rows:
            allowed = [j for j in rows if not (mends.get("mask_positives") and ids[i] == ids[j])]
            hardest.append(max(allowed, key=lambda j: scores[i][j]))
        total = 0.0
        for i in rows:
            exps = []
            for j in rows:
                score = sum(x * y for x, y in zip(embeds[i], embeds[hardest[j]], strict=True)) / temperature
                low = 0.0 if mends.get("drop_below_margin") else 1.0
                exps.append(low if score < margin else math.exp(score))
            for j in rows:
                weight = math.exp((beta2 if scenes[i] == scenes[hardest[j]] else beta1) * epoch)
                weight = weight if mends.get("integer_weights") is False else int(weight)
                total += exps[j] / (sum(exps) + EPS) * weight
        return total / len(embeds)

    scores = loop_scores(image, text, temperature)
    return (side(scores, text) + side(transpose(scores), image)) / 2


def loop_triplet(image, text, margin, hardest) -> float:
    scores, total, rows = loop_scores(image, text, 1.0), 0.0, range(len(image))
    for i in rows:
        texts = [max(0.0, margin + scores[i][j] - scores[i][i]) for j in rows if j != i]
        images = [max(0.0, margin + scores[j][i] - scores[i][i]) for j in rows if j != i]
        total += max(texts) + max(images) if hardest else sum(texts) + sum(images)
    return total


@pytest.fixture(params=range(4))
def batch(request):
    """Nine random pairs in float64 with repeated images and scenes, as tensors."""
    torch.manual_seed(request.param)
    image = torch.randn(9, 5, dtype=torch.float64)
    text = image + torch.randn(9, 5, dtype=torch.float64)
    ids = torch.tensor([0, 0, 1, 2, 2, 3, 4, 5, 6])
    scenes = torch.tensor([0, 0, 1, 1, 1, 0, 2, 3, 2])
    return F.normalize(image, dim=1), F.normalize(text, dim=1), ids, scenes, 0.5 + 0.5 * torch.rand(9).double()


def test_losses_equal_plain_loops(batch):
    image, text, ids, scenes, weights = batch
    v, t, i, s, w = (tensor.tolist() for tensor in batch)
    exact = {"rel": 1e-12, "abs": 1e-12}
    assert contrastive_loss(image, text, 0.2).item() == pytest.approx(loop_contrastive(v, t, 0.2), **exact)
    ours = contrastive_loss(image, text, 0.2, ids, weights).item()
    assert ours == pytest.approx(loop_contrastive(v, t, 0.2, i, w), **exact)
    ours = affiliation_loss(image, text, 0.2, scenes).item()
    assert ours == pytest.approx(loop_affiliation(v, t, 0.2, s), **exact)
    ours = affiliation_loss(image, text, 0.2, scenes, one_centre_per_scene=True).item()
    assert ours == pytest.approx(loop_affiliation_one_centre(v, t, 0.2, s), **exact)
    for hardest in (False, True):
        ours = triplet_loss(image, text, 0.4, hardest).item()
        assert ours == pytest.approx(loop_triplet(v, t, 0.4, hardest), **exact)
    for mends in MENDS.values():
        numbers = {"epoch": 40, "beta1": 0.01, "beta2": 0.03, "margin": 0.5}  # weights 1.49 -> 1 and 3.32 -> 3
        ours = scene_adaptive_loss(image, text, 0.4, ids, scenes, **numbers, **mends).item()
        assert ours == pytest.approx(loop_scene(v, t, 0.4, i, s, **numbers, mends=mends), **exact)


def test_gradients_equal_numerical_ones(batch):
    image, text, ids, scenes, weights = batch
    temperature = torch.tensor(0.5, dtype=torch.float64)
    inputs = tuple(tensor.clone().requires_grad_() for tensor in (image, text, temperature))
    released = {"epoch": 5, "beta1": -0.002, "beta2": 0.02, "margin": 0.95}
    assert torch.autograd.gradcheck(lambda v, t, temp: contrastive_loss(v, t, temp, ids, weights), inputs)
    assert torch.autograd.gradcheck(lambda v, t, temp: affiliation_loss(v, t, temp, scenes), inputs)
    assert torch.autograd.gradcheck(
        lambda v, t, temp: affiliation_loss(v, t, temp, scenes, one_centre_per_scene=True), inputs
    )
    assert torch.autograd.gradcheck(
        lambda v, t, temp: scene_adaptive_loss(v, t, temp, ids, scenes, **released), inputs
    )


# ---------------------------------------------------------------------------------------------------------------------
# What the defects are, edge cases, types.


def test_the_three_defects_are_what_the_docstring_says():
    image, text = TENSORS["image_feat"], TENSORS["text_feat"]
    positives = REFERENCE["experiments"]["positives"]
    scores = image @ text.T
    for side, logits in (("i2t", scores), ("t2i", scores.T)):
        picked = logits.argmax(dim=1)
        assert picked.tolist() == positives[f"official_hard_negative_{side}"]
        assert (IDS[picked] == IDS).all()  # every "hardest negative" is a positive
        masked = logits.masked_fill(IDS[:, None] == IDS[None, :], -math.inf).argmax(dim=1)
        assert masked.tolist() == positives[f"masked_argmax_{side}"]
    for config, epochs in REFERENCE["experiments"]["weights"].items():
        numbers = REFERENCE["configs"][config]
        for epoch, stored in epochs.items():
            for beta, kind in ((numbers["beta1"], "inter"), (numbers["beta2"], "intra")):
                assert math.exp(beta * int(epoch)) == pytest.approx(stored[f"float_{kind}"], abs=1e-15)
                assert int(math.exp(beta * int(epoch))) == stored[f"official_{kind}"]


@pytest.mark.parametrize(("drop", "key"), [(False, "official_min_similar_0_95"), (True, "below_margin_dropped")])
def test_the_softmax_of_scores_below_the_margin(drop, key):
    experiment = REFERENCE["experiments"]["softmax"]
    shares = losses_fisvl._shares(torch.tensor([experiment["scores"]]), margin=0.95, drop_below_margin=drop)
    assert difference(shares, torch.tensor([experiment[key]])) <= 1e-6


RELEASED = {"beta1": -0.002, "beta2": 0.02, "margin": 0.95}
CALLS = {
    "contrastive": lambda v, t, temp, ids, scenes: contrastive_loss(v, t, temp),
    "contrastive with ids": lambda v, t, temp, ids, scenes: contrastive_loss(v, t, temp, ids),
    "contrastive weighted": lambda v, t, temp, ids, scenes: contrastive_loss(
        v, t, temp, ids, torch.linspace(0.5, 1, len(v))
    ),
    "affiliation": lambda v, t, temp, ids, scenes: affiliation_loss(v, t, temp, scenes),
    "affiliation mended": lambda v, t, temp, ids, scenes: affiliation_loss(
        v, t, temp, scenes, one_centre_per_scene=True
    ),
    "triplet": lambda v, t, temp, ids, scenes: triplet_loss(v, t) + 0 * temp,
    "triplet hardest": lambda v, t, temp, ids, scenes: triplet_loss(v, t, hardest=True) + 0 * temp,
} | {
    f"scene {name}": lambda v, t, temp, ids, scenes, mends=mends: scene_adaptive_loss(
        v, t, temp, ids, scenes, 5, **RELEASED, **mends
    )
    for name, mends in MENDS.items()
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("temperature", [1e-4, 0.07, 1e4])
@pytest.mark.parametrize("case", ["one pair", "one scene", "one image", "mixed"])
@pytest.mark.parametrize("name", CALLS)
def test_edge_cases_give_finite_numbers(name, case, temperature, dtype):
    torch.manual_seed(0)
    n = 1 if case == "one pair" else 6
    image = F.normalize(torch.randn(n, 8), dim=1).to(dtype).requires_grad_()
    text = F.normalize(torch.randn(n, 8), dim=1).to(dtype).requires_grad_()
    temp = torch.tensor(temperature, requires_grad=True)
    ids = torch.zeros(n, dtype=torch.int64) if case == "one image" else torch.arange(n)
    scenes = torch.arange(n) // 2 if case == "mixed" else torch.zeros(n, dtype=torch.int64)
    loss = CALLS[name](image, text, temp, ids, scenes)
    loss.backward()
    assert loss.shape == () and loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in (image, text, temp))
    assert loss.isfinite() and loss >= -1e-5


def test_values_known_by_thought():
    embeds, scenes = torch.eye(4, dtype=torch.float64), torch.tensor([0, 0, 0, 0])
    assert contrastive_loss(embeds[:1], embeds[:1], 0.07).item() == 0
    assert contrastive_loss(embeds, embeds, 1e12).item() == pytest.approx(math.log(4))
    assert affiliation_loss(embeds, embeds, 0.07, scenes).item() == pytest.approx(math.log(4))  # four equal centres
    assert affiliation_loss(embeds, embeds, 0.07, scenes, one_centre_per_scene=True).item() == pytest.approx(0)
    assert triplet_loss(embeds[:1], embeds[:1]).item() == 0
    dead = scene_adaptive_loss(embeds, embeds, 0.07, scenes, scenes, 1, beta1=-0.002, beta2=-0.001, margin=0.95)
    assert dead.item() == 0  # both released RSICD weights are cut to 0 from epoch 1 on


@pytest.mark.parametrize("name", CALLS)
def test_half_precision_and_autocast_multiply_in_float32(name):
    image, text = TENSORS["image_feat"].bfloat16(), TENSORS["text_feat"].bfloat16()
    temp = torch.tensor(0.07)
    exact = CALLS[name](image.float(), text.float(), temp, IDS, SCENES)
    assert torch.equal(CALLS[name](image, text, temp, IDS, SCENES), exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(CALLS[name](image.float(), text.float(), temp, IDS, SCENES), exact)


@pytest.mark.parametrize(
    "name", sorted(CALLS.keys() - {"contrastive weighted"})
)  # whose weights belong to positions here
def test_order_of_the_rows_does_not_matter(name):
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    image, text = TENSORS["image_feat"].double(), TENSORS["text_feat"].double()
    temp = torch.tensor(0.4)
    shuffled = CALLS[name](image[order], text[order], temp, IDS[order], SCENES[order])
    assert shuffled.item() == pytest.approx(CALLS[name](image, text, temp, IDS, SCENES).item(), abs=1e-12)


def test_schedule():
    schedule = ValueGuidedSchedule(scene_epochs=2, caption_weights_from=3, affiliation_weight=0.5, scene_weight=2.0)
    assert [schedule.factors(epoch)["scene"] for epoch in range(4)] == [2.0, 2.0, 0.0, 0.0]
    assert [schedule.weighs_captions(epoch) for epoch in range(4)] == [False, False, False, True]
    assert {schedule.factors(epoch)["affiliation"] for epoch in range(4)} == {0.5}
    released = ValueGuidedSchedule()
    assert [epoch for epoch in range(20) if released.factors(epoch)["scene"]] == list(range(10))
    assert [epoch for epoch in range(20) if released.weighs_captions(epoch)] == list(range(10, 20))


def test_docstring_examples():
    results = doctest.testmod(losses_fisvl)
    assert results.attempted >= 15 and results.failed == 0


# ---------------------------------------------------------------------------------------------------------------------
# Several processes.


def test_without_a_process_group_gathering_returns_the_tensor_itself():
    tensor = torch.ones(2, 3, requires_grad=True)
    assert gather_with_grad(tensor) is tensor
    assert gather_rows(tensor) is tensor and gather_rows(None) is None


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What two gloo processes found, and what one process finds on the joint batch (all cases in one start)."""
    worker, folder = Path(__file__).with_name("two_processes.py"), tmp_path_factory.mktemp("gloo")
    command = [sys.executable, str(worker)]
    outputs = [folder / f"rank{rank}.pt" for rank in range(2)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([*command, str(rank), "2", str(folder / "init"), str(output)], env=environment)
        for rank, output in enumerate(outputs)
    ]
    try:
        assert [process.wait(timeout=120) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    return [torch.load(output) for output in outputs], runpy.run_path(str(worker))["run_all"](rank=0, world_size=1)


def test_two_processes_train_as_one_on_the_joint_batch(two_processes):
    ranks, one = two_processes
    assert len(one) == 2 * 7 * 6  # splits x losses x (value, 4 weights, temperature)
    for key, expected in one.items():
        for rank in ranks:
            torch.testing.assert_close(
                rank[key], expected, rtol=1e-12, atol=1e-14, msg=lambda text, k=key: f"{k}: {text}"
            )
    assert min(tensor.abs().max() for key, tensor in one.items() if "mended" not in key) > 1e-9  # nothing is idle


def test_gathering_keeps_order_lengths_and_types(two_processes):
    for rank, facts in enumerate(two_processes[0]):
        assert facts["rows"].tolist() == [0, 1, 10, 11, 12]
        assert facts["bfloat16"].dtype == torch.bfloat16
        assert facts["bfloat16"].tolist() == [[0.5, 0.5]] * 2 + [[1.5, 1.5]] * 3
        own = [[0, 0], [1, 1]] if rank == 0 else [[2, 2], [3, 3], [4, 4]]
        assert facts["bfloat16 grad"].tolist() == [[2 * x for x in row] for row in own]  # summed over both processes
        assert facts["none stays none"]


def test_parity_of_the_released_behaviour_on_two_processes(parity):
    """Released: centres over the rows of one process. Its numbers follow from loops; gathered rows give the others."""
    stored = TWO_PROCESS["losses"]["affiliation"]
    image, text = TENSORS["image_feat"].double().tolist(), TENSORS["text_feat"].double().tolist()
    per_rank = loop_affiliation(image, text, 0.07, SCENES.tolist(), ranks=[0] * 6 + [1] * 6)
    for rank, value in enumerate(stored["value_per_rank"]):
        parity(f"affiliation loss: two processes, centres of each (rank {rank})", abs(per_rank - value), 2e-6)
    joint, *_ = run("affiliation")
    parity("affiliation loss: two processes, joint centres", difference(joint, stored["value_one_process"]), 2e-6)
    # the pure function with scenes told apart by process: equal but for the epsilon that leaks between processes
    temperature = torch.tensor(0.07, requires_grad=True)
    leaves = [TENSORS[key].clone().requires_grad_() for key in ("image_feat", "text_feat")]
    scenes = SCENES + 100 * (torch.arange(12) // 6)
    loss = affiliation_loss(*leaves, temperature, scenes)
    loss.backward()
    assert difference(loss, stored["value_per_rank"][0]) < 3e-3
    local = load_file(FIXTURES / "two_process.safetensors")
    for leaf, side in zip(leaves, ("image", "text"), strict=True):
        assert (
            F.cosine_similarity(leaf.grad.flatten(), local[f"affiliation/local_d_{side}_feat"].flatten(), dim=0)
            > 0.999
        )
    # the other losses agree in value; the released backward pass gives the encoders 1/2 of the gradient behind DDP
    for name in ("contrastive/epoch0", "contrastive/epoch10", "scene/rsicd_checkpoint/epoch5"):
        ours, *_ = run(name)
        for value in TWO_PROCESS["losses"][name]["value_per_rank"]:
            parity(f"{title(name)}: two processes", difference(ours, value), 2e-6)
        assert TWO_PROCESS["losses"][name]["real_ddp"]["weight_a_norm_two_over_one"] == pytest.approx(0.5)
