"""Objectives by hand: fixed logits and features, the expected numbers worked out from the formulas here."""

import keras
import numpy as np
import pytest
from keras import ops

import tfrobust
from tfrobust import attacks, objectives
from tfrobust.attacks import starts
from tfrobust.objectives import Objective, Term

CLEAN = np.array([[1.0, 2.0, -0.5], [0.0, 0.3, 0.2]], "float32")
ADV = np.array([[0.2, 1.0, 0.7], [-1.0, 2.0, 0.0]], "float32")
F_CLEAN = np.array([[1.0, 0.0], [0.5, 0.5]], "float32")
F_ADV = np.array([[0.4, 0.8], [0.5, 0.5]], "float32")
COS_CLEAN = np.array([[0.2, 0.4, -0.1], [0.0, 0.6, 0.4]], "float32")
COS_ADV = np.array([[0.1, 0.5, 0.3], [-0.2, 0.7, 0.0]], "float32")
CAM_CLEAN = np.arange(12, dtype="float32").reshape(2, 1, 2, 3) / 10
CAM_ADV = np.array([3, 2, 2, 0, 4, 6, 6, 7, 8, 9, 10, 11], "float32").reshape(2, 1, 2, 3) / 10
KAPPA = np.array([4.0, 1.0], "float32")
STEPS = 5
Y = np.array([1, 2], "int32")

SIDES = {
    "clean": {"logits": CLEAN, "features": F_CLEAN, "cosine": COS_CLEAN, "cam": CAM_CLEAN},
    "adv": {"logits": ADV, "features": F_ADV, "cosine": COS_ADV, "cam": CAM_ADV},
}


def views(dtype="float32", **changes):
    sides = {side: {k: ops.cast(v, dtype) for k, v in outputs.items()} for side, outputs in SIDES.items()}
    observed = tfrobust.Observed(KAPPA, STEPS)
    return tfrobust.Views(**{"y": Y, **sides, "observed": observed, **changes})


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def true(z):
    return z[[0, 1], Y]


def cross_entropy(z, smoothing=0.0):
    log_p = np.log(softmax(z))
    return -(1 - smoothing) * true(log_p) - smoothing / 2 * (log_p.sum(-1) - true(log_p))  # two other classes


def best_other(p):
    return np.array([max(p[0, 0], p[0, 2]), max(p[1, 0], p[1, 1])])


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def flat_norm(a):
    return np.linalg.norm(a.reshape(2, -1), axis=-1)


def sinkhorn(a, b):
    """The authors' iteration, written out: u alone decides when to stop."""
    cost = np.array([[max(1 - cosine(x, y), 0) for y in b] for x in a.astype("float64")])
    u, v = np.zeros(2), np.zeros(2)
    for _ in range(100):
        last = u
        u = 0.01 * (np.log(1 / 2) - np.log(np.exp((u[:, None] + v - cost) / 0.01).sum(1) + 1e-6)) + u
        v = 0.01 * (np.log(1 / 2) - np.log(np.exp((u[:, None] + v - cost) / 0.01).sum(0) + 1e-6)) + v
        if np.abs(u - last).sum() < 0.1:
            break
    return (np.exp((u[:, None] + v - cost) / 0.01) * cost).sum(1)


P, Q = softmax(CLEAN), softmax(ADV)
CE, CE_ADV = cross_entropy(CLEAN), cross_entropy(ADV)
KL = (P * np.log(P / Q)).sum(-1)
DISTANCE = np.array([np.sqrt(0.6**2 + 0.8**2), 0.0])
NORM, NORM_ADV = np.array([1.0, np.sqrt(0.5)]), np.array([np.sqrt(0.8), np.sqrt(0.5)])
CAM_DISTANCE = np.array([np.sqrt(9 + 1 + 0 + 9 + 0 + 1) / 10, 0.0])
D = CLEAN - ADV

# MART: Wang et al., equations 8, 10 and 11, with the constants of their code.
BOOSTED = CE_ADV - np.log(1.0001 - best_other(Q) + 1e-12)
MART_KL = (P * (np.log(P) - np.log(Q + 1e-12))).sum(-1) * (1.0000001 - true(P))
# SPAT: the true class' factor is 1 - cos + beta, another's is cos + beta.
FACTORS = np.array([[0.2 + 0.3, 1 - 0.4 + 0.3, -0.1 + 0.3], [0.0 + 0.3, 0.6 + 0.3, 1 - 0.4 + 0.3]])
PACED_CE = cross_entropy(FACTORS * CLEAN)
K_J = P * np.log(P / Q)
PACED_KL = 0.1 * K_J.sum(-1) + (K_J**2).sum(-1)
# GAIRAT: kappa counts all correct iterates of K = 5, and K // 2 = 2.
GAIRAT_W = (1 + np.tanh(-1 + 5 * (1 - KAPPA / 2))) / 2
GAIRAT_CE = GAIRAT_W / GAIRAT_W.mean() * CE_ADV


def mail(slope, bias):
    weights = 1 / (1 + np.exp(-slope * (best_other(Q) - true(Q) + bias)))
    return weights / weights.mean(), weights


# The partner of row 0 is row 1, whose label is 2, and the other way round: 0.7 for the own label, 0.3 / 2 for all
# classes but the partner's.
TARGETS = np.array([[0.15, 0.7 + 0.15, 0.0], [0.15, 0.0, 0.7 + 0.15]])
INTERPOLATED = -(TARGETS * np.log(Q)).sum(-1)
TOWARDS = -np.maximum(1 - cosine(F_ADV, F_CLEAN[::-1]), 0)

ACE, CCE = "adversarial_cross_entropy", "clean_cross_entropy"
TABLE = [
    ("standard", {}, None, {CCE: (1.0, CE)}),
    ("standard", {"off_label_smoothing": 0.2}, None, {CCE: (1.0, cross_entropy(CLEAN, 0.2))}),
    # Keras' s is s * (C - 1) / C off the label.
    ("standard", {"label_smoothing": 0.3}, None, {CCE: (1.0, cross_entropy(CLEAN, 0.2))}),
    ("madry", {}, CE_ADV, {ACE: (1.0, CE_ADV)}),
    ("madry", {"off_label_smoothing": 0.5}, CE_ADV, {ACE: (1.0, cross_entropy(ADV, 0.5))}),
    ("madry", {"label_smoothing": 0.75}, CE_ADV, {ACE: (1.0, cross_entropy(ADV, 0.5))}),
    ("joint", {"clean_weight": 0.3, "adversarial_weight": 0.7}, CE_ADV, {CCE: (0.3, CE), ACE: (0.7, CE_ADV)}),
    (
        "joint",
        {"beta": 0.2},
        CE_ADV,
        {
            CCE: (0.5, CE),
            ACE: (0.5, CE_ADV),
            "clean_feature_norm": (0.2, NORM),
            "adversarial_feature_norm": (0.2, NORM_ADV),
        },
    ),
    ("trades", {"beta": 5.0}, KL, {CCE: (1.0, CE), "kl_divergence": (5.0, KL)}),
    (
        "mart",
        {"beta": 4.0},
        CE_ADV,
        {"boosted_cross_entropy": (1.0, BOOSTED), "weighted_kl_divergence": (4.0, MART_KL)},
    ),
    ("alp", {}, CE_ADV, {ACE: (1.0, CE_ADV), "logit_distance": (0.1, (D**2).mean(-1))}),
    (
        "alp",
        {"weight": 0.5, "clean_weight": 0.5, "adversarial_weight": 0.5},
        CE_ADV,
        {CCE: (0.5, CE), ACE: (0.5, CE_ADV), "logit_distance": (0.5, (D**2).mean(-1))},
    ),
    *(
        (
            "alp",
            {"weight": 2.0, "clean_weight": 1.0, "adversarial_weight": 0.0, "distance": name},
            CE_ADV,
            {CCE: (1.0, CE), "logit_distance": (2.0, values)},
        )
        for name, values in {
            "l2": np.sqrt((D**2).sum(-1)),
            "l1": np.abs(D).sum(-1),
            "huber": np.where(np.abs(D) <= 1, D**2 / 2, np.abs(D) - 0.5).mean(-1),
        }.items()
    ),
    (
        "alp",
        {"off_label_smoothing": 0.4},
        CE_ADV,
        {ACE: (1.0, cross_entropy(ADV, 0.4)), "logit_distance": (0.1, (D**2).mean(-1))},
    ),
    ("feature_matching", {}, CE_ADV, {ACE: (1.0, CE_ADV), "cam_distance": (10.0, np.array([20 / 100 / 6, 0.0]))}),
    (
        "feature_matching",
        {"classes": "true", "logit_weight": 3.0, "clean_weight": 0.5, "adversarial_weight": 0.25},
        CE_ADV,
        {
            CCE: (0.5, CE),
            ACE: (0.25, CE_ADV),
            "cam_distance": (10.0, np.array([((CAM_CLEAN - CAM_ADV)[0, ..., 1] ** 2).mean(), 0.0])),
            "logit_distance": (3.0, (D**2).mean(-1)),
        },
    ),
    ("feature_scatter", {}, sinkhorn(CLEAN, ADV), {ACE: (1.0, cross_entropy(ADV, 0.5))}),
    ("adv_interpolation", {"smoothing": 0.3}, TOWARDS, {"interpolated_cross_entropy": (1.0, INTERPOLATED)}),
    ("infofeature", {}, CE_ADV + 0.1 * CAM_DISTANCE, {ACE: (1.0, cross_entropy(ADV, 0.5))}),
    (
        "infofeature",
        {"weight": 2.0, "distance": "l1", "classes": "true", "off_label_smoothing": 0.0, "minimize_distance": True},
        CE_ADV + 2.0 * np.array([0.1, 0.0]),  # label 1: 0.1 and 0.2 in the one cell, 0.4 and 0.4 in the other
        {ACE: (1.0, CE_ADV), "cam_distance": (2.0, np.array([0.1, 0.0]))},
    ),
    (
        "infofeature",
        {"weight": 3.0, "cross_entropy_weight": 0.5},
        0.5 * CE_ADV + 3.0 * CAM_DISTANCE,
        {ACE: (1.0, cross_entropy(ADV, 0.5))},
    ),
    ("feature_regularization", {"weight": 0.01}, CE_ADV, {ACE: (1.0, CE_ADV), "feature_distance": (0.01, DISTANCE)}),
    ("aelf", {"weight": 0.3}, CE_ADV, {CCE: (1.0, CE), "one_way_feature_distance": (0.3, DISTANCE)}),
    ("aelf", {"distance": "l1"}, CE_ADV, {CCE: (1.0, CE), "one_way_feature_distance": (0.3, np.array([1.4, 0.0]))}),
    (
        "aelfs",
        {"beta": 0.2, "clean_weight": 0.4, "adversarial_weight": 0.6},
        CE_ADV,
        {
            CCE: (0.4, CE),
            ACE: (0.6, CE_ADV),
            "clean_feature_norm": (0.2, NORM),
            "adversarial_feature_norm": (0.2, NORM_ADV),
        },
    ),
    (  # beta for each side
        "aelfs",
        {"beta": 0.2, "adversarial_beta": 0.7},
        CE_ADV,
        {
            CCE: (0.5, CE),
            ACE: (0.5, CE_ADV),
            "clean_feature_norm": (0.2, NORM),
            "adversarial_feature_norm": (0.7, NORM_ADV),
        },
    ),
    (
        "joint",
        {"adversarial_beta": 0.7},
        CE_ADV,
        {CCE: (0.5, CE), ACE: (0.5, CE_ADV), "adversarial_feature_norm": (0.7, NORM_ADV)},
    ),
    (
        "joint",
        {"beta": 0.2, "adversarial_beta": 0.0},
        CE_ADV,
        {CCE: (0.5, CE), ACE: (0.5, CE_ADV), "clean_feature_norm": (0.2, NORM)},
    ),
    (
        "spat",
        {"weight": 3.0, "alpha": 0.1, "beta": 0.3},
        PACED_KL,
        {"paced_cross_entropy": (1.0, PACED_CE), "paced_divergence": (3.0, PACED_KL)},
    ),
    (
        "spat",
        {"alpha": 0.1, "paced_accuracy": False},
        PACED_KL,
        {CCE: (1.0, CE), "paced_divergence": (6.0, PACED_KL)},
    ),
    (
        "spat",
        {"beta": 0.3, "paced_robustness": False},
        KL,
        {"paced_cross_entropy": (1.0, PACED_CE), "kl_divergence": (6.0, KL)},
    ),
    ("gairat", {}, CE_ADV, {"weighted_cross_entropy": (1.0, GAIRAT_CE)}),
    ("mail_at", {}, CE_ADV, {"weighted_cross_entropy": (1.0, mail(10, -0.5)[0] * CE_ADV)}),
    ("mail_at", {"constant": 3.0}, CE_ADV, {"weighted_cross_entropy": (1.0, 3 * mail(10, -0.5)[1] * CE_ADV)}),
    ("mail_trades", {}, KL, {CCE: (1.0, CE), "weighted_kl_divergence": (5.0, mail(2, 0)[0] * KL)}),
    # Its perturbation is the trainer's: inner loss and terms are those of the objective inside.
    ("awp", {}, CE_ADV, {ACE: (1.0, CE_ADV)}),
    (
        "awp",
        {"objective": {"name": "trades", "beta": 5.0}, "gamma": 0.01, "warmup": 10},
        KL,
        {CCE: (1.0, CE), "kl_divergence": (5.0, KL)},
    ),
    ("dra", {}, CE_ADV, {CCE: (0.5, CE), ACE: (0.5, CE_ADV)}),
    ("dra", {"clean_weight": 0.0, "adversarial_weight": 1.0}, CE_ADV, {CCE: (0.0, CE), ACE: (1.0, CE_ADV)}),
]


def test_the_table_has_every_objective():
    assert sorted({name for name, *_ in TABLE}) == objectives.names()


@pytest.mark.parametrize(("name", "arguments", "inner", "outer"), TABLE)
def test_values_by_hand(name, arguments, inner, outer):
    objective = objectives.get(name, **arguments)
    if inner is None:
        assert objective.inner is None
    else:
        value = objective.inner(views())
        value, observed = value if isinstance(value, tuple) else (value, None)
        np.testing.assert_allclose(ops.convert_to_numpy(value), inner, rtol=2e-5, atol=1e-6)
        if observed is not None:  # GAIRAT: row 0 is right (label 1, largest logit 1), row 1 is not
            np.testing.assert_array_equal(ops.convert_to_numpy(observed), [1.0, 0.0])
    assert set(objective.outer) == set(outer)
    for term, (weight, values) in outer.items():
        assert objective.outer[term].weight == weight
        received = ops.convert_to_numpy(objective.outer[term].loss(views()))
        np.testing.assert_allclose(received, values, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "arguments", "inner", "outer"), TABLE)
def test_an_objective_reads_what_it_declares_and_nothing_else(name, arguments, inner, outer):
    objective = objectives.get(name, **arguments)
    record = views()
    for loss in [term.loss for term in objective.outer.values()] + ([objective.inner] if objective.inner else []):
        loss(record)
    assert {read.split(".")[1] for read in record.reads} | {"logits"} == objective.needs
    again = objectives.get(objective.get_config())
    assert again.get_config() == objective.get_config() and again.outer.keys() == objective.outer.keys()


@pytest.mark.parametrize("name", ["gairat", "mail_at", "mail_trades"])
def test_warm_up_is_the_plain_objective_until_its_epoch(name):
    plain = objectives.get({"gairat": "madry", "mail_at": "madry", "mail_trades": "trades"}[name])
    objective, full = objectives.get(name, warmup=3), objectives.get(name)
    beta = full.outer[max(full.outer)].weight  # of the last term: the weighted one

    def total(terms, epoch):
        weights = {k: t.weight(epoch) if callable(t.weight) else t.weight for k, t in terms.items()}
        return sum(weight * ops.convert_to_numpy(terms[k].loss(views())) for k, weight in weights.items())

    before = {**plain.outer}
    if "kl_divergence" in before:
        before["kl_divergence"] = before["kl_divergence"]._replace(weight=beta)
    for epoch in (0.0, 2.99):
        np.testing.assert_allclose(total(objective.outer, epoch), total(before, epoch), rtol=1e-6)
    for epoch in (3.0, 50.0):
        np.testing.assert_allclose(total(objective.outer, epoch), total(full.outer, epoch), rtol=1e-6)
    assert np.abs(total(full.outer, 0) - total(before, 0)).max() > 0.01


def test_weights_have_mean_one_over_the_global_batch():
    """Two replicas divide by the mean of both, not by their own."""
    for name in ("gairat", "mail_at", "mail_trades"):
        objective = objectives.get(name)
        loss = next(term.loss for key, term in objective.outer.items() if key.startswith("weighted"))
        own = ops.convert_to_numpy(loss(views()))
        double = ops.convert_to_numpy(loss(views(batch_mean=lambda v: 2.0 * ops.mean(v))))
        np.testing.assert_allclose(double, own / 2, rtol=1e-5)


def test_weights_that_all_round_to_zero_leave_the_loss_finite():
    for objective in (objectives.gairat(bias=-60.0), objectives.mail_at(slope=300.0, bias=-1.0)):
        values = ops.convert_to_numpy(objective.outer["weighted_cross_entropy"].loss(views()))
        assert np.isfinite(values).all()


def test_gairat_says_what_it_needs():
    loss = objectives.gairat().outer["weighted_cross_entropy"].loss
    with pytest.raises(ValueError, match=r"reads `views.observed`: expected tfrobust.Observed\(count, of\)"):
        loss(views(observed=None))


def test_self_pacing_without_normalization_is_on_the_logits():
    """Table 3.8: the factors are of the cosines, the logits are not normalized."""
    head = tfrobust.layers.NormalizedCosineSoftmax(3, scale=None)
    clean = head(F_CLEAN)
    logits, cos = (ops.convert_to_numpy(clean[k]) for k in ("logits", "cosine"))
    np.testing.assert_allclose(logits, F_CLEAN @ ops.convert_to_numpy(head.kernel), rtol=1e-5, atol=1e-6)
    one = np.eye(3)[Y]
    factors = 0.2 + one * (1 - cos) + (1 - one) * cos
    loss = objectives.spat().outer["paced_cross_entropy"].loss
    received = ops.convert_to_numpy(loss(tfrobust.Views(y=Y, clean=clean)))
    np.testing.assert_allclose(received, cross_entropy(factors * logits), rtol=1e-5)


def test_starts():
    # Divergences have no gradient at x itself; the others of TRADES' kind begin there too.
    noisy = {"trades", "mart", "spat", "mail_at", "mail_trades"}
    uniform = {"gairat", "infofeature", "feature_scatter", "adv_interpolation"}
    for name in objectives.names():
        expected = starts.normal if name in noisy else starts.uniform if name in uniform else None
        assert objectives.get(name).start is expected, name


def test_where_a_search_begins():
    """The objective's demand comes before the attack's own start, and an explicit start before both."""
    own = {"pgd": starts.uniform, "fgsm": starts.clean, "mim": starts.clean, "dra": starts.clean}
    for name, start in own.items():
        attack = attacks.get(name, eps=0.1)
        assert attack.start is None and attack.own_start is start
        assert attack.starting(objectives.trades().start).start is starts.normal
        assert attack.starting(objectives.madry().start).start is None
        explicit = attacks.get(name, eps=0.1, start="none")
        assert explicit.starting(starts.normal).start is starts.clean


@pytest.mark.parametrize("name", objectives.names())
def test_losses_are_float32_whatever_the_outputs_are(name):
    objective = objectives.get(name)
    for term in objective.outer.values():
        assert keras.backend.standardize_dtype(term.loss(views("bfloat16")).dtype) == "float32"


def test_views_say_what_is_missing():
    with pytest.raises(ValueError, match=r"`adv\['features'\]`, which this classifier does not have.*\['logits'\]"):
        tfrobust.Views(y=Y, adv={"logits": ADV}).adv["features"]
    with pytest.raises(ValueError, match=r"reads `views.adv`, which is missing"):
        tfrobust.Views(y=Y, clean={"logits": CLEAN}).adv["logits"]


def test_views_make_a_forward_when_it_is_first_read_and_once():
    calls = []

    def forward():
        calls.append(1)
        return {"logits": CLEAN}

    record = tfrobust.Views(y=Y, clean=forward, adv={"logits": ADV})
    assert not calls
    record.clean["logits"], record.clean["logits"]
    assert len(calls) == 1
    assert record.reads == {"clean.logits"}


def test_batch_mean_defaults_to_the_mean():
    np.testing.assert_allclose(views().batch_mean(np.array([1.0, 3.0])), 2.0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: objectives.trades(beta=-1), "`beta`: expected a schedule, or a number of at least 0. Received: -1"),
        (lambda: objectives.joint(clean_weight=float("nan")), "`clean_weight`"),
        (lambda: objectives.joint(adversarial_beta=-1), "`adversarial_beta`"),
        (lambda: objectives.joint(share=0), r"`share`: expected a part of the batch in \(0, 1\]"),
        (lambda: objectives.feature_regularization(weight=-0.1), "`weight`"),
        (lambda: objectives.get("madri"), "Unknown objective: .* Did you mean 'madry'"),
        (lambda: objectives.get("trades", bta=1), "Unknown argument of objective 'trades'.*Did you mean 'beta'"),
        (lambda: objectives.get({"beta": 1}), "expected a name, a config dict with a 'name'"),
        (
            lambda: objectives.get(objectives.madry(), beta=1),
            "expected arguments only beside a name|Expected arguments",
        ),
        (lambda: objectives.madry(label_smoothing=1.5), r"`label_smoothing`: expected a share in \[0, 1\]. .*: 1.5"),
        (lambda: objectives.madry(label_smoothing=0.1, off_label_smoothing=0.1), "not both"),
        (lambda: objectives.adv_interpolation(smoothing=-0.1), "`smoothing`"),
        (lambda: objectives.alp(distance="l3"), "Unknown distance: expected one of cosine, huber, l1, l2, mse"),
        (lambda: objectives.infofeature(classes="tru"), "Did you mean 'true'"),
        (lambda: objectives.infofeature(weight=-1), "`weight`"),
        (lambda: objectives.infofeature(cross_entropy_weight=-1), "`cross_entropy_weight`"),
        (lambda: objectives.feature_matching(logit_weight=-1.0), "`logit_weight`"),
        (lambda: objectives.feature_matching(classes="tru"), "Did you mean 'true'"),
        (lambda: objectives.spat(alpha=-0.1), "`alpha`"),
        (lambda: objectives.gairat(warmup=-1), "`warmup`: expected a number of epochs"),
        (lambda: objectives.gairat(bias=float("nan")), "`bias`"),
        (lambda: objectives.trades(beta=float("inf")), "`beta`"),
        (lambda: objectives.mail_at(constant=0), "`constant`: expected a positive number"),
        (lambda: objectives.mail_trades(slope="2"), "`slope`"),
        (lambda: objectives.dra(bound=-1.0), "`bound`"),
        (lambda: Objective(None, {}), "at least one term"),
        (lambda: Objective(None, {"loss": abs}), "are the trainer's. Received: .'loss'."),
        (lambda: Objective(None, {"a": abs}).get_config(), "put together by hand"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()


OLD_SMOOTHING = ["standard", "madry", "alp", "feature_matching", "feature_scatter", "infofeature"]


@pytest.mark.parametrize("name", OLD_SMOOTHING)
def test_the_old_name_of_smoothing_keeps_its_meaning(name):
    expected = objectives.get(name, off_label_smoothing=0.3)
    with pytest.warns(DeprecationWarning, match=f"`smoothing` of `{name}` is deprecated: use `off_label_smoothing`"):
        direct = getattr(objectives, name)(smoothing=0.3)
    with pytest.warns(DeprecationWarning, match="use `off_label_smoothing`"):
        loaded = objectives.get({"name": name, "smoothing": 0.3})  # as an older run wrote it
    assert direct.get_config() == loaded.get_config() == expected.get_config()


def test_a_search_space_names_arguments():
    with pytest.raises(ValueError, match=r"argument in `search` of 'misspelled'.*Did you mean 'weight'"):

        @objectives.register(search={"wieght": (0.1, 1.0)})
        def misspelled(weight=0.5):
            return objectives.madry()

    assert "misspelled" not in objectives.names()


def test_a_users_own_objective_joins_the_family():
    def l1(record):
        return keras.ops.sum(keras.ops.abs(record.adv["logits"] - record.clean["logits"]), axis=-1)

    @objectives.register
    def logit_pairing(weight=0.5):
        plain = objectives.madry()
        return Objective(plain.inner, {**plain.outer, "pairing": Term(l1, weight)})

    try:
        made = objectives.get("logit_pairing", weight=2.0)
        assert made.get_config() == {"name": "logit_pairing", "weight": 2.0}
        np.testing.assert_allclose(made.outer["pairing"].loss(views()), np.abs(CLEAN - ADV).sum(-1), rtol=1e-6)
    finally:
        from tfrobust.objectives.objective import OBJECTIVES

        del OBJECTIVES._factories["logit_pairing"]
