"""The page, in a real browser: what a reader clicks, types and hears."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archdsl.analysis.costs import costs
from archdsl.common.source import Source
from archdsl.compiler import check, draw
from tests.helpers import ROOT

try:
    from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("playwright is not installed", allow_module_level=True)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="there is no chromium on PATH"
)

HOSTILE = """
# </script><script>alert(1)</script> {{js}} <img src=x onerror=alert(2)>
block script(w) { "</script><script>alert(3)</script>"
    residual { conv(w, 3) -> relu -> conv(w, 3) }
    relu
}
block pair(w) {
    input a[C, H, W], b[C, H, W]
    (a -> conv(w, 3), b -> conv(w, 1)) -> add -> relu -> conv(w, 3)
}
block streams(w) {
    input a[C, H, W], b[_, _, _]
    (a -> conv(w, 3) -> relu -> conv(w, 3), b) -> sum: add
    (a, sum -> conv(w, 3)) -> out: add
    output out, sum
}
model m() {
    input image[3, H = 32, W = 32]
    alert: script(3)
    (it, it) -> (u, v): streams(3)
    (u, v) -> (u2, v2): streams(3)
    (u2, v2) -> (u3, v3): streams(3)
    (u3, v3) -> add
    a: conv(8, 3) -> relu
    b: conv(8, 5)
    (a, b) -> both: pair(8)
    (it, { conv(8, 1) -> relu -> left: script(8) }, { maxpool(3, 1, 1) -> right: script(8) }) -> concat
    conv(4, 1)
}
"""
SPECS: dict[str, str | Path | Source] = {
    "resnet50": "resnet:resnet50",
    "densenet201": "densenet:densenet201",
    "unet": "unet:unet",
    "inception": ROOT / "examples" / "inception.arch",
    "hostile": Source("<img src=x onerror=alert(4)>.arch", HOSTILE),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        assert CHROMIUM, "CI has no chromium"
        # Chromium's sandbox needs rights that a container's root has not.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, spec in SPECS.items():
        found[name] = folder / f"{name}.html"
        draw(check(spec)).save(found[name])
    draw(check("squeezenet:squeezenet1_0"), direction="right", theme="dark").save(folder / "squeezenet.html")
    return found | {"squeezenet": folder / "squeezenet.html"}


@pytest.fixture
def opened(browser: Browser, files: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page of resnet50, or of the network that a test is parameterised with; nothing may go wrong in it."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(10_000)
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda message: trouble.append(message.text))
    page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    page.on(
        "request", lambda r: None if r.url.startswith("file:") and r.url.endswith(".html") else trouble.append(r.url)
    )
    page.goto(files[getattr(request, "param", "resnet50")].as_uri())
    page.wait_for_selector("html[data-ready]")
    yield page
    page.close()
    assert not trouble


def box(page: Page, path: str) -> Locator:
    return page.locator(f'[data-path="{path}"]').first


# ---------------------------------------------------------------- the file


def page_data(path: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_file_stands_alone_and_is_small(files: dict[str, Path]) -> None:
    for path in files.values():
        text = path.read_text("utf-8")
        assert not re.search(
            r"""(src|href)\s*=|@import|url\(""", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
        )
        assert "default-src &#x27;none&#x27;" in text
    assert files["densenet201"].stat().st_size < 2_000_000


def test_no_text_of_a_spec_is_markup(files: dict[str, Path]) -> None:
    text = files["hostile"].read_text("utf-8")
    assert text.count("<script") == text.count("</script") == 2 and "<img" not in text
    assert any("{{js}} <img" in line for line in page_data(files["hostile"])["sources"][0]["lines"])


def test_an_open_repetition_says_which_blocks_it_shows_in_one(files: dict[str, Path]) -> None:
    headings = [view["heading"] for view in page_data(files["resnet50"])["views"]]
    assert "bottleneck × 5: layer3.1 … layer3.5" in headings


@pytest.mark.parametrize("name", SPECS)
def test_each_view_holds_every_row_of_its_block_once(files: dict[str, Path], name: str) -> None:
    """Every layer has one box in the overview, and whatever is opened shows the same layers again."""
    data = page_data(files[name])
    leaves = {i for i, row in enumerate(data["rows"]) if not row[9]}

    def rows(view: dict[str, Any]) -> list[int]:
        return [
            row
            for b in view["boxes"]
            if b["kind"] not in ("size", "entry", "exit", "output")
            for first, last in zip(b["rows"][::2], b["rows"][1::2], strict=True)
            for row in range(first, last + 1)
            if row in leaves
        ]

    for root in data["roots"]:
        assert sorted(rows(data["views"][root["view"]])) == sorted(leaves)
    inner = [(b, data["views"][b["inside"]]) for v in data["views"] for b in v["boxes"] if "inside" in b]
    assert inner or name == "unet"
    for outer, view in inner:
        assert sorted(rows(view)) == sorted(rows({"boxes": [{**outer, "kind": "block"}]}))


# ---------------------------------------------------------------- folding


@needs_browser
def test_a_click_unfolds_and_another_folds(opened: Page) -> None:
    block = box(opened, "layer2.1")
    before = block.bounding_box()
    assert block.get_attribute("aria-expanded") == "false" and opened.locator(".box").count() < 31
    block.click()
    expect(box(opened, "layer2.1")).to_have_attribute("aria-expanded", "true")
    after = box(opened, "layer2.1").bounding_box()
    assert before and after and abs(before["y"] - after["y"]) < 3  # what is clicked stays where it was
    expect(box(opened, "layer2.1.conv2")).to_be_visible()
    box(opened, "layer2.1").locator("> text").first.evaluate(
        "e => e.parentNode.dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    expect(box(opened, "layer2.1")).to_have_attribute("aria-expanded", "false")
    assert box(opened, "layer2.1.conv2").count() == 0


OVERLAPS = """() => {
  const rect = (e) => e.querySelector(":scope > .body, :scope > rect").getBoundingClientRect();
  const all = [...document.querySelectorAll("#svg .box, #svg .frame")].map((e) => ({e, r: rect(e)}));
  const wrong = [];
  for (const a of all) for (const b of all) {
    if (a === b || a.e.compareDocumentPosition(b.e) & Node.DOCUMENT_POSITION_PRECEDING) continue;
    const x = Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left);
    const y = Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top);
    const inside = a.e.contains(b.e);
    const held = x > b.r.width - 1 && y > b.r.height - 1;
    if (inside ? !held : x > 1 && y > 1) wrong.push([a.e.dataset.path, b.e.dataset.path]);
  }
  return wrong;
}"""

# Arrows that run through a box, and heads that no line leads to or that touch no box.
ARROWS = """() => {
  const bodies = [...document.querySelectorAll("#svg .box .body")].map((e) => e.getBBox());
  const within = ([x, y], b, by) => x > b.x - by && x < b.x + b.width + by && y > b.y - by && y < b.y + b.height + by;
  const wrong = [], ends = [];
  for (const edge of document.querySelectorAll("#svg path.edge")) {
    const length = edge.getTotalLength(), steps = Math.ceil(length / 6);
    const at = (i) => { const p = edge.getPointAtLength(length * i / steps); return [p.x, p.y]; };
    ends.push(at(steps));
    for (let i = 0; i <= steps; i++) {
      for (const b of bodies) if (within(at(i), b, -2)) wrong.push(["through", edge.outerHTML]);
    }
  }
  for (const tip of document.querySelectorAll("#svg path.tip")) {
    const [x, y] = tip.getAttribute("d").slice(1).split(/[ L]/).map(Number);
    if (!ends.some((e) => Math.hypot(e[0] - x, e[1] - y) < 7)) wrong.push(["loose", tip.outerHTML]);
    if (!bodies.some((b) => within([x, y], b, 6))) wrong.push(["nowhere", tip.outerHTML]);
  }
  return wrong;
}"""


# Points in open blocks, where tensors go in and out, to which no arrow leads from outside or from inside.
LOOSE = """() => {
  const ends = [...document.querySelectorAll("#svg path.edge")].flatMap((edge) =>
    [0, edge.getTotalLength()].map((at) => edge.getPointAtLength(at)));
  return [...document.querySelectorAll("#svg circle.dot")].filter((dot) =>
    ends.filter((e) => Math.hypot(e.x - dot.cx.baseVal.value, e.y - dot.cy.baseVal.value) < 7).length < 2)
    .map((dot) => [dot.parentNode.dataset.path, dot.outerHTML]);
}"""


def wrong(page: Page) -> list[object]:
    """What is wrong in the picture as it is now."""
    return [found for faults in (OVERLAPS, ARROWS, LOOSE) for found in page.evaluate(faults)]


@needs_browser
@pytest.mark.parametrize("opened", [*SPECS, "squeezenet"], indirect=True)
def test_nothing_overlaps_in_any_state_of_folding(opened: Page) -> None:
    options = opened.locator("#depth option:not([value=own])")
    states = [options.nth(i).get_attribute("value") for i in range(options.count())]
    assert wrong(opened) == []
    for state in states:
        opened.select_option("#depth", state)
        assert wrong(opened) == []
        if state != states[-1]:
            # Single blocks within, too.
            for block in opened.locator(".box.opens").all()[:3:2]:
                block.dispatch_event("click")
                assert wrong(opened) == []


@needs_browser
@pytest.mark.parametrize("opened", ["unet"], indirect=True)
def test_an_encoder_decoder_begins_as_a_u_and_is_blocks_on_demand(opened: Page) -> None:
    left, right = (box(opened, path).bounding_box() for path in ("0.encode.2", "0.decode.0"))
    assert left and right and left["x"] + left["width"] < right["x"]
    opened.select_option("#root", label="blocks")
    opened.select_option("#depth", label="nothing")
    expect(box(opened, "0")).to_have_attribute("aria-expanded", "false")


# ---------------------------------------------------------------- facts


@needs_browser
def test_hovering_tells_the_facts(opened: Page) -> None:
    graph = check("resnet:resnet50")
    found = costs(graph)
    scope = next(s for s in graph.root.scopes() if s.path == "layer4.0")
    opened.keyboard.press("/")
    opened.keyboard.type("layer4.0")
    opened.keyboard.press("Enter")
    box(opened, "layer4.0").hover()
    tip = opened.locator("#tip")
    expect(tip).to_be_visible()
    for text in (
        f"{found[scope].parameters:,}",
        f"{found[scope].macs:,}",
        "2048 × 7 × 7",
        "receptive field",
        "resnet.arch:",
    ):
        expect(tip).to_contain_text(text)
    opened.mouse.move(5, 5)
    expect(tip).to_be_hidden()


@needs_browser
@pytest.mark.parametrize("cost", ["parameters", "macs", "memory"])
def test_colour_by_cost_is_darkest_where_the_cost_is_highest(opened: Page, cost: str) -> None:
    graph, shades = check("resnet:resnet50"), {}
    opened.select_option("#colour", cost)
    for e in opened.locator("[data-cost]").all():
        shades[int(e.get_attribute("data-cost") or 0)] = e.get_attribute("fill")
    values = sorted(shades)
    blues = [int(re.findall(r"\d+", shades[v] or "")[2]) for v in values]
    assert len(values) > 5 and blues == sorted(blues, reverse=True) and blues[0] == 255
    if cost != "memory":
        total = getattr(costs(graph).total, cost)
        cells = opened.locator("[data-cost]").evaluate_all("es => es.map((e) => Number(e.dataset.cost))")
        assert sum(cells) == total


# ---------------------------------------------------------------- panes that select with each other


@needs_browser
def test_the_table_the_picture_and_the_spec_select_with_each_other(opened: Page) -> None:
    row = opened.locator("tr", has=opened.get_by_role("rowheader", name="layer3", exact=True))
    row.click()
    expect(box(opened, "layer3")).to_have_class(re.compile("chosen"))
    expect(row).to_have_attribute("aria-selected", "true")
    box(opened, "conv1").click()
    expect(row).to_have_attribute("aria-selected", "false")
    chosen = opened.locator("#rows tr[aria-selected=true] th").all_inner_texts()
    assert chosen == ["conv1", "bn1", "2"]
    line = opened.locator(".spec-line.chosen")
    expect(line).to_contain_text("conv1: conv(64, 7, stride = 2)")
    opened.locator(".spec-line.linked", has_text="fc: linear(classes)").click()
    expect(box(opened, "fc")).to_have_class(re.compile("chosen"))
    expect(opened.locator("#rows tr[aria-selected=true] th")).to_have_text(["fc"])


@needs_browser
def test_a_search_shows_what_it_finds_however_deep(opened: Page) -> None:
    opened.keyboard.press("/")
    opened.keyboard.type("layer3.4.conv2")
    expect(opened.locator("#found")).to_have_text("1 found")
    expect(opened.locator("#rows tr:visible")).to_have_count(1)
    opened.keyboard.press("Enter")
    chosen = opened.locator(".box.chosen")
    expect(chosen).to_have_count(1)  # the box of the five equal blocks
    expect(chosen).to_contain_text("conv 3×3, 256")
    expect(chosen).to_be_in_viewport()
    opened.fill("#search", "nothing of that name")
    expect(opened.locator("#found")).to_have_text("0 found")


# ---------------------------------------------------------------- moving about


def scale(page: Page) -> tuple[float, float, float]:
    transform = page.locator("#svg > g").get_attribute("transform") or ""
    x, y, k = map(float, re.findall(r"-?[\d.]+(?:e-?\d+)?", transform))
    return x, y, k


@needs_browser
def test_a_narrow_window_shows_picture_and_table_under_each_other(opened: Page) -> None:
    opened.set_viewport_size({"width": 480, "height": 800})
    opened.click("#fit")
    box(opened, "conv1").click()
    sizes = [opened.locator(s).bounding_box() for s in ("#picture", "#table", "#spec")]
    assert all(s and s["height"] > 80 for s in sizes)
    assert opened.evaluate(
        "document.documentElement.scrollWidth <= innerWidth && document.body.scrollHeight <= innerHeight"
    )


@needs_browser
def test_zoom_and_pan(opened: Page) -> None:
    x, y, k = scale(opened)
    opened.mouse.move(400, 400)
    opened.mouse.wheel(30, 200)
    assert scale(opened) == pytest.approx((x - 30, y - 200, k), abs=1)
    opened.keyboard.down("Control")
    opened.mouse.wheel(0, -100)
    opened.keyboard.up("Control")
    assert scale(opened)[2] > k
    opened.click("#fit")
    assert scale(opened) == (x, y, k)
    opened.mouse.move(260, 400)
    opened.mouse.down()
    opened.mouse.move(360, 450, steps=5)
    opened.mouse.up()
    assert scale(opened) == pytest.approx((x + 100, y + 50, k), abs=1)
    opened.click("#zoom-in")
    assert scale(opened)[2] == pytest.approx(k * 1.25)


@needs_browser
def test_the_keyboard_does_all_that_the_mouse_does(opened: Page) -> None:
    for _ in range(20):
        opened.keyboard.press("Tab")
        if opened.evaluate("document.activeElement.getAttribute('role')") == "treeitem":
            break
    active = opened.locator(":focus")
    expect(active).to_have_attribute("data-path", "image")
    live = opened.locator("#live")
    for _ in range(3):
        opened.keyboard.press("ArrowDown")
    expect(active).to_have_attribute("data-path", "layer1")
    opened.keyboard.press("ArrowDown")
    expect(active).to_have_attribute("data-path", "layer1.0")
    expect(live).to_contain_text("75,008 parameters")
    expect(opened.locator("#tip")).to_be_visible()
    opened.keyboard.press("ArrowRight")
    expect(active).to_have_attribute("aria-expanded", "true")
    expect(live).to_contain_text("open")
    opened.keyboard.press("ArrowDown")
    assert (active.get_attribute("data-path") or "").startswith("layer1.0.")
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("ArrowLeft")
    expect(active).to_have_attribute("aria-expanded", "false")
    opened.keyboard.press("End")
    expect(active).to_be_in_viewport()
    while not opened.evaluate("document.activeElement.closest('#rows')"):  # past the splitter and the headings
        opened.keyboard.press("Tab")
        assert opened.evaluate("!document.activeElement.closest('#spec')")
    opened.keyboard.press("ArrowDown")
    expect(opened.locator("#rows tr[aria-selected=true] th")).to_have_text(["conv1"])


@needs_browser
def test_a_screen_reader_hears_names_roles_and_states(opened: Page) -> None:
    tree = opened.get_by_role("tree", name="The network")
    snapshot = tree.aria_snapshot()
    assert re.search(r'treeitem "layer1, .*gives 256 × 56 × 56, 215,808 parameters.*" \[expanded\]', snapshot)
    assert re.search(r'treeitem "conv1, conv 7×7, 64', snapshot)
    paths = re.findall(r"treeitem \"(\S+),", snapshot)
    assert paths[:5] == ["image", "conv1", "3", "layer1", "layer1.0"] and paths[-2:] == ["fc", "fc"]
    unnamed = "e => !(e.ariaLabel || e.labels?.length || (e.tagName === 'BUTTON' && e.textContent.trim()))"
    assert opened.evaluate(f"[...document.querySelectorAll('button, input, select')].filter({unnamed}).length") == 0
    expect(opened.get_by_role("searchbox", name="Search")).to_be_visible()
    expect(opened.get_by_role("columnheader", name="parameters")).to_be_visible()


@needs_browser
@pytest.mark.parametrize("opened", ["hostile"], indirect=True)
def test_no_text_of_a_spec_comes_alive(opened: Page) -> None:
    opened.select_option("#depth", label="everything")
    for item in opened.locator(".box").all()[:4]:
        item.hover()
    opened.fill("#search", "<img src=x onerror=alert(5)>")
    opened.locator(".spec-line", has_text="alert(2)").click()
    assert opened.locator("img, #svg image, #svg foreignObject").count() == 0


@needs_browser
@pytest.mark.parametrize("opened", ["densenet201"], indirect=True)
def test_the_first_paint_comes_soon(opened: Page) -> None:
    paint = opened.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 2000


# ---------------------------------------------------------------- panes, links, files, at the sizes of screens


@needs_browser
def test_the_panel_has_all_facts_of_the_chosen_layer(opened: Page) -> None:
    box(opened, "conv1").click()
    panel = opened.get_by_role("region", name="Facts")
    for text in (
        "kernel\n7",
        "stride\n2",
        "pad\nsame",
        "weight [64, 3, 7, 7]",
        "9,408",
        "read by",
        "bn1",
        "conv1: conv(64, 7",
    ):
        assert text in panel.inner_text()
    expect(box(opened, "image")).to_have_class(re.compile("gives"))
    expect(box(opened, "3")).to_have_class(re.compile("takes"))
    panel.get_by_role("button", name="image").click()
    expect(box(opened, "image")).to_have_class(re.compile("chosen"))
    assert opened.url.endswith("#image")


@needs_browser
def test_the_table_sorts_by_column_and_keeps_its_paths(opened: Page) -> None:
    def cells() -> list[int]:
        texts = opened.locator("#rows td:nth-child(4)").all_inner_texts()
        return [int(text.replace(",", "") or 0) for text in texts]

    head, before = opened.get_by_role("columnheader", name="parameters"), cells()
    head.click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert cells() == sorted(before, reverse=True)
    head.click()
    assert cells() == sorted(before)
    head.click()
    assert cells() == before
    first = opened.locator("#rows th").first
    left = first.bounding_box()
    opened.locator("#table").evaluate("e => e.scrollLeft = 200")
    assert first.bounding_box() == left


@needs_browser
def test_the_reader_chooses_the_columns(opened: Page) -> None:
    head = opened.locator("#table thead th:visible")
    assert head.all_text_contents() == ["path", "operation", "output", "parameters", "MACs", "memory", "field"]
    opened.locator("#table summary").click()
    opened.locator("#columns label", has_text="output").click()
    opened.locator("#columns label", has_text="stride").click()
    assert head.all_text_contents() == ["path", "operation", "parameters", "MACs", "memory", "field", "stride"]
    assert opened.locator("#row-1 td:visible").count() == 6
    left, right = opened.locator("#legend").bounding_box(), opened.locator("#svg").bounding_box()
    assert left and right and left["x"] + left["width"] <= right["x"] + 0.5


def test_a_tooltip_has_the_sums_of_the_table(opened: Page) -> None:
    box(opened, "layer1.1").hover()  # two equal blocks in one
    told = opened.locator("#tip").inner_text()
    row = opened.locator("#rows tr", has=opened.locator("th", has_text=re.compile("^layer1\\.1$")))
    one = row.locator("td").nth(2).inner_text()
    assert f"{one} × 2 = {2 * int(one.replace(',', '')):,}" in told
    box(opened, "layer1.0").hover()
    row = opened.locator("#rows tr", has=opened.locator("th", has_text=re.compile("^layer1\\.0$")))
    assert f"parameters\n{row.locator('td').nth(2).inner_text()}\n" in opened.locator("#tip").inner_text()
    opened.locator('[data-path="fc"]').last.dispatch_event("pointermove")  # the output, which is out of sight
    expect(opened.locator("#tip")).to_contain_text("output, 1000")
    expect(opened.locator("#tip")).not_to_contain_text("parameters")


def test_a_search_steps_through_its_hits(opened: Page) -> None:
    opened.fill("#search", "maxpool")
    opened.fill("#search", "layer4.2.conv")
    for button, told in (("next", "1 of 3"), ("next", "2 of 3"), ("previous", "1 of 3"), ("previous", "3 of 3")):
        opened.click(f"#{button}")
        expect(opened.locator("#found")).to_have_text(told)
    expect(opened.locator("#rows tr[aria-selected=true] th")).to_have_text(["layer4.2.conv3"])


@needs_browser
def test_panes_fold_and_the_splitter_moves(opened: Page) -> None:
    def width() -> float:
        room = opened.locator("#picture").bounding_box()
        assert room
        return room["width"]

    before, bar = width(), opened.locator("#splitter").bounding_box()
    assert bar
    opened.mouse.move(bar["x"] + 3, 400)
    opened.mouse.down()
    opened.mouse.move(bar["x"] - 147, 400, steps=4)
    opened.mouse.up()
    assert width() == pytest.approx(before - 150, abs=6)
    for pane in ("Table", "Facts", "Spec"):
        opened.get_by_role("button", name=pane, exact=True).click()
    assert width() == 1400
    opened.get_by_role("button", name="Facts", exact=True).click()
    expect(opened.locator("#node")).to_be_visible()
    assert width() < 1300


@needs_browser
def test_the_view_is_saved_as_svg_and_png(opened: Page, tmp_path: Path) -> None:
    for ending, start in (("svg", b"<svg"), ("png", b"\x89PNG")):
        with opened.expect_download() as saving:
            opened.click(f"#save-{ending}")
        saving.value.save_as(tmp_path / "view")
        assert saving.value.suggested_filename == f"resnet50.{ending}"
        assert (tmp_path / "view").read_bytes().startswith(start)


@needs_browser
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080), (390, 844)])
def test_a_page_opens_readable_and_centred_at_a_link(
    browser: Browser, files: dict[str, Path], width: int, height: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=True, color_scheme="dark")
    page = context.new_page()
    page.goto(files["resnet50"].as_uri())
    page.wait_for_selector("html[data-ready]")
    assert scale(page)[2] >= 0.9  # text of 9 points
    picture, image = page.locator("#svg").bounding_box(), box(page, "image").bounding_box()
    assert picture and image
    assert image["x"] + image["width"] / 2 == pytest.approx(picture["x"] + picture["width"] / 2, abs=30)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 29)"
    box(page, "conv1").tap()
    expect(page.locator("#node")).to_contain_text("weight [64, 3, 7, 7]")
    page.goto(files["resnet50"].as_uri() + "#layer1.0.conv2")
    expect(box(page, "layer1.0.conv2")).to_have_class(re.compile("chosen"))
    expect(box(page, "layer1.0.conv2")).to_be_in_viewport()
    context.close()


@needs_browser
def test_a_wide_network_opens_readable_at_its_beginning(browser: Browser, files: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(files["inception"].as_uri())
    page.wait_for_selector("html[data-ready]")
    assert scale(page)[2] >= 0.8  # text of 7 points
    expect(box(page, "features")).to_be_in_viewport()
    # No arrow that comes into a frame from above runs through its heading.
    crossed = page.evaluate(
        """() => [...document.querySelectorAll("#svg .frame")].flatMap((frame) => {
            const heading = frame.querySelector(":scope > text.heading").getBBox();
            const dots = [...frame.querySelectorAll(":scope > circle.dot")].map((dot) => dot.getBBox());
            const first = dots.reduce((a, b) => a.y < b.y ? a : b), x = first.x + first.width / 2;
            return heading.x < x && x < heading.x + heading.width ? [[heading.x, x]] : [];
        })"""
    )
    assert page.locator("#svg .frame").count() >= 2 and crossed == []
    page.close()


# ---------------------------------------------------------------- notebooks


@needs_browser
def test_a_notebook_shows_a_graph_whole(browser: Browser) -> None:
    graph = check("resnet:resnet18")
    bundle = graph._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<svg") and "resnet18" in bundle["text/plain"]
    page = browser.new_page(viewport={"width": 300, "height": 500})
    # A cell's output, as narrow as it may be.
    page.set_content(f'<div style="width:260px;overflow:hidden" id="cell">{bundle["text/html"]}</div>')
    image = page.get_by_role("img", name="resnet18")
    assert image.evaluate("async (e) => { await e.decode(); return e.naturalWidth; }") > 260
    size, cell = image.bounding_box(), page.locator("#cell").bounding_box()
    assert size and cell and size["width"] <= 260 and size["height"] <= cell["height"] + 1
    page.close()


@pytest.mark.parametrize("layers", [40, 150, 400])
def test_a_long_chain_of_unlike_layers_has_a_page(layers: int) -> None:
    """Its layers are gathered in boxes that belong to no block."""
    body = f"for i in 1..={layers} {{ conv(1 + i % 97, 3) -> batchnorm -> relu }}"
    text = f"model flat {{\n input image[3, 64, 64]\n {body}\n}}\n"
    assert f"conv 3×3, {1 + layers % 97}" in draw(check(Source("flat.arch", text))).html()
