"""The REST calls, with real signatures. `call` reaches the whole of the endpoint table by name.

`get_` and the name of an endpoint is one request. Histories are read page by page as they are iterated over. Prices and quantities are
`Decimal`, `int` or text in plain digits, never floats. The folder `rest` has the methods, one module for each concern.
"""

from __future__ import annotations

from .rest.account import AccountMethods
from .rest.history import HistoryMethods
from .rest.lending import LendingMethods
from .rest.market_data import MarketDataMethods
from .rest.orders import OrderMethods
from .rest.rfq import RfqMethods
from .rest.strategies import StrategyMethods
from .rest.vaults import VaultMethods

__all__ = ["RestMethods"]


class RestMethods(
    MarketDataMethods,
    AccountMethods,
    OrderMethods,
    RfqMethods,
    StrategyMethods,
    HistoryMethods,
    LendingMethods,
    VaultMethods,
):
    """Calls by methods of their own. All of them raise the errors of `call`, and take symbols in both spellings."""
