"""From a saved classifier to a served one: SavedModel export."""

__all__ = ["savedmodel"]
