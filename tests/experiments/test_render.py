"""Documents from JSON: what is written between the marks, and what stays."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from PIL import Image

from shakedrop_det.experiments import Result, Run, Store, load_plan, render
from shakedrop_det.experiments.experiment import read_experiment
from shakedrop_det.experiments.plan import searched

from .test_plan import SEARCH, write

ROOT = Path(__file__).parents[2]
CLAIM = {"claim": "It is better", "variant": "shaken", "setting": "many"}
TOP1 = {"plain": [50.0, 60.0], "shaken": [51.0, 61.02]}
DOCUMENT = """# Results
Typed by hand.
<!-- begin claims which -->
old figures
<!-- end -->
<!-- begin verdicts which -->
<!-- end -->
## which
<!-- begin experiment which -->
<!-- end -->
<!-- begin missing which -->
<!-- end -->
The end.
"""


def results(folder: Path) -> None:
    """One setting of two has run, and the search."""
    plan = load_plan(folder / "which.yaml")
    store = Store(folder / "results")
    assert plan.search_plan is not None
    for run in plan.search_plan.runs:
        top1 = 70.0 if run.variant == searched("shaken", 0.9) else 60.0
        store.add(plan.search_plan, run, Result({"classification/top1": top1}, 30.0))
    final = plan.with_values({"shaken": 0.9})
    for variant, values in TOP1.items():
        for seed, top1 in enumerate(values, start=1):
            result = Result({"classification/top1": top1}, 30.0, "abc", "a CPU", "2026-01-02")
            store.add(final, Run("many", variant, seed), result)


@pytest.fixture
def rendered(tmp_path: Path) -> str:
    write(tmp_path, search=SEARCH, claims=[CLAIM], core_hours=6, chosen="2026-01-01: so")
    results(tmp_path)
    document = tmp_path / "results.md"
    document.write_text(DOCUMENT)
    render(document, experiments=tmp_path, results=tmp_path / "results", root=tmp_path)
    text = document.read_text()
    render(document, experiments=tmp_path, results=tmp_path / "results", root=tmp_path)
    assert document.read_text() == text
    return text


def part(text: str, kind: str) -> str:
    return text.partition(f"<!-- begin {kind} which -->\n")[2].partition("<!-- end -->")[0]


def test_what_is_typed_stays_and_what_was_rendered_goes(rendered: str) -> None:
    assert rendered.startswith("# Results\nTyped by hand.\n<!-- begin claims which -->\n")
    assert rendered.endswith("<!-- end -->\nThe end.\n") and "old figures" not in rendered


def test_claims_with_effect_verdict_command_and_minutes(rendered: str) -> None:
    [row] = part(rendered, "claims").strip().splitlines()[2:]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "It is better",
        "[which](#which)",
        # The gains are 1 and 1.02: 1.01 +- 12.706 * 0.01, and 11.550 * 0.01414 is detectable.
        "+1.01 (+0.88 to +1.14) [0.16] classification/top1",
        "2 of 2",
        "supported",
        "`tools/run_experiment.py which.yaml`",
        "4",  # eight runs of half a minute, four of them the search's
    ]
    [row] = part(rendered, "verdicts").strip().splitlines()[2:]
    assert "It is better" in row and "+1.01" in row and "supported" in row and "tools" not in row


def test_a_section_has_the_setting_the_choice_the_tables_and_the_plot(
    rendered: str, tmp_path: Path
) -> None:
    section = part(rendered, "experiment")
    assert "Setting: 2026-01-01: so" in section and "Chosen by the search: shaken 0.9." in section
    assert "4 of 8 runs have finished, in 2.0 minutes" in section
    assert "| **+1.01 (+0.88 to +1.14)** [0.16]" in section
    assert (
        "![classification/top1: runs, means and differences](results/which.png)" in section
        and "(a CPU; commit abc; 2026" in section
    )
    assert Image.open(tmp_path / "results" / "which.png").size == (1500, 600)


def test_results_may_lie_beside_the_documents_folder(tmp_path: Path) -> None:
    """The command names the file wherever it is, and the links lead out of the folder."""
    write(tmp_path, search=SEARCH, claims=[CLAIM])
    results(tmp_path)
    document = tmp_path / "docs" / "results.md"
    document.parent.mkdir()
    document.write_text(DOCUMENT)
    render(document, experiments=tmp_path, results=tmp_path / "results", root=document.parent)
    text = document.read_text()
    assert "differences](../results/which.png)" in text
    assert f"`tools/run_experiment.py {tmp_path}/which.yaml`" in part(text, "claims")


def test_a_document_that_cannot_be_written_stays(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path)
    document = tmp_path / "results.md"
    document.write_text(DOCUMENT)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        render(document, experiments=tmp_path, results=tmp_path / "results")
    assert document.read_text() == DOCUMENT


def test_what_has_not_run_stands_with_its_share_of_the_hours(rendered: str) -> None:
    [row] = part(rendered, "missing").strip().splitlines()[2:]
    assert "| 4 of 12" in row and "| 2.0 " in row and "run_experiment.py" in row


def test_nothing_run_is_said_and_what_it_needs(tmp_path: Path) -> None:
    write(tmp_path, claims=[CLAIM], needs="a GPU", chosen="2026-01-01: so")
    document = tmp_path / "results.md"
    document.write_text(DOCUMENT)
    render(document, experiments=tmp_path, results=tmp_path / "results")
    assert "not run: needs a GPU" in part(document.read_text(), "claims")
    section = part(document.read_text(), "experiment")
    assert section == "\nWhich?\n\nSetting: 2026-01-01: so\n\nNot run yet.\n\n"


def test_runs_that_no_searched_value_is_left_for_are_not_missing(tmp_path: Path) -> None:
    """No command could train them."""
    write(tmp_path, search=SEARCH, claims=[CLAIM], needs="a GPU", core_hours=6)
    plan, store = load_plan(tmp_path / "which.yaml"), Store(tmp_path / "results")
    assert plan.search_plan is not None
    for run in plan.search_plan.runs:
        store.add(plan.search_plan, run, Result({}, 30.0, diverged="infinite"))
    final = plan.with_values({"shaken": None})
    for run in final.possible_runs:
        store.add(final, run, Result({"classification/top1": 50.0 + run.seed}, 30.0))
    document = tmp_path / "results.md"
    document.write_text(DOCUMENT)
    render(document, experiments=tmp_path, results=tmp_path / "results")
    text = document.read_text()
    assert "undecided: every searched value diverged" in part(text, "claims")
    assert "a GPU" not in part(text, "claims") and "which.yaml" not in part(text, "missing")
    section = part(text, "experiment")
    assert "4 of 4 runs have finished" in section
    assert "Chosen by the search: shaken: none, because every value diverged." in section


def test_a_command_quotes_the_name_of_its_file(tmp_path: Path) -> None:
    path = write(tmp_path).rename(tmp_path / "which one.yaml")
    experiment = read_experiment(path, Store(tmp_path / "results"), root=tmp_path)
    assert experiment.file == Path("which one.yaml")
    assert experiment.command == "tools/run_experiment.py 'which one.yaml'"


def test_runs_of_another_experiment_are_said_to_be_shared(tmp_path: Path) -> None:
    """They are no replication."""
    write(tmp_path, search=SEARCH)
    results(tmp_path)
    shutil.copy(tmp_path / "results" / "which.json", tmp_path / "results" / "other.json")
    document = tmp_path / "results.md"
    document.write_text(DOCUMENT)
    render(document, experiments=tmp_path, results=tmp_path / "results")
    section = part(document.read_text(), "experiment")
    assert "total. Runs shared with other experiments, not repeated: 4 with other." in section


@pytest.mark.parametrize(
    "text, message",
    [
        ("<!-- begin figures which -->\n<!-- end -->", "kind 'figures': write one of claims, ver"),
        ("<!-- begin claims which -->\n", "begins a part that does not end with <!-- end -->"),
    ],
)
def test_mistakes_in_a_document_are_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path)
    document = tmp_path / "results.md"
    document.write_text(text)
    with pytest.raises(ValueError, match=message):
        render(document, experiments=tmp_path, results=tmp_path)
    assert document.read_text() == text


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no document '.*none.md'"):
        render(tmp_path / "none.md", experiments=tmp_path, results=tmp_path)
    (tmp_path / "some.md").write_text("<!-- begin claims which -->\n<!-- end -->")
    with pytest.raises(FileNotFoundError, match="there is no experiment '.*which.yaml'"):
        render(tmp_path / "some.md", experiments=tmp_path, results=tmp_path)


@pytest.mark.parametrize("name", ["docs/results.md", "README.md"])
def test_our_documents_say_what_our_json_says(name: str, tmp_path: Path) -> None:
    document = tmp_path / name
    shutil.copytree(ROOT / "docs" / "results", tmp_path / "docs" / "results")
    shutil.copy(ROOT / name, document)
    experiments = ROOT / "configs" / "Experiments"
    render(document, experiments=experiments, results=tmp_path / "docs" / "results")
    assert document.read_text() == (ROOT / name).read_text()
    assert "<!-- begin " in document.read_text()
