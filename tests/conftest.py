"""What every test shares: strict JAX, and a real broker for those that ask for one."""

from __future__ import annotations

import gc
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# JAX reads these when it is imported, which only some tests do: no import here.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# Compiled programs are kept between runs: XLA's compiler is most of the suite's time.
_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import pytest  # noqa: E402 - the environment comes first

from tests.broker import AnyBroker, Broker, DockerBroker, NoBroker, obtain  # noqa: E402

if TYPE_CHECKING:
    from connectors.kafka import KafkaSink, SinkTopics
    from tests.chaos import Launcher, Rig
    from tests.kafka_reader import Reader


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos", type=int, default=0, metavar="N", help="how often each fault is repeated (make chaos)"
    )
    parser.addoption(
        "--seed", type=int, default=20261127, help="of the fault suite; a failure prints its own"
    )


def pytest_configure(config: pytest.Config) -> None:
    # kafka-python leaves it to the garbage collector to close a socket whose connection was refused.
    config.addinivalue_line("filterwarnings", r"ignore:unclosed <(socket|ssl)\.:ResourceWarning")


@pytest.fixture(autouse=True, scope="module")
def forgotten_programs() -> Iterator[None]:
    """Compiled programs end with the file that needed them.

    Each maps memory of its own, thousands of them come near the kernel's bound on mappings (``vm.max_map_count``), and
    beyond it XLA's compiler ends the process.
    """
    yield
    jax = sys.modules.get("jax")
    if jax is not None:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[AnyBroker]:
    """A running Apache Kafka broker; without one the test is skipped, and under CI=true it fails."""
    try:
        broker = obtain()
    except NoBroker as reason:
        message = f"no Apache Kafka broker: {reason}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    yield broker
    broker.stop()


@pytest.fixture
def repetitions(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """``repetitions(20)``: how often a fault is repeated: so often in the short form, or as --chaos says."""
    return lambda short: request.config.getoption("--chaos") or short


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    """Seed of a row of the fault suite."""
    return int(request.config.getoption("--seed"))


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """Starts daemons for the fault suite."""
    from tests.chaos import Launcher

    made = Launcher()
    yield made
    made.close()


@pytest.fixture
def own_broker(kafka_broker: AnyBroker) -> Broker | DockerBroker:
    """The broker, for tests that must be allowed to kill it."""
    if not isinstance(kafka_broker, Broker | DockerBroker):
        pytest.skip("NUWATCH_TEST_KAFKA names a broker that must not be stopped")
    return kafka_broker


@pytest.fixture
def disk_broker(own_broker: Broker | DockerBroker) -> Broker:
    """The broker, where its files can be reached."""
    if not isinstance(own_broker, Broker):
        pytest.skip("the broker's files are inside a container")
    return own_broker


@pytest.fixture
def rig(kafka_broker: AnyBroker, tmp_path: Path, launcher: Launcher, chaos_seed: int) -> Callable[..., Rig]:
    """Makes a rig of the fault suite with so many rows: ``rig(rows, state=", outbox: 5")``."""
    from tests.chaos import Rig

    def make(rows: int, seed: int = chaos_seed, state: str = "") -> Rig:
        return Rig(kafka_broker, tmp_path / f"rig-{seed}", launcher, rows, seed, state)

    return make


@pytest.fixture
def new_topic(kafka_broker: AnyBroker) -> Callable[..., str]:
    """Creates a topic with a name of its own: ``new_topic(partitions=3, configs={...})``."""

    def create(partitions: int = 1, configs: dict[str, str] | None = None) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        kafka_broker.create_topic(name, partitions, configs)
        return name

    return create


@pytest.fixture
def kafka_reader(kafka_broker: AnyBroker) -> Iterator[Callable[..., Reader]]:
    """Makes readers of a topic, and closes them."""
    from tests.kafka_reader import Reader

    made: list[Reader] = []

    def make(topic: str, **settings: Any) -> Reader:
        made.append(Reader(kafka_broker.bootstrap, topic, **settings))
        return made[-1]

    yield make
    for one in made:
        one.source.close()


@pytest.fixture
def kafka_topics(new_topic: Callable[..., str]) -> SinkTopics:
    """Topics of their own for a sink; alerts has two partitions."""
    from connectors.kafka import SinkTopics

    return SinkTopics(alerts=new_topic(2), thresholds=new_topic(), dead_letter=new_topic())


@pytest.fixture
def kafka_sink(kafka_broker: AnyBroker, kafka_topics: SinkTopics) -> Iterator[Callable[..., KafkaSink]]:
    """Makes sinks onto `kafka_topics`, and closes them."""
    from connectors.kafka import KafkaSink, KafkaSinkSettings

    made: list[KafkaSink] = []

    def make(**settings: Any) -> KafkaSink:
        settings = {"bootstrap_servers": (kafka_broker.bootstrap,), "topics": kafka_topics, **settings}
        made.append(KafkaSink(KafkaSinkSettings(**settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()
