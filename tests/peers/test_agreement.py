"""The same weights under this library's attacks and under others': ours find at least as much, to 1.5 points.

Robust accuracy is the share of images that are right clean and under the attack; points outside the ball and pixels of
NaN do not count, whoever found them. Settings are equal as far as the other library has them; what differs stands
beside.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

foolbox = pytest.importorskip("foolbox", reason="needs pip install tfrobust[peers]")
eagerpy = pytest.importorskip("eagerpy")
torch = pytest.importorskip("torch")
art = pytest.importorskip("art.attacks.evasion")

from benchmarks import peers  # noqa: E402
from tfrobust import attacks, evaluation  # noqa: E402
from tfrobust.attacks.threat_model import NORMS, ball  # noqa: E402

NETWORKS = ("standard", "madry", "trades")
EPS = {"linf": 0.15, "l2": 1.0, "l1": 1.5 / 64}  # in L1 the mean of 64 values: a sum of 1.5
WITHIN = 0.015
theirs = pytest.importorskip("torchattacks")


class Row(NamedTuple):
    """One attack: ours, and who else has it; `images` bounds what a slow peer is given."""

    ours: Callable[[], Any]
    others: dict[str, Callable[[], Any]]
    norm: str = "linf"
    images: int = 200
    within: float = WITHIN
    draws: int = 1  # seeds, where chance alone moves a figure by a point
    slow: tuple[str, ...] = ()  # peers that meet the Madry network alone, once


def of_torch(make):
    """Returns a callable like ours of an attack of torchattacks, on the copy of the network."""

    def attacked(classify, x, y, seed):
        attack = make(peers.torch_copy(classify), seed)
        z = attack(peers.pixels(x), torch.tensor(np.asarray(y), dtype=torch.int64))
        return z.detach().permute(0, 2, 3, 1).numpy()

    return attacked


def seeded(attack):
    """Returns a callable that takes a seed, as ours do, of one that draws from what `judged` has seeded."""
    return lambda classify, x, y, seed: attack(classify, x, y)


def of_art(make, norm="linf", **arguments):
    return lambda: seeded(attacks.from_art(make, EPS[norm], norm=norm, **arguments))


def of_foolbox(attack, norm="linf"):
    return lambda: seeded(attacks.from_foolbox(attack, EPS[norm], norm=norm))


def of_torchattacks(make):
    return lambda: of_torch(make)


def suite(name, norm):
    """All attacks of a suite as one."""
    members = evaluation.suites.get(name, eps=EPS[norm], norm=norm)
    return attacks.Cascade(members)


def hundred_steps(attack):
    """torchattacks' suite takes 10 steps, where the standard one has 100, and rescales Square's schedule."""
    for member in attack._autoattack.attacks:
        if hasattr(member, "steps"):
            member.steps = 100
        if hasattr(member, "rescale_schedule"):
            member.rescale_schedule = False
    return attack


def whole_image(attack):
    """Lets the squares of torchattacks reach the last row and column, as in the paper: it draws below h - s."""
    attack.random_int = lambda low=0, high=1, shape=(1,): (low + (high + 1 - low) * torch.rand(shape)).long()
    return attack


def arts_suite(estimator):
    """ART's AutoAttack of its own members nearest to the standard suite: it has neither FAB nor DLR targets."""
    shared: dict[str, Any] = {"eps": EPS["linf"], "norm": np.inf, "batch_size": 200, "verbose": False}
    step = {"eps_step": 2 * EPS["linf"], "max_iter": 100, "nb_random_init": 1}
    members = [
        art.AutoProjectedGradientDescent(estimator, loss_type="cross_entropy", **step, **shared),
        art.AutoProjectedGradientDescent(estimator, loss_type="difference_logits_ratio", **step, **shared),
        art.SquareAttack(estimator, max_iter=5000, nb_restarts=1, **shared),
    ]
    return art.AutoAttack(estimator, norm=np.inf, eps=EPS["linf"], attacks=members, batch_size=200)


def fast_minimum_norm(norm):
    """Foolbox' FMN, a strong attack of each norm."""
    make = {"linf": foolbox.attacks.LInfFMNAttack, "l2": foolbox.attacks.L2FMNAttack, "l1": foolbox.attacks.L1FMNAttack}
    return of_foolbox(make[norm](steps=100), norm)


class PGDOnMargin(foolbox.attacks.LinfPGD):
    """Foolbox' PGD on the margin, the loss of CW."""

    def get_loss_fn(self, model, labels):
        def loss(inputs):
            logits = model(inputs).raw
            right = tf.one_hot(labels.raw, logits.shape[-1])
            others = tf.reduce_max(logits - 1e9 * right, axis=-1)
            return eagerpy.astensor(tf.reduce_sum(others - tf.reduce_sum(right * logits, axis=-1)))

        return loss


def sparse_descent(steps=50):
    """Foolbox' sparse descent in L1, Tramer and Boneh 2019: in a step it moves the values of the greatest gradients."""
    return of_foolbox(foolbox.attacks.SparseL1DescentAttack(quantile=0.95, rel_stepsize=0.1, steps=steps), "l1")


E, E2, E1 = EPS["linf"], EPS["l2"], EPS["l1"]
CE, DLR = "cross_entropy", "difference_logits_ratio"
APGD = {"eps_step": 2 * E, "max_iter": 100, "nb_random_init": 1}
ROWS = {
    "FGSM": Row(
        lambda: attacks.fgsm(E),
        {
            "ART": of_art(art.FastGradientMethod),
            "Foolbox": of_foolbox(foolbox.attacks.LinfFastGradientAttack()),
            "torchattacks": of_torchattacks(lambda net, seed: theirs.FGSM(net, eps=E)),
        },
    ),
    "PGD-20": Row(
        lambda: attacks.pgd(E, 0.02, 20, start="none"),
        {
            "ART": of_art(art.ProjectedGradientDescent, eps_step=0.02, max_iter=20, num_random_init=0),
            "Foolbox": of_foolbox(foolbox.attacks.LinfPGD(abs_stepsize=0.02, steps=20, random_start=False)),
            "torchattacks": of_torchattacks(
                lambda net, seed: theirs.PGD(net, eps=E, alpha=0.02, steps=20, random_start=False)
            ),
        },
    ),
    "PGD-20 L2": Row(
        lambda: attacks.pgd(E2, 0.125, 20, norm="l2", start="none"),
        {
            "ART": of_art(art.ProjectedGradientDescent, "l2", eps_step=0.125, max_iter=20, num_random_init=0),
            "Foolbox": of_foolbox(foolbox.attacks.L2PGD(abs_stepsize=0.125, steps=20, random_start=False), "l2"),
            "torchattacks": of_torchattacks(
                lambda net, seed: theirs.PGDL2(net, eps=E2, alpha=0.125, steps=20, random_start=False)
            ),
        },
        norm="l2",
    ),
    "MIM-10": Row(  # ART 1.20 refuses its own under TensorFlow (its issue 2439)
        lambda: attacks.mim(E, steps=10),
        {
            "Foolbox": of_foolbox(
                foolbox.attacks.mi_fgsm.LinfMomentumIterativeFastGradientMethod(abs_stepsize=E / 10, steps=10)
            ),
            "torchattacks": of_torchattacks(lambda net, seed: theirs.MIFGSM(net, eps=E, alpha=E / 10, steps=10)),
        },
    ),
    "DeepFool L2": Row(
        lambda: attacks.deepfool(E2),
        {
            "ART": of_art(art.DeepFool, "l2", max_iter=50, epsilon=0.02, nb_grads=10),
            "Foolbox": of_foolbox(foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02), "l2"),
            "torchattacks": of_torchattacks(lambda net, seed: theirs.DeepFool(net, steps=50, overshoot=0.02)),
        },
        norm="l2",
        images=50,
    ),
    "DeepFool Linf": Row(
        lambda: attacks.deepfool(E, norm="linf"),
        {"Foolbox": of_foolbox(foolbox.attacks.LinfDeepFoolAttack(steps=50, candidates=10, overshoot=0.02))},
    ),
    "CW-L2": Row(
        lambda: attacks.cw_l2(E2, 100, searches=5, initial_c=0.1),
        {
            "ART": of_art(
                art.CarliniL2Method, "l2", binary_search_steps=5, max_iter=100, learning_rate=0.01, initial_const=0.1
            ),
            "Foolbox": of_foolbox(
                foolbox.attacks.L2CarliniWagnerAttack(
                    binary_search_steps=5, steps=100, stepsize=0.01, initial_const=0.1
                ),
                "l2",
            ),
        },
        norm="l2",
        slow=("ART",),
    ),
    "APGD-CE": Row(
        lambda: attacks.apgd(E),
        {
            "ART": of_art(art.AutoProjectedGradientDescent, loss_type=CE, **APGD),
            "torchattacks": of_torchattacks(lambda net, seed: theirs.APGD(net, seed=seed, eps=E, steps=100)),
        },
        draws=3,
    ),
    "APGD-DLR": Row(
        lambda: attacks.apgd(E, loss="dlr"),
        {
            "ART": of_art(art.AutoProjectedGradientDescent, loss_type=DLR, **APGD),
            "torchattacks": of_torchattacks(
                lambda net, seed: theirs.APGD(net, seed=seed, eps=E, steps=100, loss="dlr")
            ),
        },
        slow=("ART",),
        draws=3,
    ),
    "APGD-CE L2": Row(
        lambda: attacks.apgd(E2, norm="l2"),
        {"torchattacks": of_torchattacks(lambda net, seed: theirs.APGD(net, seed=seed, norm="L2", eps=E2, steps=100))},
        norm="l2",
        draws=3,
    ),
    "APGD-T": Row(
        lambda: attacks.apgd(E, loss="dlr_targeted"),
        {"torchattacks": of_torchattacks(lambda net, seed: theirs.APGDT(net, seed=seed, eps=E, steps=100))},
        images=100,
    ),
    "FAB": Row(
        lambda: attacks.fab(E),
        {"torchattacks": of_torchattacks(lambda net, seed: theirs.FAB(net, seed=seed, eps=E, steps=100))},
        images=100,
    ),
    "FAB L2": Row(
        lambda: attacks.fab(E2, norm="l2"),
        {"torchattacks": of_torchattacks(lambda net, seed: theirs.FAB(net, seed=seed, norm="L2", eps=E2, steps=100))},
        norm="l2",
        images=100,
    ),
    "FAB-T": Row(
        lambda: attacks.fab(E, targets=9),
        {
            "torchattacks": of_torchattacks(
                lambda net, seed: theirs.FAB(net, seed=seed, eps=E, steps=100, multi_targeted=True)
            )
        },
        images=100,
    ),
    "Square": Row(
        lambda: attacks.square(E, 1000),
        {
            "ART": of_art(art.SquareAttack, max_iter=1000, nb_restarts=1),
            "torchattacks": of_torchattacks(
                lambda net, seed: whole_image(theirs.Square(net, seed=seed, eps=E, n_queries=1000, resc_schedule=False))
            ),
        },
        slow=("ART",),
        draws=3,
    ),
    "Square L2": Row(
        lambda: attacks.square(E2, 1000, norm="l2"),
        {
            "torchattacks": of_torchattacks(
                lambda net, seed: whole_image(
                    theirs.Square(net, seed=seed, norm="L2", eps=E2, n_queries=1000, resc_schedule=False)
                )
            )
        },
        norm="l2",
        draws=3,
    ),
    "HopSkipJump": Row(
        lambda: attacks.hop_skip_jump(E, 16),
        {"Foolbox": of_foolbox(foolbox.attacks.HopSkipJumpAttack(steps=16, constraint="linf"))},
        images=30,
    ),
    "HopSkipJump L2": Row(
        lambda: attacks.hop_skip_jump(E2, 16, norm="l2"),
        {"Foolbox": of_foolbox(foolbox.attacks.HopSkipJumpAttack(steps=16, constraint="l2"), "l2")},
        norm="l2",
        images=30,
    ),
    "AutoAttack": Row(
        lambda: attacks.autoattack(E),
        {
            "ART": lambda: seeded(attacks.from_art(arts_suite, E)),
            "torchattacks": of_torchattacks(lambda net, seed: hundred_steps(theirs.AutoAttack(net, eps=E, seed=seed))),
        },
        within=0.01,
        slow=("ART",),
    ),
    "FGSM L2": Row(
        lambda: attacks.fgsm(E2, norm="l2"),
        {
            "ART": of_art(art.FastGradientMethod, "l2"),
            "Foolbox": of_foolbox(foolbox.attacks.L2FastGradientAttack(), "l2"),
        },
        norm="l2",
    ),
    "FGSM L1": Row(
        lambda: attacks.fgsm(E1, norm="l1"),
        {
            "ART": of_art(art.FastGradientMethod, "l1"),
            "Foolbox": of_foolbox(foolbox.attacks.L1FastGradientAttack(), "l1"),
            "Foolbox, sparse": sparse_descent(1),
        },
        norm="l1",
    ),
    "PGD-50 L1": Row(
        lambda: attacks.pgd(E1, steps=50, norm="l1", restarts=3),
        {
            "ART": of_art(art.ProjectedGradientDescent, "l1", eps_step=0.05 * 1.5, max_iter=50, num_random_init=1),
            "Foolbox": sparse_descent(),
            "Foolbox FMN": fast_minimum_norm("l1"),
            "Foolbox EAD": of_foolbox(foolbox.attacks.EADAttack(binary_search_steps=6, steps=300), "l1"),
        },
        norm="l1",
        within=0.03,
    ),
    "quick L1": Row(
        lambda: suite("quick", "l1"),
        {
            "Foolbox": sparse_descent(),
            "Foolbox FMN": fast_minimum_norm("l1"),
            "Foolbox EAD": of_foolbox(foolbox.attacks.EADAttack(binary_search_steps=6, steps=300), "l1"),
        },
        norm="l1",
        within=0.03,
    ),
    "DRA": Row(  # with p = 1 it is PGD in L1 with steps along the gradient itself, which Foolbox has
        lambda: attacks.dra(E1, steps=20, p=1.0),
        {
            "Foolbox": of_foolbox(
                foolbox.attacks.L1ProjectedGradientDescentAttack(steps=20, rel_stepsize=0.05, random_start=False), "l1"
            )
        },
        norm="l1",
    ),
    "MIM-10 L2": Row(
        lambda: attacks.mim(E2, steps=10, norm="l2"),
        {
            "Foolbox": of_foolbox(
                foolbox.attacks.mi_fgsm.L2MomentumIterativeFastGradientMethod(abs_stepsize=E2 / 10, steps=10), "l2"
            )
        },
        norm="l2",
    ),
    "MIM-10 L1": Row(
        lambda: attacks.mim(E1, steps=10, norm="l1"),
        {
            "Foolbox": of_foolbox(
                foolbox.attacks.mi_fgsm.L1MomentumIterativeFastGradientMethod(rel_stepsize=0.1, steps=10), "l1"
            )
        },
        norm="l1",
    ),
    "CW Linf": Row(
        lambda: attacks.cw_linf(E, 0.05 * E, 50, start="none"),
        {"Foolbox": of_foolbox(PGDOnMargin(rel_stepsize=0.05, steps=50, random_start=False))},
    ),
    "AutoAttack L2": Row(
        lambda: attacks.autoattack(E2, norm="l2"),
        {
            "torchattacks": of_torchattacks(
                lambda net, seed: hundred_steps(theirs.AutoAttack(net, norm="L2", eps=E2, seed=seed))
            ),
            "Foolbox FMN": fast_minimum_norm("l2"),
        },
        norm="l2",
        within=0.01,
        images=100,
    ),
    "SPSA": Row(
        lambda: attacks.spsa(E, steps=40, samples=64),
        {"torchattacks": of_torchattacks(lambda net, seed: theirs.SPSA(net, eps=E, nb_iter=10, nb_sample=64))},
        images=50,
    ),
    "random noise": Row(
        lambda: attacks.random_noise(E, 100),
        {"Foolbox": of_foolbox(foolbox.attacks.LinfRepeatedAdditiveUniformNoiseAttack(repeats=100))},
        draws=10,
    ),
    "random noise L2": Row(
        lambda: attacks.random_noise(E2, 100, norm="l2"),
        {"Foolbox": of_foolbox(foolbox.attacks.L2RepeatedAdditiveUniformNoiseAttack(repeats=100), "l2")},
        norm="l2",
        within=0.03,
        draws=10,
    ),
    "boundary": Row(lambda: attacks.boundary(E), {"Foolbox FMN": fast_minimum_norm("linf")}, images=50, within=0.04),
    "boundary L2": Row(
        lambda: attacks.boundary(E2, norm="l2"), {"Foolbox FMN": fast_minimum_norm("l2")}, "l2", images=50, within=0.04
    ),
    **{
        f"InfoFeature {norm}": Row(
            # No other library has the distance of its loss; without it the attack is PGD.
            lambda norm=norm: attacks.infofeature(EPS[norm], steps=20, norm=norm, keep="best", weight=0.0),
            {"Foolbox": peer},
            norm,
        )
        for norm, peer in {
            "linf": of_foolbox(foolbox.attacks.LinfPGD(rel_stepsize=0.125, steps=20)),
            "l2": of_foolbox(foolbox.attacks.L2PGD(rel_stepsize=0.125, steps=20), "l2"),
            "l1": sparse_descent(20),
        }.items()
    },
}
NO_PEER = {  # why an attack of the public surface has no row
    "adv_interpolation": "it knows no labels: for training",
    "feature_scatter": "it knows no labels: for training",
    "local_search": "no other library has it; tests/attacks/test_queries.py compares it with its paper's algorithm",
    "transfer": "it is the attack that it is given, which has a row",
    (
        "random_noise",
        "l1",
    ): "no other library draws from this ball; tests/attacks/test_threat_model.py says its draws uniform",
    ("spsa", "l2"): "no other library has it",
}


def accepted(name, norm):
    """Whether a factory makes an attack in this norm."""
    takes = "norm" in attacks.registry.ATTACKS.parameters(name)
    try:
        made = attacks.get(name, **({"norm": norm} if takes else {}))
    except ValueError:
        return False
    return type(made.ball) is NORMS[norm]


def test_every_attack_has_a_row_in_every_norm_that_it_accepts():
    named = [name for name in attacks.names() if name not in NO_PEER]
    pairs = {(name, norm) for name in named for norm in NORMS if accepted(name, norm)}
    rows = {(row.ours().name, row.norm) for row in ROWS.values()}
    assert pairs - rows == {pair for pair in NO_PEER if isinstance(pair, tuple)}


def judged(network, attack, x, y, norm, draws):
    """Returns the robust accuracy, a mean over so many seeds, and the seconds that one of them took."""
    clean = np.argmax(np.asarray(network(x)["logits"]), -1) == y
    accuracies, began = [], time.perf_counter()
    for seed in range(draws):
        keras.utils.set_random_seed(seed)
        torch.manual_seed(seed)
        z = np.asarray(attack(network, x, y, seed), "float32")
        inside = np.asarray(ball(norm, EPS[norm]).distance(z, x)) <= EPS[norm] * (1 + 1e-4) + 1e-6
        inside &= (z.min((1, 2, 3)) >= -1e-6) & (z.max((1, 2, 3)) <= 1 + 1e-6)  # not with NaN, which some peers return
        still = np.argmax(np.asarray(network(z)["logits"]), -1) == y
        accuracies.append(np.mean(clean & (still | ~inside)))
    return float(np.mean(accuracies)), (time.perf_counter() - began) / draws


def ours_of(attack):
    """Returns our attack as an adversary."""
    if isinstance(attack, attacks.GradientAttack) and attack.loss is None:
        attack = attack.maximizing(lambda views: keras.losses.sparse_categorical_crossentropy(
            views.y, views.adv["logits"], from_logits=True
        ))  # fmt: skip
    return attack


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("attack", ROWS)
def test_ours_finds_what_others_find(attack, name, networks, images, figures):
    row, network = ROWS[attack], networks[name]
    x, y = (part[: row.images] for part in images)

    def measured(who, adversary, draws=row.draws):
        accuracy, seconds = judged(network, adversary, x, y, row.norm, draws)
        figures.append((attack, name, str(len(x)), who, f"{100 * accuracy:.1f}", f"{seconds:.1f}"))
        return accuracy

    ours = measured("tfrobust", ours_of(row.ours()))
    others = {
        who: measured(who, make(), 1 if who in row.slow else row.draws)
        for who, make in row.others.items()
        if name == "madry" or who not in row.slow
    }
    assert ours <= min(others.values(), default=1.0) + row.within + 1e-9, f"ours {ours:.3f}, others {others}"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_copy_gives_the_same_logits(name, networks, images):
    x, _ = images
    with torch.no_grad():
        copied = peers.torch_copy(networks[name])(peers.pixels(x)).numpy()
    np.testing.assert_allclose(copied, networks[name](x)["logits"], atol=1e-4)
