"""The page in a real Chromium, served by a real gunicorn over a small drawn catalog."""

import base64
import io
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from server.api.page import policy
from server.app import create_app
from server.serving.snapshots import Snapshots
from shared.embedding.registry import load
from shared.images.decode import decode
from shared.images.views import square
from shared.index.product_table import ProductImage
from shared.partition import Partition
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.manifest import CatalogPart, Quality
from shared.snapshot.verdicts import QueryKind, Verdicts
from shared.snapshot.writer import Draft, write_snapshot
from shared.vectors.unit import normalise
from tests.support.image_server import ImageServer
from tests.support.pictures import drawn, encoded
from tests.support.server import serving
from tests.support.snapshots import HOCKEY

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright (pip install '.[dev]') is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright.expect.set_options(timeout=10_000)
pytestmark = pytest.mark.slow
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium (apt-get install chromium) is not installed")

COLOURS = ("red", "navy, dark", 'the "best"')
EVIL = '<img src=x onerror="document.title=1">'
OTHER = Partition("7", "0002")
VERDICTS = Verdicts(similar=0.2, variant=0.8, same=0.97, false_alarms={}, lost=0.0, fitted_on="x")


def make(data: Path, partition: Partition, urls: list[str], images: dict[str, list[int]]) -> None:
    """A current snapshot of drawn pictures: `images[product]` are their numbers."""
    rows = [(product, number) for product, numbers in images.items() for number in numbers]
    pictures = np.stack([square(np.asarray(decode(drawn(number))), 64) for _, number in rows])
    network = load("colour_grid")
    attributes = {
        product: {
            "name": EVIL if product == "evil" else f"Block {product}",
            "colour": COLOURS[numbers[0] % 3],
            "price": str(numbers[0]),
        }
        for product, numbers in images.items()
    }
    described = [ProductImage(product, f"i{number}", urls[number], attributes[product]) for product, number in rows]
    quality = Quality(verdicts={QueryKind.PRODUCT: VERDICTS, QueryKind.PHOTO: VERDICTS})
    vectors = normalise(network.embed(pictures))
    draft = Draft(partition, described, vectors, network, None, "faiss", CatalogPart("x"), {}, b"{}", b"", quality)
    here = PartitionFolder(data, partition)
    with here.exclusive():
        here.activate(write_snapshot(data, draft))


@pytest.fixture(scope="module")
def cdn() -> Iterator[ImageServer]:
    server = ImageServer()
    server.answers.update({f"/{n}.jpg": drawn(n, (300, 300)) for n in range(5)})
    yield server
    server.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, cdn: ImageServer) -> Path:
    data = tmp_path_factory.mktemp("page")
    for number in range(70):
        (data / f"{number}.jpg").write_bytes(drawn(number, (300, 240)))
    products = {f"p{n}": [n, n + 60] if n < 5 else [n] for n in range(58)}
    urls = [(data / f"{n}.jpg").as_uri() for n in range(69)] + ["file:///no/such.jpg"]
    make(data, HOCKEY, urls, {**products, "evil": [58], "a/b c?": [59], "lost": [69]})
    make(data, OTHER, [f"{cdn.url}/{n}.jpg" for n in range(5)], {f"web{n}": [n] for n in range(5)})
    return data


@pytest.fixture(scope="module")
def base(data: Path) -> Iterator[str]:
    with serving(data) as base:
        yield base


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A tab at the page, and what it did."""

    page: Any
    base: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, query: str = "") -> Any:
        self.page.goto(self.base + query)
        return self.page

    def cards(self) -> list[str]:
        self.page.locator("#grid:not([aria-busy])").wait_for(state="attached")
        found: list[str] = self.page.locator("#grid a").evaluate_all("all => all.map(a => a.dataset.product)")
        return found

    def photo(self, seed: int) -> None:
        picture = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": drawn(seed, (300, 240))}
        self.page.set_input_files("#file", picture)
        playwright.expect(self.page.locator("#heading")).to_have_text("Most like your photo")
        playwright.expect(self.page.locator("#grid .score").first).to_be_visible()

    def asked(self, end: str) -> dict[str, list[str]]:
        """The parameters of the last question whose path ends so."""
        return parse_qs(urlsplit([url for url in self.requests if urlsplit(url).path.endswith(end)][-1]).query)


@pytest.fixture
def visit(browser: Any, base: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A fresh tab. Fails the test where a script or the policy complains, or anybody else's host is asked."""
    wanted = {"viewport": {"width": 1180, "height": 900}, **getattr(request, "param", {})}
    context = browser.new_context(**wanted)
    page = context.new_page()
    page.set_default_timeout(10_000)
    tab = Visit(page, base)
    page.on("request", lambda asked: tab.requests.append(asked.url))
    page.on("pageerror", lambda error: tab.errors.append(str(error)))
    page.on("console", lambda said: said.type in ("error", "warning") and tab.errors.append(said.text))
    yield tab
    page.unroute_all(behavior="ignoreErrors")
    context.unroute_all(behavior="ignoreErrors")
    context.close()
    failed = [text for text in tab.errors if not text.startswith("Failed to load resource")]
    assert not failed
    if "elsewhere" not in request.keywords:
        assert {url for url in tab.requests if not url.startswith((base + "/", "blob:", "data:"))} == set()


def similar(base: str, product: str) -> list[str]:
    with urllib.request.urlopen(f"{base}/v1/371/0341/products/{product}/similar?k=24", timeout=5) as answer:
        return [one["product_id"] for one in json.load(answer)["results"]]


def gave(page: Any, event: str, name: str, data: bytes, kind: str) -> None:
    """Drop or paste a file."""
    page.evaluate(
        """([event, name, text, type]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const given = new DataTransfer();
            given.items.add(new File([bytes], name, { type }));
            const options = { bubbles: true, cancelable: true, dataTransfer: given, clipboardData: given };
            if (event === "paste") document.dispatchEvent(new ClipboardEvent(event, options));
            else for (const step of ["dragenter", "dragover", event])
                document.dispatchEvent(new DragEvent(step, options));
        }""",
        [event, name, base64.b64encode(data).decode(), kind],
    )


@needs_chromium
def test_browse_choose_a_product_and_go_back(visit: Visit) -> None:
    page = visit.open()
    assert visit.cards() == [f"p{n}" for n in range(48)]
    playwright.expect(page.locator("#status")).to_contain_text("61 products")
    page.get_by_role("button", name="Show more").click()
    page.locator("a[data-product=lost]").wait_for()
    assert len(visit.cards()) == 61
    page.locator("a[data-product=p7]").click()
    playwright.expect(page.locator("#heading")).to_have_text("Most like Block p7")
    assert visit.cards() == similar(visit.base, "p7")
    playwright.expect(page.locator("#facts")).to_contain_text("navy, dark")
    playwright.expect(page.locator(".card .verdict").first).to_have_text(re.compile("same|variant|similar|unlike"))
    page.locator("#grid img.here").first.wait_for()
    page.go_back()
    playwright.expect(page.locator("#heading")).to_have_text("All products")
    page.go_forward()
    playwright.expect(page.locator("#heading")).to_have_text("Most like Block p7")
    page.get_by_role("button", name="Show more").click()
    playwright.expect(page.locator("#grid li")).to_have_count(48)


@needs_chromium
def test_words_find_products_and_enter_opens_the_one_that_is_meant(visit: Visit) -> None:
    page = visit.open()
    page.get_by_label("Find a product").fill("block p1")
    playwright.expect(page.locator("#heading")).to_have_text("Products with “block p1”")
    assert visit.cards() == ["p1", *(f"p{n}" for n in range(10, 20))]
    assert "text=block+p1" in page.url
    page.get_by_label("Find a product").fill("p1")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#heading")).to_have_text("Most like Block p1")
    playwright.expect(page.locator("#views li")).to_have_count(2)
    page.get_by_label("Find a product").fill("zzz")
    playwright.expect(page.locator("#status")).to_contain_text("fewer or shorter words")


@needs_chromium
@pytest.mark.parametrize("way", ["type", "paste"])
def test_who_is_quicker_than_the_server_loses_nothing(visit: Visit, way: str) -> None:
    held: list[Any] = []
    visit.page.route("**/v1/indexes", lambda route: held.append(route))
    page = visit.open()
    if way == "type":
        page.get_by_label("Find a product").fill("p1")
    else:
        gave(page, "paste", "x.jpg", drawn(9), "image/jpeg")
    page.wait_for_timeout(400)
    held[0].continue_()
    shown = "Products with “p1”" if way == "type" else "Most like your photo"
    playwright.expect(page.locator("#heading")).to_have_text(shown)


@needs_chromium
def test_text_of_the_catalog_stays_text_and_a_lost_picture_is_said(visit: Visit) -> None:
    page = visit.open("/?text=evil")
    playwright.expect(page.locator(".card .name")).to_have_text(EVIL)
    page.locator("#grid a").click()
    playwright.expect(page.locator("#heading")).to_have_text(f"Most like {EVIL}")
    assert page.title() == f"Most like {EVIL}"
    visit.open("/?text=lost")
    playwright.expect(page.locator(".card .missing")).to_have_text("no picture")
    visit.open("/?text=a/b")
    page.locator("#grid a").click()
    playwright.expect(page.locator("#heading")).to_have_text("Most like Block a/b c?")
    assert visit.cards()


@needs_chromium
@pytest.mark.parametrize("way", ["choose", "paste", "drop"])
def test_a_photo_in_every_way(visit: Visit, way: str) -> None:
    page = visit.open()
    visit.cards()
    if way == "choose":
        visit.photo(9)
    else:
        gave(page, way, "x.png", drawn(9, kind="PNG"), "image/png")
    playwright.expect(page.locator("#heading")).to_have_text("Most like your photo")
    playwright.expect(page.locator("#heading")).to_be_focused()
    assert visit.cards()[0] == "p9"
    playwright.expect(page.locator("#drop")).to_be_hidden()
    page.locator("#asked").evaluate("image => image.decode()")


@needs_chromium
def test_a_large_photo_is_made_small_before_it_is_sent(visit: Visit) -> None:
    page = visit.open()
    bitmap = drawn(9, (1300, 1200), "BMP")
    with page.expect_response("**/search?*") as found:
        page.set_input_files("#file", {"name": "x.bmp", "mimeType": "image/bmp", "buffer": bitmap})
    sent = found.value.request
    assert sent.headers["content-type"] == "image/jpeg"
    assert 0 < int(sent.all_headers()["content-length"]) < 4 << 20 < len(bitmap)
    assert visit.cards()[0] == "p9"


@needs_chromium
def test_a_frame_by_mouse_asks_for_that_part(visit: Visit) -> None:
    page = visit.open("/?text=p1")
    visit.photo(9)
    box = page.locator("#crop").bounding_box()

    def drag(*points: tuple[float, float]) -> list[float]:
        (x, y), *others = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        page.mouse.move(x, y)
        page.mouse.down()
        for x, y in others:
            page.mouse.move(x, y, steps=3)
        with page.expect_response("**/search?*"):
            page.mouse.up()
        return [float(edge) for edge in visit.asked("/search")["crop"][0].split(",")]

    assert drag((0.25, 0.25), (0.75, 0.5)) == pytest.approx([0.25, 0.25, 0.5, 0.25], abs=0.01)
    assert drag((0.5, 0.4), (0.6, 0.6)) == pytest.approx([0.35, 0.45, 0.5, 0.25], abs=0.01)  # moved
    assert drag((0.85, 0.7), (1.2, 1.2)) == pytest.approx([0.35, 0.45, 0.65, 0.55], abs=0.01)  # by its corner
    with page.expect_response("**/search?*"):
        page.get_by_role("button", name="Whole photo").click()
    # Said outright: without a crop the server looks for the thing by itself.
    assert visit.asked("/search")["crop"] == ["0,0,1,1"]


@needs_chromium
def test_the_part_that_the_server_found_is_drawn_and_can_be_moved(visit: Visit) -> None:
    page = visit.open("/?text=p1")

    def with_crop(route: playwright.Route) -> None:
        answer = route.fetch()
        found = {} if "crop=" in route.request.url else {"crop": [0.5, 0.25, 0.25, 0.5]}
        route.fulfill(response=answer, json=answer.json() | found)

    page.route("**/search?*", with_crop)
    visit.photo(9)
    assert "crop" not in visit.asked("/search")
    frame = page.locator("#crop .frame")
    playwright.expect(frame).to_have_attribute("style", re.compile(r"inset: 25% 25% 25% 50%"))
    playwright.expect(page.get_by_role("button", name="Whole photo")).to_be_visible()
    page.get_by_label("Top edge, percent").focus()
    with page.expect_response("**/search?*crop*"):
        page.keyboard.press("ArrowUp")
    asked = [float(edge) for edge in visit.asked("/search")["crop"][0].split(",")]
    assert asked == pytest.approx([0.5, 0.26, 0.25, 0.49], abs=0.001)
    with page.expect_response("**/search?*crop*"):
        page.get_by_role("button", name="Whole photo").click()
    assert visit.asked("/search")["crop"] == ["0,0,1,1"]
    playwright.expect(page.get_by_role("button", name="Whole photo")).to_be_hidden()


@needs_chromium
def test_one_of_several_things_is_chosen_on_the_photo(visit: Visit) -> None:
    photo = Image.new("RGB", (320, 320), "grey")
    for seed, place in ((3, (0, 0)), (7, (160, 160))):
        photo.paste(Image.open(io.BytesIO(drawn(seed, (160, 160), "PNG"))), place)
    page = visit.open("/?text=p1")
    page.set_input_files("#file", {"name": "two.png", "mimeType": "image/png", "buffer": encoded(photo, "PNG")})
    playwright.expect(page.locator("#grid .score").first).to_be_visible()
    page.get_by_role("button", name="Several things?").click()
    playwright.expect(page.get_by_role("status")).to_contain_text("things in it")
    shown = page.locator("#crop .thing")
    assert shown.count() >= 2
    found = set()
    for number in range(2):
        with page.expect_response("**/search?*crop*"):
            page.get_by_role("button", name=f"{number + 1}", exact=True).click()
        found.add(visit.cards()[0])
        assert shown.count() == 0
        page.get_by_role("button", name="Several things?").click()
        playwright.expect(shown.first).to_be_visible()
    assert found == {"p3", "p7"}


@needs_chromium
@pytest.mark.parametrize("visit", [{"has_touch": True, "viewport": {"width": 400, "height": 860}}], indirect=True)
def test_a_frame_by_finger(visit: Visit) -> None:
    page = visit.open("/?text=p1")
    visit.photo(9)
    box = page.locator("#crop").bounding_box()
    touch = page.context.new_cdp_session(page)

    def finger(kind: str, *place: float) -> None:
        points = [{"x": box["x"] + place[0] * box["width"], "y": box["y"] + place[1] * box["height"]}] if place else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    with page.expect_response("**/search?*"):
        finger("touchStart", 0.2, 0.2)
        finger("touchMove", 0.5, 0.5)
        finger("touchMove", 0.6, 0.7)
        finger("touchEnd")
    crop = [float(edge) for edge in visit.asked("/search")["crop"][0].split(",")]
    assert crop == pytest.approx([0.2, 0.2, 0.4, 0.5], abs=0.02)
    assert page.evaluate("scrollY") == 0


@needs_chromium
def test_by_keyboard_alone(visit: Visit) -> None:
    page = visit.open()
    visit.cards()
    page.keyboard.press("Tab")
    playwright.expect(page.get_by_text("Skip to the products")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    playwright.expect(page.locator("a[data-product=p0]")).to_be_focused()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#heading")).to_have_text("Most like Block p0")
    playwright.expect(page.locator("#heading")).to_be_focused()
    first = visit.cards()[0]
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    playwright.expect(page.locator(f"a[data-product={first}]")).to_be_focused()
    page.keyboard.press("Tab")
    playwright.expect(page.locator(".like").first).to_be_focused()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#chips li")).to_have_count(1)
    assert f"like={first}" in page.url
    visit.photo(9)
    page.get_by_label("Left edge, percent").focus()
    with page.expect_response("**/search?*"):
        page.keyboard.press("PageUp")
    assert float(visit.asked("/search")["crop"][0].split(",")[0]) > 0


@needs_chromium
def test_likes_refine_and_are_taken_back(visit: Visit) -> None:
    page = visit.open("/?index=371/0341&product=p7")
    one, other, *_ = visit.cards()
    with page.expect_request("**/v1/371/0341/similar?*") as sent:
        page.get_by_role("button", name=f"More like Block {one}", exact=True).click()
    assert sent.value.post_data_json == {"like": [{"product_id": "p7"}, {"product_id": one}], "unlike": []}
    playwright.expect(page.locator("#chips li")).to_have_count(1)
    assert one not in visit.cards()
    with page.expect_request("**/v1/371/0341/similar?*") as sent:
        page.get_by_role("button", name=f"Less like Block {other}", exact=True).click()
    assert sent.value.post_data_json["unlike"] == [{"product_id": other}]
    playwright.expect(page.locator("#chips li")).to_have_count(2)
    assert f"like={one}" in page.url
    assert f"unlike={other}" in page.url
    page.get_by_role("button", name=f"No longer more like Block {one}", exact=True).click()
    playwright.expect(page.locator("#chips li")).to_have_count(1)
    page.reload()
    playwright.expect(page.locator("#chips li")).to_have_count(1)
    playwright.expect(page.locator("#chips")).to_contain_text(f"Block {other}")


@needs_chromium
def test_a_photo_is_refined_too(visit: Visit) -> None:
    visit.open("/?text=p1")
    visit.photo(9)
    visit.page.get_by_label("Top edge, percent").focus()
    with visit.page.expect_response("**/search?*crop*"):
        visit.page.keyboard.press("PageUp")
    first = visit.cards()[0]
    with visit.page.expect_request("**/v1/371/0341/similar?*") as sent:
        visit.page.get_by_role("button", name=f"Less like Block {first}", exact=True).click()
    photo, unlike = sent.value.post_data_json["like"], sent.value.post_data_json["unlike"]
    assert [photo[0]["crop"]] == visit.asked("/search")["crop"]
    assert base64.b64decode(photo[0]["image_base64"]) == drawn(9, (300, 240))
    assert unlike == [{"product_id": first}]


@needs_chromium
def test_filters_are_of_the_catalog_and_in_the_link(visit: Visit) -> None:
    page = visit.open("/?index=371/0341&product=p7")
    visit.cards()
    facets = page.locator(".facet > summary")
    assert facets.all_inner_texts() == ["colour", "price"]  # not the name, which every product has for itself
    facets.nth(0).click()
    for value in (COLOURS[0], COLOURS[2]):
        with page.expect_response("**/similar?*filter*"):
            page.get_by_role("group", name="colour").get_by_label(value).check()
    facets.nth(1).click()
    with page.expect_response("**/similar?*price*"):
        page.get_by_label("price, from").fill("30")
        page.keyboard.press("Tab")
    filters = ['colour:red,"the ""best"""', "price:30.."]
    assert visit.asked("/similar")["filter"] == filters
    found = visit.cards()
    assert set(found) == {f"p{n}" for n in range(30, 58) if n % 3 != 1} | {"a/b c?", "lost"}
    playwright.expect(page.locator("#active")).to_have_text("2 on")
    assert parse_qs(urlsplit(page.url).query)["filter"] == filters
    page.reload()
    assert visit.cards() == found
    playwright.expect(page.get_by_label("price, from")).to_have_value("30")
    playwright.expect(page.get_by_role("group", name="colour").get_by_label("red")).to_be_checked()
    with page.expect_response("**/similar?*verdict*"):
        page.get_by_label("Alike enough").select_option("variant")
    assert visit.asked("/similar")["verdict"] == ["variant"]


@needs_chromium
def test_a_link_shows_the_same_to_somebody_else(visit: Visit, browser: Any) -> None:
    page = visit.open("/?index=371/0341&product=p7")
    one, *_ = visit.cards()
    page.get_by_role("button", name=f"More like Block {one}", exact=True).click()
    playwright.expect(page.locator("#chips li")).to_have_count(1)
    mine = visit.cards()
    other = page.context.new_page()
    other.goto(page.url)
    playwright.expect(other.locator("#heading")).to_have_text("Most like Block p7")
    playwright.expect(other.locator("#grid .score").first).to_be_visible()
    assert other.locator("#grid a").evaluate_all("all => all.map(a => a.dataset.product)") == mine
    page.get_by_role("button", name="Copy link").click()
    playwright.expect(page.locator("#status")).to_contain_text("link is")


@needs_chromium
def test_a_photo_is_not_in_a_link_and_the_page_says_so(visit: Visit) -> None:
    page = visit.open("/?text=p1")
    visit.photo(9)
    page.get_by_role("button", name="Copy link").click()
    playwright.expect(page.locator("#status")).to_contain_text("Your photo is not in it")
    page.reload()
    playwright.expect(page.locator("#status")).to_contain_text("photos are never part of a link")


@needs_chromium
def test_why_an_answer_is_one(visit: Visit) -> None:
    page = visit.open("/?index=371/0341&product=p7")
    first = visit.cards()[0]
    page.get_by_text("Why?").first.click()
    playwright.expect(page.locator(".why p").first).to_contain_text(f"i{first[1:]}")
    playwright.expect(page.locator(".why dl").first).to_contain_text(re.compile(r"i\d+0\.\d"))


@needs_chromium
def test_errors_are_sentences(visit: Visit) -> None:
    page = visit.open("/?index=371/0341&product=nope")
    alert = page.get_by_role("alert")
    playwright.expect(alert).to_contain_text("The product 'nope' is not in the index of 371/0341.")
    page.get_by_role("link", name="See all products").click()
    playwright.expect(page.locator("#heading")).to_have_text("All products")
    playwright.expect(alert).to_be_empty()
    gave(page, "drop", "x.txt", b"hello", "text/plain")
    playwright.expect(alert).to_contain_text("This is not a picture.")
    gave(page, "drop", "x.jpg", b"hello", "image/jpeg")
    playwright.expect(alert).to_contain_text("not those of a JPEG")
    gave(page, "drop", "x.heic", b"hello", "image/heic")
    playwright.expect(alert).to_contain_text("Your browser cannot open this picture.")
    page.route("**/v1/371/0341/products?*", lambda route: route.abort())
    page.get_by_label("Find a product").fill("p")
    playwright.expect(alert).to_contain_text("The server cannot be reached.")


@needs_chromium
def test_what_is_not_ready_is_asked_again(visit: Visit) -> None:
    visit.page.clock.install()
    page = visit.open("/?text=p1")
    visit.cards()
    said = {"status": 503, "json": {"detail": "The network is still loading."}}
    page.route("**/search?*", lambda route: route.fulfill(**said), times=1)
    gave(page, "paste", "x.jpg", drawn(9), "image/jpeg")
    playwright.expect(page.get_by_role("alert")).to_contain_text("The network is still loading. It is asked again")
    page.clock.fast_forward(5000)
    playwright.expect(page.locator("#grid .score").first).to_be_visible()
    playwright.expect(page.get_by_role("alert")).to_be_empty()


@needs_chromium
def test_a_key_is_asked_for_where_the_server_wants_one(visit: Visit) -> None:
    def guarded(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.fallback()
        else:
            route.fulfill(status=401, json={"detail": "The API key is wrong."})

    visit.page.route("**/v1/**", guarded)
    page = visit.open()
    key = page.get_by_label(re.compile("API key"))
    playwright.expect(key).to_be_focused()
    for given, shown in (("wrong", "The API key is wrong."), ("right", "")):
        key.fill(given)
        page.keyboard.press("Enter")
        playwright.expect(page.get_by_role("alert")).to_have_text(shown)
    playwright.expect(key).to_be_hidden()
    assert len(visit.cards()) == 48
    page.locator("#grid img.here").first.wait_for()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 1, ""]


@needs_chromium
@pytest.mark.elsewhere
def test_pictures_come_from_the_catalog_s_hosts_and_no_others(visit: Visit, cdn: ImageServer) -> None:
    page = visit.open("/?index=7/0002")
    page.locator("#grid img.here").first.wait_for()
    hosts = {urlsplit(url).netloc for url in visit.requests if not url.startswith("blob:")}
    assert hosts == {urlsplit(visit.base).netloc, urlsplit(cdn.url).netloc}
    kept = page.evaluate("""() => new Promise((done) => {
        document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
        setTimeout(done, 5000, "nothing");
        document.body.append(Object.assign(new Image(), { src: "http://127.0.0.1:9/x.jpg" }));
    })""")
    assert kept == "img-src"
    visit.errors.clear()


@needs_chromium
@pytest.mark.parametrize(
    "visit",
    [{"viewport": {"width": width, "height": 800}, "has_touch": True, "is_mobile": True} for width in (400, 320)],
    indirect=True,
)
def test_on_a_phone(visit: Visit) -> None:
    page = visit.open()
    playwright.expect(page.get_by_text("Take a photo")).to_be_visible()
    assert page.locator("#camera").get_attribute("capture") == "environment"
    visit.cards()
    page.locator("a[data-product=p3]").tap()
    playwright.expect(page.locator("#heading")).to_have_text("Most like Block p3")
    visit.cards()
    for _ in range(2):
        # Not `innerWidth`, which a phone makes as wide as what is too wide.
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        lefts = page.locator(".card").evaluate_all("all => all.map(one => one.getBoundingClientRect().left)")
        assert len(set(lefts)) == 2
        box = page.locator(".like").first.bounding_box()
        assert min(box["width"], box["height"]) >= 44
        visit.photo(9)


@needs_chromium
@pytest.mark.parametrize("visit", [{"reduced_motion": "reduce"}], indirect=True)
def test_without_motion(visit: Visit) -> None:
    page = visit.open()
    visit.cards()
    moving = "all => all.some((one) => getComputedStyle(one).transitionDuration !== '0s')"
    assert not page.locator("*").evaluate_all(moving)
    page.emulate_media(reduced_motion="no-preference")
    assert page.locator("*").evaluate_all(moving)


@needs_chromium
@pytest.mark.parametrize("visit", [{"color_scheme": scheme} for scheme in ("light", "dark")], indirect=True)
def test_nothing_that_axe_finds_serious(visit: Visit) -> None:
    page = visit.open()
    visit.cards()
    found = {"browse": faults(page)}
    visit.open("/?index=371/0341&product=p7")
    first = visit.cards()[0]
    page.get_by_role("button", name=f"More like Block {first}", exact=True).click()
    playwright.expect(page.locator("#chips li")).to_have_count(1)
    visit.cards()
    page.locator(".facet > summary").first.click()
    page.get_by_text("Why?").first.click()
    found["product"] = faults(page)
    visit.photo(9)
    found["photo"] = faults(page)
    gave(page, "paste", "x.txt", b"hello", "text/plain")
    playwright.expect(page.get_by_role("alert")).not_to_be_empty()
    found["error"] = faults(page)
    assert not any(found.values()), found
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 20, 18)"
    assert dark == page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")


def faults(page: Any) -> list[str]:
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
    violations = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in violations
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.fixture
def client(data: Path) -> FlaskClient:
    return create_app(Snapshots(data, photos=False)).test_client()


def test_the_page_lets_nothing_else_in(client: FlaskClient, cdn: ImageServer) -> None:
    answer = client.get("/")
    assert answer.headers["Content-Security-Policy"] == (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob: {cdn.url}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert "style=" not in answer.text
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|https?://", answer.text)
    for name in re.findall(r'(?:src|href)="(/web/[^"]+)"', answer.text):
        assert client.get(name).status_code == 200
    assert client.get("/web/page.js").mimetype == "text/javascript"
    tag = {"If-None-Match": client.get("/web/page.js").headers["ETag"]}
    assert client.get("/web/page.js", headers=tag).status_code == 304
    for name in ("../page.py", "%2e%2e/page.py", "nope.js", "..%2fpage.py"):
        assert client.get(f"/web/{name}").status_code == 404


def test_many_hosts_are_all_hosts() -> None:
    assert "blob: http: https:; " in policy(f"https://h{n}.example" for n in range(51))
    assert "blob: https://h0.example; " in policy(["https://h0.example"])
