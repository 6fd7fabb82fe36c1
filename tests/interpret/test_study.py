"""The page of all measurements: every section, what is missing in a sentence, numbers beside it."""

import json
import re

import keras
import numpy as np
import pytest

import tfrobust
from tfrobust.interpret import _sections, study

HOSTILE = "<script>alert('$x')</script>"


def attended():
    """6x6 images, 4 classes, with attention and a cosine head."""
    inputs = keras.Input((6, 6, 1))
    local = keras.layers.Conv2D(3, 3, 2, activation="relu")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D()(local)
    seen = tfrobust.layers.NonlinearAttention(4)(local, pooled)
    head = tfrobust.layers.NormalizedCosineSoftmax(4)(seen["descriptor"])
    named = {"attention": {"block": seen["weights"]}, "local_features": {"block": local}}
    return keras.Model(inputs, {**head, **named, "features": seen["descriptor"]})


@pytest.fixture
def found(make_classifier, batch, monkeypatch):
    monkeypatch.setattr(_sections, "STEPS", 2)
    monkeypatch.setattr(_sections, "SIDE_BY_SIDE", 2)
    monkeypatch.setattr(_sections, "EMBEDDED", 8)
    plain = make_classifier(classes=4)
    return study(
        {HOSTILE: plain, "attended": attended()},
        batch,
        eps=0.1,
        train=tuple(part[:12] for part in batch),
        judge=plain,
        class_names=["a", "b", "c", "d"],
        shown=3,
        verbose=False,
    )


def test_the_page_holds_every_section_and_a_sentence_for_what_is_missing(found, tmp_path, capsys):
    found.save(tmp_path / "sub" / "page.html")
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == ["page.html", "page.json"]
    page = (tmp_path / "sub" / "page.html").read_text()
    keys = [section.key for section in found.sections]
    assert re.findall(r'<section id="(\w+)">', page) == [*keys, "reproduce"] and len(keys) == len(_sections.ALL)
    assert "<script" not in page and "&lt;script&gt;alert" in page
    assert set(re.findall(r'(?:src|href)="(.{5})', page)) == {"data:"}
    assert page.count("<img") == sum(len(section.figures) for section in found.sections)
    missing = {section.key: " ".join(section.missing) for section in found.sections}
    assert f"Left out for {HOSTILE}, without the output 'attention'" in missing["attention_maps"]
    assert "Left out for attended, without the output 'cam'" in missing["class_activation_maps"]
    assert "InfoFeature's attack is left out for attended" in missing["attacks"]
    for section in found.sections:
        assert {drawn.caption.split(":")[0].split(",")[0].rstrip(".") for drawn in section.figures}
        for head, rows in section.tables:
            assert {len(row) for row in rows} == {len(head)}
    assert capsys.readouterr().out == ""

    numbers = json.loads((tmp_path / "sub" / "page.json").read_text())
    assert numbers["settings"]["images"] == {"train": 12, "test": 20}
    table = numbers["gradient_map_test"]["train"]
    assert table["images"] == 12 and list(table["figures"]) == [HOSTILE, "attended"]
    assert list(numbers["relevance"]) == ["attended"]
    assert len(numbers["relevance"]["attended"]["test"]["block"]["attention"]) == 4
    assert np.shape(numbers["hard_classes"]["attended"]["cosines"]) == (4, 4)
    assert numbers["attacks"]["attended"]["strength"]["figures"]["PGD"]["0"] >= 0
    assert set(numbers["left_out"]) == {"attention_maps", "class_activation_maps", "relevance", "attacks"}


def test_without_a_judge_the_test_is_left_out(make_classifier, batch):
    subject = _sections.Subject({"one": make_classifier()}, {"test": batch}, 0.1, "l2", None, None, 3, 0)
    section = _sections.gradient_test(subject)
    assert not section.figures and "needs a judge" in section.missing[0]
    assert subject.captions == [str(label) for label in batch[1][:3]]
    assert not _sections.relevance(subject).tables


def test_prototypes_are_left_out_where_there_are_none(batch):
    inputs = keras.Input((6, 6, 1))
    four = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    classifier = keras.Model(inputs, {"logits": keras.layers.Rescaling(9.0)(four)})
    subject = _sections.Subject({"one": classifier}, {"test": batch}, 0.1, "linf", None, None, 3, 0)
    section = _sections.hard_classes(subject)
    assert len(section.figures) == 1 and section.missing[0].startswith("Prototypes are left out for one. Class")


def test_mistakes_are_sentences(make_classifier, batch):
    with pytest.raises(ValueError, match="expected a mapping name -> classifier"):
        study(make_classifier(), batch, eps=0.1)
    with pytest.raises(ValueError, match=r"`class_names`: expected 4 names. Received: 2"):
        study({"one": make_classifier()}, batch, eps=0.1, class_names=["a", "b"])
