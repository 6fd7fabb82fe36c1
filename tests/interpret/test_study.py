"""The page of all measurements: every section, what is missing in a sentence, numbers beside it."""

import functools
import json
import re

import keras
import numpy as np
import pytest

import tfrobust
from tfrobust.interpret import dra_success, study
from tfrobust.interpret import sections as _sections

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


QUICK = ["attention_maps", "class_activation_maps", "gradients", "gradient_map_test", "coverage"]  # without attacks


@pytest.fixture
def look(make_classifier, batch, monkeypatch):
    """Looks at a network with class activation maps and at one with attention, at the sections that are named."""
    monkeypatch.setattr(_sections, "STEPS", 2)
    monkeypatch.setattr(_sections, "SIDE_BY_SIDE", 2)
    monkeypatch.setattr(_sections, "EMBEDDED", 8)
    # Each attack is a graph of its own: one is enough here.
    monkeypatch.setattr(_sections.Subject, "attacks_on", lambda self, classifier: {"PGD": self.compared["PGD"]})
    monkeypatch.setattr(_sections, "dra_success", functools.partial(dra_success, shares=[0.5]))
    plain = make_classifier(classes=4)
    settings = {"judge": plain, "class_names": ["a", "b", "c", "d"], "shown": 3, "verbose": False}
    train = tuple(part[:12] for part in batch)
    return lambda sections: study(
        {HOSTILE: plain, "attended": attended()}, batch, eps=0.1, train=train, sections=sections, **settings
    )


@pytest.mark.parametrize("names", [QUICK, pytest.param(list(_sections.ALL), marks=pytest.mark.slow)], ids=len)
def test_the_page_holds_every_section_and_a_sentence_for_what_is_missing(look, names, tmp_path, capsys):
    found = look(names[::-1])  # the page has an order of its own
    found.save(tmp_path / "sub" / "page.html")
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == ["page.html", "page.json"]
    page = (tmp_path / "sub" / "page.html").read_text()
    keys, sections = list(found.sections), found.sections.values()
    assert re.findall(r'<section id="(\w+)">', page) == [*keys, "reproduce"] and keys == names
    assert "<script" not in page and "&lt;script&gt;alert" in page
    assert set(re.findall(r'(?:src|href)="(.{5})', page)) == {"data:"}
    assert page.count("<img") == sum(len(section.figures) for section in sections)
    found.save_pictures(tmp_path / "pictures")
    drawn = {f"{key}-{n + 1}.svg" for key, section in found.sections.items() for n in range(len(section.figures))}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == drawn
    missing = {key: " ".join(section.missing) for key, section in found.sections.items()}
    assert f"Left out for {HOSTILE}, without the output 'attention'" in missing["attention_maps"]
    assert "Left out for attended, without the output 'cam'" in missing["class_activation_maps"]
    for section in sections:
        for head, rows in section.tables:
            assert {len(row) for row in rows} == {len(head)}
    assert capsys.readouterr().out == ""

    numbers = json.loads((tmp_path / "sub" / "page.json").read_text())
    assert numbers["settings"]["images"] == {"train": 12, "test": 20}
    table = numbers["gradient_map_test"]["train"]
    assert table["images"] == 12 and list(table["figures"]) == [HOSTILE, "attended"]
    assert 0 < numbers["coverage"]["test"]["figures"]["attended"]["0.1"] <= 1
    assert list(numbers["left_out"]) == [key for key in names if missing[key]]
    if names == QUICK:
        return
    assert "InfoFeature's attack is left out for attended" in missing["attacks"]
    assert list(numbers["relevance"]) == ["attended"]
    assert len(numbers["relevance"]["attended"]["test"]["block"]["attention"]) == 4
    assert np.shape(numbers["hard_classes"]["attended"]["cosines"]) == (4, 4)
    assert numbers["attacks"]["attended"]["strength"]["figures"]["PGD"]["0"] >= 0


def test_signs_are_of_the_raw_gradient_at_each_threshold(hand):
    """Two networks whose gradients differ by a factor of about 100 have the same maps after a division by max |G|."""
    kernel = np.linspace(-1, 1, hand.SIDE**2)
    x, y = np.full((2, hand.SIDE, hand.SIDE, 1), 0.5, "float32"), np.zeros(2, "int32")
    strong, weak = (hand.linear(np.stack([0 * kernel, scale * kernel], axis=1)) for scale in (1.0, 0.01))
    settings = {"eps": 0.1, "sections": ["gradients"], "verbose": False}
    found = study({"strong": strong, "weak": weak}, (x, y), signs=[0.001, 0.1], **settings).sections["gradients"]
    painted = {}
    for name, drawn in zip(("strong", "weak"), found.figures, strict=True):
        rows = {axes.get_ylabel(): axes.images[0].get_array() for axes in drawn.figure.axes if axes.get_ylabel()}
        assert list(rows)[-2:] == ["sign, |G| > 0.001", "sign, |G| > 0.1"]
        pictures = (np.asarray(row)[:, : hand.SIDE] for row in list(rows.values())[-2:])  # the first of the two images
        painted[name] = [int((picture > 0).any(axis=-1).sum()) for picture in pictures]
    size = 0.5 * np.abs(kernel)  # |G| of the strong one: p = 1/2 for either class
    assert painted["strong"] == [(size > 0.001).sum(), (size > 0.1).sum()]
    assert painted["weak"] == [(size > 0.1).sum(), 0]


def test_without_a_judge_the_test_is_left_out(make_classifier, batch):
    subject = _sections.Subject({"one": make_classifier()}, {"test": batch}, 0.1, "l2", None, None, 3, 0)
    section = _sections.gradient_test(subject)
    assert not section.figures and "needs a judge" in section.missing[0]
    assert subject.captions == [str(label) for label in batch[1][:3]]
    assert not _sections.relevance(subject).tables


def test_the_attack_on_maps_needs_maps(make_classifier, batch):
    both = {"one": make_classifier(), "attended": attended()}
    subject = _sections.Subject(both, {"test": batch}, 0.1, "l2", None, None, 3, 0)
    assert [list(subject.attacks_on(classifier)) for classifier in both.values()] == [
        ["PGD", "CW", "MIM", "InfoFeature"],
        ["PGD", "CW", "MIM"],
    ]
    assert all(attack.ball.radius == 0.1 for attack in subject.attacks_on(both["one"]).values())


def test_prototypes_are_left_out_where_there_are_none(batch):
    inputs = keras.Input((6, 6, 1))
    four = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    classifier = keras.Model(inputs, {"logits": keras.layers.Rescaling(9.0)(four)})
    subject = _sections.Subject({"one": classifier}, {"test": batch}, 0.1, "linf", None, None, 3, 0)
    section = _sections.hard_classes(subject)
    assert section.missing[0].startswith("Prototypes are left out for one. Class")
    ((head, (row,)),) = section.tables
    measured = dict(zip(head, row, strict=True))  # the probabilities need no prototypes
    assert measured["correlation with cosines"] == "-" and measured["correlation with probabilities"] != "-"
    assert list(section.numbers["one"]["agreement"]) == ["probabilities"] and len(section.figures) == 2


def test_mistakes_are_sentences(make_classifier, batch):
    with pytest.raises(ValueError, match="expected a mapping name -> classifier"):
        study(make_classifier(), batch, eps=0.1)
    with pytest.raises(ValueError, match="'coverage'"):
        study({"one": make_classifier()}, batch, eps=0.1, sections=["covrage"])
    with pytest.raises(ValueError, match=r"`class_names`: expected 4 names. Received: 2"):
        study({"one": make_classifier()}, batch, eps=0.1, class_names=["a", "b"])
