"""What machines read of results is what results hold, in formats that they know."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from support.histories import Consumed, History, Published, Queued
from support.simulated import Act, QueuePlan, play
from support.simulated import History as Simulated
from support.timelines import OK, run_of

pytest.importorskip("greenlet", reason="the dev extra brings greenlet")
import rmqbench
from rmqbench.report.formats.hdr import hdr_log
from rmqbench.report.formats.markdown import markdown
from rmqbench.report.formats.prometheus import prometheus
from rmqbench.report.formats.tables import csv_files
from rmqbench.results import result as results

SCHEMA = json.loads((Path(results.__file__).parent / "result.schema.json").read_text())
STRANGE = 'a|b`c\\d"<e>\n=f'


def described(path, **more):
    """Write the description of a scenario and a broker into a run that was made up."""
    description = json.loads((path / "run.json").read_text())
    scenario = {**rmqbench.reliability().as_dict(), **description["scenario"]}
    broker = {"version": "4.3.6", "endpoint": "amqp://here", "how": "by name"}
    (path / "run.json").write_text(
        json.dumps({**description, "scenario": scenario, "broker": broker, **more})
    )
    return rmqbench.judge(path)


@pytest.fixture
def open_load(tmp_path):
    """A run of an open load whose producers were blocked, with all latencies."""
    history = Simulated(
        seed=1,
        queues=(QueuePlan("work", prefetch=1000),),
        during=True,
        messages=200,
        publish_rate=100,
        acts=(Act(0.5, "block"),),
    )
    play(history, tmp_path)
    return described(tmp_path)


@pytest.fixture
def lossy(tmp_path):
    """A run that lost a message from a queue with a strange name."""
    consumed = Consumed([(0, n, False) for n in range(9)])
    history = History([Published([OK] * 10)], [Queued(STRANGE, [consumed])])
    return described(run_of(tmp_path / "lossy", history))


def test_results_are_what_the_schema_says(open_load, lossy):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for result in (open_load, lossy):
        plain = json.loads(json.dumps(result.as_dict()))
        jsonschema.validate(plain, SCHEMA)
        assert plain["format"] == SCHEMA["properties"]["format"]["const"] == results.FORMAT
        for key in plain:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({k: v for k, v in plain.items() if k != key}, SCHEMA)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**plain, "more": 1}, SCHEMA)


# --- Markdown -----------------------------------------------------------------------------------


def test_markdown_has_a_row_for_each_run_and_the_reasons_of_those_that_failed(open_load, lossy):
    text = markdown([("open", open_load), ("lossy", lossy)])
    rows = [
        line for line in text.splitlines() if line.startswith("| ✅") or line.startswith("| ❌")
    ]
    assert [row.split(" | ")[:2] for row in rows] == [["| ✅ PASS", "open"], ["| ❌ FAIL", "lossy"]]
    assert text.count("<details>") == text.count("</details>") == 1
    assert "1 lost" in rows[1]


def test_what_is_written_in_markdown_means_nothing_there(lossy):
    text = markdown([("x", lossy), (STRANGE, replace(lossy, verdict=lossy.verdict))])
    row = next(line for line in text.splitlines() if "a\\|b" in line and line.startswith("|"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 9
    assert "<e>" not in re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.M | re.S)
    fences = re.findall(r"^(`{3,})", text, re.M)
    assert len(fences) % 2 == 0


# --- Prometheus ---------------------------------------------------------------------------------

SAMPLE = re.compile(r'^([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\} (\S+)$')


def test_prometheus_reads_every_line(open_load, lossy):
    text = prometheus([("one", open_load), (STRANGE, lossy)])
    kinds, found = set(), {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            assert line.split()[2] not in kinds, "once for each metric"
            kinds.add(line.split()[2])
        elif not line.startswith("# HELP "):
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert name in kinds
            assert (name, labels) not in found
            found[name, labels] = float(value)
    outcome = [v for (name, labels), v in found.items() if name == "rmqbench_outcome"]
    assert sum(outcome) == 2
    p99 = open_load.confirm_latency.p99_ms / 1000
    assert p99 in [v for (name, labels), v in found.items() if 'quantile="0.99"' in labels]
    assert 1 in [v for (name, labels), v in found.items() if 'finding="lost"' in labels]


def test_a_percentile_that_is_not_known_is_infinite(open_load):
    latency = replace(open_load.confirm_latency, p99_ms=None)
    text = prometheus([("one", replace(open_load, confirm_latency=latency))])
    assert re.search(r'latency="confirm".*quantile="0.99"} \+Inf', text)


# --- CSV ----------------------------------------------------------------------------------------


def rows_of(text):
    return [*csv.DictReader(io.StringIO(text))]


def test_csv_has_a_row_each_second_and_all_messages(open_load):
    files = csv_files(open_load.directory)
    rates = rows_of(files["rates.csv"])
    assert [float(row["second"]) for row in rates] == [n + 0.5 for n in range(len(rates))]
    for name in ("published", "confirmed", "delivered from work", "acknowledged to work"):
        assert sum(float(row[name]) for row in rates) == 200
    confirm, delivery, *_ = rows_of(files["latency.csv"])
    assert (confirm["latency"], delivery["queue"]) == ("confirm", "work")
    assert float(confirm["p99_ms"]) == open_load.confirm_latency.p99_ms
    assert set(files) == {"rates.csv", "depth.csv", "memory.csv", "latency.csv", "events.csv"}


def test_no_cell_is_a_formula(lossy, tmp_path):
    path = lossy.directory / "run.json"
    description = json.loads(path.read_text())
    description["scenario"]["consume"] = "during"
    path.write_text(json.dumps(description))
    journal = lossy.directory / "journal.jsonl"
    journal.write_text(journal.read_text().replace(json.dumps(STRANGE), '"=1+1"'))
    files = csv_files(lossy.directory)
    assert "'=1+1" in files["latency.csv"]
    for text in files.values():
        assert not any(
            cell.startswith("=") for row in csv.reader(io.StringIO(text)) for cell in row
        )


# --- HDR ----------------------------------------------------------------------------------------


def test_the_histograms_have_the_percentiles_of_the_result(open_load):
    histogram = pytest.importorskip("hdrh.histogram", reason="the dev extra brings hdrhistogram")
    lines = [line for line in hdr_log(open_load.directory).splitlines() if line.startswith("Tag=")]
    assert [line.split(",")[0] for line in lines] == ["Tag=confirm", "Tag=delivery-from-work"]
    for line, latency in zip(
        lines,
        (open_load.confirm_latency, open_load.queues["work"].delivery_latency),
        strict=True,
    ):
        read = histogram.HdrHistogram.decode(line.split(",")[-1])
        assert read.get_total_count() == 200
        assert read.get_value_at_percentile(90) / 1000 == pytest.approx(latency.p90_ms, rel=0.03)
        assert read.get_max_value() / 1000 == pytest.approx(latency.max_ms, rel=0.02)
