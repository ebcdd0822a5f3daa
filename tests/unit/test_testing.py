"""The proxy is public as :mod:`rmqbench.testing`, under names that stay."""

import rmqbench.proxy
import rmqbench.testing

PUBLIC = {
    "Alteration",
    "Applied",
    "Proxy",
    "cut",
    "cut_inside",
    "delay",
    "drop",
    "flip",
    "forge",
    "misroute",
    "repeat",
    "swap",
}


def test_it_exports_exactly_its_public_names():
    assert set(rmqbench.testing.__all__) == PUBLIC


def test_each_is_the_one_of_the_proxy():
    for name in PUBLIC:
        assert getattr(rmqbench.testing, name) is getattr(rmqbench.proxy, name)
