"""Training stages and the engine behind them."""
