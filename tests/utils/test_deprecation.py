"""Names of the last release still work, and their warning names the new one."""

import pytest

import tfrobust


def test_divergence_is_terminate_on_divergence():
    with pytest.warns(DeprecationWarning, match="use `TerminateOnDivergence`"):
        assert tfrobust.callbacks.Divergence is tfrobust.callbacks.TerminateOnDivergence


def test_a_name_that_never_existed_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Diverged'"):
        _ = tfrobust.callbacks.Diverged
