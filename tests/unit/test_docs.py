"""The README and the pages beside it know every option, finding, file and command there is."""

import re
import shlex
import signal
import tomllib
import uuid
from contextlib import suppress
from dataclasses import MISSING, fields
from importlib import import_module
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
import typer
from support.histories import RECIPE, Consumed, History, Published, Queued
from typer.main import get_command
from typer.testing import CliRunner

import rmqbench
from rmqbench import ConsumedQueue, Endpoint, Scenario, pytest_plugin
from rmqbench.broker import DEFAULT_IMAGE, Broker
from rmqbench.broker.reaper import MARK
from rmqbench.campaign import Campaign, CampaignResult, RunOutcome
from rmqbench.campaign.tables import OWN_KEYS, accepted_types
from rmqbench.cli import app
from rmqbench.cli.connecting import ConnectionOptions
from rmqbench.faults import FAULTS
from rmqbench.management.sampler import SAMPLES_FILE, NodeSample, QueueSample
from rmqbench.message import HEAD, Recipe
from rmqbench.pytest_plugin.settings import OPTIONS, Settings
from rmqbench.report.campaign import plan_view
from rmqbench.report.terminal import render
from rmqbench.results.latencies import Latency
from rmqbench.results.metrics import Throughput
from rmqbench.results.steps import LATENCY_FILE
from rmqbench.run_directory import FORMAT
from rmqbench.run_directory.journal import JOURNAL_FILE, Entry
from rmqbench.run_directory.ledger import DeliveryLedger, PublishLedger
from rmqbench.run_directory.let_go import LET_GO_FILE
from rmqbench.run_directory.transfer import AWAY_FILE
from rmqbench.runner.description import describe
from rmqbench.sizes import Sizes
from rmqbench.verdict.evidence import (
    ACKED,
    AGAIN,
    CONFIRMED,
    COPY,
    DELIVERED,
    NACKED,
    REDELIVERED,
    REJECTED,
    REPORTED,
    REQUEUED,
    RETURNED,
    SENT,
    Incident,
)
from rmqbench.verdict.findings import (
    FINDINGS,
    OUTCOMES,
    Effect,
    Finding,
    FindingName,
    Judgement,
    Verdict,
)

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / ".github").rglob("*.md"))]
}
README = PAGES["README.md"]
OPTIONS_PAGE = PAGES[".github/docs/options.md"]
DIRECTORY_PAGE = PAGES[".github/docs/run-directory.md"]
VERDICT_PAGE = PAGES[".github/docs/verdict.md"]
CAMPAIGNS_PAGE = PAGES[".github/docs/campaigns.md"]
MESSAGES_PAGE = PAGES[".github/docs/messages.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    """The fenced blocks of one language."""
    return [text for kind, text in BLOCK.findall(page) if kind == language]


def rows(page, *heading):
    """The rows of the table whose first headings are these, each a list of cells."""
    lines = page.splitlines()
    for at, line in enumerate(lines):
        if cells(line)[: len(heading)] == list(heading):
            return [cells(row) for row in takewhile(lambda row: row[:1] == "|", lines[at + 2 :])]
    raise AssertionError(f"there is no table of {heading}")


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if "|" in line else []


def named(cell):
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def by_name(page, *heading):
    """The rows of a table by each name in backquotes in their first cell."""
    return {name: row for row in rows(page, *heading) for name in named(row[0])}


def shown(value):
    """A default as a table shows it."""
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).removesuffix(".0")


# --- all pages ----------------------------------------------------------------------------------


def test_the_readme_is_a_guide_of_at_most_200_lines():
    assert len(README.splitlines()) <= 200


def test_the_first_run_is_one_line_and_its_twin():
    first, twin = blocks(README.partition("\n## First run\n")[2].partition("\n## ")[0], "console")
    assert f"\n## First run\n\n```console\n{first}```\n" in README
    assert len(first.splitlines()) == len(twin.splitlines()) == 1
    assert first.startswith("python3 -m venv ")
    assert twin.startswith("uv ")
    assert first.partition("pytest")[1:] == twin.partition("pytest")[1:]


def links():
    for name, page in PAGES.items():
        for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)]+))?\)", page):
            if "://" not in target:
                yield name, target, anchor


@pytest.mark.parametrize(("page", "target", "anchor"), list(links()))
def test_every_link_of_a_page_leads_somewhere(page, target, anchor):
    path = (ROOT / page).parent / target if target else ROOT / page
    assert path.exists()
    if anchor:
        headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in map(slug, headings)


def slug(heading):
    """The anchor of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_page_is_reached_from_the_readme():
    known = {target for page, target, _ in links() if page == "README.md"}
    assert set(PAGES) - {"README.md"} <= known


def files():
    for name, page in PAGES.items():
        for found in sorted(set(named(BLOCK.sub("", page)))):
            if re.fullmatch(r"(rmqbench|tests|\.ci|docs)/[a-z_/.-]*", found):
                yield pytest.param(name, found, id=f"{name}-{found}")


@pytest.mark.parametrize(("page", "name"), list(files()))
def test_every_file_that_a_page_names_is_there(page, name):
    assert (ROOT / (f".github/{name}" if name.startswith("docs/") else name)).exists()


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page_compiles(page):
    for text in blocks(PAGES[page], "python"):
        compile(text, page, "exec")


def python_names():
    """Dotted names of the package in code of the pages; the changelog's old ones left out."""
    for name, page in PAGES.items():
        text = re.sub(r"^\| `rmqbench[^|]*\|", "", page, flags=re.MULTILINE)
        code = "\n".join([*named(BLOCK.sub("", text)), *blocks(text, "python")])
        for found in sorted(set(re.findall(r"\brmqbench(?:\.[A-Za-z_]+)+", code))):
            yield pytest.param(found, id=f"{name}-{found}")


@pytest.mark.parametrize("name", list(python_names()))
def test_every_python_name_of_a_page_is_there(name):
    parts = name.split(".")
    try:
        import_module(name)
    except ModuleNotFoundError:
        value = rmqbench
        for part in parts[1:]:
            value = getattr(value, part)


def command_lines():
    for name, page in PAGES.items():
        for text in blocks(page, "console"):
            for line in text.splitlines():
                if line.startswith("rmqbench "):
                    yield pytest.param(line, id=f"{name}-{line}")


@pytest.mark.parametrize("line", list(command_lines()))
def test_every_command_of_a_page_is_understood(line):
    words = shlex.split(line, comments=True)[1:]
    command = get_command(app)
    while hasattr(command, "commands"):
        _, command, words = command.resolve_command(
            command.make_context("rmqbench", [*words]), words
        )
    with suppress(typer.Exit):  # of an option that only shows something
        command.make_context("rmqbench", words)


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_an_option_of_pytest_that_is_not_there(page):
    named = set(re.findall(r"--rmqbench-([a-z0-9-]*[a-z])", PAGES[page]))
    of_the_repository = re.findall(r'"--rmqbench-([a-z-]+)"', (ROOT / "conftest.py").read_text())
    assert named <= {*OPTIONS, *of_the_repository}


def test_the_rooms_are_those_whose_imports_are_checked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    table = rows(PAGES[".github/ARCHITECTURE.md"], "room, from top to bottom")
    assert [named(row[0]) for row in table] == [line.split(" | ") for line in contract["layers"]]


# --- options and fixtures of pytest -------------------------------------------------------------


def test_every_option_is_in_the_table_with_its_three_names():
    there = [row[:3] for row in rows(OPTIONS_PAGE, "option", "ini setting", "environment")]
    variables = [(name, f"rmqbench_{name.replace('-', '_')}") for name in OPTIONS]
    assert there == [
        [f"`--rmqbench-{name}`", f"`{variable}`", f"`{variable.upper()}`"]
        for name, variable in variables
    ]


def test_the_defaults_of_the_options_are_the_codes():
    table = by_name(OPTIONS_PAGE, "option", "ini setting")
    settings = Settings()
    assert table["--rmqbench-broker"][3] == f"`{settings.broker}`"
    assert table["--rmqbench-image"][3] == f"`{DEFAULT_IMAGE}`"
    for name in ("min-publish-rate", "min-consume-rate"):
        rate = getattr(settings, name.replace("-", "_"))
        assert table[f"--rmqbench-{name}"][3] == f"{rate:,.0f} messages a second"


def test_every_variable_of_the_environment_is_on_the_page():
    sources = (ROOT / "rmqbench").rglob("*.py")
    used = {
        name
        for path in sources
        for name in re.findall(r"\bRMQBENCH_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))
    }
    known = set(re.findall(r"\bRMQBENCH_[A-Z_]+\b", OPTIONS_PAGE))
    assert used - {MARK, "RMQBENCH_X"} <= known


def test_every_fixture_is_in_its_table():
    source = Path(pytest_plugin.__file__).read_text(encoding="utf-8")
    there = re.findall(r"@pytest\.fixture.*\ndef (\w+)", source)
    assert set(by_name(OPTIONS_PAGE, "fixture")) & set(there) == set(there) != set()


def test_every_marker_of_the_lanes_is_in_their_table(pytestconfig):
    conftest = next(
        plugin
        for plugin in pytestconfig.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", None) == str(ROOT / "conftest.py")
    )
    table = by_name(PAGES[".github/docs/tests.md"], "lane")
    asked = {name.removeprefix("-m ") for name in table if name.startswith("-m ")}
    assert asked == {*conftest.DEEP, "reliability", "simulation"}
    registered = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert asked <= registered


# --- scenarios ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "least"), [(Scenario, {"name": "x"}), (ConsumedQueue, {"name": "x"})]
)
def test_every_field_of_a_scenario_is_in_its_table_with_its_default(kind, least):
    table = by_name(OPTIONS_PAGE, f"field of `{kind.__name__}`")
    defaults = kind(**least)
    for field in fields(kind):
        cell = table.pop(field.name)[1].replace("`", "").replace(",", "")
        value = getattr(defaults, field.name)
        if field.name == "queues":
            value = " ".join(queue.name for queue in value)
        required = field.default is field.default_factory is MISSING
        assert cell == ("required" if required else shown(value)), field.name
    assert not table


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_in_its_table_with_its_phases_and_what_is_expected(name):
    row = by_name(PAGES[".github/docs/faults.md"], "fault", "while")[name]
    kind = FAULTS[name]
    assert row[1].split(", ") == list(kind.phases)
    expected = kind.expected - ({"indeterminate"} if "publish" not in kind.phases else set())
    assert expected <= set(re.split("; ", row[2]))


def test_no_fault_is_in_the_table_that_is_not_there():
    assert set(by_name(PAGES[".github/docs/faults.md"], "fault", "while")) == set(FAULTS)


# --- verdict and result -------------------------------------------------------------------------


@pytest.mark.parametrize(("heading", "names"), [("outcome", OUTCOMES), ("finding", FINDINGS)])
def test_every_finding_is_explained_with_its_effect(heading, names):
    table = {row[0]: row[2] for row in rows(VERDICT_PAGE, heading)}
    table.pop("confirmed", None)
    assert table == {name.value: effect.value for name, effect in names.items()}


@pytest.fixture
def directory(tmp_path):
    """The directory of a run that passed."""
    consumed = Consumed([(0, 0, False)])
    queues = [Queued(name, [consumed]) for name in ("work.queue", "audit.queue")]
    History([Published([SENT | CONFIRMED])], queues).write(tmp_path / "run")
    return tmp_path / "run"


def test_every_key_of_the_result_is_in_its_table(directory):
    result = rmqbench.judge(directory).as_dict()
    table = by_name(VERDICT_PAGE, "key")
    named_together = {
        *(key for queue in result["queues"].values() for key in queue),
        *(each.name for each in fields(Throughput)),
        "confirm_latency",
        "lag",
        "fails",
        *(each.name for each in fields(Latency)),
    }
    assert set(result) <= set(table)
    assert set(table) <= set(result) | named_together
    findings = {name.value for name in (*OUTCOMES, *FINDINGS)}
    assert set(result["queues"]["work.queue"]) - findings - {"arguments"} == set(
        named(table["queues"][1])
    )
    assert set(result["publish"]) == set(named(table["publish"][1]))


def test_the_exit_codes_are_those_of_the_page():
    codes = [int(row[0]) for row in rows(VERDICT_PAGE, "exit code of `rmqbench run` and `judge`")]
    errors = import_module("rmqbench.errors")
    raised = {getattr(errors, name).exit_code for name in errors.__all__}
    unknown = Verdict(Judgement.FAIL, (Finding(FindingName.UNSENT, 1, Effect.FAILS),))
    interrupted = {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert codes == sorted({0, 1, unknown.exit_code, *raised, *interrupted})


# --- the run's directory ------------------------------------------------------------------------


def test_the_page_describes_the_format_that_is_written():
    assert f"**version {FORMAT}**" in DIRECTORY_PAGE


def test_every_file_of_a_run_is_in_the_table(directory):
    table = set(by_name(DIRECTORY_PAGE, "file"))
    short = {name.rpartition("/")[2] for name in table}
    here = {path.name for path in directory.rglob("*") if path.is_file()}
    columns = [f"{name}.npy" for name in (*PublishLedger.columns, *DeliveryLedger.columns)]
    rows = ("copies.bin", "again.bin")
    assert {*columns, *rows, "progress.npy", JOURNAL_FILE, "run.json", "incidents.jsonl"} == here
    others = {
        *(f"{name}.npy" for name in (*PublishLedger.timed, *DeliveryLedger.timed)),
        SAMPLES_FILE,
        AWAY_FILE,
        LET_GO_FILE,
        LATENCY_FILE,
        "worker.log",
        "result.json",
        "broker.log",
    }
    assert short == here | others


def test_every_key_of_the_description_is_in_the_table():
    broker = Broker("external", Endpoint(), "4.3.6", "named by its URL")
    scenario, run = Scenario("x", faults=()), uuid.uuid4()
    recipe = scenario.recipe(run)
    described = {"format": FORMAT, **describe(run, scenario, recipe, broker, in_place=False)}
    table = by_name(DIRECTORY_PAGE, "key")
    assert list(table) == list(described)
    for key in ("recipe", "broker", "versions"):
        assert set(described[key]) <= set(named(table[key][1])), key
    assert set(described["queues"][0]) == set(named(table["queues"][1]))


def test_every_entry_of_a_journal_is_in_a_table_with_its_fields():
    of_worker, of_run = DIRECTORY_PAGE.split("\nOf the run:\n")
    described = by_name(of_worker, "kind") | by_name(of_run, "kind")
    entries = {entry.kind: entry for entry in Entry.__subclasses__()}
    assert set(described) == set(entries)
    for kind, entry in entries.items():
        names = [field.name for field in fields(entry) if field.name != "time_ns"]
        assert named(described[kind][1]) == names, kind


@pytest.mark.parametrize("ledger", [PublishLedger, DeliveryLedger])
def test_every_array_is_in_a_table_with_its_type(ledger):
    of_producer, of_consumer = DIRECTORY_PAGE.split("\nA consumer's have one place")
    page = of_producer if ledger is PublishLedger else of_consumer
    table = {name: named(row[1])[0] for name, row in by_name(page, "array").items()}
    assert table == ledger.columns | ledger.timed
    assert all(np.dtype(each) for each in table.values())


@pytest.mark.parametrize(("of", "dtype"), [("of a copy", COPY), ("of a delivery", AGAIN)])
def test_every_row_is_in_a_table_with_its_types(of, dtype):
    table = by_name(DIRECTORY_PAGE, of)
    assert np.dtype([(name, named(row[1])[0]) for name, row in table.items()]) == dtype
    assert f"{dtype.itemsize} bytes" in DIRECTORY_PAGE


def test_every_bit_of_a_row_and_of_an_array_is_explained():
    of_producer, of_consumer = DIRECTORY_PAGE.split("\nA consumer's have one place")
    explained = {
        "publish": by_name(of_producer, "array")["state"][2],
        "first delivery": by_name(of_consumer, "array")["state"][2],
        "later delivery": by_name(of_consumer, "of a delivery")["flags"][2],
    }
    bits = {
        "publish": (SENT, CONFIRMED, NACKED, RETURNED),
        "first delivery": (DELIVERED, REDELIVERED, REPORTED, ACKED, REJECTED, REQUEUED),
        "later delivery": (REDELIVERED, REPORTED),
    }
    for name, values in bits.items():
        said = explained[name].partition(".")[0].replace("bits: ", "; ").replace(", ", "; ")
        assert re.findall(r"; (\d+) ", f"; {said}") == [str(bit) for bit in values], name


def test_every_field_of_an_incident_and_of_a_sample_is_in_its_table():
    assert list(by_name(DIRECTORY_PAGE, "field")) == [field.name for field in fields(Incident)]
    (row,) = rows(DIRECTORY_PAGE, "of each queue", "of each node")
    for cell, kind in zip(row, (QueueSample, NodeSample), strict=True):
        assert named(cell) == [field.name for field in fields(kind)]


# --- messages -----------------------------------------------------------------------------------


def test_the_table_of_the_head_is_its_layout():
    places = [(int(row[0]), int(row[1])) for row in rows(MESSAGES_PAGE, "offset")]
    ends = [offset + length for offset, length in places]
    assert [offset for offset, _ in places] == [0, *ends[:-1]]
    assert ends[-1] == HEAD.size


def test_the_example_of_a_message_is_computed_so():
    example = MESSAGES_PAGE.partition("## Example")[2]
    run, body, identity = (
        re.search(r"Run `([^`]+)`", example)[1],
        bytes.fromhex("".join(blocks(example, "text"))),
        re.search(r"`message_id` is `([^`]+)`", example)[1],
    )
    recipe = Recipe(type(RECIPE.run)(run), size_bytes=60)
    assert recipe.body(5, 1000, 1700000000123456789) == body
    assert recipe.message_id(5, 1000) == identity


def test_the_sizes_of_messages_are_computed_as_the_page_says():
    part = MESSAGES_PAGE.partition("## Size")[2].partition("## Properties")[0]
    (source,) = blocks(part, "python")
    page = {}
    exec(source, page)
    (row,) = re.findall(r"Of run `(.+?)` and producer (\d+), (.+?)\. A size", part, re.S)
    run, producer, told = type(RECIPE.run)(row[0]), int(row[1]), row[2].replace("\n", " ")
    numbers = [int(number) for number in re.findall(r"messages (\d+) and (\d+)", told)[0]]
    said = re.findall(r"(\d+) and (\d+)\s+bytes with `(.+?)`", told)
    assert len(said) == 2
    for *values, text in said:
        sizes = Sizes.of(text)
        computed = [sizes.size_of(run, producer, number) for number in numbers]
        assert computed == [int(value) for value in values]
        for message in [(0, 0), (4095, 2**48 - 1), *((7, number) for number in range(300))]:
            assert page["size_of"](run, *message, sizes.ranges) == sizes.size_of(run, *message)


def test_every_size_of_the_table_can_be_asked_for():
    for name in by_name(MESSAGES_PAGE, "size"):
        rmqbench.reliability(size_bytes=name)


def test_every_property_of_a_message_is_in_its_table():
    there = {name for name, value in vars(RECIPE.properties(0, 0, 1)).items() if value is not None}
    assert set(by_name(MESSAGES_PAGE, "property")) == there


# --- campaigns ----------------------------------------------------------------------------------


def test_every_key_of_a_campaign_is_in_its_table_or_a_change_of_a_scenario():
    assert set(by_name(CAMPAIGNS_PAGE, "key", "default")) == {*OWN_KEYS, "size"}
    of_scenarios = set(by_name(OPTIONS_PAGE, "field of `Scenario`"))
    short = set(named(OPTIONS_PAGE.partition("They take every\n")[2].partition("\n\n")[0]))
    assert set(accepted_types()) - {*OWN_KEYS, "size"} <= of_scenarios | short


@pytest.mark.parametrize("text", blocks(CAMPAIGNS_PAGE, "toml"))
def test_every_campaign_of_a_page_is_one(text):
    environment = {"RABBIT_PASSWORD": "any"}
    assert Campaign.of(tomllib.loads(text), name="any", environment=environment).runs


def test_the_list_of_the_example_is_what_it_comes_to():
    (example, *_), (shown, *_) = (blocks(CAMPAIGNS_PAGE, kind) for kind in ("toml", "text"))
    campaign = Campaign.of(tomllib.loads(example), name="nightly", environment={})
    text = render([plan_view(campaign)], width=100, colour=False)
    assert [line.rstrip() for line in text.splitlines()] == shown.splitlines()


def test_every_key_of_a_campaigns_result_is_in_its_table():
    campaign = Campaign.of({"scenario": "online", "broker": "local"}, name="any", environment={})
    result = CampaignResult("any", ROOT, tuple(RunOutcome.of(each) for each in campaign.runs))
    written = result.as_dict()
    table = by_name(CAMPAIGNS_PAGE, "key of `campaign.json`")
    assert set(table) == {"format", *written}
    for key in ("runs", "alike"):
        assert set(named(table[key][1])) >= set(written[key][0])
    assert named(table["states"][1]) == list(written["states"])


# --- commands -----------------------------------------------------------------------------------


def commands():
    """Every command there is, by the words that name it."""
    for name, command in get_command(app).commands.items():
        for below, each in getattr(command, "commands", {"": command}).items():
            yield f"{name} {below}".strip(), each


COMMANDS = dict(commands())
SCENARIOS = ["run reliability", "run online", "run stress"]
CONNECTION = {f"--{name.replace('_', '-')}" for name in ConnectionOptions.__dataclass_fields__}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_shown(command):
    assert f"rmqbench {command}" in OPTIONS_PAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example_of_it(command):
    told = CliRunner().invoke(app, [*command.split(), "--help"]).output
    assert f"Example: rmqbench {command}" in " ".join(told.split())


def test_every_connection_option_is_in_their_table():
    table = by_name(OPTIONS_PAGE, "connection option")
    assert set(table) >= CONNECTION


def options_of(command):
    """The options of a command that only it has, by their first name."""
    options = (p for p in COMMANDS[command].params if p.opts[0].startswith("--") and not p.hidden)
    return {p.opts[0]: p for p in options if p.opts[0] not in {"--help", *CONNECTION}}


def table_of(command):
    if command in SCENARIOS:
        table = by_name(OPTIONS_PAGE, "`rmqbench run`", "`reliability`, `online`", "`stress`")
        column = 2 if command == "run stress" else 1
        return {name: row[column] for name, row in table.items()}
    table = by_name(OPTIONS_PAGE, f"`rmqbench {command}`", "default")
    return {name: row[1] for name, row in table.items()}


@pytest.mark.parametrize("command", [name for name in COMMANDS if options_of(name)])
def test_the_table_of_a_command_has_its_options_and_defaults(command):
    table = table_of(command)
    options = options_of(command)
    for name, option in options.items():
        assert name in table, f"{command} {name} is in no row"
        default = option.default
        if isinstance(default, bool):
            expected = option.name if default else "off"
        else:
            expected = "" if default is None else str(default).removesuffix(".0")
        assert expected in table[name], f"{command} {name}: {default}"
    there = {each for option in options.values() for each in (*option.opts, *option.secondary_opts)}
    assert set(table) <= there
