"""Joint training on clean and adversarial examples."""

from tfrobust.objectives import terms
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.schedules import Schedule, nonnegative


@register(search={"adversarial_weight": (0.1, 10.0, "log")})
def joint(
    clean_weight: Schedule = 0.5,
    adversarial_weight: Schedule = 0.5,
    share: float = 1.0,
    beta: Schedule = 0.0,
    adversarial_beta: Schedule | None = None,
) -> Objective:
    """Trains jointly: min clean_weight * CE(x, y) + adversarial_weight * CE(x', y) [+ beta * (||f(x)|| + ||f(x')||)].

    x' is attacked on CE. Goodfellow et al. 2015, section 6; Kurakin et al. 2017. In the AELF paper lambda1 is
    `clean_weight`, lambda2 is `adversarial_weight`, and half of each batch is attacked (`share=0.5`); each mean is over
    its own part. With `beta`, after a standard training, it is that paper's JT*. RST is CE(x) + beta * CE(x'), so
    `joint(1.0, beta)`; FGSM-AT is `joint(alpha, 1 - alpha)` with the attack `fgsm`.

    Args:
        clean_weight: lambda1, at least 0, or a schedule over the fractional epoch.
        adversarial_weight: lambda2, at least 0, or a schedule.
        share: Attacked part of the batch; at 1.0 the whole batch is used both ways.
        beta: Weight of the norms of the features, at least 0, or a schedule; 0 leaves them out.
        adversarial_beta: Weight of ||f(x')||, at least 0, or a schedule; None: beta, which else weighs ||f(x)|| alone.

    {{returns}}

    Example:

    >>> tfrobust.objectives.joint(share=0.5).share
    0.5
    """
    norms = {
        "clean_feature_norm": Term(terms.clean_feature_norm, nonnegative("beta", beta)),
        "adversarial_feature_norm": Term(
            terms.adversarial_feature_norm,
            nonnegative("adversarial_beta", beta if adversarial_beta is None else adversarial_beta),
        ),
    }
    norms = {name: term for name, term in norms.items() if term.weight != 0}
    outer = {
        "clean_cross_entropy": Term(terms.clean_cross_entropy, nonnegative("clean_weight", clean_weight)),
        "adversarial_cross_entropy": Term(
            terms.adversarial_cross_entropy, nonnegative("adversarial_weight", adversarial_weight)
        ),
        **norms,
    }
    needs = ("logits", "features") if norms else ("logits",)
    return Objective(terms.adversarial_cross_entropy, outer, needs=needs, share=share)
