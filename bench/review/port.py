"""A port authority's handbook in English, written after the tuning."""

from material import Aspect, Domain, Table

DOMAIN = Domain(
    "port",
    {
        "berthing rules.pdf": ("tanker", "ferry", "barge", "cruise ship", "fishing boat", "tugboat", "car carrier", "pilot boat",
                         "yacht", "dredger", "reefer vessel", "bulk carrier", "naval visit", "rescue craft", "supply ship"),
        "staff manual.docx": ("crane shift", "night watch", "annual leave", "sick leave", "uniform", "training course", "overtime",
                        "travel claim", "parental leave", "first aid post", "radio duty", "apprenticeship", "canteen", "locker"),
        "cargo guide.html": ("timber store", "grain silo", "cold store", "container yard", "customs shed", "weighbridge",
                       "hazardous area", "bonded warehouse", "scrap bay", "livestock pen", "mail depot", "fuel jetty"),
        "visitor leaflet.md": ("harbour tour", "lighthouse", "museum", "viewing deck", "boat show", "school visit", "car park",
                         "bicycle rack", "photo permit", "drone flight", "diving club", "marina"),
    },
    (
        Aspect("A request concerning the {s} must reach the office at least {v} in advance.",
               ("How long in advance must a request concerning the {s} reach the office?",
                "How many days before does the office need a request about the {s}?"),
               tuple(f"{n} days" for n in (2, 3, 5, 6, 8, 9, 12, 16, 21, 30)), "at least {v}"),
        Aspect("The charge for the {s} is {v} per day.", ("What is the daily charge for the {s}?", "How much does the {s} cost per day?"),
               tuple(f"${n}" for n in (15, 24, 36, 48, 75, 110, 180, 240, 390))),
        Aspect("The {v} is responsible for the {s}.", ("Who is responsible for the {s}?",),
               ("harbour master", "duty officer", "safety manager", "terminal director", "chief clerk", "port chaplain")),
        Aspect("No more than {v} may work on or visit the {s} at once.", ("How many people may be at the {s} at once?",),
               tuple(f"{n} people" for n in (4, 6, 9, 14, 22, 35, 50)), "no more than {v}"),
        Aspect("The {s} is inspected every {v}.", ("In which month is the {s} inspected?", "When is the {s} inspected?"),
               ("January", "March", "May", "June", "September", "October", "December"), "every {v}"),
        Aspect("Records of the {s} are kept for {v}.", ("How long are records of the {s} kept?",),
               tuple(f"{n} years" for n in (1, 2, 3, 4, 6, 8, 12))),
        Aspect("Incidents at the {s} are reported to the {v}.", ("Where are incidents at the {s} reported?",),
               ("control tower", "gate house", "operations room", "north office", "signal station")),
        Aspect("The {s} closes at {v} on weekdays.", ("At what time does the {s} close on weekdays?", "When does the {s} close on weekdays?"),
               tuple(f"{n} pm" for n in (3, 4, 5, 6, 8, 9, 11))),
        Aspect("Damage to the {s} is fined with {v}.", ("What is the fine for damage to the {s}?",),
               tuple(f"${n:,}" for n in (200, 350, 600, 950, 1200, 2500))),
        Aspect("Entry to the {s} requires a {v}.", ("What does entry to the {s} require?",),
               ("hard hat", "yellow badge", "signed waiver", "security escort", "magnetic card")),
        Aspect("Waste from the {s} is collected on {v}.", ("On which day is waste from the {s} collected?",),
               ("Monday", "Tuesday", "Wednesday", "Friday", "Saturday")),
        Aspect("Noise at the {s} must stay below {v}.", ("What is the noise limit at the {s}?",),
               tuple(f"{n} decibels" for n in (55, 60, 65, 70, 80)), "below {v}"),
    ),
    (
        Aspect("Appeals must be filed within {v}.", ("Within how many days must appeals be filed for the {s}?",),
               tuple(f"{n} days" for n in range(5, 40, 3)), "within {v}"),
        Aspect("The deposit is {v} and is paid back on departure.", ("How much is the deposit for the {s}?",),
               tuple(f"${n}" for n in range(40, 400, 35))),
        Aspect("Complaints are answered in {v}.", ("In how many weeks are complaints answered for the {s}?",), tuple(f"{n} weeks" for n in range(2, 12))),
    ),
    (
        Table("Crane hire", ("Quay", "Crane"),
              tuple((g, n) for g in ("North quay", "South quay", "East quay", "Oil quay") for n in ("mobile crane", "gantry crane", "floating crane")),
              ("weekday rate", "weekend rate", "night rate"), "What is the {c} of the {n} at the {g}?", "What is the {c} at the {g}?", " won"),
    ),
    "{n} {s}",
)  # fmt: skip

STATEMENTS = (
    "Explain the rule on the {s}.", "Summarize the above section.", "According to the passage, what is the limit?", "{e}",
    "What does Section 4 say about fees?", "List all duties mentioned in the text", "What is the second item in the table?",
    "Describe how the {s} is run", "What does this clause require?", "The {s} is important for the port.",
)  # fmt: skip
ODD = (
    ("0", "O|"),
    ("1", "l|"),
    ("days", "da|ys"),
    ("years", "yea|rs"),
    ("master", "rna|ster"),
    ("5", "S|5"),
    ("$", "S|"),
    ("o", "□"),
)
FORMS = (
    "Based on the document, the answer is {v}. Please contact the office for more.", "Answer: {v}", "1. {v}\n2. see the handbook",
    "Yes, it is {v}.", '{{"a": "{v}"}}', "{e} So it is {v}.",
)  # fmt: skip
