"""The proxy and the simulation are public as :mod:`rmqbench.testing`, under names that stay."""

import subprocess
import sys

import pytest

import rmqbench.proxy
import rmqbench.simulation
import rmqbench.simulation.network
import rmqbench.simulation.world
import rmqbench.testing

PUBLIC = {
    rmqbench.proxy: {
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
    },
    rmqbench.simulation: {"Behaviour", "Misdeed", "ModelBroker", "SeededBehaviour", "Truth"},
    rmqbench.simulation.network: {"simulated_network"},
    rmqbench.simulation.world: {"World"},
}
WITHOUT_GREENLET = "import sys; sys.modules['greenlet'] = None\n"


def run(program):
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def test_it_exports_exactly_its_public_names():
    assert set(rmqbench.testing.__all__) == set().union(*PUBLIC.values())
    assert set(dir(rmqbench.testing)) >= set(rmqbench.testing.__all__)


def test_each_is_the_one_of_its_module():
    for module, names in PUBLIC.items():
        for name in names:
            assert getattr(rmqbench.testing, name) is getattr(module, name)


def test_what_needs_no_greenlet_does_not_import_it():
    ended = run("import rmqbench.testing, sys; print('greenlet' in sys.modules)")
    assert ended.stdout.strip() == "False"
    program = "from rmqbench.testing import ModelBroker, SeededBehaviour, Proxy"
    assert run(WITHOUT_GREENLET + program).returncode == 0


@pytest.mark.parametrize("name", ["World", "simulated_network"])
def test_without_greenlet_the_error_says_how_to_install_it(name):
    ended = run(f"{WITHOUT_GREENLET}from rmqbench.testing import {name}")
    assert ended.returncode != 0
    assert f"rmqbench.testing.{name} needs greenlet" in ended.stderr
    assert "pip install 'rmqbench[simulation]'" in ended.stderr


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'rmqbench\.testing' has no attribute 'Wrld'"):
        rmqbench.testing.Wrld  # noqa: B018  # the access is the test
