"""Words and phrases of the synthetic sentences, chosen to give every English phone its turn.

A phrase may name slots in braces; ``sentences`` fills them. ``a`` becomes ``an`` where the next word asks for it.
"""

SLOTS: dict[str, list[str]] = {}


def _slot(name: str, words: str, separator: str | None = None) -> None:
    """Define a slot by its words, which are separated by white space or, for phrases, by ``separator``."""
    choices = [" ".join(choice.split()) for choice in words.split(separator)]
    SLOTS[name] = [choice for choice in choices if choice]
    assert len(set(SLOTS[name])) == len(SLOTS[name]), f"slot {name} lists a word twice"


_slot(
    "name",
    """
Abigail Agnes Arthur Audrey Barnaby Bethany Boyd Bridget Bruce Cecil Chloe Clyde Colin Cynthia Dora Dudley Dwight
Eleanor Elroy Ethan Eugene Fiona Floyd Gareth Gemma Giles Gordon Hazel Heather Howard Hugo Ian Ivy Jasper Joan Joy
Julia Keith Kirsten Lloyd Lois Lucy Magnus Mabel Matthew Meredith Moira Myra Nigel Nora Oona Oscar Percy Philippa
Quentin Rhys Rosie Rufus Ruby Sasha Sheila Sidney Sophie Stuart Tabitha Thelma Timothy Toby Troy Valerie Vaughn
Violet Warren Wilfred Yolanda Yusuf Zelda Zoe""",
)

_slot(
    "worker",
    """
acrobat actor architect astronomer athlete barber beekeeper bookbinder bricklayer butcher captain carpenter
cashier chemist cleaner clerk coach composer conductor cook courier curator dancer dentist designer detective
driver editor electrician engineer farrier ferryman fisher gardener geologist glazier goldsmith grocer guide
harpist hiker inspector janitor jeweller joiner journalist juggler keeper lawyer librarian lifeguard lodger
magician manager masseur mechanic midwife miner musician nomad novelist nurse officer optician oysterman
pharmacist pianist pilot ploughman plumber poet porter potter printer professor publisher puppeteer rancher ranger
referee roofer scholar sculptor secretary singer smith steward student surgeon surveyor tailor thatcher tourist
trader translator tutor umpire usher vet viewer visitor voyager waiter warden weaver welder wizard writer
youngster zookeeper""",
)

_slot(
    "thing",
    """
accordion almanac anvil apron armchair atlas axle bagpipe balloon banjo banner bathtub beaker bellows bench
binoculars blade bolt bookcase bowl bracelet brush bucket bugle bulb button cable calendar camera canoe cartridge
cello chain chisel cloak coat coil collage compass cookbook corkscrew corsage cradle crate cushion dial diary dish
doily drill easel envelope feather figurine flute fork fountain frame funnel gauge gavel gear glove goblet gong
guitar hammock handle harness harp hatchet hinge hoist hook hose hourglass invoice jigsaw jug kayak keyhole kite
knapsack knob ladle lampshade latch lathe lever lute magnet mallet map marble mattress medal megaphone microscope
mitten mooring mosaic mug napkin net notebook oar ointment orchid paddle pamphlet pan parcel pendulum photograph
pie pitcher plough poncho postcard pouch prism pulley puppet puzzle quilt radio raft razor receipt ribcage rope
rouge rudder rug saddle sandal satchel saucer saw scarf sculpture sheath shield shovel sieve signpost sketch
sledge soap sofa spade spanner spindle sponge stool stove suitcase sundial sword tablecloth tambourine tape
telescope television thermometer thimble tile toaster tool torch towel toy treasury tripod trolley trowel trunk
tub turbine typewriter ukulele umbrella unicycle utensil valve vase veil vial video violin visor voucher wallet
wardrobe washer wheel whisk wick wire wrench wristband xylophone yarn yoke zip""",
)

_slot(
    "animal",
    """
alpaca antelope badger bat beaver bee bison boar bullfrog camel cat chaffinch cheetah chinchilla cow coyote crab
crow dachshund dolphin dormouse dove eagle eel elk falcon ferret finch flamingo foal frog gazelle gecko gibbon
gnat grasshopper hamster hare hedgehog heron hound hyena iguana jackal jaguar jay kitten koala lamb leopard llama
lobster lynx mackerel magpie mole mongoose moose mule newt nightingale octopus orangutan osprey otter owl ox
oyster panther parrot pelican penguin pheasant pigeon pony porcupine puffin puma python rabbit raccoon raven robin
rook salmon seal shark shrew shrimp skunk sloth snail sparrow squid squirrel starling stoat stork swallow swan
thrush tiger toad tortoise trout turkey turtle unicorn viper walrus wasp weasel whale woodpecker wren yak""",
)

_slot(
    "food",
    """
almonds apricots artichokes asparagus bacon bagels biscuits blackberries bread broth cashews celery chives chowder
chutney cocoa couscous cress crumble custard dates dough dumplings figs fish fudge garlic gherkins ginger goulash
grapefruit gravy haddock ham hazelnuts herbs jam juice kale lentils lettuce lime liquorice lychees mango marmalade
milk mincemeat mint mushrooms mustard noodles nougat oats oil olives oranges paprika parsley peanuts pears peas
pepper pickles pizza popcorn porridge pumpkin radishes raisins ravioli rhubarb rice salt sausages sherbet soup
spinach squash stew strawberries sugar thyme toast treacle tuna turmeric turnips vanilla vinegar waffles walnuts
watercress yams yeast yogurt""",
)

_slot(
    "place",
    """
abbey airport alley aquarium archway arena auction avenue bakery balcony ballroom barn bathhouse bay bazaar beach
bookshop brewery brook bungalow cabin campsite canal canyon cathedral cave chapel circus cliff cloister clubhouse
coast college cottage courthouse courtyard creek crossroads dairy desert dock dungeon embassy estuary factory
fairground ferry field fjord foothills fort foundry foyer gallery garage glacier greenhouse gymnasium hallway
harbour headland heath hedge hill hotel hut igloo inn island isthmus jetty junction kiosk lagoon lake laundry lawn
library lighthouse lobby lounge manor marsh mill mine monument moor museum nook nursery oasis observatory office
outhouse park pasture patio pavement peninsula pier plateau playground plaza pond pool prairie pub pyramid quarry
quay ranch reef reservoir restaurant ridge ruin runway sawmill school seashore shed ship shipyard shop shrine
smithy spring square stable stadium staircase station stream street studio subway summit surgery swamp tavern
temple terrace theatre thicket tollhouse town track trail tunnel turret valley veranda vineyard volcano warehouse
waterfall wharf windmill wood workshop zoo""",
)

_slot(
    "quality",
    """
abrupt absurd actual agile airy amber ancient anonymous ashen awful awkward bashful beige blurred bold boyish
brilliant brittle bronze brown bulky buoyant calm ceramic charming chequered chilly chunky civil clumsy coarse
cobalt colossal comfortable cosy crooked cruel cubic curly cute damp dear deep delicate dense dim dreadful drowsy
dry dull durable earnest elegant enjoyable enormous even expensive faded faithful fair false familiar festive
fluffy foggy foreign frosty full fuzzy generous giant glorious good graceful grand greasy grumpy handsome hardy
hasty hazy healthy hefty helpful hideous hoarse homely horrible huge humble icy idle illusory immense indigo
ingenious invisible ivory jagged jaunty jolly jumbled juvenile keen kind knobbly large lean leisurely lengthy
little local lonely long lovely lucky lukewarm luxurious lush magenta mahogany mauve meagre mellow merry mild
modern muddy mute mysterious narrow native neat new nimble noble normal numb nutty oaken oblong odd official olive
open orange ordinary outrageous oval painful pale patient peaceful perfect petty pinkish placid plain pleasurable
plump poignant polite poor portable private proud puny pure puzzled quaint queer quick rapid rare raw reasonable
regular restless rich rigid ripe robust rosy rugged rural rustic rusty sacred scarce scarlet secret serious severe
shabby shallow sheer shiny short shy silent silly simple skilful sleepy slender slight slim smoky snug soft solid
sombre soothing sore sour spare spiky splendid square stale steep stern stiff stout stubborn sturdy sunny superb
surly swift tall tame tangled tartan tasty teal tedious tender thankful thorough thoughtful threadbare tidy timid
tired tough tranquil turquoise ugly unusual upright urgent useful vacant valuable vast velvet verdant vulgar
warped wealthy weathered weird wet whole wicked wild windy wise wobbly wonderful woolly worthy yearly young zany
zigzag""",
)

_slot(
    "did",
    """
abandoned acquired adjusted altered annoyed appointed appraised assembled attached auctioned awoke baked balanced
bathed bent bleached borrowed bounced bought braided broadcast brought built buttoned catalogued caught chiselled
chose cleared clutched coiled collected compared concealed copied counted covered cradled crushed decorated
delivered demolished designed destroyed detached dismantled displayed divided doodled dragged drew drove dusted
embroidered enclosed enlarged erased exchanged exhibited exploited favoured fetched finished fixed flung foiled
folded forged found framed gauged glimpsed glued grabbed greased greeted hauled heard hid hoisted hung imagined
improved inherited inspected invented ironed joined juggled kept kicked knitted labelled launched leased lent lit
loaded loathed loosened lost made measured mended misjudged missed mixed mocked moulded moved named nudged
numbered ordered outgrew overlooked owned packed patched photographed pinched placed planned plucked poked
polished pondered postponed powdered preserved pressed pursued questioned raised recognised refused removed rented
rescued restored retrieved rinsed rolled rubbed salvaged sanded saved sawed scratched sealed seized sewed shaped
shared shielded shipped showed shuffled sketched smelt smothered smuggled soaked sorted spied spoiled squashed
squeezed stacked stitched stole stored straightened supervised surveyed swapped swung tailored televised tied
toasted took toppled tossed towed traced traded trimmed tugged turned twisted unfolded unloaded unveiled used
valued viewed visualised wanted warmed washed watched waved weighed welded won wore wrapped yanked""",
)

_slot(
    "acted",
    """
applauded apologised arose ate bathed beamed blinked blushed bowed bustled camped chanted cheered chewed choked
climbed coughed crawled crouched curtsied dashed daydreamed dived dozed drifted drowsed exercised faltered
fidgeted fished fled floated flourished frowned galloped gazed giggled glanced grinned groaned growled grumbled
gulped hiccuped hopped howled hummed idled improvised jogged journeyed juggled kneeled languished leapt lingered
loitered lounged marvelled meditated mourned mumbled murmured napped nodded obeyed paddled panted paraded perched
persevered pouted practised prayed preached puffed quarrelled quivered raced rambled rejoiced relaxed remained
retired returned roamed roared sailed sat scowled scurried shook shrieked shrugged sidled skated skied skipped
slouched snoozed sobbed soared sprinted squealed squinted staggered stayed strolled struggled surfed swayed
sweated thought toiled travelled trudged tumbled twirled unwound vacationed volunteered wailed waltzed wavered
wept wheezed whistled winced winked withdrew wondered yawned yodelled zigzagged""",
)

_slot(
    "doing",
    """
arguing baking banging beckoning bellowing boating bouncing bringing burrowing camping carving chuckling clapping
clinging coughing crying dancing digging dreaming drinking drumming eating fishing frowning gathering giggling
hiding hopping hunting jogging joking jumping knitting laughing leaping limping listening lounging lurking making
marching mending napping nibbling painting pausing playing polishing praying pushing racing reading resting riding
ringing rowing running sewing shopping shouting singing sinking skating sketching sleeping sniffing snoring
spinning springing stretching stringing swimming swinging talking thinking travelling trembling using voyaging
wandering washing whispering whistling winking working writing yawning yelling""",
)

_slot(
    "manner",
    """
abruptly absently amiably awkwardly barely boldly briskly cheerfully clumsily coolly courteously coyly crossly
curiously deftly doubtfully earnestly easily enviously evenly faithfully feebly firmly frankly fully furiously
gingerly gracefully grudgingly hastily heartily hoarsely humbly idly jauntily jealously joyously keenly kindly
lazily leisurely lightly loosely loyally merely mildly mutely nearly neatly nervously noisily obediently oddly
openly patiently playfully politely promptly proudly purposely quaintly rashly readily ruefully sheepishly
shrewdly shyly silently smoothly soothingly stealthily steadily sternly strangely surely swiftly tenderly
thankfully thoughtfully tidily unusually urgently usefully warmly wearily wildly wisely youthfully zealously""",
)

_slot(
    "said",
    """
admitted agreed announced boasted complained confessed declared decided denied dreamt explained feared felt forgot
guessed heard hoped imagined implied insisted joked knew learned noticed promised proved realised reckoned
recalled shouted stated suggested suspected swore thought understood vowed wished wrote""",
)

_slot(
    "number",
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety",
)

_slot("month", "January February March April May June July August September October November December")
_slot("day", "Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_slot("part", "dawn noon dusk midnight sunrise sunset teatime lunchtime")

_slot(
    "side",
    """
at | by | near | beside | behind | beyond | above | below | inside | outside | opposite | around | across from |
north of | south of | east of | west of | close to | in front of | on the way to | on the other side of""",
    "|",
)

_slot(
    "reason",
    """
because {person} had {did} {a_thing} | since no one could find {a_thing} | so that {person} might rest |
although {the_animal} was {quality} | unless {person} chose otherwise | while {the_animal} {acted} |
until {person} {acted} | even though {place_name} was far away | whether or not it would rain |
as though {person} were {quality} | now that the {food} had all been eaten | in case {person} grew {quality}""",
    "|",
)

_slot(
    "when",
    """
at {part} | before {part} | shortly after {part} | on {day} | last {day} | every {day} in {month} |
one {day} in {month} | on the {ordinal} of {month} | {number} years ago | for {number} hours |
after {number} days | all through {month} | once upon a time | sooner or later | in the nick of time |
this afternoon | the other day | in a moment | as usual | throughout the voyage | by pure chance |
for good measure | during the thunderstorm | with a loud noise""",
    "|",
)

_slot(
    "ordinal", "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth twentieth"
)

_slot(
    "a_thing",
    """
a {thing} | a {quality} {thing} | the {thing} | the {quality} {thing} | my {thing} | your {thing} |
his {quality} {thing} | her {thing} | their {quality} {thing} | our {thing} | this {thing} |
that {quality} {thing} | {name}'s {thing} | some {quality} {food} | the {food} | both {food} and {food}""",
    "|",
)

_slot(
    "the_animal",
    """
the {animal} | a {quality} {animal} | the {quality} {animal} | {name}'s {animal} | an old {animal} |
that {quality} {animal} | the youngest {animal}""",
    "|",
)

_slot(
    "person",
    """
{name} | the {worker} | a {quality} {worker} | the {quality} {worker} | {name} the {worker} | our {worker} |
my {quality} {worker} | every {worker} | {the_animal}""",
    "|",
)

_slot("place_name", "the {place} | a {quality} {place} | the {quality} {place} | our {place} | {name}'s {place}", "|")
_slot("where", "{side} {place_name}", "|")

_slot(
    "sentence",
    """
{person} {did} {a_thing} {where}. | {person} {did} {a_thing} {when}. | {person} {acted} {manner} {where}. |
{when}, {person} {did} {a_thing}. | {where}, {the_animal} {acted} {manner}. |
{person} {said} that {person} {acted}. | {person} {manner} {did} {a_thing} {reason}. |
{person} and {person} {acted} {when}. | {person} never {did} {a_thing}. |
is it true that {person} {did} {a_thing} {where}? | who {did} {a_thing} {when}? |
why was {a_thing} left {where}? | where did {person} put {a_thing}, and why? |
could {name} measure {a_thing} with {a_thing}? | should we visit {place_name} or join {person} {where}? |
how much {food} would fit into a {quality} {thing}? | give {name} some {food} and a {quality} {thing}. |
please show {person} the way from {place_name} to {place_name}. |
it was {quality}, {quality} and rather {quality} {where}. |
there are {number} chairs and {number} clocks {where}. | neither {name} nor {name} {did} {a_thing}. |
{person}, who {did} {a_thing}, {acted} {manner}. | {a_thing} smelt of {food} and {food}. |
if {person} {acted}, {person} {acted} too. | oh, what a {quality} {place} this is! |
{when}, {person} {said} that {a_thing} was {quality}. | {the_animal} {acted}, {reason}. |
{person} was {doing} and {doing} {where}. | while {person} was {doing}, {person} kept on {doing}. |
{person} went {doing} {when}, {doing} all along. | they {did} {a_thing}, {did} {a_thing} and {acted} {where}. |
you should hear how {manner} {name} {acted}. | between {place_name} and {place_name} lies a {quality} {place}.""",
    "|",
)
