"""Write products.jsonl: invented goods of invented makers, priced, with the dirt of real listings.

    python projects/price/make_products.py

A price follows from what a good is, who makes it, of what and how large, and a good deal of chance.
Every phrase is ours. Rows look like a shop's metadata: `title`, `description` and `features` as
lists, `details` as JSON inside a string, `price` as text. Some are broken on purpose.
"""

import json
import random
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROWS = 600

# {good: (price of a plain one in dollars, what it does)}
GOODS = {
    "desk lamp": (38, "lights a desk without glare and bends where you push it"),
    "floor lamp": (85, "stands behind an armchair and throws its light upwards"),
    "stand mixer": (210, "kneads dough for two loaves while you do something else"),
    "rice cooker": (95, "cooks rice, barley and porridge and keeps them warm"),
    "hand blender": (42, "turns a pot of vegetables into soup in half a minute"),
    "garden shears": (24, "cuts branches as thick as a thumb with little force"),
    "hedge trimmer": (120, "trims a hedge from one end to the other on one charge"),
    "wheelbarrow": (99, "carries wet sand over rough ground and tips cleanly"),
    "hiking backpack": (110, "sits close to the back and stays dry in the rain"),
    "travel suitcase": (140, "rolls on four wheels and closes with a number lock"),
    "bicycle saddle": (45, "carries you for a day without pressing anywhere"),
    "bicycle wheel": (160, "comes trued and tensioned and ready to mount"),
    "record player": (240, "plays at both speeds and lifts its arm at the end"),
    "bookshelf speaker": (180, "fills a room of middle size and sounds warm"),
    "noise cancelling headphones": (220, "silences a train and lasts a week of commuting"),
    "office chair": (260, "follows your back and locks in five positions"),
}
# {maker: price factor over a plain one}
MAKERS = {
    "Orrin & Vale": 2.1,
    "Halden Works": 1.6,
    "Tamsel": 1.3,
    "Brookmere": 1.1,
    "Kestrova": 1.0,
    "Plainhaus": 0.8,
    "Nubbin": 0.6,
    "Budgio": 0.45,
}
MATERIALS = {
    "solid walnut": 1.5,
    "brushed steel": 1.25,
    "titanium": 1.9,
    "aluminium": 1.1,
    "bamboo": 1.0,
    "recycled plastic": 0.8,
    "thin sheet metal": 0.7,
}
SIZES = {"compact": 0.75, "standard": 1.0, "large": 1.3, "professional": 1.75}
COLOURS = ("graphite", "moss green", "cream", "brick red", "midnight blue", "sand")
SETTINGS = ("a small flat", "a busy household", "a workshop", "people who travel", "a first home")

DESCRIPTIONS = (
    "The {size} {good} of {maker} {does}. It is made of {material} and comes in {colour}. We built "
    "it for {setting}, and it shows in every part that you touch.",
    "{maker} has made this {good} for {years} years and changed little. {material_c} where it "
    "counts, a {colour} finish where it shows. It {does}.",
    "Looking for a {good} that {does}? This {size} model by {maker} was drawn for {setting}: "
    "{material}, {colour}, no part that cannot be replaced.",
    "【{maker}】 {size_c} {good}, {colour}. {material_c} body. It {does}, and it has done so for "
    "{years} years in {setting}.",
)
FEATURES = (
    "Made of {material}, which neither warps nor rusts in daily use",
    "{size_c} size: {cm} centimetres at its widest, {kg} kilograms",
    "{years} year guarantee on every moving part",
    "Comes apart without tools for cleaning and repair",
    "Packed in cardboard and paper only, nothing to throw away but the box",
    "Finish in {colour} that hides scratches better than most",
    "Tested {tests} times in our own workshop before it is packed",
    "Quiet enough to use beside somebody who sleeps",
    "Instructions in pictures, so that nobody needs to read them",
    "Spare parts are sold for at least {years} years after the last one is made",
)
NOISE = (
    "Batteries Included? No",
    "Batteries Required? No",
    "By Manufacturer",
    "Is Discontinued : No",
)


def price_text(price: float, draw: random.Random) -> str:
    """A price as shops write it."""
    plain, grouped = f"{price:.2f}", f"{price:,.2f}"
    return draw.choice((plain, plain, plain, f"${grouped}", grouped, f"$ {grouped}"))


def product(draw: random.Random) -> dict[str, Any]:
    """One listing."""
    good, maker = draw.choice(list(GOODS)), draw.choice(list(MAKERS))
    material, size = draw.choice(list(MATERIALS)), draw.choice(list(SIZES))
    base, does = GOODS[good]
    price = base * MAKERS[maker] * MATERIALS[material] * SIZES[size] * draw.lognormvariate(0, 0.15)
    words = {
        "good": good,
        "maker": maker,
        "material": material,
        "material_c": material.capitalize(),
        "size": size,
        "size_c": size.capitalize(),
        "colour": draw.choice(COLOURS),
        "setting": draw.choice(SETTINGS),
        "does": does,
        "years": draw.randint(2, 30),
        "tests": draw.randint(200, 9000),
        "cm": draw.randint(18, 160),
        "kg": round(draw.uniform(0.3, 14), 1),
    }
    number = f"{maker[:2].upper()}{draw.randint(10_000, 99_999)}{draw.choice('ABCXZ')}"
    features = [text.format(**words) for text in draw.sample(FEATURES, draw.randint(3, 5))]
    details = {
        "Brand": maker,
        "Material": material,
        "Colour": words["colour"],
        "Size": size,
        "Item model number": number,
        "Date First Available": f"March {draw.randint(1, 28)}, 20{draw.randint(12, 24)}",
    }
    noise = [draw.choice(NOISE)] if draw.random() < 0.5 else []
    # Cheap listings say little: some are too short to guess from.
    about = [] if draw.random() < 0.06 else [draw.choice(DESCRIPTIONS).format(**words)]
    return {
        "title": f"{maker} {size} {good} in {words['colour']} {material} {number}",
        "description": about,
        "features": features[:1] if not about and draw.random() < 0.5 else features + noise,
        "details": json.dumps(details),
        "category": good,
        "price": price_text(min(price, 1900), draw),
    }


def broken(rows: list[dict[str, Any]], draw: random.Random) -> None:
    """Spoil some rows in the ways that real listings are spoiled."""
    prices = ("", "N/A", "Currently unavailable", "$12.99 - $45.00", "—", "0.01", "call us", "None")
    chosen = draw.sample(range(len(rows)), 2 * len(prices) + 9)
    for place, price in zip(chosen, prices * 2, strict=False):
        rows[place]["price"] = price
    for place in chosen[16:19]:
        rows[place]["details"] = '{"Brand": "torn'
    for place in chosen[19:22]:
        del rows[place]["description"]
    for place in chosen[22:25]:
        rows[place]["features"] = None


def main() -> None:
    """Write the file; its last lines repeat earlier ones, and one is torn."""
    draw = random.Random(11)
    rows = [product(draw) for _ in range(ROWS)]
    broken(rows, draw)
    rows += [dict(rows[place]) for place in draw.sample(range(ROWS), 8)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines.insert(300, '{"title": "Budgio compact desk lamp", "description": ["The comp')
    (HERE / "products.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} products")


if __name__ == "__main__":
    main()
