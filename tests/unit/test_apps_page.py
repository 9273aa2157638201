"""The report page shows what the summary says, all of it escaped, and is the same bytes each time."""

import copy
import itertools
import math
from html.parser import HTMLParser
from typing import Any

import pytest

from collegium.apps._page import LEVELS, MalformedSummaryError, render_page
from collegium.apps._page_drawing import Series, draw_benches, draw_lines

SUMMARY: dict[str, Any] = {
    "name": "Heart disease in four hospitals",
    "level": "unproved",
    "auc": 0.8712,
    "auc_pooled": 0.8794,
    "auc_float32": 0.8711,
    "accuracy": 0.797,
    "verified": True,
    "lying_seats": [5],
    "absent_seats": [11],
    "seats": 16,
    "checkpoint_gas": [412_345],
    "watts": 15.0,
    "rounds": [
        {
            "round": number,
            "admitted": 12,
            "auc": 0.7 + number / 20,
            "accuracy": 0.6 + number / 20,
            "loss": 0.6 - number / 20,
            "coordination_ms": 300 + number,
            "finality_ms": 2200 if number == 2 else 900,
            "chain_bytes": 217,
            "energy_kwh": 2e-6,
            "view_changes": int(number == 2),
            "lying_seats": [5] if number < 3 else [],
            "model": f"{number:064x}",
        }
        for number in (1, 2, 3)
    ],
    "checkpoints": [{"first_round": 1, "last_round": 3, "digest": "c" * 64, "gas": 412_345, "calldata_bytes": 484}],
    "sites": [
        {"name": "Cleveland", "train_rows": 1242, "test_rows": 61, "trainers": 3, "auc_alone": 0.842},
        {"name": "Long Beach", "train_rows": 160, "test_rows": 40, "trainers": 3, "auc_alone": 0.41},
    ],
    "warnings": ["Switzerland has 8 negative rows"],
    "task": "a" * 64,
    "genesis": "b" * 64,
    "anchor": "0x" + "d" * 40,
    "attribution": "Data: UCI Heart Disease, CC BY 4.0",
    "model": {"kind": "logistic", "inputs": 20, "hidden": 0, "parameters": 21},
    "notes": ["One seat was told to lie."],
}
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a document, with the text in each, and a refusal of tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def changed(**values: object) -> dict[str, Any]:
    return copy.deepcopy(SUMMARY) | values


# What it shows


def test_the_page_shows_what_the_summary_says() -> None:
    text = Page(render_page(SUMMARY)).text
    for expected in (
        "Heart disease in four hospitals",
        "2 sites, 6 trainers and a committee of 16 seats agreed on 3 rounds of training and left 1 checkpoint",
        "Level of this task unproved",
        "nothing is proved about an update: a lying trainer can submit any",
        "This run federated: every row stayed at its site 0.871",
        "All data pooled the same rule on everybody's rows in one place 0.879",
        "Floating point the same rule in float32, not in integers 0.871",
        "Cleveland alone the same rule on its own rows 0.842",
        "The bars begin at 0.4, and end at 1",
        "Coordination: 301 at first, 303 at last.",
        "View changes in round 2.",
        "energy in kWh = 15 W × seconds ÷ 3,600,000",
        "All rounds together: 21.6 J (6.00 × 10⁻⁶ kWh)",
        "5 lying caught in 2 rounds",
        "11 absent none",
        "1 to 3 " + "c" * 64 + " 412,345 484 yes",
        "Cleveland 1,242 61 3 0.842",
        "Together 1,402 101 6",
        "Switzerland has 8 negative rows",
        "logistic regression, 20 inputs, 21 parameters",
        "One seat was told to lie.",
        "UCI Heart Disease, CC BY 4.0",
        "Model of the last round " + f"{3:064x}",
        "a" * 64,
        "b" * 64,
        "0x" + "d" * 40,
    ):
        assert expected in text


@pytest.mark.parametrize("level", sorted(LEVELS))
def test_each_level_is_labelled_with_what_it_promises(level: str) -> None:
    html = render_page(changed(level=level))
    assert f'class="level level-{level}"' in html
    assert LEVELS[level] in Page(html).text


def test_the_cost_of_proofs_is_shown_where_there_are_proofs() -> None:
    headings = ("Making a proof", "Verifying it", "Bytes of proofs")
    without = Page(render_page(SUMMARY)).text
    assert not any(heading in without for heading in headings)
    proved = copy.deepcopy(SUMMARY)
    for row in proved["rounds"]:
        row |= {"prove_ms": 81.4, "verify_ms": 12.6, "proof_bytes": 4_081_234}
    shown = Page(render_page(proved)).text
    assert all(heading in shown for heading in headings)
    assert "4,081,234" in shown
    assert "Verifying a proof, median 13 ms" in " ".join(shown.split())


def test_an_unknown_level_promises_nothing() -> None:
    html = render_page(changed(level='proved" onclick="'))
    assert 'class="level level-unknown"' in html
    assert "read it as unproved" in Page(html).text


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ({"kind": "mlp", "inputs": 20, "hidden": [16, 8], "parameters": 481}, "20 inputs, 16 and 8 hidden units, 481"),
        ({"kind": "mlp", "inputs": 1, "hidden": 16, "parameters": 33}, "neural network, 1 input, 16 hidden units, 33"),
        ({"kind": "logistic", "inputs": 20, "hidden": [], "parameters": 21}, "logistic regression, 20 inputs, 21"),
        ({"kind": "<forest>"}, "The model: <forest>."),
    ],
)
def test_a_model_is_told_in_one_line(model: dict[str, object], shown: str) -> None:
    assert shown in Page(render_page(changed(model=model))).text


def test_a_round_without_scores_or_settlement_is_a_gap_with_its_outcome() -> None:
    summary = changed()
    summary["rounds"][0] |= {"outcome": "scaled", "auc": None, "accuracy": None, "loss": None, "chain_bytes": None}
    text = Page(render_page(summary)).text
    assert "1 scaled 12 – – – 301 900 0 – 7.20 5" in text
    assert "AUC: 0.800 at first, 0.850 at last." in text


def test_the_committees_part_of_the_energy_is_told_apart() -> None:
    summary = changed()
    for row in summary["rounds"]:
        row["consensus_energy_kwh"] = 1e-6
    assert "The committee's part of it: 10.8 J (3.00 × 10⁻⁶ kWh)." in Page(render_page(summary)).text


def test_the_run_does_not_vouch_for_itself() -> None:
    assert render_page(changed(verified=True)) == render_page(changed(verified=False))


@pytest.mark.parametrize(("stated", "shown"), [(True, "484 yes"), (False, "484 no"), ("yes", "484 no")])
def test_a_checkpoint_that_says_whether_it_was_verified_is_believed(stated: object, shown: str) -> None:
    assert shown in Page(render_page(changed(checkpoints=[SUMMARY["checkpoints"][0] | {"verified": stated}]))).text


EPOCHS = [
    {"epoch": 0, "first_round": 0, "members": [0, 1, 2, 3, 4], "gas": None},
    {"epoch": 1, "first_round": 5, "members": [4, 0, 1, 2], "gas": 535_592},
]


def test_epochs_are_told_where_they_end() -> None:
    assert "Who was in office" not in Page(render_page(SUMMARY)).text
    text = Page(render_page(changed(epochs=EPOCHS))).text
    assert "0 0 5 0-4 –" in text
    assert "1 5 4 0-2, 4 535,592" in text
    for key in EPOCHS[0]:
        rows = copy.deepcopy(EPOCHS)
        del rows[1][key]
        Page(render_page(changed(epochs=rows)))
    with pytest.raises(MalformedSummaryError):
        render_page(changed(epochs=[3]))


@pytest.mark.parametrize("key", sorted(SUMMARY))
def test_any_key_may_be_absent(key: str) -> None:
    summary = changed()
    del summary[key]
    Page(render_page(summary))


@pytest.mark.parametrize("part", ["rounds", "sites", "checkpoints"])
def test_any_key_of_a_row_may_be_absent(part: str) -> None:
    for key in SUMMARY[part][0]:
        summary = changed()
        del summary[part][0][key]
        Page(render_page(summary))


def test_an_empty_summary_is_a_page() -> None:
    text = Page(render_page({})).text
    assert "This run has not finished a round yet." in text
    assert LEVELS["unproved"] in text


def test_what_is_not_a_number_is_a_gap() -> None:
    summary = changed(auc=math.nan)
    summary["rounds"][1]["loss"] = math.nan
    text = Page(render_page(summary)).text
    assert "nan" not in text
    assert "2 12 0.800 0.700 –" in text


@pytest.mark.parametrize(
    "change",
    [
        {"auc": "0.9"},
        {"auc": -0.1},
        {"auc": True},
        {"accuracy": 10**400},
        {"seats": 1.5},
        {"seats": 10**9},
        {"rounds": {"round": 1}},
        {"rounds": [1]},
        {"notes": "note"},
        {"notes": [1]},
        {"name": 1},
        {"model": "logistic"},
        {"rounds": [{"lying_seats": 5}]},
        {"sites": [{"train_rows": "many"}]},
    ],
)
def test_a_value_of_another_type_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(MalformedSummaryError):
        render_page(changed(**change))


# What it is made of


def test_every_text_is_escaped() -> None:
    evil = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"

    def poison(value: object) -> object:
        if isinstance(value, dict):
            return {key: poison(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [poison(inner) for inner in value]
        return evil if isinstance(value, str) else value

    html = render_page(poison(changed(validators=["v"])))
    page = Page(html)
    assert not page.all("script")
    assert "<script" not in html
    assert "49" not in page.text
    assert page.text.count("<script>alert(1)</script>") >= 8


def test_nothing_is_fetched_from_anywhere() -> None:
    html = render_page(changed(attribution=""))
    page = Page(html)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img", "iframe", "object", "embed", "base", "form"})
    for word in ("http:", "https:", "url(", "@import", "src="):
        assert word not in html
    assert {link["href"] for link in page.all("a") + page.all("link")} >= {"data:,", "#main"}
    for link in page.all("a") + page.all("link"):
        assert str(link["href"]).startswith(("#", "data:,"))
    assert any("default-src 'none'" in str(meta.get("content")) for meta in page.all("meta"))


def test_equal_summaries_give_equal_bytes() -> None:
    backwards = dict(reversed(changed().items()))
    assert render_page(backwards) == render_page(SUMMARY)


def test_a_reader_without_eyes_or_mouse_finds_everything() -> None:
    page = Page(render_page(changed(validators=["v0"])))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        assert set(str(attributes.get("aria-labelledby", "")).split()) <= set(ids)
    for link in page.all("a"):
        assert str(link["href"])[1:] in ids
    for tag in ("html", "header", "nav", "main", "footer", "h1"):
        assert len(page.all(tag)) == 1
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("table")) == len(page.all("caption")) == 5
    drawings = [svg for svg in page.all("svg") if svg.get("aria-hidden") != "true"]
    assert len(drawings) == len(page.all("desc")) == 6
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in drawings)
    assert all(div["tabindex"] == "0" for div in page.all("div") if div.get("class", "") in {"wide", "wide aside"})
    levels = [int(tag[1]) for tag, _ in page.elements if tag in {"h1", "h2", "h3"}]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


# Where things go


@pytest.mark.parametrize("count", [1, 2, 7, 16, 18, 19, 31, 64, 100, 257])
def test_every_seat_has_its_own_place_on_the_benches(count: int) -> None:
    drawing = draw_benches(["honest"] * count)
    assert [seat.number for seat in drawing.seats] == list(range(count))
    for seat in drawing.seats:
        assert drawing.radius <= seat.x <= drawing.width - drawing.radius
        assert seat.y >= drawing.radius
        assert seat.y + drawing.radius <= drawing.height
    nearest = min(
        (math.dist((a.x, a.y), (b.x, b.y)) for a in drawing.seats for b in drawing.seats if a is not b), default=99
    )
    assert nearest >= 2 * drawing.radius * 0.95


@pytest.mark.parametrize("values", [(0.0,), (5.0, 5.0), (0.871, 0.872), (1e-9, 3e9), (None, 2.0, None, 3.0)])
def test_every_value_lies_inside_its_chart(values: tuple[float | None, ...]) -> None:
    rounds = range(1, len(values) + 1)
    chart = draw_lines("k", "t", "d", "", rounds, [Series("s", values)], decimals=1)
    assert chart is not None
    low, high = chart.scale[0].position, chart.scale[-1].position
    assert all(high - 0.01 <= point.y <= low + 0.01 for point in chart.lines[0].points)
    assert chart.lines[0].path.count("M") == (2 if None in values else 1)


def test_a_series_without_values_is_no_chart() -> None:
    assert draw_lines("k", "t", "d", "", [1], [Series("s", (None,))], decimals=1) is None


# Trainers: what stewards make of them


def trainers_of(number: int) -> list[dict[str, Any]]:
    """Return what the summary says of three trainers in a round; the last is locked out from round 3 on."""
    return [
        {"name": "Basel/0", "score": 0.5, "weight": 15, "points": 0.25, "locked": False, "probation": False},
        {"name": "Bern/<1>", "score": None, "weight": 15 - 5 * number, "points": 0.125, "locked": False},
        {"name": "Bern/1", "score": -0.5, "weight": 0, "points": 0.0, "locked": number == 3, "probation": number == 3},
    ]


QUALITY: dict[str, Any] = {
    "attackers": [{"name": "Bern/1", "kind": "label_flip"}],
    "earnings": [{"trainer": "Basel/0", "wei": "2500000000000000000"}, {"trainer": "Bern/1", "wei": "0"}],
    "rounds": [{"round": 0, "auc": None, "quality": None}]
    + [
        {
            "round": number,
            "auc": 0.8,
            "quality": {
                "scored": True,
                "records": 3,
                "trainers": trainers_of(number),
                "model_score": {"round": number - 1, "stewards": 3, "correct": 0.7 + number / 100}
                if number > 1
                else None,
            },
        }
        for number in (1, 2, 3)
    ],
}


def with_quality(**values: object) -> dict[str, Any]:
    return changed(**copy.deepcopy(QUALITY)) | values


def test_the_page_shows_what_stewards_made_of_every_trainer_in_words_and_numbers() -> None:
    page = Page(render_page(with_quality()))
    for expected in (
        "A simulation with attackers. The experiment told 1 of the trainers to attack: Bern/1 (label_flip).",
        "What the stewards' hidden rows made of each trainer",
        "Basel/0 none counts 15 0 0.750 2.5",
        "Bern/<1> none no influence 0 0 0.375 0",
        "Bern/1 label_flip locked out 0 1 0.000 0",
        "3 15 0.25 0 0.12 0 0.00, out",
        "Honest: 12.5 at first, 7.5 at last. Attackers: 0.0 at first, 0.0 at last.",
        "Share: 0.720 at first, 0.730 at last.",
    ):
        assert expected in page.text
    assert "Bern/<1>" not in render_page(with_quality())
    assert {"influence-title", "model-score-title"} <= {title.get("id") for title in page.all("title")}
    assert {"trainer-table", "influence-table"} <= {caption.get("id") for caption in page.all("caption")}


def test_a_page_without_stewards_or_attackers_says_nothing_of_them() -> None:
    assert "trainers-title" not in render_page(SUMMARY)
    attacked = render_page(changed(attackers=QUALITY["attackers"]))
    assert "A simulation with attackers" in attacked
    assert "trainer-table" not in attacked
    unattacked = Page(render_page(with_quality(attackers=[]))).text
    assert "Trainers: 8.3 at first" in unattacked
    assert "Attack" not in unattacked


@pytest.mark.parametrize(
    "values",
    [
        {"attackers": [{"name": 1, "kind": "x"}]},
        {"earnings": [{"trainer": "a", "wei": 5}]},
        {"rounds": [{"quality": {"trainers": [{"name": "a", "weight": -1}]}}]},
        {"rounds": [{"quality": {"trainers": "a"}}]},
        {"rounds": [{"quality": [1]}]},
        {"rounds": [{"quality": {"trainers": [{"name": "a", "weight": 1}], "model_score": 0.5}}]},
    ],
)
def test_a_summary_with_other_types_about_trainers_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(MalformedSummaryError):
        render_page(with_quality(**values))


def test_too_many_trainers_have_no_table_of_every_round() -> None:
    many = [{"name": f"t{index}", "weight": 1, "points": 1.0, "locked": False} for index in range(65)]
    html = render_page(with_quality(rounds=[{"round": 1, "quality": {"trainers": many}}]))
    assert "trainer-table" in html
    assert "influence-table" not in html
