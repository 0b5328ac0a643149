import machine
import pytest
import torch


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.01234, "0.0123"), (1, "1.00"), (9.994, "9.99"), (45.67, "45.7"), (999, "999"), (1234.5, "1,234")],
)
def test_numbers_show_three_digits_that_count(value, shown):
    assert machine.number(value) == shown


def test_contenders_take_turns_and_the_first_does_not_count(monkeypatch):
    now, called = [0.0], []
    monkeypatch.setattr(machine.time, "perf_counter", lambda: now[0])
    seconds = {"a": iter([100, 1, 2, 4]), "b": iter([100, 10, 10, 10])}

    def work(name):
        called.append(name)
        now[0] += next(seconds[name])
        return 8

    timings = machine.in_turns({name: lambda name=name: work(name) for name in seconds}, rounds=3)
    assert called == ["a", "b"] * 4
    assert timings == {"a": machine.Timing(4, 2, 8), "b": machine.Timing(0.8, 0.8, 0.8)}


def test_the_rate_is_that_of_the_best_product(monkeypatch):
    seconds = iter([2e-3, 1e-3, 4e-3])
    monkeypatch.setattr(machine, "_seconds", lambda work: next(seconds))
    assert machine.measured_rate(torch.float32, size=100, repeats=3) == pytest.approx(2e6 / 1e-3 / 1e9)


def test_operations_of_fused_attention_are_counted():
    query = torch.randn(2, 3, 5, 4)

    def work():
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
        return 2

    assert machine.executed(work) == 3 * 2 * (2 * 5 * 5 * 4)


def test_a_report_is_a_table_or_a_markdown_section(capsys):
    rows = [{"name": "ours", "times": "2.0"}]
    machine.report("Speed", rows, markdown=True)
    assert capsys.readouterr().out == "### Speed\n\n| name | times |\n| --- | --- |\n| ours | 2.0 |\n\n"
    machine.report("Speed", rows)
    assert "ours" in capsys.readouterr().out
