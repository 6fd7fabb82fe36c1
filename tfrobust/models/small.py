"""Small networks: for scikit-learn's digits, for MNIST, and CNN_B."""

from collections.abc import Sequence

import keras

from tfrobust.models.blocks import HE, Head, activated, check_rate, convolution, input_and_head, pooled, unpooled
from tfrobust.models.blocks import dropout as dropped
from tfrobust.models.outputs import activation_layer
from tfrobust.models.registry import register
from tfrobust.utils.validation import check_integer


@register
def digits(
    input_shape: Sequence[int] = (8, 8, 1),
    classes: int = 10,
    features: int = 256,
    activation: str = "relu",
    head: Head = "dense",
) -> keras.Model:
    """Returns a convolutional network for scikit-learn's 8x8 digits that trains in a minute.

    Four 3x3 convolutions, each with its activation (features / 8, / 4, / 2 and features filters; the second and the
    last with stride 2), global average pooling, dense. This project's own definition.

    Args:
        {{network}}
        features: Width D of the features, at least 8.
        activation: "relu", or "leaky_relu" with slope 0.1.

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, D)`, `feature_map` `(B, H/4, W/4, D)` and `cam`
        `(B, H/4, W/4, C)`; with a cosine head `cosine` `(B, C)` in place of `cam`.

    Example:

    >>> sorted(tfrobust.models.get("digits").output)
    ['cam', 'feature_map', 'features', 'logits']
    """
    inputs, last = input_and_head(input_shape, classes, head)
    width = check_integer("features", features, 8)
    x = inputs
    for filters, strides in ((width // 8, 1), (width // 4, 2), (width // 2, 1), (width, 2)):
        x = keras.layers.Conv2D(filters, 3, strides, padding="same")(x)
        x = activation_layer(activation)(x)
    return pooled("digits", inputs, x, last)


@register
def cnn_b(
    input_shape: Sequence[int] = (32, 32, 3), classes: int = 10, activation: str = "leaky_relu", head: Head = "dense"
) -> keras.Model:
    """Returns CNN_B by this project's own definition: 1,148,874 trainable numbers for CIFAR-10.

    Three stages of two 3x3 convolutions with 64, 128 and 256 filters, each with BatchNorm and activation, padded to
    keep the size and without bias; 2x2 max-pooling behind the first two stages; global average pooling; head. The
    features are thus averages of a map that follows the activation, and with the leaky one may be negative.

    A choice throughout: the table in AELF that defined CNN_B is lost. The paper describes a CNN with leaky ReLU on
    32x32 images of MNIST and CIFAR-10, with fewer features than the 640 of a WRN-28-10, about 92 % on CIFAR-10 after
    standard training, and 95 % on digits that are shifted up by 8 of 32 pixels, which a flattened map would not reach.
    Kernels start normal by He's rule. AELF, tables 1 (lost) to 3.

    Args:
        {{network}}
        activation: "leaky_relu" with slope 0.1, or "relu".

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 256)`, `feature_map` `(B, H/4, W/4, 256)` and, with
        a dense head, `cam` `(B, H/4, W/4, C)`; with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("cnn_b", input_shape=(32, 32, 1)).output["cam"].shape
    (None, 8, 8, 10)
    """
    inputs, last = input_and_head(input_shape, classes, head, least=8)
    x = inputs
    for stage, filters in enumerate((64, 128, 256)):
        if stage > 0:
            x = keras.layers.MaxPooling2D(2)(x)
        for _ in range(2):
            x = activated(convolution(x, filters, 3, initializer=HE), activation)
    return pooled("cnn_b", inputs, x, last)


@register
def lenet5(input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, head: Head = "dense") -> keras.Model:
    """Returns LeNet-5 in today's form: 61,706 trainable numbers for MNIST.

    A 5x5 convolution of 6 filters, padded to keep the size (MNIST's 28 pixels then come out as the paper's 32 do), and
    one of 16, not padded, each with ReLU and 2x2 max-pooling; dense 120 and 84 with ReLU; head. It flattens, so it has
    no class activation map.

    A choice: ReLU and max-pooling, as everybody runs it today, in place of the paper's scaled tanh, trained averages,
    sparse connections and radial outputs. Kernels start as Keras has it (Glorot's rule). LeCun et al. 1998
    (Gradient-Based Learning Applied to Document Recognition); the source of the black-box attacks on MNIST in chapter 3
    of the thesis.

    Args:
        {{network}}

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 84)` and, with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("lenet5").count_params()
    61706
    """
    inputs, last = input_and_head(input_shape, classes, head, least=12)
    x = inputs
    for filters, padding in ((6, "same"), (16, "valid")):
        x = keras.layers.Conv2D(filters, 5, padding=padding, activation="relu")(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    for units in (120, 84):
        x = keras.layers.Dense(units, activation="relu")(x)
    return unpooled("lenet5", inputs, x, last)


@register
def fpr_mnist(
    input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, head: Head = "dense", original: bool = False
) -> keras.Model:
    """Returns the MNIST network of FPR-v2, which is the one of Madry's MNIST challenge.

    Twice a 5x5 convolution (32, then 64 filters, ReLU) and 2x2 max-pooling, all padded to keep the size; dense 1024
    with ReLU; dense. It flattens instead of averaging, so it has no class activation map. FPR-v2, section on MNIST;
    Madry et al. 2018, https://github.com/MadryLab/mnist_challenge (`model.py`).

    Weights start as Keras has it (Glorot's rule, biases of 0), or as in Madry's own code: kernels from a normal
    distribution of standard deviation 0.1 that is cut off at 0.2, biases at 0.1, those of the head too.

    Args:
        {{network}}
        original: Whether the weights start as in Madry's own code.

    Returns:
        A classifier with outputs `logits` `(B, C)` and `features` `(B, 1024)`, and `cosine` `(B, C)` with a
        cosine head.

    Example:

    >>> sorted(tfrobust.models.get("fpr_mnist").output)
    ['features', 'logits']
    """
    inputs, last = input_and_head(input_shape, classes, head)
    x = inputs
    for filters in (32, 64):
        x = keras.layers.Conv2D(filters, 5, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D(2, padding="same")(x)
    features = keras.layers.Dense(1024, activation="relu")(keras.layers.Flatten()(x))
    classifier = unpooled("fpr_mnist", inputs, features, last)
    for variable in classifier.trainable_variables if original else ():
        # A new initializer for each kernel: an unseeded one gives all of one shape the same values.
        kernel = len(variable.shape) > 1
        start = keras.initializers.TruncatedNormal(stddev=0.1) if kernel else keras.initializers.Constant(0.1)
        variable.assign(start(variable.shape))
    return classifier


@register
def spat_mnist(
    input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, dropout: float = 0.5, head: Head = "dense"
) -> keras.Model:
    """Returns the MNIST network of chapter 3 of the thesis, "a simple 4-layer-CNN" with three fully connected layers.

    3x3 convolutions of 32 and 32 filters, 2x2 max-pooling, 64 and 64 filters, 2x2 max-pooling, none padded; dense 200,
    dropout, dense 200; head; ReLU throughout: 312,202 trainable numbers for MNIST. It flattens, so it has no class
    activation map.

    A choice: the thesis prints no widths; they are those of TRADES' MNIST network, which has the same seven layers and
    which MART and GAIRAT share, with its dropout of one half between the dense layers. Kernels of the convolutions
    start by He's rule, as there. The head starts as Keras has it, and not at zero as there: at zero the gradient of the
    loss by the pixels is zero too, and the first adversaries would be noise. Thesis, section 3.4; Zhang et al. 2019,
    https://github.com/yaodongyu/TRADES (`models/small_cnn.py`).

    Args:
        {{network}}
        dropout: Share of the values dropped in training behind the first dense layer, in [0, 1).

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 200)` and, with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("spat_mnist").count_params()
    312202
    """
    inputs, last = input_and_head(input_shape, classes, head, least=16)
    x = inputs
    check_rate("dropout", dropout)
    for filters in (32, 64):
        for _ in range(2):
            x = keras.layers.Conv2D(filters, 3, activation="relu", kernel_initializer=HE)(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Dense(200, activation="relu")(keras.layers.Flatten()(x))
    x = keras.layers.Dense(200, activation="relu")(dropped(x, dropout))
    return unpooled("spat_mnist", inputs, x, last)


@register
def dra_mnist(
    input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, dropout: float = 0.5, head: Head = "dense"
) -> keras.Model:
    """Returns the MNIST network of the thesis' chapter 4: two convolutions and two dense layers, following TRADES.

    A 5x5 convolution of 10 filters, 2x2 max-pooling and ReLU; one of 20 filters, dropout of whole maps, 2x2 max-pooling
    and ReLU, none padded; dense 50 with ReLU, dropout; head: 21,840 trainable numbers for MNIST. It flattens, so it has
    no class activation map.

    A choice: the thesis prints no widths; these are those of the one network in TRADES' code with two convolutions and
    two dense layers, with its dropout. Kernels start as Keras has it (Glorot's rule). Thesis, section 4.4; Zhang et al.
    2019, https://github.com/yaodongyu/TRADES (`models/net_mnist.py`).

    Args:
        {{network}}
        dropout: Share of the maps and of the values before the head that are dropped in training, in [0, 1).

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 50)` and, with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("dra_mnist").count_params()
    21840
    """
    inputs, last = input_and_head(input_shape, classes, head, least=16)
    x = inputs
    check_rate("dropout", dropout)
    x = keras.layers.MaxPooling2D(2)(keras.layers.Conv2D(10, 5)(x))
    x = keras.layers.Conv2D(20, 5)(keras.layers.ReLU()(x))
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout)(x)
    x = keras.layers.Flatten()(keras.layers.ReLU()(keras.layers.MaxPooling2D(2)(x)))
    features = keras.layers.Dense(50, activation="relu")(x)
    return unpooled("dra_mnist", inputs, dropped(features, dropout), last)
