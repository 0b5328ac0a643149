"""The vocabulary of the demo data. Words that share a line mean the same: meaning generalises where spelling does not.

All names of makers, towns and people are invented.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Words = tuple[str, ...]


def pick(options: Words, rng: np.random.Generator) -> str:
    """One of them."""
    return options[rng.integers(len(options))]


class Pursuit(NamedTuple):
    """What somebody shops for.

    Attributes:
        category: its shelf in the shop.
        purpose: completes `I bought it for …`.
        kinds: in the order in which people come to need them; `name/synonym` -> two parts that reviews judge.
    """

    category: str
    purpose: str
    kinds: dict[str, Words]


class Department(NamedTuple):
    """A shop's assortment."""

    category: str
    pursuits: tuple[Pursuit, ...]


# Tastes. The same in every shop: they are what pre-training in one can teach about another.
FACETS: dict[str, tuple[Words, ...]] = {
    "style": (
        ("minimalist", "plain", "understated", "simple", "uncluttered"),
        ("rustic", "farmhouse", "country-style", "homespun", "weathered"),
        ("retro", "vintage", "old-school", "heritage", "nostalgic"),
        ("playful", "whimsical", "cheerful", "fun", "cartoon"),
        ("high-tech", "smart", "engineered", "precision", "digital"),
        ("elegant", "refined", "graceful", "polished", "chic"),
    ),
    "virtue": (
        ("lightweight", "featherlight", "ultralight", "compact", "packable"),
        ("heavy-duty", "rugged", "durable", "hard-wearing", "unbreakable"),
        ("budget", "affordable", "low-cost", "economy", "inexpensive"),
        ("eco-friendly", "recycled", "sustainable", "organic", "biodegradable"),
        ("quick-setup", "easy-use", "no-fuss", "hassle-free", "effortless"),
        ("premium", "deluxe", "high-end", "luxury", "top-grade"),
    ),
    "audience": (
        ("for kids", "for children", "for little ones", "for toddlers"),
        ("for families", "for big households", "for groups", "for parents"),
        ("for professionals", "for experts", "for pros", "for specialists"),
        ("for beginners", "for first-timers", "for novices", "for starters"),
        ("for seniors", "for older hands", "for retirees", "for grandparents"),
        ("for couples", "for two", "for pairs", "for newlyweds"),
    ),
    "palette": (
        ("olive", "moss green", "sage", "forest green", "fern"),
        ("navy", "teal", "azure", "indigo", "ocean blue"),
        ("crimson", "scarlet", "ruby", "cherry red", "burgundy"),
        ("charcoal", "black", "graphite", "onyx", "jet"),
        ("ivory", "cream", "off-white", "pearl", "eggshell"),
        ("lemon", "mustard", "canary yellow", "amber", "gold"),
    ),
}

# Makers, by the style they are known for (the rows of FACETS["style"]).
BRANDS: tuple[Words, ...] = (
    ("Nordlinje", "Blankform", "Onefold", "Stillmark", "Tavlo", "Plainwell"),
    ("Oldbarn Supply", "Hearthwick", "Tillergate", "Copperhollow", "Mossbridge", "Fieldlark"),
    ("Rosemond & Daughters", "Halvorsen 1931", "Bygone Works", "Marlowe Bros", "Penny Arcadia", "Sundial Goods"),
    ("Wobblefox", "Giggleton", "Pogo Otter", "Bumblejack", "Zigzoo", "Merrymoose"),
    ("Axiotek", "Quantrel", "Servonix", "Datumgear", "Voltaro", "Helixon"),
    ("Maison Verell", "Aurelline", "Castellan Row", "Belcourt", "Silvane", "Duchamont"),
)

SIZES: Words = ("", "", "", "", "Small", "Large", "2-Pack", "Set of 3", "Extra Large", "2nd Generation")

DESCRIPTIONS: Words = (
    "This {style} {kind} comes in {palette}. Made {audience}, it is {virtue} and belongs to our {category} range.",
    "Meet the {virtue} {kind} {audience}. Its {style} design and {palette} tone stand out. Part of {category}.",
    "{brand} presents its {palette} {kind}: {style}, {virtue}, and thought out {audience}.",
    "Looking for {category} gear {audience}? Our {virtue} {kind} in {palette} keeps things {style}.",
)

OUTDOORS = Department(
    "Sports & Outdoors",
    (
        Pursuit(
            "Camping & Hiking",
            "our weekend camping trips",
            {
                "tent/dome shelter": ("zipper", "floor"),
                "sleeping bag/mummy bag": ("lining", "hood"),
                "sleeping pad/camping mattress": ("valve", "surface"),
                "camp stove/portable burner": ("flame", "igniter"),
                "cook set/mess kit": ("pot", "lid"),
                "lantern/camp light": ("beam", "battery"),
                "cooler/ice chest": ("latch", "insulation"),
                "camp chair/folding seat": ("frame", "armrest"),
            },
        ),
        Pursuit(
            "Cycling",
            "my rides to work",
            {
                "bike helmet/cycling headgear": ("strap", "padding"),
                "bike lock/cable lock": ("key", "cable"),
                "bicycle light/cycle headlamp": ("mount", "beam"),
                "tire pump/air inflator": ("gauge", "nozzle"),
                "bike saddle/cycle seat": ("cushion", "rail"),
                "pannier/cycling bag": ("clip", "flap"),
                "handlebar grip/bar wrap": ("texture", "plug"),
                "bike multi-tool/pocket repair kit": ("blade", "case"),
            },
        ),
        Pursuit(
            "Fishing & Angling",
            "early mornings at the lake",
            {
                "fishing rod/angling pole": ("tip", "handle"),
                "spinning reel/bait caster": ("drag", "crank"),
                "fishing line/braided leader": ("knot", "spool"),
                "lure kit/bait assortment": ("hook", "box"),
                "tackle box/angler organizer": ("tray", "latch"),
                "landing net/scoop net": ("mesh", "pole"),
                "wading suit/fishing overall": ("seam", "boot"),
                "fillet knife/boning blade": ("edge", "sheath"),
            },
        ),
        Pursuit(
            "Running & Fitness",
            "my morning training runs",
            {
                "running shoe/jogging trainer": ("sole", "lace"),
                "running jacket/windbreaker": ("hood", "zipper"),
                "sports watch/fitness tracker": ("display", "strap"),
                "running belt/waist pouch": ("buckle", "pocket"),
                "sports bottle/water flask": ("cap", "spout"),
                "sweatband/headband": ("elastic", "seam"),
                "foam roller/massage stick": ("surface", "core"),
                "resistance band/stretch loop": ("grip", "coating"),
            },
        ),
        Pursuit(
            "Yoga & Meditation",
            "my evening practice",
            {
                "yoga mat/exercise mat": ("grip", "edge"),
                "yoga block/support brick": ("surface", "corner"),
                "yoga strap/stretching belt": ("buckle", "weave"),
                "meditation cushion/floor pillow": ("cover", "filling"),
                "mat bag/carry sling": ("strap", "zipper"),
                "body bolster/support roll": ("cover", "seam"),
                "incense burner/aroma diffuser": ("tray", "scent"),
                "singing bowl/meditation chime": ("tone", "mallet"),
            },
        ),
        Pursuit(
            "Climbing",
            "weekends on the rock",
            {
                "climbing shoe/rock slipper": ("sole", "heel"),
                "climbing harness/sit harness": ("buckle", "loop"),
                "chalk bag/powder pouch": ("brim", "cord"),
                "climbing rope/dynamic line": ("sheath", "core"),
                "carabiner/snap link": ("gate", "spine"),
                "belay device/rope brake": ("slot", "edge"),
                "crash pad/bouldering mat": ("foam", "handle"),
                "hangboard/finger trainer": ("edge", "mount"),
            },
        ),
        Pursuit(
            "Paddling & Water Sports",
            "days on the river",
            {
                "kayak/touring canoe": ("hull", "seat"),
                "paddle/carved oar": ("blade", "shaft"),
                "life vest/buoyancy jacket": ("buckle", "foam"),
                "dry bag/waterproof sack": ("seal", "strap"),
                "roof rack/boat carrier": ("pad", "strap"),
                "wetsuit/neoprene suit": ("seam", "zipper"),
                "swim mask/diving goggle": ("lens", "strap"),
                "water shoe/aqua slipper": ("sole", "mesh"),
            },
        ),
        Pursuit(
            "Skiing & Snow",
            "our trips to the snow",
            {
                "ski jacket/snow parka": ("hood", "lining"),
                "ski helmet/slope headgear": ("padding", "strap"),
                "snow goggle/ski visor": ("lens", "strap"),
                "ski pole/slope stick": ("grip", "basket"),
                "thermal shirt/base layer": ("fabric", "collar"),
                "snowboard/freeride board": ("edge", "base"),
                "hand warmer/heat pack": ("cover", "switch"),
                "sled/toboggan": ("rope", "runner"),
            },
        ),
    ),
)

GARDEN = Department(
    "Patio, Lawn & Garden",
    (
        Pursuit(
            "Vegetable Gardening",
            "my vegetable beds",
            {
                "seed tray/germination box": ("lid", "base"),
                "raised bed/planter box": ("board", "corner"),
                "hand trowel/digging scoop": ("blade", "handle"),
                "watering can/sprinkling jug": ("spout", "handle"),
                "trellis/vine frame": ("joint", "mesh"),
                "harvest basket/garden trug": ("handle", "rim"),
            },
        ),
        Pursuit(
            "Lawn Care",
            "our front lawn",
            {
                "lawn mower/grass cutter": ("blade", "motor"),
                "grass trimmer/lawn edger": ("spool", "guard"),
                "garden hose/water line": ("nozzle", "coupling"),
                "sprinkler/lawn soaker": ("head", "spike"),
                "leaf rake/lawn comb": ("tine", "handle"),
                "wheelbarrow/garden cart": ("wheel", "tray"),
            },
        ),
        Pursuit(
            "Birds & Wildlife",
            "the birds in our yard",
            {
                "bird feeder/seed dispenser": ("perch", "roof"),
                "feeder pole/shepherd hook": ("hook", "base"),
                "squirrel baffle/pole guard": ("ring", "cone"),
                "bird bath/water basin": ("bowl", "stand"),
                "nesting box/bird house": ("entrance", "roof"),
                "birding binocular/field glass": ("lens", "strap"),
            },
        ),
        Pursuit(
            "Patio Living",
            "evenings on the patio",
            {
                "patio chair/lounge seat": ("frame", "cushion"),
                "bistro table/side table": ("top", "leg"),
                "parasol/sun umbrella": ("crank", "canopy"),
                "fire pit/flame bowl": ("grate", "rim"),
                "string light/fairy lamp": ("bulb", "cord"),
                "outdoor rug/deck mat": ("weave", "edge"),
            },
        ),
        Pursuit(
            "Flowers & Shrubs",
            "my rose border",
            {
                "flower pot/plant container": ("glaze", "saucer"),
                "plant stand/pot shelf": ("shelf", "leg"),
                "pruning shear/secateur": ("spring", "blade"),
                "garden kneeler/knee pad": ("foam", "handle"),
                "plant label/row marker": ("stake", "tip"),
                "flower vase/bouquet jar": ("neck", "base"),
            },
        ),
        Pursuit(
            "Composting & Soil",
            "our kitchen scraps",
            {
                "compost bin/scrap tumbler": ("door", "axle"),
                "worm farm/worm composter": ("tray", "tap"),
                "garden fork/soil fork": ("tine", "shaft"),
                "soil sieve/earth sifter": ("mesh", "frame"),
                "moisture meter/soil probe": ("dial", "tip"),
                "rain barrel/water butt": ("tap", "lid"),
            },
        ),
    ),
)

KITCHEN = Department(
    "Home & Kitchen",
    (
        Pursuit(
            "Baking",
            "our Sunday cakes",
            {
                "mixing bowl/batter basin": ("rim", "base"),
                "stand mixer/dough kneader": ("motor", "hook"),
                "rolling pin/dough roller": ("handle", "surface"),
                "cake pan/baking tin": ("coating", "edge"),
                "cooling rack/wire tray": ("grid", "foot"),
                "cake stand/dessert dome": ("dome", "plate"),
            },
        ),
        Pursuit(
            "Coffee & Espresso",
            "my first cup of the day",
            {
                "coffee grinder/bean mill": ("burr", "hopper"),
                "gooseneck kettle/water boiler": ("spout", "handle"),
                "pour-over dripper/filter cone": ("rim", "base"),
                "espresso machine/coffee maker": ("pump", "tray"),
                "milk frother/foam wand": ("whisk", "button"),
                "coffee mug/travel cup": ("lid", "handle"),
            },
        ),
        Pursuit(
            "Grilling & Barbecue",
            "cookouts with the neighbors",
            {
                "charcoal grill/barbecue": ("grate", "lid"),
                "chimney starter/coal lighter": ("handle", "vent"),
                "meat thermometer/temperature probe": ("display", "probe"),
                "grill tong/turning fork": ("spring", "grip"),
                "smoker box/wood chip tray": ("lid", "vent"),
                "grill brush/grate scraper": ("bristle", "handle"),
            },
        ),
        Pursuit(
            "Knives & Food Prep",
            "weeknight dinners",
            {
                "chef knife/cooking blade": ("edge", "handle"),
                "cutting board/chopping block": ("surface", "groove"),
                "knife sharpener/honing stone": ("slot", "base"),
                "salad spinner/greens dryer": ("bowl", "crank"),
                "food scale/kitchen balance": ("display", "plate"),
                "storage jar/pantry canister": ("lid", "seal"),
            },
        ),
        Pursuit(
            "Tea & Infusions",
            "quiet afternoons",
            {
                "teapot/tea brewer": ("spout", "lid"),
                "tea infuser/leaf strainer": ("mesh", "chain"),
                "teacup/tea bowl": ("glaze", "handle"),
                "tea tin/leaf caddy": ("lid", "seal"),
                "honey dipper/sugar spoon": ("tip", "stem"),
                "tea tray/serving board": ("rim", "handle"),
            },
        ),
        Pursuit(
            "Canning & Preserving",
            "our summer harvest",
            {
                "canning pot/jar boiler": ("lid", "rack"),
                "mason jar/preserve glass": ("seal", "thread"),
                "jar funnel/wide funnel": ("neck", "rim"),
                "jar lifter/canning grip": ("hinge", "handle"),
                "fermenting crock/pickle barrel": ("weight stone", "glaze"),
                "food dehydrator/fruit dryer": ("fan", "tray"),
            },
        ),
    ),
)


class Opinions(NamedTuple):
    """Words of praise and of blame."""

    praise: Words
    blame: Words


# What reviews judge. `part` stands for one of the two parts of the product's kind.
ASPECTS: dict[str, Opinions] = {
    "look": Opinions(("charming", "lovely", "stylish", "tasteful"), ("dull", "ugly", "dated", "tacky")),
    "color": Opinions(("gorgeous", "vivid", "rich", "beautiful"), ("faded", "blotchy", "murky", "uneven")),
    "price": Opinions(("fair", "reasonable", "unbeatable", "great"), ("steep", "excessive", "outrageous", "unfair")),
    "size": Opinions(("perfect", "ideal", "generous", "handy"), ("awkward", "wrong", "cramped", "misleading")),
    "weight": Opinions(
        ("manageable", "ideal", "comfortable", "balanced"), ("tiring", "excessive", "clumsy", "awkward")
    ),
    "packaging": Opinions(("careful", "tidy", "thoughtful", "neat"), ("damaged", "wasteful", "torn", "careless")),
    "part": Opinions(
        ("sturdy", "solid", "reliable", "flawless", "excellent", "impressive"),
        ("flimsy", "loose", "fragile", "sloppy", "defective", "disappointing"),
    ),
}

PRAISING: Words = (
    "The {feature} is {opinion}.",
    "I really like how {opinion} the {feature} is.",
    "What won me over is the {opinion} {feature}.",
    "The {feature} turned out to be {opinion}.",
    "My family says the {feature} is simply {opinion}.",
    "The {opinion} {feature} deserves a mention.",
)
BLAMING: Words = (
    "The {feature} is {opinion}.",
    "I did not expect the {feature} to be so {opinion}.",
    "What bothers me is the {opinion} {feature}.",
    "Sadly, the {feature} turned out to be {opinion}.",
    "My family says the {feature} is just {opinion}.",
    "The {opinion} {feature} lets it down.",
)

OPENINGS: Words = (
    "I bought this {kind} for {purpose}.",
    "I needed a new {kind} for {purpose}.",
    "We have used this {kind} for {purpose} for two months now.",
    "This {kind} was a gift, and it gets used for {purpose}.",
    "After my last {kind} broke I ordered this one for {purpose}.",
    "This {kind} arrived in time for {purpose}.",
)


class Verdict(NamedTuple):
    """A review's closing sentence, and the same in a few words."""

    sentence: str
    headline: str


VERDICTS: dict[int, tuple[Verdict, ...]] = {
    1: (
        Verdict("I am sending it back.", "Sending it back"),
        Verdict("It was a complete waste of money.", "Waste of money"),
        Verdict("I regret this purchase and would stay away.", "Stay away"),
        Verdict("This is the worst one I have owned.", "Worst I have owned"),
    ),
    2: (
        Verdict("I expected a lot more from it.", "Expected more"),
        Verdict("Overall I am disappointed with it.", "Disappointed"),
        Verdict("I would not buy it again.", "Would not buy again"),
        Verdict("It falls short of what was promised.", "Falls short"),
    ),
    3: (
        Verdict("All in all it is okay, nothing special.", "Okay, nothing special"),
        Verdict("It does the job and no more than that.", "Does the job"),
        Verdict("I have mixed feelings about it.", "Mixed feelings"),
        Verdict("It is average, with good and bad sides.", "Average"),
    ),
    4: (
        Verdict("Overall I am pleased with it.", "Pleased overall"),
        Verdict("It is a good buy with small flaws.", "Good buy"),
        Verdict("I would buy it again.", "Would buy again"),
        Verdict("It works well and I use it often.", "Works well"),
    ),
    5: (
        Verdict("I could not be happier with it.", "Could not be happier"),
        Verdict("I recommend it highly to everyone.", "Highly recommended"),
        Verdict("I love it and use it all the time.", "Love it"),
        Verdict("It is the best one I have owned.", "Best I have owned"),
    ),
}

FIRST_NAMES: Words = (
    "Ada", "Amir", "Bettina", "Bruno", "Carmen", "Chidi", "Dagny", "Dev", "Elif", "Emil", "Farah", "Finn", "Greta",
    "Hana", "Hugo", "Ines", "Ivo", "Jonas", "Kaya", "Keiko", "Lars", "Leila", "Marta", "Milo", "Nadia", "Noor", "Olga",
    "Oscar", "Petra", "Priya", "Rafael", "Rosa", "Samir", "Selma", "Tariq", "Tova", "Ulla", "Viktor", "Wanda", "Yusuf",
)  # fmt: skip
LAST_NAMES: Words = (
    "Abara", "Brandt", "Castellano", "Dahl", "Eriksen", "Farouk", "Gallagher", "Haddad", "Iwata", "Jansen", "Kowalski",
    "Lindqvist", "Moreau", "Nakamura", "Okafor", "Petrov", "Quinn", "Rao", "Santos", "Tanaka", "Ueda", "Vargas",
    "Weber", "Yilmaz", "Zimmer",
)  # fmt: skip


class Section(NamedTuple):
    """A subcategory of the news: who did what."""

    subjects: Words
    actions: Words


NEWS: dict[str, dict[str, Section]] = {
    "sports": {
        "football": Section(
            ("Young striker", "Veteran goalkeeper", "Underdog club", "Head coach", "Midfield star", "League leaders"),
            (
                "scored late winner",
                "saved two penalties",
                "signed new contract",
                "eyed cup final",
                "returned from injury",
            ),
        ),
        "tennis": Section(
            ("Top seed", "Teen qualifier", "Left-handed champion", "Doubles pair", "Former number one", "Wildcard"),
            ("won in straight sets", "served record aces", "saved match point", "withdrew before semifinal"),
        ),
        "cycling": Section(
            ("Sprint specialist", "Mountain climber", "Breakaway rider", "Race leader", "Rookie team", "Time trialist"),
            ("took the stage", "crashed near the summit", "held the jersey", "attacked on the last climb"),
        ),
    },
    "finance": {
        "markets": Section(
            ("Stocks", "Bond yields", "Gold prices", "Index funds", "Bank shares", "The dollar"),
            ("climbed after earnings", "slid on rate fears", "rebounded from record low", "steadied as traders waited"),
        ),
        "housing": Section(
            ("Mortgage rates", "Home prices", "First-time buyers", "Landlords", "Rents", "Property listings"),
            ("eased for third month", "rose faster than wages", "faced tougher rules", "surprised real estate agents"),
        ),
        "careers": Section(
            ("Job seekers", "Remote workers", "Small employers", "Interns", "Recruiters", "Freelancers"),
            ("asked for higher pay", "rethought the office", "learned new skills", "negotiated shorter weeks"),
        ),
    },
    "health": {
        "nutrition": Section(
            ("Fiber-rich breakfasts", "Leafy greens", "Fermented foods", "Less sugar", "Olive oil", "Late snacks"),
            ("linked to better digestion", "lowered cholesterol", "divided dietitians", "helped control weight"),
        ),
        "sleep": Section(
            ("Short naps", "Dark bedrooms", "Evening screens", "Regular bedtimes", "Snoring", "Night shifts"),
            (
                "changed how well we rested",
                "affected deep sleep",
                "tied to morning fatigue",
                "studied in insomnia patients",
            ),
        ),
        "exercise": Section(
            ("Brisk walking", "Strength training", "Swimming", "Stretching", "Stair climbing", "Interval workouts"),
            ("protected aging joints", "boosted the heart", "built muscle after fifty", "beat long gym sessions"),
        ),
    },
    "travel": {
        "beaches": Section(
            ("Hidden cove", "Island resort", "Seaside village", "Coral bay", "Surf town", "Lighthouse coast"),
            ("drew summer crowds", "opened new boardwalk", "limited sunbathers", "named top shoreline escape"),
        ),
        "cities": Section(
            ("Old town quarter", "Rooftop hotel", "Night market", "Museum mile", "Tram line", "Riverside district"),
            ("welcomed weekend visitors", "unveiled walking tour", "charmed city breakers", "extended opening hours"),
        ),
        "trains": Section(
            (
                "Sleeper express",
                "Mountain railway",
                "High-speed line",
                "Heritage locomotive",
                "Rail pass",
                "Station hall",
            ),
            ("connected three capitals", "returned after decades", "cut journey times", "sold out for the season"),
        ),
    },
    "food": {
        "baking": Section(
            ("Sourdough loaf", "Lemon tart", "Cinnamon buns", "Layer cake", "Apple pie", "Oat cookies"),
            ("won bake-off", "rose without yeast", "needed only five ingredients", "got a crisp golden crust"),
        ),
        "restaurants": Section(
            ("Family bistro", "Noodle bar", "Star chef", "Pop-up diner", "Taco stand", "Vegan kitchen"),
            ("earned rave reviews", "reopened its dining room", "moved to a bigger place", "rewrote the menu"),
        ),
        "drinks": Section(
            (
                "Cold brew",
                "Small-batch cider",
                "Herbal tea",
                "Alcohol-free cocktails",
                "Oat milk latte",
                "Young winemaker",
            ),
            ("took over cafe menus", "went well with cheese", "won tasting panel", "found thirsty fans"),
        ),
    },
    "technology": {
        "phones": Section(
            ("Folding phone", "Budget handset", "New camera app", "Battery update", "Voice assistant", "Tablet"),
            ("impressed early testers", "lasted two days per charge", "fixed annoying bug", "dropped in price"),
        ),
        "gaming": Section(
            ("Indie platformer", "Racing simulator", "Retro console", "Esports team", "Puzzle sequel", "Fantasy quest"),
            ("topped download charts", "delighted players", "got release date", "added online co-op mode"),
        ),
        "space": Section(
            ("Lunar probe", "Weather satellite", "Reusable rocket", "Space telescope", "Mars rover", "Crew capsule"),
            ("reached orbit", "sent first images", "survived rough landing", "spotted distant galaxy"),
        ),
    },
    "culture": {
        "movies": Section(
            (
                "Debut director",
                "Animated sequel",
                "Courtroom thriller",
                "Silent comedy",
                "Film festival",
                "Cult classic",
            ),
            ("topped the box office", "won audience award", "got surprise ending", "returned to cinemas"),
        ),
        "music": Section(
            ("Folk duo", "Jazz pianist", "Stadium band", "Choir", "Bedroom producer", "Opera soprano"),
            ("announced farewell tour", "released live album", "moved fans to tears", "broke streaming record"),
        ),
        "books": Section(
            ("First novel", "Crime writer", "Poetry collection", "Comic artist", "Lost manuscript", "Book club pick"),
            ("made the shortlist", "kept readers guessing", "sold out first printing", "divided the critics"),
        ),
    },
    "nature": {
        "animals": Section(
            ("Rescued otter", "Stray dog", "Snow leopard", "Barn owl", "Whale pod", "Elderly tortoise"),
            ("found new home", "seen with cubs", "returned to the wild", "surprised wildlife keepers"),
        ),
        "weather": Section(
            ("Winter storm", "Heat wave", "Dense fog", "Spring flood", "Early frost", "Coastal gale"),
            ("moved toward the valley", "broke century-old record", "shut schools", "put crews on alert"),
        ),
        "climate": Section(
            ("Wind farm", "Peat bog", "Young forest", "Melting glacier", "Solar village", "Carbon tax"),
            ("cut emissions in half", "stored more carbon than hoped", "worried researchers", "powered whole county"),
        ),
    },
}

# The angle a story takes, and the region it comes from.
LEADS: tuple[Words, ...] = (
    ("Analysis", "Explained", "In depth", "Opinion"),
    ("Breaking", "Live", "Just in", "Update"),
    ("Guide", "How-to", "Checklist", "Tips"),
    ("Profile", "Interview", "Portrait", "Feature"),
)
TOWNS: tuple[Words, ...] = (
    ("Harwick", "Saltmere", "Port Ellin", "Gullhaven"),
    ("Dunmoor", "Ravensfell", "Pinecrest", "Highgarth"),
    ("Millford", "Applebury", "Oxley", "Wheatham"),
    ("Northgate", "Kingsbridge", "Central Arden", "Ironquay"),
)
ABSTRACTS: Words = (
    "{subject} {action}, and readers in {town} want to know what comes next.",
    "Our reporter in {town} has the story: {subject} {action}.",
    "People in {town} had waited for it. Now it is official: {subject} {action}.",
    "{subject} {action}. We asked around in {town} what it means.",
)
