"""What the engines are doing, for `GET /metrics`."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from jangin.inference.engine.engine import EngineState

GAUGES = {
    "running": "Answers that are being generated.",
    "waiting": "Requests that wait for a row of the batch.",
    "adapters": "Adapters in memory.",
}
COUNTERS = {
    "generated_tokens": "Tokens that were generated.",
    "prompt_tokens": "Tokens of prompts that were read.",
}


class EngineGauges(Collector):
    """The state of every loaded engine, read whenever Prometheus asks."""

    def __init__(self, states: "Callable[[], Mapping[str, EngineState]]") -> None:
        """`states`: {name of an engine: its state}."""
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """One value for each engine."""
        states = self._states()
        for name, text in (GAUGES | COUNTERS).items():
            kind = GaugeMetricFamily if name in GAUGES else CounterMetricFamily
            family = kind(f"jangin_engine_{name}", text, labels=("engine",))
            for engine, state in states.items():
                family.add_metric((engine,), getattr(state, name))
            yield family

    def describe(self) -> Iterator[Metric]:
        """Nothing: no engine is there when the collector is registered."""
        yield from ()
