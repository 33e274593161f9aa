from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from jangin.core.config import Added, Config, Runtime, StageConfig
from jangin.core.digest import digest_value


class Leaf(Config):
    """What is made, and on which machine."""

    what: int = 1
    where: Runtime[int] = 0


class One(Leaf):
    """The first of a union."""

    type: Literal["one"] = "one"
    inner: Leaf = Leaf()


class Other(Leaf):
    """The second of a union."""

    type: Literal["other"] = "other"
    rate: float = 0.5


Either = Annotated[One | Other, Field(discriminator="type")]


class Whole(StageConfig):
    """Configs in every position where they may occur."""

    leaf: Leaf = Leaf()
    either: Either = One()
    maybe: Leaf | None = None
    many: tuple[Leaf, ...] = ()
    pair: tuple[Leaf, Either] = (Leaf(), Other())
    named: dict[str, Either] = Field(default_factory=dict)
    deep: dict[str, tuple[Leaf, ...]] = Field(default_factory=dict)
    folder: Runtime[Path] = Path()
    machine: Runtime[Leaf | None] = None


def leaves(places):
    return st.builds(Leaf, what=st.integers(0, 3), where=places)


def eithers(places):
    fields = {"what": st.integers(0, 3), "where": places}
    return st.one_of(
        st.builds(One, inner=leaves(places), **fields), st.builds(Other, rate=st.floats(), **fields)
    )


def wholes(places):
    keys = st.text(max_size=3)
    return st.builds(
        Whole,
        leaf=leaves(places),
        either=eithers(places),
        maybe=st.none() | leaves(places),
        many=st.lists(leaves(places), max_size=3).map(tuple),
        pair=st.tuples(leaves(places), eithers(places)),
        named=st.dictionaries(keys, eithers(places), max_size=3),
        deep=st.dictionaries(keys, st.lists(leaves(places), max_size=2).map(tuple), max_size=2),
    )


def moved(value):
    """The same config on another machine: every `where` is another one."""
    if isinstance(value, Leaf):
        fields = {name: moved(getattr(value, name)) for name in type(value).model_fields}
        return type(value)(**{**fields, "where": value.where + 1})
    if isinstance(value, tuple):
        return tuple(moved(item) for item in value)
    if isinstance(value, dict):
        return {key: moved(item) for key, item in value.items()}
    return value


@pytest.mark.slow
@given(wholes(st.integers(0, 9)))
def test_runtime_fields_never_enter_identity_at_any_depth(config):
    fields = {name: moved(getattr(config, name)) for name in Whole.model_fields}
    other = Whole(**{**fields, "folder": Path("elsewhere"), "machine": Leaf(where=99)})
    assert repr(other.identity()) == repr(config.identity())
    assert "where" not in repr(other.identity())
    assert "folder" not in config.identity()
    assert "machine" not in config.identity()


@pytest.mark.slow
@given(wholes(st.just(0)), wholes(st.just(0)))
def test_configs_that_differ_in_more_than_runtime_have_other_identities(one, other):
    if repr(one) != repr(other):
        same = repr(sorted(one.identity().items())) == repr(sorted(other.identity().items()))
        assert not same or one == other


def test_identity_is_plain_json():
    config = Whole(
        leaf=Leaf(what=2, where=5), named={"a": Other(where=3)}, many=(Leaf(), Leaf(what=3))
    )
    assert config.identity() == {
        "leaf": {"what": 2},
        "either": {"what": 1, "type": "one", "inner": {"what": 1}},
        "maybe": None,
        "many": [{"what": 1}, {"what": 3}],
        "pair": [{"what": 1}, {"what": 1, "type": "other", "rate": 0.5}],
        "named": {"a": {"what": 1, "type": "other", "rate": 0.5}},
        "deep": {},
    }
    assert len(digest_value(config.identity())) == 64


def test_a_field_that_runtime_encloses_may_itself_hold_bounds():
    class Bounded(Config):
        """A runtime field with bounds."""

        workers: Runtime[int] = Field(default=1, ge=1)
        threads: Annotated[Runtime[int], Field(ge=1)] = 1

    assert Bounded(workers=3).identity() == {}
    with pytest.raises(ValidationError):
        Bounded(workers=0)


def test_an_added_field_enters_identity_only_where_it_differs_from_its_default():
    class Later(Leaf):
        """A leaf of the next release."""

        engine: Added[Either] = Other(where=3)
        stop: Annotated[Added[str | None], Field(min_length=1)] = None

    assert Later(what=2).identity() == Leaf(what=2).identity()
    assert Later(stop="</s>").identity() == {"what": 1, "stop": "</s>"}
    assert Later(engine=Other(rate=1.0)).identity()["engine"]["rate"] == 1.0


@pytest.mark.parametrize("mark", [Runtime, Added])
@pytest.mark.parametrize("enclosing", [lambda t: t | None, lambda t: tuple[t, ...]])
def test_a_mark_inside_another_type_is_refused_because_it_would_mark_nothing(mark, enclosing):
    annotation = enclosing(mark[int])
    with pytest.raises(TypeError, match=r"Wrong.field: .* must enclose the whole type"):
        type(
            "Wrong",
            (Config,),
            {"__annotations__": {"field": annotation}, "field": 1, "__module__": __name__},
        )


@pytest.mark.parametrize("annotation", [set[str], frozenset[int], dict[str, set[int]] | None])
def test_a_set_is_refused_because_its_order_changes_from_process_to_process(annotation):
    with pytest.raises(TypeError, match=r"Wrong.field: .*tuple"):
        type(
            "Wrong",
            (Config,),
            {"__annotations__": {"field": annotation}, "field": None, "__module__": __name__},
        )


def test_unknown_keys_and_changes_are_errors():
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Leaf.model_validate({"what": 1, "whet": 2})
    with pytest.raises(ValidationError, match="frozen"):
        Leaf().what = 3


def test_docstrings_under_fields_become_descriptions():
    class Described(Config):
        """A config."""

        rate: float = 1.0
        """Share of something."""

    assert Described.model_fields["rate"].description == "Share of something."
