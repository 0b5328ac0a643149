"""How preparing, starting, splitting, training and evaluating grow with reviews and with items.

Reviews with texts and items with titles are made, in the format of Amazon 2014, as plain JSON lines. Each number is
measured in a fresh process. An epoch is extrapolated from its first steps. At a million items the losses of `sasrec`
are sampled. `unisrec` reads random vectors of 256 dimensions in place of an encoder's.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from bench_common import machine_description, number, print_table
from fresh_process import Measurement, measure_in_fresh_process
from synthetic import write_reviews

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.split import Split
from llm4rec_cli.results import svg
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks import ranking

REVIEWS = (1_000_000, 3_000_000, 10_000_000)
ITEMS = (10_000, 100_000, 1_000_000)
FIXED = {"reviews": 1_000_000, "items": 50_000}  # while the other grows
SAMPLED_FROM = 1_000_000  # items, from which on sasrec samples its losses
BATCH = 256  # sequences
STEPS = {"sasrec": 20, "unisrec": 5}
USERS = 2_000  # evaluated
NAMES = {  # work -> what it is
    "prepare": "read, filter, sort and store",
    "start again": "load what is stored",
    "start again, with item texts": "the same for a model that reads texts",
    "split": "leave-one-out",
    "popularity": f"evaluate the floor on {USERS:,} users",
    "next_id": f"evaluate the floor on {USERS:,} users",
    "sasrec": f"an epoch, from {STEPS['sasrec']} steps of {BATCH} sequences",
    "unisrec": f"an epoch, from {STEPS['unisrec']} steps of {BATCH} sequences",
    "evaluation": f"sasrec on {USERS:,} users",
}
Point = Mapping[str, float]  # reviews, items, seconds, peak and private MiB


def job(folder: Path, n_items: int, model: str = "sasrec") -> Job:
    """Return a training run on the made reviews."""
    sampled = ["model.loss=sampled_softmax", "model.negatives=256"] if n_items >= SAMPLED_FROM else []
    of_model = {
        "sasrec": ["model.hidden_size=64", *sampled],
        "unisrec": ["model.use_ids=false", "model.encoder.name=random", "model.encoder.dimension=256"],
    }
    files = ["dataset.domains.instruments.reviews=reviews.json", "+dataset.domains.instruments.metadata=metadata.json"]
    places = [f"dataset.raw_dir={folder}", f"paths.cache={folder / 'cache'}", "dataset.item_core=1"]
    precision = ["trainer.precision=fp32"] if model in of_model else []
    typed = [f"model={model}", "dataset=amazon2014-musical-instruments", *of_model.get(model, []), *precision]
    return Job.unchecked(compose([*typed, *files, *places]), "train")


def loaded(own: Job) -> Split:
    return stages.split_dataset(own, stages.load(own))


def preparing(folder: Path, n_items: int) -> Callable[[], object]:
    own = job(folder, n_items)
    return lambda: stages.load(own)


def starting_with_texts(folder: Path, n_items: int) -> Callable[[], object]:
    own = job(folder, n_items, "unisrec")
    return lambda: stages.load(own)


def splitting(folder: Path, n_items: int) -> Callable[[], object]:
    own = job(folder, n_items)
    dataset = stages.load(own)
    return lambda: stages.split_dataset(own, dataset)


def training(model: str, folder: Path, n_items: int) -> Callable[[], int]:
    """Return work that takes some steps and returns the number of steps of an epoch."""
    own = job(folder, n_items, model)
    network = stages.build(own, loaded(own))
    rows = network.training_rows()
    order = np.random.default_rng(0).permutation(len(rows))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def work() -> int:
        for start in range(0, STEPS[model] * BATCH, BATCH):
            optimiser.zero_grad()
            network(**rows.batch(0, order[start : start + BATCH].tolist()))["loss"].backward()
            optimiser.step()
        return -(-len(rows) // BATCH)

    return work


def evaluating(model: str, folder: Path, n_items: int) -> Callable[[], object]:
    own = job(folder, n_items, model)
    split = loaded(own)
    scorer = stages.build(own, split)
    examples = split.examples(SplitName.test)[:USERS]
    return lambda: ranking.evaluate(scorer, split, examples, own.config)


def measured(folder: Path, n_reviews: int, n_items: int) -> dict[str, Measurement]:
    """Make the data, and measure each work of NAMES."""
    print(f"{n_reviews:,} reviews, {n_items:,} items: making them", file=sys.stderr)
    write_reviews(folder, n_reviews, n_items)
    works: dict[str, tuple[Callable[..., Callable[[], object]], list[str]]] = {
        "prepare": (preparing, []),
        "start again": (preparing, []),
        "start again, with item texts": (starting_with_texts, []),
        "split": (splitting, []),
        **{floor: (evaluating, [floor]) for floor in ("popularity", "next_id")},
        **{model: (training, [model]) for model in STEPS},
        "evaluation": (evaluating, ["sasrec"]),
    }
    measurements = {}
    for name, (set_up, model) in works.items():
        measurements[name] = measure_in_fresh_process(set_up, *model, folder, n_items)
        print(f"  {name}: {number(seconds(name, measurements[name]))} s", file=sys.stderr)
    return measurements


def seconds(work: str, measurement: Measurement) -> float:
    """Return the seconds of the work; of an epoch from those of its first steps."""
    return measurement.seconds * measurement.units / STEPS.get(work, measurement.units)


def exponent(points: Sequence[Point], by: str, of: str) -> float:
    """Return the exponent between the two largest sizes."""
    fewer, more = sorted(points, key=lambda point: point[by])[-2:]
    return float(np.log(more[of] / fewer[of]) / np.log(more[by] / fewer[by]))


def series_of(points: Iterable[Mapping[str, str]], by: str) -> dict[str, list[Point]]:
    """Return work -> its points in the order of size, of the series in which `by` grows."""
    series: dict[str, list[Point]] = {}
    for line in points:
        if line["grows"] == by:
            numbers = {name: float(value) for name, value in line.items() if name not in ("grows", "work")}
            series.setdefault(line["work"], []).append(numbers)
    return {work: sorted(own, key=lambda point: point[by]) for work, own in series.items()}


def show(points: Sequence[Mapping[str, str]]) -> None:
    """Print a table for each quantity that grows."""
    for by, fixed in (("reviews", "items"), ("items", "reviews")):
        rows = []
        for work, own in series_of(points, by).items():
            sizes = {f"{point[by]:,.0f}": number(point["seconds"]) for point in own}
            exponents = f"{exponent(own, by, 'seconds'):.2f}" if len(own) > 1 else ""
            memory = {"private MiB": number(own[-1]["private"]), "peak MiB": number(own[-1]["peak"])}
            rows.append({"work": work, "what": NAMES[work], **sizes, "exponent": exponents, **memory})
        if rows:
            print_table(f"{by} grow, {FIXED[fixed]:,} {fixed}: seconds, and memory at the largest size", rows)


def draw(points: Sequence[Mapping[str, str]]) -> str:
    """Return an SVG: seconds by size on logarithmic axes, one panel for each quantity that grows."""
    elements, top = [style()], 0.0
    for i, work in enumerate(NAMES):  # the legend
        place = i % 2 * 180.0, 14.0 + i // 2 * 15
        elements.append(svg.element("circle", cx=place[0] + 5, cy=place[1] - 4, r=3.5, class_=f"w{i} dot"))
        elements.append(svg.label(place[0] + 14, place[1], work))
    top = 14.0 + (len(NAMES) + 1) // 2 * 15
    for by in ("reviews", "items"):
        series = series_of(points, by)
        if not series:
            continue
        every = [point for own in series.values() for point in own]
        x = svg.logarithmic([point[by] for point in every], svg.LEFT, svg.WIDTH - svg.RIGHT)
        y = svg.logarithmic([point["seconds"] for point in every], top + 220, top + 16)
        elements += [*svg.y_axis(y, f"seconds, by {by}"), *svg.x_axis(x, top + 16, top + 220, by)]
        for work, own in series.items():
            places = [(x(point[by]), y(point["seconds"])) for point in own]
            path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
            colour = f"w{[*NAMES].index(work)}"
            dots = [svg.element("circle", cx=a, cy=b, r=3.0, class_=f"{colour} dot") for a, b in places]
            line = svg.element("path", d=path, class_=f"{colour} line")
            elements.append(svg.element("g", f"<title>{work}</title>{line}{''.join(dots)}"))
        top += 220 + svg.BELOW
    words = "seconds of each work by the number of reviews and of items, on logarithmic axes"
    return svg.drawing(top, elements, words).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def style() -> str:
    """Return the colours: a hue for each work, and text for a light and a dark screen."""
    hues = [f"hsl({360 * i // len(NAMES)} 60% 45%)" for i in range(len(NAMES))]
    works = "".join(f".w{i}{{fill:{hue};stroke:{hue}}}" for i, hue in enumerate(hues))
    marks = ".grid{stroke:#76839055}.dot{stroke:none}.line{fill:none;stroke-width:2}"
    dark = "@media(prefers-color-scheme:dark){text{fill:#d1d7e0}}"
    return f"<style>{works}{marks}text{{font:11px sans-serif;fill:#57606a}}{dark}</style>"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python scripts/bench_large.py --csv growth.csv            an hour on two cores, 10 GB of disk
  python scripts/bench_large.py --show growth.csv --svg growth.svg
  python scripts/bench_large.py --reviews 1000000 --items   one size only""",
    )
    parser.add_argument("--reviews", type=int, nargs="*", default=REVIEWS, help="numbers of reviews that are measured")
    parser.add_argument("--items", type=int, nargs="*", default=ITEMS, help="numbers of items that are measured")
    parser.add_argument("--csv", type=Path, help="write the numbers to this file")
    parser.add_argument("--show", type=Path, help="measure nothing; read the numbers of this file")
    parser.add_argument("--svg", type=Path, help="draw them to this file")
    options = parser.parse_args(arguments)
    if options.show:
        points = [*csv.DictReader(options.show.open(encoding="utf-8"))]
    else:
        print(machine_description())
        points = []
        sizes = [("reviews", n, FIXED["items"]) for n in options.reviews]
        sizes += [("items", FIXED["reviews"], n) for n in options.items]
        for grows, n_reviews, n_items in sizes:
            with tempfile.TemporaryDirectory() as folder:
                for work, m in measured(Path(folder), n_reviews, n_items).items():
                    numbers = {"seconds": seconds(work, m), "peak": m.peak_mb, "private": m.private_mb}
                    shown = {name: f"{value:.6g}" for name, value in numbers.items()}
                    points.append(
                        {"grows": grows, "work": work, "reviews": str(n_reviews), "items": str(n_items), **shown}
                    )
    if options.csv:
        with options.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*points[0]])
            writer.writeheader()
            writer.writerows(points)
    show(points)
    if options.svg:
        options.svg.write_text(draw(points), encoding="utf-8")


if __name__ == "__main__":
    main()
