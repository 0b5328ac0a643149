"""A small shop: its customers, its catalogue, their sequences of purchases, and ratings.

A customer buys the item with the highest sum of
    popularity       the logarithm of a Zipf-Mandelbrot law over items;
    taste            for values of the facets and for pursuits; it drifts over the customer's history;
    last purchase    the next kinds of the same pursuit, facets in common, the same maker;
    chance           Gumbel noise, so that the choice is a draw from a softmax.
Some purchases are impulses, decided only by popularity and chance. With `signal` 0 all are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.demo.reviews import Product, Reviewer, review
from llm4rec_cli.data.demo.words import pick, shop_words
from llm4rec_cli.data.streams import stream

Array = NDArray[Any]


@dataclass(frozen=True)
class Shop:
    name: str  # part of its file names
    department: str  # what it sells, one of the departments in shop_words.yaml
    customers: range  # indices into the population; shops share customers where their ranges overlap
    items: int  # number of products
    signal: float = 1.0  # 1 = tastes and sequences decide; 0 = they do not, and item texts are permuted


SHOPS: dict[str, tuple[Shop, ...]] = {
    "demo": (Shop("demo", "outdoors", range(2000), 800),),
    "demo_pretrain": (
        Shop("garden", "garden", range(1400, 2900), 540),
        Shop("kitchen", "kitchen", range(1700, 3200), 540),
    ),
    "demo_null": (Shop("demo_null", "outdoors", range(2000), 800, signal=0.0),),
}
POPULATION = 3200

FACETS = ("style", "virtue", "audience", "palette")
N_VALUES = 6  # values of each facet
SHORTEST, MEAN_EXTRA, LONGEST = 5, 3.6, 30  # purchases a customer
ZIPF_SHIFT, ZIPF_SLOPE = 20, 0.8  # popularity of rank r: (r + shift) ** -slope
FACET_TASTE, PURSUIT_TASTE = 1.0, 1.0  # standard deviations, in logits
DRIFT = 0.5  # how much of a customer's last taste is new
NEXT_KIND, KIND_AFTER, SAME_KIND, SAME_PURSUIT = 3.0, 1.5, -1.5, 1.0  # logits
SHARED_FACET, SAME_BRAND = 0.5, 0.8
IMPULSE = 0.15  # share of purchases
FACET_IN_TITLE = 0.75  # how often a title names a facet; the description names all
ON_BRAND = 0.8  # how often a maker keeps to the style it is known for
DAYS_BETWEEN = 15.0  # mean; less than one day = the same day
FIRST_DAY, OPEN_DAYS = np.datetime64("2011-01-01"), 800
STAR_SHARES = (0.05, 0.06, 0.11, 0.25, 0.53)  # of 1 to 5 stars


class Files(NamedTuple):
    """The rows of a shop's raw files, by role."""

    reviews: list[dict[str, Any]]
    meta: list[dict[str, Any]]
    explanations: list[dict[str, Any]]


@dataclass(frozen=True)
class People:
    """The population, which shops share."""

    reviewers: list[Reviewer]  # their ids and how they write
    taste: Array  # (2, n, facets * values) in logits, at the beginning and the end of a history
    leniency: Array  # (n,) added to their ratings


@dataclass(frozen=True)
class Catalogue:
    """What a shop sells."""

    products: list[Product]  # the words that reviews use for each
    meta: list[dict[str, Any]]  # their metadata, in the same order
    traits: Array  # (n, facets * values + pursuits) 1 where an item has the value
    follow: Array  # (n, n) logits of buying the second right after the first
    appeal: Array  # (n,) logits: popularity
    quality: Array  # (n,) added to an item's ratings


@dataclass(frozen=True)
class Purchases:
    """All purchases, customer by customer, oldest first; `liking` is the customer's taste for the item, in logits."""

    customer: Array
    item: Array
    liking: Array


def generate_shop(shop: Shop, seed: int) -> Files:
    """Return the rows of a shop's reviews, metadata and explanations."""
    people, catalogue = _population(seed), _stock(shop, seed)
    purchases = _choose(shop, people, catalogue, stream(seed, f"{shop.name} choices"))
    days = _days(purchases.customer, stream(seed, f"{shop.name} days"))
    stars = _rate(purchases, shop, people, catalogue, stream(seed, f"{shop.name} stars"))

    rng = stream(seed, f"{shop.name} reviews")
    reviews: list[dict[str, Any]] = []
    explanations: list[dict[str, Any]] = []
    for row in rng.permutation(len(days)):  # file order carries no information
        reviewer = people.reviewers[purchases.customer[row]]
        product = catalogue.products[purchases.item[row]]
        record, opinions = review(reviewer, product, int(stars[row]), days[row], shop.signal, rng)
        reviews.append(record)
        pair = {"user": reviewer.user_id, "item": product.asin}
        explanations += [{**pair, **opinion._asdict()} for opinion in opinions]
    return Files(reviews, [catalogue.meta[i] for i in rng.permutation(shop.items)], explanations)


def _population(seed: int) -> People:
    words = shop_words()
    rng = stream(seed, "demo population")
    ids = _codes(rng, "A", 12, POPULATION)
    habits = rng.integers(len(words.praising), size=POPULATION)
    cares = rng.normal(0.0, 1.5, size=(POPULATION, len(words.aspects)))
    reviewers = [
        Reviewer(user_id, _name(rng), int(habit), care) for user_id, habit, care in zip(ids, habits, cares, strict=True)
    ]
    first, new = rng.normal(0.0, FACET_TASTE, size=(2, POPULATION, len(FACETS) * N_VALUES))
    last = np.sqrt(1 - DRIFT) * first + np.sqrt(DRIFT) * new
    return People(reviewers, np.stack([first, last]), rng.normal(0.0, 0.5, size=POPULATION))


def _name(rng: np.random.Generator) -> str:
    first, last = pick(shop_words().first_names, rng), pick(shop_words().last_names, rng)
    return pick((f"{first} {last}", f"{first} {last[0]}.", f"{first[0]}. {last}", f"{first}{last}".lower()), rng)


def _codes(rng: np.random.Generator, prefix: str, length: int, n: int) -> list[str]:
    """Return n different ids in random order."""
    numbers = rng.choice(36**length, size=n, replace=False)
    return [prefix + np.base_repr(number, 36).zfill(length) for number in numbers]


def _stock(shop: Shop, seed: int) -> Catalogue:
    words = shop_words()
    rng = stream(seed, f"{shop.name} items")
    department = words.departments[shop.department]
    n, pursuits = shop.items, department.pursuits
    kinds = [(p, step, names) for p, pursuit in enumerate(pursuits) for step, names in enumerate(pursuit.kinds)]
    kind_prices = rng.lognormal(3.3, 0.6, size=len(kinds))
    kind = rng.permutation(n) % len(kinds)
    pursuit, step = np.array([(p, s) for p, s, _ in kinds])[kind].T
    values = rng.integers(N_VALUES, size=(n, len(FACETS)))
    known_for = np.where(rng.random(n) < ON_BRAND, values[:, 0], rng.integers(N_VALUES, size=n))
    brand = np.array([pick(words.brands[style], rng) for style in known_for], dtype=object)

    products, meta, titles = [], [], set[str]()
    for i, asin in enumerate(_codes(rng, "B00", 7, n)):
        shelf = pursuits[pursuit[i]]
        names = kinds[kind[i]][2]
        synonyms = dict(zip(FACETS, (words.facets[f][v] for f, v in zip(FACETS, values[i], strict=True)), strict=True))
        products.append(Product(asin, tuple(names.split("/")), shelf.kinds[names], shelf.purpose, synonyms))
        while (title := _title(brand[i], products[i], rng)) in titles:
            pass
        titles.add(title)
        meta.append(
            {
                "asin": asin,
                "title": title,
                "categories": [[department.category, shelf.category]],
                "brand": brand[i],
                "description": _description(brand[i], products[i], shelf.category, rng),
                "price": round(kind_prices[kind[i]] * rng.lognormal(0.0, 0.25)) + 0.99,
            }
        )
    if not shop.signal:
        texts = [meta[i] for i in rng.permutation(n)]
        meta = [text | {"asin": product.asin} for text, product in zip(texts, products, strict=True)]

    ahead = (step - step[:, None]) % np.array([len(p.kinds) for p in pursuits])[pursuit]
    kin = np.select([ahead == 0, ahead == 1, ahead == 2], [SAME_KIND, NEXT_KIND, KIND_AFTER], 0.0) + SAME_PURSUIT
    follow = np.where(pursuit == pursuit[:, None], kin, 0.0)
    follow += SHARED_FACET * (values == values[:, None]).sum(axis=2) + SAME_BRAND * (brand == brand[:, None])
    return Catalogue(
        products,
        meta,
        traits=np.hstack([np.eye(N_VALUES)[values].reshape(n, -1), np.eye(len(pursuits))[pursuit]]),
        follow=follow,
        appeal=-ZIPF_SLOPE * np.log(ZIPF_SHIFT + rng.permutation(n)),
        quality=rng.normal(0.0, 0.5, size=n),
    )


def _title(brand: str, product: Product, rng: np.random.Generator) -> str:
    shown = {facet: pick(product.facets[facet], rng) for facet in FACETS if rng.random() < FACET_IN_TITLE}
    adjectives = [shown[facet] for facet in ("style", "virtue") if facet in shown]
    if rng.random() < 0.5:
        adjectives.reverse()
    head = " ".join([*adjectives, pick(product.names, rng)])
    maker = pick((f"{brand} {head}", f"{brand} - {head}", f"{head} by {brand}"), rng)
    size = pick(shop_words().sizes, rng)
    if "audience" in shown:
        maker += f" {shown['audience']}"
    tail = [part for part in (shown.get("palette"), size) if part]
    return _capitals(", ".join([maker, *tail]))


def _capitals(text: str) -> str:
    """Return the text in title case: capitals stay, and so do small words."""
    return " ".join(w if w in {"for", "by", "&", "of", "to"} else w[:1].upper() + w[1:] for w in text.split(" "))


def _description(brand: str, product: Product, category: str, rng: np.random.Generator) -> str:
    facets = {facet: pick(synonyms, rng) for facet, synonyms in product.facets.items()}
    template = pick(shop_words().descriptions, rng)
    return template.format(brand=brand, category=category, kind=pick(product.names, rng), **facets)


def _choose(shop: Shop, people: People, catalogue: Catalogue, rng: np.random.Generator) -> Purchases:
    customers = np.asarray(shop.customers)
    n, n_pursuits = len(customers), len(shop_words().departments[shop.department].pursuits)
    hobbies = rng.normal(0.0, PURSUIT_TASTE, size=(n, n_pursuits))
    first, last = (np.hstack([taste[customers], hobbies]) for taste in people.taste)
    lengths = np.minimum(SHORTEST - 1 + rng.geometric(1 / (1 + MEAN_EXTRA), size=n), LONGEST)

    bought = np.zeros((n, shop.items), dtype=bool)
    previous = np.zeros(n, dtype=int)
    rows = []
    for step in range(lengths.max()):
        active = np.flatnonzero(lengths > step)
        progress = (step / (lengths[active] - 1))[:, None]
        liking = ((1 - progress) * first[active] + progress * last[active]) @ catalogue.traits.T
        utility = liking + catalogue.follow[previous[active]] if step else liking
        weight = shop.signal * (rng.random((len(active), 1)) >= IMPULSE)
        score = catalogue.appeal + weight * utility + rng.gumbel(size=utility.shape)
        previous[active] = item = np.where(bought[active], -np.inf, score).argmax(axis=1)
        bought[active, item] = True
        rows.append((active, item, liking[np.arange(len(active)), item]))
    customer, item, liking = (np.concatenate(column) for column in zip(*rows, strict=True))
    order = np.argsort(customer, kind="stable")
    return Purchases(customers[customer[order]], item[order], liking[order])


def _days(customer: Array, rng: np.random.Generator) -> list[date]:
    """Return the date of each purchase: a customer's follow a few days apart, sometimes on the same day."""
    gap = np.floor(rng.exponential(DAYS_BETWEEN, size=len(customer)))
    begins = np.flatnonzero(np.diff(customer, prepend=-1))
    gap[begins] = 0
    elapsed = np.cumsum(gap)
    counts = np.diff(begins, append=len(customer))
    start = rng.integers(OPEN_DAYS, size=len(begins)) - elapsed[begins]
    return (FIRST_DAY + (elapsed + np.repeat(start, counts)).astype("timedelta64[D]")).tolist()


def _rate(purchases: Purchases, shop: Shop, people: People, catalogue: Catalogue, rng: np.random.Generator) -> Array:
    """Return (n,) stars in fixed shares, by taste, item quality, customer leniency and chance."""
    liking = purchases.liking
    delight = shop.signal * (liking - liking.mean()) / liking.std() + rng.normal(0.0, 0.7, size=len(liking))
    delight += catalogue.quality[purchases.item] + people.leniency[purchases.customer]
    return 1 + np.searchsorted(np.quantile(delight, np.cumsum(STAR_SHARES)[:-1]), delight)
