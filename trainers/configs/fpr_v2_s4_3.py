"""FPR-v2, section 4.3: nonlinear against linear attention, in the narrow ResNet trained on natural CIFAR-10."""

from trainers.configs import _fpr

# "sum" and "dot" are Jetley's linear forms. choice: the paper's linear model, which it does not write down, is "sum".
ROWS = {form: _fpr.network(attended=(4,), form=form) for form in ("nonlinear", "sum", "dot")}
PAPER = {"nonlinear": (92.87,), "sum": (91.34,), "dot": ()}

get_config = _fpr.natural_table(__file__, ROWS, PAPER, default="nonlinear")
