"""No online degradation."""

from realsr.data.degradations.degradation import OnlineDegradation


class Identity(OnlineDegradation):
    """Returns the pair's LR unchanged."""
