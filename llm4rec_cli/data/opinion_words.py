"""Word lists for recognising opinions in English reviews; compiled for this project."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Positive adjectives.
PRAISE = _words("""
    good great excellent nice perfect awesome amazing fantastic wonderful superb outstanding terrific fabulous
    brilliant best better solid sturdy durable rugged reliable strong beautiful gorgeous pretty attractive elegant
    stylish cute lovely clean clear crisp bright warm rich smooth soft comfortable comfy cozy easy simple
    convenient handy useful helpful fast quick quiet lightweight light compact affordable cheap inexpensive
    reasonable fair unbeatable decent fine impressive incredible remarkable exceptional accurate precise
    responsive flexible versatile secure stable tight snug thick sharp fresh tasty delicious yummy healthy gentle
    effective efficient generous top-notch first-rate high-quality superior ideal flawless fun exciting
    entertaining adorable colorful sleek classy professional realistic adjustable spacious roomy unique authentic
    vivid full ample user-friendly hassle-free long-lasting pleasant enjoyable refreshing moisturizing luxurious
    silky shiny natural absorbent creamy rich-sounding natural-sounding great-sounding
""")
# Negative adjectives.
BLAME = _words("""
    bad poor terrible horrible awful worst worse flimsy weak fragile brittle broken defective faulty useless
    worthless disappointing mediocre inferior lousy shoddy crappy junky ugly dull noisy loud harsh muddy tinny
    scratchy stiff rough uncomfortable painful awkward clumsy difficult hard complicated confusing slow heavy
    bulky expensive overpriced pricey unreliable inaccurate inconsistent loose wobbly unstable thin tiny small
    narrow short shallow sticky greasy oily smelly messy dirty stale bland bitter salty weird strange annoying
    frustrating boring misleading wrong sloppy cheesy plasticky rickety lacking limited unacceptable dangerous
    irritating drying
""")
# Adverbs that judge the subject of a verb: "the tuner works perfectly".
OPINION_ADVERBS = _words("""
    well perfectly flawlessly beautifully wonderfully nicely properly smoothly poorly badly terribly
""")
# Verbs that judge their object.
OPINION_VERBS = _words("""
    love loved loves adore adored enjoy enjoyed enjoying appreciate appreciated hate hated dislike disliked
""")
# Adjectives that judge the object of a preposition: "happy with the sound".
FEELINGS = _words("""
    happy pleased impressed satisfied thrilled delighted disappointed unhappy dissatisfied frustrated annoyed
    amazed
""")
# The prepositions after a feeling.
PREPOSITIONS = _words("""
    with by in at about
""")
# Participles that form an opinion of two words with an adverb: "well made", "cheaply made".
PARTICIPLES = _words("""
    made built constructed designed crafted packaged priced padded
""")
# Verbs that link a noun to an opinion: "the tone is great".
LINKING_VERBS = _words("""
    is are was were be been isn't aren't wasn't weren't seems seem seemed looks look looked sounds sound sounded
    feels feel felt stays stay stayed smells smell smelled tastes taste tasted gets get got remains remain works
    work worked performs perform performed plays play played holds hold held fits fit fitted functions function
""")
# Words allowed before a linking verb.
AUXILIARIES = _words("""
    do does did don't doesn't didn't will won't would can can't could has have had also always all really
""")
# Words allowed between a linking verb and an opinion.
DEGREE_WORDS = _words("""
    very really so too quite pretty rather extremely super incredibly surprisingly absolutely just also always not
    still a bit little somewhat fairly truly simply equally more most less much even all definitely totally
    exceptionally amazingly unbelievably overly particularly especially as
""")
# Words that precede nouns.
DETERMINERS = _words("""
    the a an this that these those my its it's your their his her our any some no every each both all such
""")
# Function words and frequent verbs, which are not aspects.
STOP_WORDS = _words("""
    i me my mine myself we us our ours you your yours he him his she her hers it its they them their theirs this
    that these those who whom whose which what where when why how a an the and or but nor so yet if then else
    because as until while of at by for with about against between into through during before after above below to
    from up down in out on off over under again further once here there all any both each few more most other some
    such no not only own same than too very can could will would shall should may might must do does did doing
    done have has had having be am is are was were been being get gets got getting go goes went gone going come
    comes came make makes made making take takes took taken put puts let lets say says said tell told see sees saw
    seen know knew think thought want wanted wants need needed needs try tried tries use used uses using work
    works worked working function functions perform performs sounds smells tastes remain remains stay buy buys
    bought buying purchase purchased purchasing order ordered ordering receive received give gives gave given keep
    keeps kept looks looked looking seem seems seemed feels felt feeling play plays played playing find finds
    found recommend recommended return returned hold holds held stays stayed last lasts lasted fits fitted arrive
    arrived coming also just even still really quite rather pretty much many lot lots bit ever never always often
    sometimes usually maybe perhaps almost already now today yesterday soon later ago however though although
    especially actually basically definitely probably certainly simply well enough instead without within along
    across around upon per via like unlike since cannot i'm i've i'd i'll it's it'll that's there's they're you're
    you'll we're he's she's let's what's im ive dont didnt doesnt cant wont isnt one ones two three four five six
    seven eight nine ten first second third half another every everything anything something nothing everyone
    anyone someone nobody yes ok okay oh wow etc vs ie eg far near away back next whole rest able due worth
    different similar certain various several sure glad extra little big small large huge long high low new old
    main real overall compared considering except plus minus non anyway right left built sounding
""")
# Nouns that are often judged without giving a reason, and comparatives, which are not aspects.
GENERIC_NOUNS = _words("""
    product products item items thing things stuff purchases choice choices job jobs idea time times ways day days
    week weeks month months year years hour hours minute minutes night part kind sort type types number amount
    side sides place places case cases reason reasons fact point points people person guy guys man woman men women
    friend friends wife husband son daughter kid kids child mom dad family beginner beginners review reviews
    reviewer reviewers star stars amazon luck deal addition option options alternative alternatives problem
    problems issue issues complaint complaints question questions experience experiences result results fan fans
    hit news start beginning end world life home house rating ratings investment investments bargain company brand
    brands user users customer customers owner replacement replacements surprise improvement upgrade difference
    differences condition situation example thoughts note word words title feature features set sets pair pairs
    piece pieces bunch gift gifts present purpose purposes tool tools money dollar dollars bucks longer shorter
    bigger smaller larger higher lower cheaper nicer easier stronger heavier lighter thicker thinner darn damn
    hell model models version versions unit units sense mind way others musician musicians player players cool
""")
