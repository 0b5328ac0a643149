"""One LaTeX table for a paper: order, best and second best, tests, and what is refused."""

import numpy as np
import pytest

from llm4rec_cli.errors import UsageError
from llm4rec_cli.results.selection import select_groups
from llm4rec_studies.commands.report_latex import main
from llm4rec_studies.latex_table import latex_table, p_in_words
from tests.results.finished_runs import metrics_json, rankings, write_run

INTERVAL = {"hr@10": [0.0, 1.0]}


def ranked(outputs, model, hits, dataset="shop", users=200, seed=0, **facts):
    """A run of which the first `hits` users have their target first."""
    n_better = np.array([0] * hits + [50] * (users - hits))
    facts = {"n_examples": users, "intervals": INTERVAL, "variant": model, "config_hash": f"{model}{seed}"} | facts
    metrics = metrics_json(hits / users, model=model, dataset=dataset, seed=seed, **facts)
    metrics["metrics"] = {"hr@10": hits / users, "ndcg@10": hits / users}
    folder = outputs / model / dataset / "sequential" / f"seed{seed}-{metrics['config_hash']}"
    return write_run(folder, metrics, rankings(n_better))


def table(outputs, *filters, **options):
    usual = {"metrics": ["hr@10"], "models": None, "floors": True, "against": None, "names": {}}
    usual |= {"sd": False} | options
    return latex_table(select_groups(outputs, filters, usual["metrics"]), outputs=outputs, **usual)


def rows(lines):
    """Model -> its cells."""
    lines = list(lines)
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    return {cells[0]: cells[1:] for line in body if (cells := line.removesuffix(r" \\").split(" & "))}


@pytest.fixture
def outputs(tmp_path):
    for model, hits in (("popularity", 20), ("sasrec", 60), ("unisrec", 80)):
        ranked(tmp_path, model, hits)
    return tmp_path


def test_the_best_is_bold_the_second_underlined_and_models_have_the_given_order_and_names(outputs):
    shown = table(outputs, models=["unisrec", "popularity", "sasrec"], names={"unisrec": "UniSRec"})
    lines = list(shown.lines())
    assert rows(lines) == {
        "UniSRec": [r"\textbf{0.4000}"],
        "popularity": ["0.1000"],
        "sasrec": [r"\underline{0.3000}"],
    }
    assert list(rows(lines)) == ["UniSRec", "popularity", "sasrec"]
    assert "popularity" not in rows(table(outputs, floors=False).lines())
    assert next(iter(rows(table(outputs).lines()))) == "popularity", "floors first"


def test_a_star_marks_what_differs_after_holms_correction(outputs):
    shown = table(outputs, against="sasrec")
    (popularity,), (sasrec,), (unisrec,) = rows(shown.lines()).values()
    assert [cell.endswith("$^{*}$") for cell in (popularity, sasrec, unisrec)] == [True, False, True]
    notes = [line for line in shown.lines() if line.startswith("% ")]
    assert any("Holm over the 2 comparisons" in note for note in notes)
    assert "%   shop, unisrec, hr@10: +0.1000, p < .001" in notes
    ranked(outputs, "prompt4nr", 61)
    assert not rows(table(outputs, against="sasrec").lines())["prompt4nr"][0].endswith("$^{*}$")


def test_datasets_stand_side_by_side_and_a_missing_run_is_an_empty_cell(outputs):
    ranked(outputs, "sasrec", 10, dataset="books")
    ranked(outputs, "popularity", 30, dataset="books")
    lines = list(table(outputs).lines())
    assert r" & \multicolumn{1}{c}{books} & \multicolumn{1}{c}{shop} \\" in lines
    assert rows(lines)["unisrec"] == ["", r"\textbf{0.4000}"]
    assert rows(lines)["popularity"] == [r"\textbf{0.1500}", "0.1000"]


def test_seeds_are_averaged_and_their_deviation_is_an_option(outputs):
    ranked(outputs, "sasrec", 64, seed=1)
    assert rows(table(outputs).lines())["sasrec"] == [r"\underline{0.3100}"]
    assert rows(table(outputs, sd=True).lines())["sasrec"] == [r"\underline{0.3100 $\pm$ 0.0141}"]


def test_what_cannot_stand_in_one_table_is_refused(outputs, tmp_path):
    with pytest.raises(UsageError, match="no run of 'sasrek' is selected") as unknown:
        table(outputs, models=["sasrek"])
    assert "sasrec" in unknown.value.remedy
    ranked(outputs, "prompt4nr", 5, labels=["not-above-popularity"])
    with pytest.raises(UsageError, match="its training probably failed"):
        table(outputs, against="prompt4nr")
    ranked(outputs, "p5", 5, users=100)
    with pytest.raises(UsageError, match=r"several tasks or protocols: .*100 users.*200 users"):
        table(outputs)
    with pytest.raises(UsageError, match="--names: 'x' has no name"):
        main(["--names", "x", "--outputs", str(outputs)])


def test_the_command_prints_it(outputs, capsys):
    assert main(["dataset=shop", "--metrics", "hr@10", "--outputs", str(outputs)]) == 0
    out = capsys.readouterr().out
    assert r"\caption{shop $\cdot$ sequential" in out
    assert out.startswith(r"\begin{table}[t]")


def test_p_in_words():
    assert [p_in_words(p) for p in (0.0, 0.00099, 0.0123, 1.0)] == ["p < .001", "p < .001", "p = .012", "p = 1.000"]
