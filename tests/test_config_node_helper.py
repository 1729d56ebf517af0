"""The section ``node_helper``: off by default, and never half configured."""

from __future__ import annotations

import pytest

from ringfence import app
from ringfence.config import Config, NodeHelperSection


def test_it_is_off_by_default_and_an_image_alone_does_not_switch_it_on() -> None:
    assert app.policy(Config()).node_helper is None
    assert app.policy(Config(node_helper=NodeHelperSection(image="python"))).node_helper is None
    assert app.policy(Config(node_helper=NodeHelperSection(image="python", enabled=True))).node_helper is not None


@pytest.mark.parametrize(
    "values",
    [{"enabled": True}, {"enabled": True, "image": ""}, {"namespace": "Not_A_Name"}, {"seconds": 0}, {"unknown": 1}],
)
def test_what_it_does_not_take(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="NodeHelperSection"):
        NodeHelperSection.model_validate(values)


def test_its_rights_are_not_among_the_others() -> None:
    on = Config(node_helper=NodeHelperSection(image="python", enabled=True))
    enabled = app.enabled_actions(on)
    assert app.permissions(on, enabled) == app.permissions(Config(), enabled)
