"""Authors' MTTV checkpoints -> ours: names, labels, options, and everything that is no checkpoint of theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from deterministic import named_image, named_weight
from helpers_mttv import MTTV_WORDS, tiny_mttv_config
from PIL import Image
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoProcessor, ResNetConfig, ResNetModel

from stmine_hf import MttvConfig, MttvForSequenceClassification
from stmine_hf.cli import main
from stmine_hf.conversion import mttv as conversion
from stmine_hf.conversion.mttv import (
    config_from_official,
    convert_checkpoint,
    convert_name,
    convert_resnet_state_dict,
    convert_state_dict,
    official_config,
)
from stmine_hf.conversion.official import bert_tokenizer
from stmine_hf.errors import StmineError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "mttv"
MANIFEST = json.loads((FIXTURES / "state_dict_manifest.json").read_text())["variants"]
SHARED = ("word_embeddings.weight", "position_embeddings.weight", "LayerNorm.weight", "LayerNorm.bias")


def tiny_config(**fields) -> MttvConfig:
    return tiny_mttv_config(vision_config=None, **fields)


def tiny_official(config: MttvConfig) -> dict[str, Tensor]:
    """An authors' state dict of the shapes of a small config: our names, turned back by hand."""
    theirs = {
        "classifier.": "clf.",
        "mttv.global_proj.": "enc.img_encoder.fast.img_embeddings.",
        "mttv.region_proj.": "enc.img_encoder.region.img_embeddings.",
        "mttv.encoder.embeddings.token_type_embeddings.text.": "enc.txt_embeddings.token_type_embeddings.",
        "mttv.encoder.embeddings.token_type_embeddings.picture.": "enc.img_embeddings.token_type_embeddings.",
        "mttv.encoder.embeddings.": "enc.txt_embeddings.",
        "mttv.encoder.": "enc.",
    }
    official = {}
    for name, parameter in MttvForSequenceClassification(config).named_parameters():
        head = next(head for head in theirs if name.startswith(head))
        old = theirs[head] + name.removeprefix(head)
        official[old] = named_weight(old, parameter.shape)
    for name in SHARED:
        official[f"enc.img_embeddings.{name}"] = official[f"enc.txt_embeddings.{name}"]
    return official


def save(path: Path, value) -> Path:
    torch.save(value, path)
    return path


@pytest.fixture
def vocab(tmp_path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(MTTV_WORDS) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("variant", "preset"), [("weibo", "weibo"), ("fakeddit6", "fakeddit_6_way")])
def test_every_official_tensor_has_its_place(variant, preset):
    facts = MANIFEST[variant]
    official = {name: torch.empty(entry["shape"], device="meta") for name, entry in facts["keys"].items()}
    assert len(official) == 113
    config = official_config(preset)
    converted = convert_state_dict(official, config)  # checks names and shapes
    assert len(converted) == 109 + 1  # and the factors of the scalable classifier, which are one
    assert converted["scaling_factors"].tolist() == [1] * config.num_labels


def test_of_shared_tensors_that_differ_the_last_read_wins():
    """As when the released program loads such a file."""
    config = tiny_config()
    official = tiny_official(config)
    other = official["enc.txt_embeddings.word_embeddings.weight"] + 1
    for order in (list(official), sorted(official)):
        changed = {name: official[name] for name in order} | {"enc.img_embeddings.word_embeddings.weight": other}
        converted = convert_state_dict(changed, config)
        assert torch.equal(converted["mttv.encoder.embeddings.word_embeddings.weight"], other)


def test_scalable_classifier_and_label_order():
    config = tiny_config(id2label={0: "real", 1: "fake"}, label2id={"real": 0, "fake": 1})
    official = {"scaling_factors": torch.tensor([2.0, 3.0]), **tiny_official(config)}
    plain = convert_state_dict(official, config)
    assert torch.equal(plain["classifier.weight"], official["clf.weight"])
    for order in (["fake", "real"], [1, 0]):
        swapped = convert_state_dict(official, config, order)
        assert torch.equal(swapped["classifier.weight"], official["clf.weight"].flip(0))
        assert swapped["scaling_factors"].tolist() == [3, 2]
    for order in (["fake"], ["fake", "fake"], ["fake", "true"], [0, 2]):
        with pytest.raises(StmineError, match="expected each of real, fake once"):
            convert_state_dict(official, config, order)


def test_state_dicts_that_do_not_fit_are_told():
    config = tiny_config()
    official = tiny_official(config)
    with pytest.raises(StmineError, match=r"'fc.weight' is not a tensor of an MTTV checkpoint"):
        convert_state_dict({**official, "fc.weight": torch.zeros(1)}, config)
    with pytest.raises(StmineError, match=r"1 tensors are missing \(classifier.weight\)"):
        convert_state_dict({name: value for name, value in official.items() if name != "clf.weight"}, config)
    with pytest.raises(StmineError, match="16 have no place"):
        convert_state_dict(official, tiny_config(num_encoder_layers=1))
    with pytest.raises(StmineError, match=r"shape \(3, 32\), the checkpoint has \(2, 32\)"):
        convert_state_dict(official, tiny_config(id2label=None, label2id=None, num_labels=3))
    assert convert_name("enc.img_embeddings.LayerNorm.bias") == convert_name("enc.txt_embeddings.LayerNorm.bias")


def test_options_of_the_authors():
    assert config_from_official({}).to_dict() == official_config("weibo").to_dict()
    config = config_from_official(
        {"task": "fakeddit", "label_type": "3_way_label", "global_image_embeds": 9, "img_embed_pool_type": "max"}
        | {"region_image_embeds": 7, "encoder_layer_num": 4, "dropout": 0.2, "seed": 1}
    )
    assert (config.num_global_tokens, config.num_region_tokens, config.num_encoder_layers) == (9, 7, 4)
    assert (config.global_pooling, config.dropout, config.num_labels) == ("max", 0.2, 3)
    with pytest.raises(StmineError, match="no such MTTV data set"):
        config_from_official({"task": "fakeddit"})
    with pytest.raises(StmineError, match="num_global_tokens must be one of"):
        config_from_official({"global_image_embeds": 10})


@pytest.mark.parametrize("depth", [50, 101])
def test_resnets_of_torchvision(depth):
    with torch.device("meta"):
        official = getattr(torchvision.models, f"resnet{depth}")().state_dict()
        ours = ResNetModel(ResNetConfig(depths=[3, 4, 6 if depth == 50 else 23, 3])).state_dict()
    converted = convert_resnet_state_dict(official, "x.")
    assert converted.keys() == {f"x.{name}" for name in ours}
    assert all(converted[f"x.{name}"].shape == tensor.shape for name, tensor in ours.items())
    with pytest.raises(StmineError, match=r"'features.0.weight' is not a tensor of a torchvision ResNet"):
        convert_resnet_state_dict({"features.0.weight": torch.zeros(1)})


def test_checkpoint_to_folder(tmp_path, vocab):
    config = tiny_config()
    official = tiny_official(config)
    stored = {"epoch": 3, "state_dict": official, "optimizer": {"state": {}}, "best_metric": 0.5}
    converted = convert_checkpoint(save(tmp_path / "model_best.pt", stored), tmp_path / "out", config, vocab=vocab)
    bare = convert_checkpoint(save(tmp_path / "bare.pt", official), tmp_path / "bare", config, vocab=vocab)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert processor.num_regions == 3 and loaded.config.id2label == {0: "fake", 1: "real"}
    inputs = processor(text="假新闻 fake news")
    logits = [model(**inputs).logits for model in (converted, bare, loaded)]
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


def test_checkpoint_with_resnet_reads_images(tmp_path, vocab, monkeypatch):
    """With a ResNet of torchvision's names, but of few layers."""
    monkeypatch.setattr(conversion, "RESNET152", {"model_type": "resnet", "depths": [1, 1, 1, 1]})
    config = tiny_config(vision_width=2048)
    checkpoint = save(tmp_path / "model_best.pt", tiny_official(config))
    resnet = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1]).eval()
    file = save(tmp_path / "resnet.pth", resnet.state_dict())
    model = convert_checkpoint(checkpoint, tmp_path / "out", config, vocab=vocab, resnet=file)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    inputs = processor(text="看", images=Image.fromarray(named_image(60, 50, 1)))
    features, _ = model.mttv.get_visual_features(inputs.pixel_values)
    with torch.no_grad():
        theirs = torch.nn.Sequential(*list(resnet.children())[:-2])(inputs.pixel_values)
    torch.testing.assert_close(features, theirs)
    with pytest.raises(StmineError, match="not the weights of a ResNet-152"):
        few = {name: value for name, value in resnet.state_dict().items() if not name.startswith("layer4")}
        convert_checkpoint(checkpoint, tmp_path / "x", config, vocab=vocab, resnet=save(tmp_path / "few.pth", few))


def test_labels_of_unknown_order_get_neutral_names(tmp_path, vocab):
    config = tiny_config(id2label={0: "fake", 1: "true"}, label2id={"fake": 0, "true": 1})
    checkpoint = save(tmp_path / "model_best.pt", tiny_official(config))
    unknown = convert_checkpoint(checkpoint, tmp_path / "a", config, vocab=vocab)
    assert unknown.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    known = convert_checkpoint(checkpoint, tmp_path / "b", config, vocab=vocab, label_order=["true", "fake"])
    assert known.config.id2label == {0: "fake", 1: "true"}
    assert torch.equal(known.classifier.weight, unknown.classifier.weight.flip(0))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-was-here",)


def test_files_that_are_no_checkpoints(tmp_path, vocab, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny_config()
    good = save(tmp_path / "good.pt", tiny_official(config))
    (tmp_path / "cut.pt").write_bytes(good.read_bytes()[:500])
    (tmp_path / "words.txt").write_text("[PAD]\n[UNK]\n")
    save(tmp_path / "args.pt", Evil())
    save(tmp_path / "list.pt", [1, 2])
    save(tmp_path / "strings.pt", {"state_dict": {"clf.weight": "x"}})
    for name, message in {
        "nosuch.pt": "no such file",
        "cut.pt": "not a readable checkpoint",
        "args.pt": "nothing of it was run",
        "list.pt": "expected a state dict",
        "strings.pt": "expected a state dict",
    }.items():
        with pytest.raises(StmineError, match=message):
            convert_checkpoint(tmp_path / name, tmp_path / "out", config, vocab=vocab)
    assert not (tmp_path / "evil-was-here").exists() and not (tmp_path / "out").exists()
    with pytest.raises(StmineError, match=r"nosuch.txt: no such file. Expected vocab.txt"):
        convert_checkpoint(good, tmp_path / "out", config, vocab=tmp_path / "nosuch.txt")
    with pytest.raises(StmineError, match=f"expected a vocabulary of {len(MTTV_WORDS)} words, found"):
        convert_checkpoint(good, tmp_path / "out", config, vocab=tmp_path / "words.txt")
    with pytest.raises(StmineError, match="is not on this machine nor reachable"):
        convert_checkpoint(good, tmp_path / "out", config)
    assert not (tmp_path / "out").exists()
    with pytest.raises(StmineError, match="no such MTTV data set"):
        convert_checkpoint(good, tmp_path / "out", "twitter")
    for text in ("{", "[1]"):
        (tmp_path / "args.json").write_text(text)
        with pytest.raises(StmineError, match=r"args.json: expected a JSON"):
            convert_checkpoint(good, tmp_path / "out", tmp_path / "args.json")


def test_command_hands_over_what_it_was_given(capsys, tmp_path, monkeypatch):
    given = {}

    def convert(*arguments, **options):
        given.update(options, arguments=arguments)
        return MttvForSequenceClassification(tiny_config())

    monkeypatch.setattr(conversion, "convert_checkpoint", convert)
    monkeypatch.chdir(tmp_path)
    for name in ("best.pt", "args.json", "vocab.txt", "resnet.pth"):
        Path(name).write_bytes(b"x")
    words = [
        "convert",
        "mttv",
        "best.pt",
        "out",
        "--dataset",
        "fakeddit_3_way",
        "--labels",
        "2, 0,fake with true text",
    ]
    assert run(*words, "--vocab", "vocab.txt", "--resnet", "resnet.pth", "--json") == 0
    assert given == {
        "arguments": (Path("best.pt"), Path("out"), "fakeddit_3_way"),
        "label_order": [2, 0, "fake with true text"],
        "vocab": Path("vocab.txt"),
        "resnet": Path("resnet.pth"),
    }
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"checkpoint": "best.pt", "out": "out", "labels": ["fake", "real"], "reads_images": True}
    assert run("convert", "mttv", "best.pt", "out", "--args", "args.json") == 0
    assert given["arguments"][2] == Path("args.json") and given["label_order"] is None
    assert "input: precomputed features" in capsys.readouterr().out


def test_what_is_converted_carries_its_code():
    """Also when nothing but the conversion was imported, as on the command line."""
    code = (
        "from stmine_hf.conversion import mttv as c\n"
        "saved = c.MttvConfig, c.MttvForSequenceClassification, c.MttvProcessor, c.MttvImageProcessor\n"
        "assert all(one._auto_class for one in saved)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_command_tells_what_is_wrong(capsys, tmp_path):
    assert run("convert", "mttv", tmp_path / "nosuch.pt", tmp_path / "out") == 1
    assert "nosuch.pt: no such file" in "".join(capsys.readouterr().err.split("\n"))


def run(*words) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_vocabulary_larger_than_any_is_not_read(tmp_path, vocab, monkeypatch):
    monkeypatch.setattr("stmine_hf.checkpoints.LARGEST_TOKENIZER", 20)
    with pytest.raises(StmineError, match=r"vocab.txt has .* bytes; expected 20 at most"):
        bert_tokenizer(vocab, "bert-base-chinese", 21_128)
