"""`report`: tables of finished runs, averaged only over seeds."""

import csv
import io
import shutil
import subprocess

import pytest
from scipy import stats

from tests.results.finished_runs import metrics_json, rankings, write_run


@pytest.fixture
def write(tmp_path):
    """write(ndcg, **facts): write a finished run with these metrics under tmp_path/outputs; later ones are newer."""
    runs = []

    def write(ndcg, status="done", predictions=None, config=None, **facts):
        metrics = metrics_json(ndcg, **facts)
        folder = tmp_path / "outputs" / metrics["model"] / metrics["dataset"] / metrics["task"]
        folder /= f"seed{metrics['seed']}-{len(runs)}"
        runs.append(write_run(folder, metrics, predictions, status, config, time=1e9 + len(runs)))

    return write


@pytest.fixture
def rows(llm4rec):
    """rows(*arguments): the rows of `report --csv` as dicts."""

    def rows(*arguments):
        answer = llm4rec("report", "--csv", *arguments)
        assert answer.code == 0, answer.err
        return list(csv.DictReader(io.StringIO(answer.out)))

    return rows


def test_a_row_is_the_mean_and_deviation_over_finished_seeds_the_newest_of_equal_ones(write, rows, llm4rec):
    write(0.10)
    (row,) = rows()
    assert (row["n"], row["ndcg@10"]) == ("1", "0.1000"), "one seed has no deviation"
    write(0.90, seed=2)
    for seed, ndcg in enumerate((0.10, 0.12, 0.17)):
        write(ndcg, seed=seed)
    write(0.5, seed=3, status="failed")
    write(0.5, seed=4, status="running")
    (row,) = rows()
    assert (row["n"], row["ndcg@10"]) == ("3", "0.1300 ± 0.0361")  # sqrt((0.03² + 0.01² + 0.04²) / 2)
    assert "0.1300 ± 0.0361" in llm4rec("report").out
    (row,) = rows("--metrics", "recall@10")
    assert row["recall@10"] == "0.2600 ± 0.0721"
    assert "ndcg@10" not in row


def test_sampled_candidates_are_averaged_over_draws_where_that_is_typed(write, rows, llm4rec):
    for draw, ndcg in enumerate((0.1, 0.2)):
        facts = {"task": "direct", "protocol": "uniform-100" + "-draw1" * draw, "variant": f"v{draw}"}
        slices = {"slice": {"same_day": {"n": 2, "ndcg@10": ndcg}}}
        intervals, predictions = {"ndcg@10": [0, 1]}, rankings([0, 1])
        config = {"task": {"draw": draw}}
        write(ndcg, "done", predictions, config, model="popularity", intervals=intervals, breakdown=slices, **facts)
    write(0.5)
    assert [row["ndcg@10"] for row in rows("task=direct")] == ["0.1000", "0.2000"]
    drawn, full = rows("--draws")
    assert drawn["protocol"] == "test · uniform-100-draws0+1"
    assert full["protocol"] == "test · full ranking · history not masked"
    assert (drawn["n"], drawn["ndcg@10"], full["ndcg@10"]) == ("1", "0.1500", "0.5000")
    for typed in ("uniform-100-draws0+1", "uniform-100"):
        assert rows("--draws", f"protocol={typed}") == [drawn]
    table = llm4rec("report", "--draws", "--markdown", "task=direct").out
    assert "| 0.1000 0.2000 |" in table and "means over draws of candidates" in table
    assert "2 same_day" in llm4rec("report", "--draws", "--slices").out
    assert llm4rec("report", "--draws", "--html", "page.html").code == 0


def test_costs_are_a_table_of_their_own_one_csv_for_all_tasks(write, rows):
    write(0.1, seconds={"train": 90.0, "evaluate": 6.0})
    (row,) = rows("--costs")
    assert (row["training, min"], row["evaluation, min"], row["MiB"]) == ("1.5", "0.1", "500")
    write(0.2, task="direct")
    assert [row["table"].split(" · ")[1] for row in rows("--costs")] == ["direct", "sequential"]


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "uniform-100"},
        {"split": "valid"},
        {"mask_history": True},
        {"dataset_fingerprint": "g"},
        {"variant": "w"},
        {"task": "direct"},
        {"dataset": "demo_null"},
        {"model": "unisrec"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_seeds_of_other_variants_are_never_averaged_in(write, rows, other):
    write(0.1, seed=0)
    write(0.3, seed=1, **other)
    assert sorted(row["ndcg@10"] for row in rows()) == ["0.1000", "0.3000"]


def test_one_variant_typed_in_two_ways_is_one_row_with_the_metrics_of_both_and_all_labels(write, rows):
    write(0.1, seed=0, overrides=["model.layers=1", "trainer.epochs=3"], labels=["subset"])
    other = {"overrides": ["trainer.epochs=3", "model.layers=1"], "labels": ["subset", "floor-not-beaten"]}
    write(0.1, seed=1, metrics={"ndcg@10": 0.3}, **other)
    (row,) = rows("--metrics", "ndcg@10,recall@10")
    assert (row["n"], row["ndcg@10"], row["recall@10"]) == ("2", "0.2000 ± 0.1414", "")
    assert set(row["labels"].split()) == {"subset", "floor-not-beaten"}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["model=sasrec"], {"0.1000", "0.2000"}),
        (["model=sasrec,unisrec"], {"0.1000", "0.2000", "0.3000"}),
        (["model=sasrec", "split=valid"], {"0.2000"}),
        (["seed=1"], {"0.3000"}),
        (["labels=subset,other"], {"0.1000"}),
    ],
)
def test_filters_choose_runs(write, rows, filters, expected):
    write(0.1, labels=["subset", "synthetic"])
    write(0.2, split="valid", variant="w", labels=["leaky"])
    write(0.3, model="unisrec", seed=1)
    assert {row["ndcg@10"] for row in rows(*filters)} == expected


def test_intervals_of_several_seeds_are_in_the_csv(write, rows):
    for seed, n_better in enumerate((0, 50)):
        write(0.1, seed=seed, intervals={"ndcg@10": [0.0, 0.2]}, predictions=rankings([n_better] * 20))
    (row,) = rows()
    low, high = stats.t.interval(0.95, 1, 0.5, 0.5)
    assert (row["ndcg@10 low"], row["ndcg@10 high"]) == (f"{low:.6f}", f"{high:.6f}")


def test_the_rows_of_a_markdown_table_have_as_many_cells_as_its_head(llm4rec, write):
    write(0.1)
    write(0.2, variant="w", overrides=["model.x=a|b"])
    head, rule, *body = [
        [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]
        for line in llm4rec("report", "--markdown").out.splitlines()
        if line.startswith("|")
    ]
    assert set("".join(rule)) <= set("-:")
    assert {len(line) for line in [rule, *body]} == {len(head)}
    assert [line[head.index("ndcg@10")] for line in body] == ["0.1000", "0.2000"]


def test_the_terminal_opens_with_a_matrix_of_methods_and_tasks(llm4rec, write):
    facts = {"intervals": {"ndcg@10": [0.0, 0.5]}}
    write(0.3, model="unisrec", **facts)
    write(0.1, model="popularity", **facts)
    write(0.2, model="unisrec", task="direct", protocol="uniform-100", **facts)
    title, heading, _, unisrec, popularity, *_ = llm4rec("report").out.splitlines()
    assert title == "shop: methods × tasks"
    assert heading.split() == ["method", "direct", "ndcg@10", "95", "%", "n", "sequential", "ndcg@10", "95", "%", "n"]
    assert unisrec.split() == ["unisrec", "0.2000", "*", "0.0000–0.5000", "1", "0.3000", "*", "0.0000–0.5000", "1"]
    assert popularity.split() == ["popularity", "·", "0.1000", "f", "0.0000–0.5000", "1"]
    out = llm4rec("report", "--latex").out
    assert out.startswith("% \\usepackage{booktabs}")
    assert out.count("\\begin{table}") == out.count("\\end{table}") == 2
    assert "unisrec &" in out


def test_outputs_may_be_in_another_folder(llm4rec, write, tmp_path):
    write(0.1)
    (tmp_path / "outputs").rename(tmp_path / "kept")
    answer = llm4rec("report")
    assert (answer.code, "llm4rec train" in answer.err) == (1, True)
    assert "0.1000" in llm4rec("report", "--outputs", "kept").out


def test_what_cannot_be_shown_is_refused(llm4rec, write):
    write(0.1)
    answer = llm4rec("report", "model=sasrek")
    error = "error: no finished run under outputs has model=sasrek\n  try: did you mean 'sasrec'?\n"
    assert (answer.code, answer.err) == (1, error)
    assert llm4rec("report", "model=sasrek,sasrec").code == 0
    for typed in ("--markdown --csv", "--papers --claims", "--draws --claims", "--costs --html page.html"):
        assert llm4rec("report", *typed.split()).code == 2, typed
    for typed in ("model=sasrec", "--html page.html"):
        assert llm4rec("report", "--claims", *typed.split()).code == 2, "claims are not filtered"


# ---- papers and claims

SCIENTIFIC = {"dataset": "amazon2018-scientific", "metrics": {"ndcg@10": 0.06, "hr@10": 0.1}}


def test_a_papers_number_is_shown_below_our_runs_and_alone_in_one_table(llm4rec, write, rows):
    write(0.5, model="unisrec")
    answer = llm4rec("report", "--papers")
    assert (answer.code, "no paper reports the same metrics" in answer.err) == (1, True)
    write(0.06, **SCIENTIFIC, intervals={"hr@10": [0.09, 0.11]})
    out = llm4rec("report").out
    assert "compared with the papers" in " ".join(out.split())
    assert "0.1080" in out and "UniSRec" in out
    ndcg, hr = sorted(rows("--papers"), key=lambda row: row["metric"] == "hr@10")
    assert (hr["ours"], hr["paper"], hr["inside"]) == ("0.1000", "0.1080", "yes")
    assert (ndcg["metric"], ndcg["inside"]) == ("ndcg@10", "")


def test_synthetic_runs_are_not_compared_with_papers(llm4rec, write):
    write(0.06, **SCIENTIFIC, labels=["synthetic"])
    answer = llm4rec("report")
    assert "0.1080" not in answer.out
    assert "is not compared with a paper: synthetic" in answer.out


def test_the_users_own_numbers_are_matched_by_the_models_name(llm4rec, write, rows, tmp_path):
    write(0.06, model="bpr_mf", **SCIENTIFIC)
    (tmp_path / "own.csv").write_text(
        "paper,model,variant,dataset,task,prompt,metric,value,unit,split,candidates,mask_history,source,verified\n"
        "Doe 2026,bpr_mf,,amazon2018-scientific,sequential,,hr@10,7.5,percent,leave_one_out,full,no,Table 1,yes\n"
    )
    (row,) = rows("--papers", "--numbers", "own.csv")
    assert (row["paper"], row["of"]) == ("0.0750", "bpr_mf, Doe 2026")
    missing = llm4rec("report", "--papers", "--numbers", "none.csv")
    assert (missing.code, "none.csv does not exist" in missing.err) == (2, True)


def test_claims_are_judged_in_every_form(llm4rec, write):
    write(0.1)
    head, *body = csv.reader(io.StringIO(llm4rec("report", "--claims", "--csv").out))
    assert "verdict" in head
    assert body
    for form in ("--markdown", "--latex", "--wide"):
        assert "verdict" in llm4rec("report", "--claims", form).out
    assert "p5-rating: P5 predicts ratings" in llm4rec("report", "--claims").out


# ---- the page


def test_the_page_is_written_to_the_chosen_file(llm4rec, write, tmp_path):
    write(0.1, intervals={"ndcg@10": [0.05, 0.15]})
    refused = llm4rec("report", "--html", "new/page.html")
    assert refused.code == 2 and "the folder new does not exist" in refused.err
    answer = llm4rec("report", "--html", "page.html")
    assert answer.out == "page.html\n"
    page = (tmp_path / "page.html").read_text()
    assert "0.1000" in page and "<svg" in page
    assert 'id="claims"' not in page  # no claim is about this run


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser")
def test_a_browser_shows_the_page_without_console_messages(llm4rec, write, tmp_path):
    write(0.1, intervals={"ndcg@10": [0.05, 0.15]})
    llm4rec("report", "--html", "page.html")
    browser = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    shot = tmp_path / "page.png"
    command = [*browser, "--window-size=390,2000", f"--screenshot={shot}", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert shot.stat().st_size > 10_000
    assert "CONSOLE" not in done.stderr


def test_a_trained_run_and_its_floors_are_reported(rows, trained):
    assert {row["model"] for row in rows()} == {"sasrec", "popularity", "transition_text"}
